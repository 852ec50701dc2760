"""Tuning: measure recall against the exact answer, take the cheapest parameters that reach the target."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from xsearch.index.exact import exact, rerank
from xsearch.index.gpu import GPU_MOST
from xsearch.index.index import SCAN, Index, Subset
from xsearch.index.maintain import Items
from xsearch.index.plan import OperatingPoint

__all__ = ["OperatingPoint", "recall_by_score", "tune", "tune_on"]

REFINES = (1, 2, 3, 4, 6, 8, 16, 32)  # candidates per wanted item to try
SAME_SCORE = 1e-5  # two float32 sums of the same products differ by less
ALONE = 20  # queries that are timed one by one
HELD_OUT = 100  # queries of each sort for each kind: 1,000 answers, a recall of 0.95 is then known to 0.01
SHARES = (0.1, 0.01)  # that filters leave
GROWTHS = (0.0, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0)
SEED = 1


@dataclass(frozen=True, slots=True)
class _Case:
    """Queries of one sort with their true answers."""

    sort: str  # "same", "cross", "all"
    queries: np.ndarray  # float32 [Q, D]
    own: np.ndarray  # int64 [Q]: the id of each query, which is not an answer to it; -1: it has none
    truth: np.ndarray  # float32 [Q, k]
    subset: Subset | None  # the items that may answer

    def scores(
        self, index: Index, vectors: Callable[[np.ndarray], np.ndarray], nprobe: int, refine: int
    ) -> np.ndarray:
        """float32 [Q, k], as a search finds them."""
        k = self.truth.shape[1]
        _, ids = index.search(self.queries, k * refine + 1, allowed=self.subset, nprobe=nprobe)
        ids[ids == self.own[:, None]] = -1
        return rerank(self.queries, ids, vectors, k)[0]


def recall_by_score(scores: np.ndarray, true_scores: np.ndarray) -> float:
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
    latency_ms: float | None = None,
) -> tuple[Index, list[OperatingPoint]]:
    """Set nprobe and refine to the fastest that reach `target` recall@k on these queries, else the best.

    queries: float32 [Q, D], unit rows, of every kind that will be asked, for their recall differs.
    blocks: the items of the index, as for `exact`. vectors: as for `rerank`.
    latency_ms: what one query alone may take; comes before the recall.
    Returns the same index with these parameters, and everything that was measured.
    """
    own = np.full(len(queries), -1)
    case = _Case("all", queries, own, exact(queries, blocks, k)[0], None)
    return _tune([case], index, vectors, target, latency_ms)


def tune_on(
    index: Index,
    items: Items,
    *,
    k: int = 10,
    target: float = 0.95,
    latency_ms: float | None = None,
    held_out: int = HELD_OUT,
) -> tuple[Index, list[OperatingPoint]]:
    """The same with items as queries: for each kind, `held_out` of this kind and as many of the others.

    Only items of that kind answer, but not the query itself. Both, same and cross, are to reach `target`, and
    so are as many queries of any kind that items of all kinds answer.
    """
    inside = index.covers(items.ids)
    ids, kinds = items.ids[inside], items.modalities[inside]
    rng = np.random.default_rng(SEED)
    names, sizes = np.unique(kinds, return_counts=True)
    least = SCAN if sizes.max() > SCAN else k  # fewer are scanned, where there are more
    cases: list[_Case] = []
    filtered: list[_Case] = []
    if len(names) > 1:
        own = np.sort(rng.permutation(ids)[:held_out])
        queries = items.vectors(own)
        cases.append(_Case("all", queries, own, _truth(queries, own, items.blocks(ids), k), None))
    for kind in names:
        of_kind = kinds == kind
        for sort, among in (("same", ids[of_kind]), ("cross", ids[~of_kind])):
            own = np.sort(rng.permutation(among)[:held_out])
            queries = items.vectors(own)
            for share in (1.0, *SHARES):
                allowed = np.sort(rng.permutation(ids[of_kind])[: int(share * of_kind.sum())])
                if len(own) and len(allowed) > least:
                    truth = _truth(queries, own, items.blocks(allowed), k)
                    subset = None if len(allowed) == len(ids) else index.subset(allowed)
                    case = _Case(sort, queries, own, truth, subset)
                    (cases if share == 1 else filtered).append(case)
    tuned, points = _tune(cases, index, items.vectors, target, latency_ms)
    return _grow(filtered, tuned, items.vectors, target), points


def _truth(
    queries: np.ndarray, own: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]], k: int
) -> np.ndarray:
    """The exact k best scores of each query without itself: float32 [Q, k]."""
    scores, found = exact(queries, blocks, k + 1)
    scores[found == own[:, None]] = -np.inf
    return -np.sort(-scores, axis=1)[:, :k]


def _grow(
    cases: list[_Case], index: Index, vectors: Callable[[np.ndarray], np.ndarray], target: float
) -> Index:
    """Set `plan.growth` to the least with which filtered searches, too, reach the target."""
    for growth in GROWTHS if cases else ():
        index = index.tuned(growth=growth)
        nprobe, refine = index.plan.nprobe, index.plan.refine
        found = [recall_by_score(case.scores(index, vectors, nprobe, refine), case.truth) for case in cases]
        index = index.tuned(filtered=min(found))
        if min(found) >= target:
            break
    return index


def _tune(
    cases: list[_Case],
    index: Index,
    vectors: Callable[[np.ndarray], np.ndarray],
    target: float,
    latency_ms: float | None,
) -> tuple[Index, list[OperatingPoint]]:
    points: list[OperatingPoint] = []
    enough_ms = math.inf  # the least that reached the target took
    for step in range(min(index.plan.lists, GPU_MOST).bit_length()):
        for refine in REFINES:
            points.append(_measure(cases, index, vectors, 2**step, refine))
            if points[-1].recall >= target:
                enough_ms = min(enough_ms, points[-1].ms_per_query)
                break  # a deeper re-rank only takes longer
            if points[-1].ms_per_query > enough_ms:
                break
        if points[-1].ms_per_query > enough_ms and points[-1].refine == REFINES[0]:
            break  # and so do more lists
    quick = [point for point in points if latency_ms is None or point.latency_ms <= latency_ms]
    quick = quick or [min(points, key=lambda point: point.latency_ms)]
    best = min(
        (point for point in quick if point.recall >= target),
        key=lambda point: point.ms_per_query,
        default=max(quick, key=lambda point: (point.recall, -point.ms_per_query)),
    )
    tuned = index.tuned(nprobe=best.nprobe, refine=best.refine, recall=best.recall, points=tuple(points))
    return tuned, points


def _measure(
    cases: list[_Case],
    index: Index,
    vectors: Callable[[np.ndarray], np.ndarray],
    nprobe: int,
    refine: int,
) -> OperatingPoint:
    start_s = time.perf_counter()
    found = [case.scores(index, vectors, nprobe, refine) for case in cases]
    ms = 1000 * (time.perf_counter() - start_s) / sum(len(case.queries) for case in cases)
    recalls = {}
    for sort in dict.fromkeys(case.sort for case in cases):
        pairs = [(some, case.truth) for some, case in zip(found, cases, strict=True) if case.sort == sort]
        recalls[sort] = recall_by_score(*map(np.concatenate, zip(*pairs, strict=True)))
    alone_ms = []
    for query in cases[0].queries[:ALONE]:
        start_s = time.perf_counter()
        one = query[None]
        k = cases[0].truth.shape[1]
        rerank(one, index.search(one, k * refine, allowed=cases[0].subset, nprobe=nprobe)[1], vectors, k)
        alone_ms.append(1000 * (time.perf_counter() - start_s))
    return OperatingPoint(nprobe, refine, min(recalls.values()), ms, float(np.median(alone_ms)), recalls)
