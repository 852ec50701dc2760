"""Nearest-neighbour search: exact scan for small collections, FAISS for large ones.

An index is derived data: its candidates are re-ranked with the stored vectors. This package handles arrays
only, never models or the store. FAISS is imported lazily: it takes 0.2 s, and an exact scan works without it.
"""

from xsearch.index.build import build
from xsearch.index.capacity import EMBED_MS, Capacity, Costs
from xsearch.index.exact import cosines, exact, exact_by_group, rerank
from xsearch.index.index import SCAN, Index, Subset
from xsearch.index.maintain import Items, draw, new_index, plan_for, update
from xsearch.index.plan import Device, OperatingPoint, Plan, make_plan
from xsearch.index.plot import plot
from xsearch.index.tune import recall_by_score, tune, tune_on

__all__ = [
    "EMBED_MS",
    "SCAN",
    "Capacity",
    "Costs",
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
    "exact_by_group",
    "make_plan",
    "new_index",
    "plan_for",
    "plot",
    "recall_by_score",
    "rerank",
    "tune",
    "tune_on",
    "update",
]
