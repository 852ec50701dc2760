"""From vectors and ids to nearest ids: an exact scan, and FAISS where there are many.

An index is derived: the stored vectors are the truth, and re-rank what it finds. Arrays only: nothing here
knows of models or of the store. FAISS is imported inside functions: an exact scan does without its 0.2 s.
"""

from xsearch.index.build import build
from xsearch.index.exact import cosines, exact, rerank
from xsearch.index.index import SCAN, Index, Subset
from xsearch.index.maintain import Items, draw, new_index, plan_for, update
from xsearch.index.plan import Device, OperatingPoint, Plan, make_plan
from xsearch.index.plot import plot
from xsearch.index.tune import recall_at_k, tune, tune_on

__all__ = [
    "SCAN",
    "Device",
    "Index",
    "Items",
    "OperatingPoint",
    "Plan",
    "Subset",
    "build",
    "cosines",
    "draw",
    "exact",
    "make_plan",
    "new_index",
    "plan_for",
    "plot",
    "recall_at_k",
    "rerank",
    "tune",
    "tune_on",
    "update",
]
