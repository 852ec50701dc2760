"""From vectors and ids to nearest ids: an exact scan, and FAISS where there are many.

An index is derived: the stored vectors are the truth, and re-rank what it finds. Arrays only: nothing here
knows of models or of the store. FAISS is imported inside functions: an exact scan does without its 0.2 s.
"""

from xsearch.index.build import build
from xsearch.index.exact import exact, rerank
from xsearch.index.plan import Plan, make_plan
from xsearch.index.search import Index
from xsearch.index.tune import OperatingPoint, recall_at_k, tune

__all__ = ["Index", "OperatingPoint", "Plan", "build", "exact", "make_plan", "recall_at_k", "rerank", "tune"]
