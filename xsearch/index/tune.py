"""Tuning: measure recall against exact search, choose the fastest parameters that reach the target."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xsearch.errors import UsageError
from xsearch.index.exact import cosines, exact, rerank
from xsearch.index.index import SCAN, Index, Subset, probes_of, promising
from xsearch.index.maintain import Items
from xsearch.index.plan import OperatingPoint

__all__ = ["OperatingPoint", "recall_by_score", "tune", "tune_on"]

# Lists to try, up to GPU_MOST; powers of two alone cost up to a third of the speed (measured)
PROBES = tuple(sorted({2**power for power in range(12)} | {3 * 2**power for power in range(10)}))
REFINES = (1, 2, 3, 4, 6, 8, 16, 32)  # candidates per result to try
SAME_SCORE = 1e-5  # bound on rounding differences of float32 dot products
LATENCY_QUERIES = 20  # timed one by one
HELD_OUT = 100  # queries per sort and kind: 1,000 results determine a recall of 0.95 to 0.01
SAMPLE = 1_000  # items of each kind, for its scale
SHARES = (0.1, 0.01)  # selectivities of the filters to try
GROWTHS = (0.0, 0.2, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.75, 1.0)
SEED = 1
NOISE = 1.5  # of two times of the same work, beside others


@dataclass(frozen=True, slots=True)
class _Case:
    """Queries of one sort with their ground truth."""

    sort: str  # "same", "cross", "all"; see also `_Balanced`
    queries: np.ndarray  # float32 [Q, D]
    self_ids: np.ndarray  # int64 [Q]: id of the query itself, excluded from its results; -1 if it is no item
    truth: np.ndarray  # float32 [Q, k]
    subset: Subset | None  # allowed results

    def scores(
        self, index: Index, vectors: Callable[[np.ndarray], np.ndarray], nprobe: int, refine: int
    ) -> np.ndarray:
        """Search and re-rank; return the scores: float32 [Q, k]."""
        k = self.truth.shape[1]
        _, ids = index.search(self.queries, k * refine + 1, allowed=self.subset, nprobe=nprobe)
        ids[ids == self.self_ids[:, None]] = -1
        return rerank(self.queries, ids, vectors, k)[0]


@dataclass(frozen=True, slots=True)
class _Balanced:
    """Queries whose answers are of all kinds, each on a scale of its own: by units above its mean."""

    queries: np.ndarray  # float32 [Q, D]
    self_ids: np.ndarray  # int64 [Q]
    truths: Sequence[np.ndarray]  # of each kind: float32 [Q, k]
    subsets: Sequence[Subset | None]  # of each kind; None: it is scanned
    means: np.ndarray  # float32 [Q, kinds]
    units: np.ndarray  # float32 [Q, kinds]

    sort: ClassVar = "balanced"
    subset: ClassVar = None

    @property
    def truth(self) -> np.ndarray:
        k = self.truths[0].shape[1]
        scaled = self._scaled(np.concatenate(self.truths, axis=1), np.repeat(range(len(self.truths)), k))
        return _best(scaled, k)

    def scores(
        self, index: Index, vectors: Callable[[np.ndarray], np.ndarray], nprobe: int, refine: int
    ) -> np.ndarray:
        """`_Case.scores`, of the lists and candidates that a search of all kinds looks at."""
        k = self.truths[0].shape[1]
        scanned = [at for at, subset in enumerate(self.subsets) if subset is None]
        large = [(at, subset) for at, subset in enumerate(self.subsets) if subset is not None]
        parts = [self._scaled(self.truths[at], np.repeat(at, k)) for at in scanned]
        if large:
            of_kind, subsets = zip(*large, strict=True)
            pairs = [(subset, probes_of(subset, subsets, nprobe)) for subset in subsets]
            found = zip(*index.search_each(self.queries, k * refine, pairs), strict=True)
            approximate, ids = (np.concatenate(each, axis=1) for each in found)
            kinds, widths = np.repeat(of_kind, k * refine), [k * refine] * len(large)
            places = promising(self._scaled(approximate, kinds), widths, k, k * refine)
            if places is not None:
                ids, kinds = np.take_along_axis(ids, places, axis=1), kinds[places]
            ids = np.where(ids == self.self_ids[:, None], -1, ids)
            parts.append(self._scaled(cosines(self.queries, ids, vectors), kinds))
        return _best(np.concatenate(parts, axis=1), k)

    def _scaled(self, scores: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """scores: float32 [Q, c]; kinds: int [c] or [Q, c]."""
        rows = np.arange(len(scores))[:, None]
        return (scores - self.means[rows, kinds]) / self.units[rows, kinds]


def recall_by_score(scores: np.ndarray, true_scores: np.ndarray) -> float:
    """Return recall by score threshold, which treats ties as equal.

    scores, true_scores: float32 [Q, k], best first, padded with -inf. Queries without results do not count.
    """
    valid = np.isfinite(true_scores)
    threshold = np.where(valid, true_scores, np.inf).min(axis=1, keepdims=True, initial=np.inf)
    hits = np.minimum((scores >= threshold - SAME_SCORE).sum(axis=1), valid.sum(axis=1))
    return float(hits.sum() / max(valid.sum(), 1))


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
    """Choose the fastest nprobe and refine with `target` recall@k on these queries, else the most accurate.

    queries: float32 [Q, D], unit rows, representative of all kinds of queries, whose recalls differ.
    blocks: the items of the index, as for `exact`. vectors: as for `rerank`.
    latency_ms: limit on the latency of a single query; takes precedence over `target`.
    Returns the index with these parameters, and all operating points measured.
    """
    self_ids = np.full(len(queries), -1)
    case = _Case("all", queries, self_ids, exact(queries, blocks, k)[0], None)
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
    """`tune` with items as queries: per kind, `held_out` items of that kind and as many of other kinds.

    Results are restricted to that kind and exclude the query itself. The sorts "same" and "cross" must both
    reach `target`, and so must queries of any kind without a filter: "all" by cosine, and "balanced".
    """
    inside = index.covers(items.ids)
    ids, kinds = items.ids[inside], items.modalities[inside]
    rng = np.random.default_rng(SEED)
    names, sizes = np.unique(kinds, return_counts=True)
    least = SCAN if sizes.max() > SCAN else k  # smaller subsets are scanned
    cases: list[_Case | _Balanced] = []
    filtered: list[_Case] = []
    if len(names) > 1:
        self_ids = np.sort(rng.permutation(ids)[:held_out])
        queries, of_kinds = items.vectors(self_ids), [ids[kinds == kind] for kind in names]
        truths = [_truth(queries, self_ids, items.blocks(some), k) for some in of_kinds]
        samples = [items.vectors(np.sort(rng.permutation(some)[:SAMPLE])) for some in of_kinds]
        similarities = [queries @ sample.T for sample in samples]
        means = np.stack([some.mean(axis=1) for some in similarities], axis=1)
        units = np.stack([some.std(axis=1) for some in similarities], axis=1) + SAME_SCORE
        subsets = [index.subset(some) if len(some) > least else None for some in of_kinds]
        cases.append(_Case("all", queries, self_ids, _best(np.concatenate(truths, axis=1), k), None))
        cases.append(_Balanced(queries, self_ids, truths, subsets, means, units))
    for kind in names:
        of_kind = kinds == kind
        for sort, among in (("same", ids[of_kind]), ("cross", ids[~of_kind])):
            self_ids = np.sort(rng.permutation(among)[:held_out])
            queries = items.vectors(self_ids)
            for share in (1.0, *SHARES):
                allowed = np.sort(rng.permutation(ids[of_kind])[: int(share * of_kind.sum())])
                if len(self_ids) and len(allowed) > least:
                    truth = _truth(queries, self_ids, items.blocks(allowed), k)
                    subset = None if len(allowed) == len(ids) else index.subset(allowed)
                    case = _Case(sort, queries, self_ids, truth, subset)
                    (cases if share == 1 else filtered).append(case)
    if not cases:
        raise UsageError(f"{len(ids)} items are too few to tune an index on; scan them: xsearch index build")
    tuned, points = _tune(cases, index, items.vectors, target, latency_ms)
    return _grow(filtered, tuned, items.vectors, target), points


def _truth(
    queries: np.ndarray, self_ids: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]], k: int
) -> np.ndarray:
    """Return the exact top k scores of each query, excluding itself: float32 [Q, k]."""
    scores, ids = exact(queries, blocks, k + 1)
    scores[ids == self_ids[:, None]] = -np.inf
    return _best(scores, k)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """The k largest of each row, best first: float32 [Q, k]."""
    return -np.sort(-scores, axis=1)[:, :k]


def _grow(
    cases: list[_Case], index: Index, vectors: Callable[[np.ndarray], np.ndarray], target: float
) -> Index:
    """Choose the smallest `plan.growth` with which filtered searches reach the target."""
    for growth in GROWTHS if cases else ():
        index = index.tuned(growth=growth)
        nprobe, refine = index.plan.nprobe, index.plan.refine
        recalls = [recall_by_score(case.scores(index, vectors, nprobe, refine), case.truth) for case in cases]
        index = index.tuned(filtered=min(recalls))
        if min(recalls) >= target:
            break
    return index


def _tune(
    cases: Sequence[_Case | _Balanced],
    index: Index,
    vectors: Callable[[np.ndarray], np.ndarray],
    target: float,
    latency_ms: float | None,
) -> tuple[Index, list[OperatingPoint]]:
    points: list[OperatingPoint] = []
    fastest_ms = math.inf  # of the points that reach the target
    for nprobe in (step for step in PROBES if step <= index.plan.lists):
        for refine in REFINES:
            points.append(_measure(cases, index, vectors, nprobe, refine))
            if points[-1].recall >= target:
                fastest_ms = min(fastest_ms, points[-1].ms_per_query)
                break  # a deeper re-rank is only slower
            if points[-1].ms_per_query > fastest_ms:
                break
        if points[-1].ms_per_query > fastest_ms and points[-1].refine == REFINES[0]:
            break  # and so are more lists
    eligible = [point for point in points if latency_ms is None or point.latency_ms <= latency_ms]
    eligible = eligible or [min(points, key=lambda point: point.latency_ms)]
    best = fastest([point for point in eligible if point.recall >= target]) or max(
        eligible, key=lambda point: (point.recall, -point.ms_per_query)
    )
    tuned = index.tuned(nprobe=best.nprobe, refine=best.refine, recall=best.recall, points=tuple(points))
    return tuned, points


def fastest(points: list[OperatingPoint]) -> OperatingPoint | None:
    """Return the fastest of these, None of none.

    Fewer lists and no deeper a re-rank take less time, unless they hold too few and all lists are visited,
    which takes several times as long. A busy machine's clock may say otherwise (measured: a third of the
    lists, 4 % slower).
    """
    if not points:
        return None
    first = min(points, key=lambda point: point.ms_per_query)
    cheaper = [
        point
        for point in points
        if point.nprobe <= first.nprobe
        and point.refine <= first.refine
        and point.ms_per_query <= NOISE * first.ms_per_query
    ]
    return min(cheaper, key=lambda point: (point.nprobe, point.refine))


def _measure(
    cases: Sequence[_Case | _Balanced],
    index: Index,
    vectors: Callable[[np.ndarray], np.ndarray],
    nprobe: int,
    refine: int,
) -> OperatingPoint:
    start_s = time.perf_counter()
    scores = [case.scores(index, vectors, nprobe, refine) for case in cases]
    ms = 1000 * (time.perf_counter() - start_s) / sum(len(case.queries) for case in cases)
    recalls = {}
    for sort in dict.fromkeys(case.sort for case in cases):
        pairs = [(found, case.truth) for found, case in zip(scores, cases, strict=True) if case.sort == sort]
        recalls[sort] = recall_by_score(*map(np.concatenate, zip(*pairs, strict=True)))
    latencies_ms = []
    for query in cases[0].queries[:LATENCY_QUERIES]:
        start_s = time.perf_counter()
        one = query[None]
        k = cases[0].truth.shape[1]
        rerank(one, index.search(one, k * refine, allowed=cases[0].subset, nprobe=nprobe)[1], vectors, k)
        latencies_ms.append(1000 * (time.perf_counter() - start_s))
    return OperatingPoint(nprobe, refine, min(recalls.values()), ms, float(np.median(latencies_ms)), recalls)
