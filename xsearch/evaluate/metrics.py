"""Retrieval metrics, in numpy.

`relevant` is bool [Q, N] (query q, item n); or two label arrays, of the queries [Q] and of the items [N],
where equal labels are relevant; or a list with the rows of the relevant items of each query. All functions
process BLOCK queries at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

__all__ = [
    "Relevant",
    "average_precision",
    "composition",
    "modality_gap",
    "nearest",
    "precision_at_1",
    "precision_at_k",
    "recall_at_k",
    "relevance",
    "retrieval",
    "top_k",
]

Relevant = np.ndarray | tuple[np.ndarray, np.ndarray] | list[np.ndarray]

BLOCK = 1024  # queries per matrix product: bounds memory to BLOCK x N cosines


def precision_at_1(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, *, skip_self: bool = False
) -> float:
    """Share of queries (float [Q, dim], unit rows) whose nearest item ([N, dim]) is relevant.

    >>> precision_at_1(np.eye(3), np.eye(3), (np.arange(3), np.array([0, 1, 1])))
    0.6666666666666666
    """
    return recall_at_k(queries, items, relevant, k=1, skip_self=skip_self)


def precision_at_k(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, k: int = 10, *, skip_self: bool = False
) -> float:
    """Share of relevant items among the k nearest, averaged over the queries."""
    return float(_hits(queries, items, relevant, k, skip_self=skip_self)[0].mean())


def recall_at_k(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, k: int = 10, *, skip_self: bool = False
) -> float:
    """Share of queries with a relevant item among the k nearest (R@k of the retrieval literature)."""
    return float(_hits(queries, items, relevant, k, skip_self=skip_self)[0].any(axis=1).mean())


def nearest(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, k: int = 10, *, skip_self: bool = False
) -> dict[str, float]:
    """p_at_1, p_at_k and r_at_k over the queries that have a relevant item, and their number, `queries`.

    Also chance, the share of relevant items: the expected p_at_1 of random vectors. NaN without queries.
    """
    hits, shares = _hits(queries, items, relevant, k, skip_self=skip_self)
    hits, shares = hits[shares > 0], shares[shares > 0]
    names = ("p_at_1", f"p_at_{k}", f"r_at_{k}", "chance")
    if not len(hits):
        return {"queries": 0} | dict.fromkeys(names, math.nan)
    figures = hits[:, 0].mean(), hits.mean(), hits.any(axis=1).mean(), shares.mean()
    return {"queries": len(hits)} | dict(zip(names, map(float, figures), strict=True))


def retrieval(
    queries: np.ndarray,
    items: np.ndarray,
    relevant: Relevant,
    ks: Sequence[int] = (1, 5, 10),
    *,
    skip_self: bool = False,
) -> dict[str, float]:
    """Metrics of the full ranking: r_at_k for each of `ks`, median_rank, map and chance.

    Averaged over the queries that have a relevant item; `queries` is their number, and all are NaN without
    any. median_rank: of the first relevant item, from 1. map: mean average precision. chance: the share of
    relevant items, the expected precision at 1 of random vectors.
    """
    firsts, precisions, shares = [], [], []
    for start, scores in _scores(queries, items, skip_self=skip_self):
        order = np.argsort(-scores, axis=1, kind="stable")
        mask = _relevance(relevant, start, *scores.shape, skip_self=skip_self)
        hits = np.take_along_axis(mask, order, axis=1)  # [block, N]
        hits = hits[hits.any(axis=1)]
        firsts.append(hits.argmax(axis=1) + 1)
        precisions.append(average_precision(hits))
        shares.append(hits.mean(axis=1))
    first = np.concatenate(firsts)
    names = (*(f"r_at_{k}" for k in ks), "median_rank", "map", "chance")
    if not len(first):
        return {"queries": 0} | dict.fromkeys(names, math.nan)
    recalls = [(first <= k).mean() for k in ks]
    means = [np.concatenate(parts).mean() for parts in (precisions, shares)]
    figures = (*recalls, np.median(first), *means)
    return {"queries": len(first)} | dict(zip(names, map(float, figures), strict=True))


def average_precision(hits: np.ndarray) -> np.ndarray:
    """float64 [Q] from bool [Q, N]: the relevance of ranked items, best first; at least one per row.

    >>> average_precision(np.array([[True, False, True]]))
    array([0.83333333])
    """
    precision = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)  # at each rank
    return (precision * hits).sum(axis=1) / hits.sum(axis=1)


def composition(
    parts: Mapping[str, np.ndarray], items: np.ndarray, relevant: Relevant, *, k: int = 1
) -> dict[str, float]:
    """A + B -> C: R@k of the sum of the parts (float [Q, dim] each, unit rows), and of each part alone."""
    queries = {" + ".join(parts): np.sum(list(parts.values()), axis=0)}
    queries |= {f"{name} only": part for name, part in parts.items()}
    return {name: recall_at_k(query, items, relevant, k) for name, query in queries.items()}


def modality_gap(a: np.ndarray, b: np.ndarray) -> float:
    """Distance between the means of float [N, dim] and [M, dim] (Liang et al., arXiv:2203.02053).

    >>> modality_gap(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0], [0.0, -1.0]]))
    1.0
    """
    return float(np.linalg.norm(a.mean(axis=0) - b.mean(axis=0)))


def relevance(relevant: Relevant, start: int = 0, stop: int | None = None, items: int = 0) -> np.ndarray:
    """`relevant` as bool [Q, N], for the queries from `start` to `stop`; a copy.

    items: N, needed where `relevant` is a list.
    """
    rows = slice(start, stop)
    if isinstance(relevant, tuple):
        of_queries, of_items = map(np.asarray, relevant)
        return np.asarray(of_queries[rows, None] == of_items[None, :])
    if isinstance(relevant, list):
        mask = np.zeros((len(relevant[rows]), items), bool)
        for row, relevant_items in zip(mask, relevant[rows], strict=True):
            row[relevant_items] = True
        return mask
    return np.array(relevant[rows], bool)


def top_k(queries: np.ndarray, items: np.ndarray, k: int, *, skip_self: bool = False) -> np.ndarray:
    """int64 [Q, min(k, N)]: rows of the nearest items, best first; ties in item order.

    skip_self: query i is item i, which is excluded.
    """
    k = min(k, len(items))
    nearest_rows = []
    for _, scores in _scores(queries, items, skip_self=skip_self):
        bounds = np.partition(scores, -k, axis=1)[:, -k]
        for row, bound in zip(scores, bounds, strict=True):  # a full sort of 50,000 takes nine times as long
            near = np.flatnonzero(row >= bound)
            nearest_rows.append(near[np.argsort(-row[near], kind="stable")[:k]])
    return np.stack(nearest_rows)


def _hits(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, k: int, *, skip_self: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The relevance of the nearest items, bool [Q, min(k, N)], and the share of relevant items, [Q]."""
    nearest_rows = top_k(queries, items, k, skip_self=skip_self)
    hits, shares = [], []
    for start in range(0, len(nearest_rows), BLOCK):
        rows = nearest_rows[start : start + BLOCK]
        mask = _relevance(relevant, start, len(rows), len(items), skip_self=skip_self)
        hits.append(np.take_along_axis(mask, rows, axis=1))
        shares.append(mask.mean(axis=1))
    return np.concatenate(hits), np.concatenate(shares)


def _relevance(relevant: Relevant, start: int, count: int, items: int, *, skip_self: bool) -> np.ndarray:
    """bool [count, N] of `count` queries from `start` on."""
    mask = relevance(relevant, start, start + count, items)
    if skip_self:
        mask[np.arange(count), start + np.arange(count)] = False
    return mask


def _scores(queries: np.ndarray, items: np.ndarray, *, skip_self: bool) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first query, cosines [block, N]) of each block."""
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ items.T
        if skip_self:
            rows = np.arange(len(scores))
            scores[rows, start + rows] = -np.inf
        yield start, scores
