"""Nearest-neighbour search: exact scan for small collections, FAISS for large ones.

An index is derived data: its candidates are re-ranked with the stored vectors. This package handles arrays
only, never models or the store. FAISS is imported lazily: it takes 0.2 s, and an exact scan works without it,
if not as fast.
"""

from xsearch.index.build import build, fill
from xsearch.index.capacity import EMBED_MS, Capacity, Costs
from xsearch.index.exact import Products, cosines, exact, exact_by_group, in_parts, rerank
from xsearch.index.index import SCAN, Index, Subset, best_of, probes_of, promising
from xsearch.index.library import load_faiss, load_for_scans
from xsearch.index.listing import Listing
from xsearch.index.maintain import STALE, Items, draw, new_index, new_trained, plan_for, update
from xsearch.index.plan import Device, OperatingPoint, Plan, make_plan
from xsearch.index.plot import plot
from xsearch.index.shards import Run, Shards, check_shards, in_turn
from xsearch.index.tune import recall_by_score, tune, tune_on

__all__ = [
    "EMBED_MS",
    "SCAN",
    "STALE",
    "Capacity",
    "Costs",
    "Device",
    "Index",
    "Items",
    "Listing",
    "OperatingPoint",
    "Plan",
    "Products",
    "Run",
    "Shards",
    "Subset",
    "best_of",
    "build",
    "check_shards",
    "cosines",
    "draw",
    "exact",
    "exact_by_group",
    "fill",
    "in_parts",
    "in_turn",
    "load_faiss",
    "load_for_scans",
    "make_plan",
    "new_index",
    "new_trained",
    "plan_for",
    "plot",
    "probes_of",
    "promising",
    "recall_by_score",
    "rerank",
    "tune",
    "tune_on",
    "update",
]
