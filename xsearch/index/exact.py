"""Exact search: a streaming scan, and re-ranking of candidates. The ground truth for every index."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from xsearch.index.halves import products
from xsearch.index.library import has_faiss
from xsearch.system.float16 import to_float32
from xsearch.system.threads import share, threads, without_blas_threads

__all__ = ["Products", "cosines", "exact", "exact_by_group", "in_parts", "rerank"]

CHUNK = 1 << 20  # components per matrix product of a thread: 4 MB of float32 (measured)
TABLE = 1 << 18  # components of candidates per thread: 1 MB of float32 stays in its cache (measured)
SCORES = 1 << 25  # scores of the products of all threads: 128 MB
HELD = 1 << 16  # scores that are held (measured)
LEAST = 2  # products for which a thread is worth starting
FEW = 4  # queries up to which FAISS, once it is loaded, is faster without converted vectors (measured)

Block = tuple[np.ndarray, np.ndarray | Callable[[], np.ndarray]]
Products = Callable[[np.ndarray, np.ndarray], np.ndarray]  # queries [q, D], ids [q, c] -> cosines [q, c]


def exact(queries: np.ndarray, blocks: Iterable[Block], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest of all vectors for each query.

    queries: float32 [Q, D], unit rows.
    blocks: (ids int64 [b], vectors float16 or float32 [b, D], finite unit rows), in any order; or functions
        that return the vectors, called in several threads at once.
    Returns (scores float32 [Q, k], ids int64 [Q, k]): cosines, best first, ties by ascending id; padded with
    score -inf and id -1 if there are fewer than k.
    """
    return exact_by_group(queries, blocks, k, np.zeros_like, [0])[0]


def exact_by_group(
    queries: np.ndarray,
    blocks: Iterable[Block],
    k: int,
    group_of: Callable[[np.ndarray], np.ndarray],
    groups: Sequence[int],
) -> list[tuple[np.ndarray, np.ndarray]]:
    """`exact` for each of `groups`, in a single pass.

    group_of: maps ids to their groups, int [b]; in several threads at once.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    Q, D = queries.shape
    rows = max(min(CHUNK // D, SCORES // threads() // max(Q, 1)), 64)
    few = Q <= FEW and has_faiss()

    def scan(parts: Iterator[Block]) -> list[_Best]:
        best = _BestByGroup(Q, k, group_of, groups)
        buffer = np.empty((rows, D), np.float32)
        for ids, source in parts:
            vectors = source() if callable(source) else source
            if few and vectors.dtype == np.float16:
                best.add(products(queries, vectors), ids)
                continue
            for start in range(0, len(ids), rows):
                chunk = vectors[start : start + rows]
                if chunk.dtype != np.float32:
                    chunk = to_float32(chunk, buffer[: len(chunk)])
                best.add(queries @ chunk.T, ids[start : start + rows])
        return best.finished()

    with without_blas_threads:
        scans = share(scan, _parts(blocks, LEAST * rows))
    return [_Best.joined(each).sorted() for each in zip(*scans, strict=True)]


def _parts(blocks: Iterable[Block], rows: int) -> Iterator[Block]:
    """Divide arrays into parts of at most `rows` rows; functions read parts already."""
    for ids, vectors in blocks:
        if callable(vectors):
            yield ids, vectors
            continue
        for start in range(0, len(ids), rows):
            yield ids[start : start + rows], vectors[start : start + rows]


def rerank(
    queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the k best of each query's candidates by their stored vectors.

    Arguments as for `cosines`, result as for `exact`.
    """
    scores = cosines(queries, ids, vectors)
    order = np.lexsort((ids, -scores), axis=1)[:, :k]
    best, best_ids = np.full((len(ids), k), -np.inf, np.float32), np.full((len(ids), k), -1, np.int64)
    best[:, : order.shape[1]] = np.take_along_axis(scores, order, 1)
    best_ids[:, : order.shape[1]] = np.take_along_axis(ids, order, 1)
    return best, best_ids


def cosines(queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the cosines of each query with its candidates: float32 [Q, c], -inf for padding.

    queries: float32 [Q, D], unit rows. ids: int64 [Q, c], padded with -1.
    vectors: returns float16 or float32 [n, D] for ids int64 [n], in any order, with repetitions; must be
        thread-safe.
    """
    D = queries.shape[1]

    def worker(rows: int) -> Products:
        table = np.empty((rows, D), np.float32)  # fresh ones cost as much as the gather
        return lambda queries, ids: _products(queries, ids, vectors, table)

    return in_parts(queries, ids, TABLE // D, worker)


def in_parts(
    queries: np.ndarray, ids: np.ndarray, rows: int, worker: Callable[[int], Products]
) -> np.ndarray:
    """Return `cosines`, computed on all threads for about `rows` candidates at a time.

    worker: called once in each thread, with the most candidates of a part; returns what computes a part.
    """
    queries = np.ascontiguousarray(queries, np.float32)
    Q, c = ids.shape
    scores = np.empty(ids.shape, np.float32)
    if not ids.size:
        return scores
    step = max(rows // c, 1)
    if step >= Q:  # one part, however many candidates it has: `share` would take 40 us (measured)
        return worker(ids.size)(queries, ids)

    def work(parts: Iterator[slice]) -> None:
        products = worker(step * c)
        for part in parts:
            scores[part] = products(queries[part], ids[part])

    share(work, (slice(start, start + step) for start in range(0, Q, step)))
    return scores


def _products(
    queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray], table: np.ndarray
) -> np.ndarray:
    """One gather into `table` and one batched product, of which each depends on its two vectors alone."""
    padded = ids < 0
    if has_padding := padded.any():
        some_id = ids.max()
        if some_id < 0:
            return np.full(ids.shape, -np.inf, np.float32)
        ids = np.where(padded, some_id, ids)
    table = to_float32(vectors(ids.ravel()), table[: ids.size])
    scores = np.vecdot(table.reshape(*ids.shape, -1), queries[:, None])
    if has_padding:
        scores[padded] = -np.inf
    return scores  # [Q, c]


class _BestByGroup:
    """Running top k of each group. Scores are held until they are many, as each update takes 0.1 ms."""

    def __init__(
        self, Q: int, k: int, group_of: Callable[[np.ndarray], np.ndarray], groups: Sequence[int]
    ) -> None:
        self._best = [_Best(Q, k) for _ in groups]
        self._group_of, self._groups = group_of, groups
        self._held: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """scores: float32 [Q, b]; ids: int64 [b]."""
        self._held.append((scores, ids))
        if sum(each.size for each, _ in self._held) >= HELD:
            self._flush()

    def finished(self) -> list[_Best]:
        if self._held:
            self._flush()
        return self._best

    def _flush(self) -> None:
        scores, ids = self._held[0]
        if len(self._held) > 1:
            scores = np.concatenate([each for each, _ in self._held], axis=1)
            ids = np.concatenate([each for _, each in self._held])
        self._held.clear()
        codes = self._group_of(ids)
        for group, best in zip(self._groups, self._best, strict=True):
            at = np.flatnonzero(codes == group)
            if len(at) == len(ids):
                best.update(scores, ids)
            elif len(at):
                best.update(scores[:, at], ids[at])


class _Best:
    """Running top k (score, id) of Q queries."""

    def __init__(self, Q: int, k: int) -> None:
        self._k = k
        self._threshold = np.full(Q, -np.inf, np.float32)  # the k-th best score so far
        self._query = np.empty(0, np.int64)  # per candidate
        self._score = np.empty(0, np.float32)
        self._id = np.empty(0, np.int64)

    def update(self, scores: np.ndarray, ids: np.ndarray) -> None:
        """scores: float32 [Q, b]; ids: int64 [b]."""
        Q, b = scores.shape
        passing = scores >= self._threshold[:, None]
        if b > self._k and np.count_nonzero(passing) > 2 * Q * self._k:
            kth = np.partition(scores, b - self._k, axis=1)[:, b - self._k]
            self._threshold = np.maximum(self._threshold, kth)
            passing = scores >= self._threshold[:, None]
        query, at = np.nonzero(passing)
        if len(query):
            self._add(query, scores[query, at], ids[at])

    @staticmethod
    def joined(parts: Sequence[_Best]) -> _Best:
        """The best of all parts, which are those of other items each."""
        first, *others = parts
        for other in others:
            first._add(other._query, other._score, other._id)
        return first

    def _add(self, query: np.ndarray, score: np.ndarray, id: np.ndarray) -> None:
        """Take candidates, and keep the k best of each query, in order."""
        self._query = np.concatenate([self._query, query])
        self._score = np.concatenate([self._score, score])
        self._id = np.concatenate([self._id, id])
        order = np.lexsort((self._id, -self._score, self._query))
        query = self._query[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        order, place = order[place < self._k], place[place < self._k]
        self._query, self._score, self._id = self._query[order], self._score[order], self._id[order]
        last = place == self._k - 1
        self._threshold[self._query[last]] = self._score[last]

    def sorted(self) -> tuple[np.ndarray, np.ndarray]:
        place = np.arange(len(self._query)) - np.searchsorted(self._query, self._query)
        scores = np.full((len(self._threshold), self._k), -np.inf, np.float32)
        ids = np.full(scores.shape, -1, np.int64)
        scores[self._query, place] = self._score
        ids[self._query, place] = self._id
        return scores, ids
