"""The exact answer: a streaming scan, and the re-rank of candidates. What every index is measured against."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from xsearch.system.cores import CORES
from xsearch.system.float16 import to_float32

__all__ = ["cosines", "exact", "rerank"]

CHUNK = 1 << 21  # components in hand at a time: 8 MB of float32; smaller ones lose BLAS's threads (measured)
TABLE = 1 << 19  # components of candidates in a thread's hand: 2 MB of float32 (measured)
SCORES = 1 << 24  # scores in hand at a time: 64 MB


def exact(
    queries: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of all vectors for each query.

    queries: float32 [Q, D], unit rows.
    blocks: (ids int64 [b], vectors float16 or float32 [b, D], finite unit rows), in any order.
    Returns (scores float32 [Q, k], ids int64 [Q, k]): cosines, best first, of equal ones the lower id first;
    score -inf and id -1 where there are fewer than k.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    Q, D = queries.shape
    rows = max(min(CHUNK // D, SCORES // max(Q, 1)), 64)
    buffer = np.empty((rows, D), np.float32)
    best = _Best(Q, k)
    for ids, vectors in blocks:
        for start in range(0, len(ids), rows):
            part = vectors[start : start + rows]
            chunk = buffer[: len(part)]
            to_float32(part, chunk)
            best.offer(queries @ chunk.T, ids[start : start + rows])  # [Q, rows]
    return best.sorted()


def rerank(
    queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each query's candidates by the stored vectors; arguments as of `cosines`.

    Returns as `exact` does.
    """
    scores = cosines(queries, ids, vectors)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    best, found = np.full((len(ids), k), -np.inf, np.float32), np.full((len(ids), k), -1, np.int64)
    best[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    found[:, : order.shape[1]] = np.take_along_axis(ids, order, 1)
    return best, found


def cosines(queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The cosines of each query with its candidates: float32 [Q, c], -inf for none.

    queries: float32 [Q, D], unit rows. ids: int64 [Q, c], -1 for none.
    vectors: gives float16 or float32 [n, D] for ids int64 [n], ascending; called from several threads.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    Q, D = queries.shape
    scores = np.full(ids.shape, -np.inf, np.float32)
    if ids.size:
        step = max(TABLE // (ids.shape[1] * D), 1)
        parts = [slice(start, start + step) for start in range(0, Q, step)]

        def fill(part: slice) -> None:
            scores[part] = _products(queries[part], ids[part], vectors)

        if len(parts) == 1:
            fill(parts[0])
        else:
            with ThreadPoolExecutor(_threads()) as pool:
                list(pool.map(fill, parts))
    return scores


def _products(
    queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    known, at = np.unique(ids, return_inverse=True)  # neighbours on the disk are read together, and once
    at = at.reshape(ids.shape)
    first = int(known[0] < 0)
    table = to_float32(vectors(known[first:]))
    scores = np.full(ids.shape, -np.inf, np.float32)
    for q, query in enumerate(queries):
        real = at[q] >= first
        scores[q, real] = table[at[q, real] - first] @ query
    return scores


def _threads() -> int:
    """As many as the numerical libraries are told to use."""
    return int(os.environ.get("OMP_NUM_THREADS") or CORES)


class _Best:
    """The k best (score, id) of each of Q queries among all that were offered."""

    def __init__(self, Q: int, k: int) -> None:
        self._k = k
        self._bar = np.full(Q, -np.inf, np.float32)  # what it takes to be among the k
        self._query = np.empty(0, np.int64)  # of each candidate
        self._score = np.empty(0, np.float32)
        self._id = np.empty(0, np.int64)

    def offer(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """scores: float32 [Q, b]; ids: int64 [b]."""
        Q, b = scores.shape
        good = scores >= self._bar[:, None]
        if b > self._k and np.count_nonzero(good) > 2 * Q * self._k:
            self._bar = np.maximum(self._bar, np.partition(scores, b - self._k, axis=1)[:, b - self._k])
            good = scores >= self._bar[:, None]
        query, at = np.nonzero(good)
        if len(query):
            self._query = np.concatenate([self._query, query])
            self._score = np.concatenate([self._score, scores[query, at]])
            self._id = np.concatenate([self._id, ids[at]])
            self._shrink()

    def _shrink(self) -> None:
        """Keep the k best of each query, in order."""
        order = np.lexsort((self._id, -self._score, self._query))
        query = self._query[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        order, place = order[place < self._k], place[place < self._k]
        self._query, self._score, self._id = self._query[order], self._score[order], self._id[order]
        last = place == self._k - 1
        self._bar[self._query[last]] = self._score[last]

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        place = np.arange(len(self._query)) - np.searchsorted(self._query, self._query)
        scores = np.full((len(self._bar), self._k), -np.inf, np.float32)
        ids = np.full(scores.shape, -1, np.int64)
        scores[self._query, place] = self._score
        ids[self._query, place] = self._id
        return scores, ids
