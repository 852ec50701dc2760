"""Tuning: measure recall against the exact answer, take the cheapest parameters that reach the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from xsearch.index.exact import exact, rerank
from xsearch.index.plan import GPU_MOST
from xsearch.index.search import Index

__all__ = ["OperatingPoint", "recall_at_k", "tune"]

REFINES = (1, 2, 4, 8, 16, 32)  # candidates per wanted item to try
SAME_SCORE = 1e-5  # two float32 sums of the same products differ by less


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one choice of parameters gives, re-rank included."""

    nprobe: int
    refine: int
    recall: float  # recall@k, 0..1
    ms_per_query: float  # in one batch of all queries


def recall_at_k(scores: np.ndarray, true_scores: np.ndarray) -> float:
    """The share of the true best that was found, counted by score, so that ties are fair.

    scores, true_scores: float32 [Q, k], best first, -inf for none. A query without any answer does not count.
    """
    there = np.isfinite(true_scores)
    least = np.where(there, true_scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    found = np.minimum((scores >= least - SAME_SCORE).sum(axis=1), there.sum(axis=1))
    return float(found.sum() / max(there.sum(), 1))


def tune(
    index: Index,
    queries: np.ndarray,
    blocks: Iterable[tuple[np.ndarray, np.ndarray]],
    vectors: Callable[[np.ndarray], np.ndarray],
    *,
    k: int = 10,
    target: float = 0.95,
) -> tuple[Index, list[OperatingPoint]]:
    """Set nprobe and refine to the fastest that reach `target` recall@k on these queries, else the best.

    queries: float32 [Q, D], unit rows, of every kind that will be asked, for their recall differs.
    blocks: the items of the index, as for `exact`. vectors: gives float32 [n, D] of ids int64 [n].
    Returns the same index with these parameters, and everything that was measured.
    """
    truth, _ = exact(queries, blocks, k)
    points = []
    for probes in range(min(index.plan.lists, GPU_MOST).bit_length()):
        for refine in REFINES:
            start_s = time.perf_counter()
            _, candidates = index.search(queries, k * refine, nprobe=2**probes)
            scores, _ = rerank(queries, candidates, vectors, k)
            ms = 1000 * (time.perf_counter() - start_s) / len(queries)
            points.append(OperatingPoint(2**probes, refine, recall_at_k(scores, truth), ms))
            if points[-1].recall >= target:
                break  # a deeper re-rank only takes longer
    best = min(
        (point for point in points if point.recall >= target),
        key=lambda point: point.ms_per_query,
        default=max(points, key=lambda point: point.recall),
    )
    return index.tuned(nprobe=best.nprobe, refine=best.refine, recall=best.recall), points
