"""Retrieval metrics against loops."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.evaluate import precision_at_1, recall_at_k, top_k


@pytest.mark.parametrize("k", [1, 3, 50])
def test_recall_agrees_with_a_loop(k: int) -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(20, 6)), rng.normal(size=(30, 6))
    relevant = rng.random((20, 30)) < 0.1
    right = sum(
        any(relevant[i, j] for j in sorted(range(30), key=lambda j: -(q @ items[j]))[:k])
        for i, q in enumerate(queries)
    )
    assert recall_at_k(queries, items, relevant, k) == pytest.approx(right / 20)


def test_labels_and_matrix_say_the_same() -> None:
    rng = np.random.default_rng(1)
    queries, items, a, b = (
        rng.normal(size=(20, 6)),
        rng.normal(size=(30, 6)),
        rng.integers(4, size=20),
        rng.integers(4, size=30),
    )
    matrix = np.array([[x == y for y in b] for x in a])
    assert precision_at_1(queries, items, (a, b)) == precision_at_1(queries, items, matrix)


def test_ties_go_to_the_first_and_blocks_do_not_show() -> None:
    assert top_k(np.ones((2500, 1)), np.ones((5, 1)), 2).tolist() == [[0, 1]] * 2500


def test_a_query_among_the_items_does_not_find_itself():
    items = np.eye(3)[[0, 0, 1]]
    assert precision_at_1(items, items, (np.array([7, 7, 8]),) * 2) == 1.0
    assert precision_at_1(items, items, (np.array([7, 7, 8]),) * 2, skip_self=True) == pytest.approx(2 / 3)
    assert top_k(items, items, 1, skip_self=True).ravel().tolist()[:2] == [1, 0]
