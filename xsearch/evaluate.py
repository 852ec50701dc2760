"""How well vectors of one kind find those of another: retrieval metrics. Pure numpy.

`relevant` says what a right answer is: bool [Q, N] (query q, item n), or a pair of label arrays (of the
queries [Q], of the items [N]) that are compared for equality.
"""

from __future__ import annotations

import numpy as np

__all__ = ["precision_at_1", "recall_at_k", "relevance", "top_k"]

Relevant = np.ndarray | tuple[np.ndarray, np.ndarray]

BLOCK = 1024  # queries per matrix product: bounds the memory to BLOCK x N cosines


def precision_at_1(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, *, skip_self: bool = False
) -> float:
    """Share of queries (float [Q, dim], unit rows) whose nearest item ([N, dim]) is a right answer.

    >>> precision_at_1(np.eye(3), np.eye(3), (np.arange(3), np.array([0, 1, 1])))
    0.6666666666666666
    """
    return recall_at_k(queries, items, relevant, k=1, skip_self=skip_self)


def recall_at_k(
    queries: np.ndarray, items: np.ndarray, relevant: Relevant, k: int = 10, *, skip_self: bool = False
) -> float:
    """Share of queries with a right answer among the k nearest items (the R@k of retrieval papers)."""
    found = top_k(queries, items, k, skip_self=skip_self)  # [Q, k]
    return float(np.take_along_axis(relevance(relevant), found, axis=1).any(axis=1).mean())


def relevance(relevant: Relevant) -> np.ndarray:
    """bool [Q, N] from either way of saying it."""
    if isinstance(relevant, tuple):
        of_queries, of_items = map(np.asarray, relevant)
        return np.asarray(of_queries[:, None] == of_items[None, :])
    return np.asarray(relevant, bool)


def top_k(queries: np.ndarray, items: np.ndarray, k: int, *, skip_self: bool = False) -> np.ndarray:
    """int64 [Q, min(k, N)]: rows of the nearest items, best first; ties in the order of the items.

    skip_self: query i is item i, which is no answer.
    """
    found = []
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ items.T  # [block, N]
        if skip_self:
            rows = np.arange(len(scores))
            scores[rows, start + rows] = -np.inf
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :k])
    return np.concatenate(found)
