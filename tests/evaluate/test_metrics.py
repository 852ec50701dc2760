"""Retrieval metrics against loops and the full matrix."""

from __future__ import annotations

import numpy as np
import pytest

from xsearch.evaluate import (
    composition,
    metrics,
    modality_gap,
    nearest,
    precision_at_1,
    precision_at_k,
    recall_at_k,
    retrieval,
    top_k,
)


@pytest.mark.parametrize("k", [1, 3, 50])
def test_recall_and_precision_agree_with_a_loop(k: int) -> None:
    rng = np.random.default_rng(0)
    queries, items = rng.normal(size=(20, 6)), rng.normal(size=(30, 6))
    relevant = rng.random((20, 30)) < 0.1
    right = [
        [relevant[i, j] for j in sorted(range(30), key=lambda j: -(q @ items[j]))[:k]]
        for i, q in enumerate(queries)
    ]
    assert recall_at_k(queries, items, relevant, k) == pytest.approx(np.mean([any(row) for row in right]))
    assert precision_at_k(queries, items, relevant, k) == pytest.approx(np.mean(right))


def full_matrix(queries: np.ndarray, items: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """The figures of `retrieval`, one query and one item after the other."""
    firsts, precisions, shares = [], [], []
    for scores, right in zip(queries @ items.T, relevant, strict=True):
        if right.any():
            ranks = sorted(1 + int((scores > scores[j]).sum()) for j in np.flatnonzero(right))
            firsts.append(ranks[0])
            precisions.append(np.mean([n / rank for n, rank in enumerate(ranks, start=1)]))
            shares.append(right.mean())
    first = np.array(firsts)
    return {
        "queries": len(first),
        "r_at_1": (first <= 1).mean(),
        "r_at_5": (first <= 5).mean(),
        "r_at_10": (first <= 10).mean(),
        "median_rank": np.median(first),
        "map": np.mean(precisions),
        "chance": np.mean(shares),
    }


def test_retrieval_agrees_with_the_full_matrix_and_blocks_do_not_show(monkeypatch) -> None:
    rng = np.random.default_rng(2)
    queries, items = rng.normal(size=(40, 6)), rng.normal(size=(70, 6))
    relevant = rng.random((40, 70)) < 0.03
    assert not relevant.any(axis=1).all()  # some have no right answer
    expected = full_matrix(queries, items, relevant)
    assert retrieval(queries, items, relevant) == pytest.approx(expected)
    rows = [np.flatnonzero(row) for row in relevant]
    monkeypatch.setattr(metrics, "BLOCK", 7)
    assert retrieval(queries, items, rows) == pytest.approx(expected)
    near = nearest(queries, items, rows)
    assert {name: near[name] for name in ("queries", "r_at_10", "chance")} == pytest.approx(
        {name: expected[name] for name in ("queries", "r_at_10", "chance")}
    )


def test_two_captions_of_a_picture_are_both_right() -> None:
    pictures, captions = np.eye(2), np.array([[1.0, 0.1], [0.1, 0.9], [0.2, 1.0]])
    found = retrieval(
        pictures, captions, [np.array([0, 1]), np.array([2])]
    )  # [0, 2, 1] and [2, 1, 0] in order
    assert (found["r_at_1"], found["median_rank"]) == (1, 1)
    assert found["map"] == pytest.approx(((1 + 2 / 3) / 2 + 1) / 2)


def test_without_right_answers_there_are_no_figures() -> None:
    nothing = np.zeros((2, 3), bool)
    for figures in (retrieval(np.eye(3)[:2], np.eye(3), nothing), nearest(np.eye(3)[:2], np.eye(3), nothing)):
        assert figures.pop("queries") == 0
        assert np.isnan(list(figures.values())).all()


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
    assert retrieval(queries, items, (a, b)) == retrieval(queries, items, matrix)


def test_ties_go_to_the_first_and_blocks_do_not_show() -> None:
    assert top_k(np.ones((2500, 1)), np.ones((5, 1)), 2).tolist() == [[0, 1]] * 2500


def test_nearest_are_those_of_a_stable_sort_whatever_is_equal() -> None:
    rng = np.random.default_rng(3)
    queries, items = rng.integers(3, size=(50, 2)) * 1.0, rng.integers(3, size=(40, 2)) * 1.0
    expected = np.argsort(-(queries @ items.T), axis=1, kind="stable")
    for k in (1, 7, 40, 90):
        np.testing.assert_array_equal(top_k(queries, items, k), expected[:, :k])


def test_a_query_among_the_items_does_not_find_itself():
    items = np.eye(3)[[0, 0, 1]]
    assert precision_at_1(items, items, (np.array([7, 7, 8]),) * 2) == 1.0
    assert precision_at_1(items, items, (np.array([7, 7, 8]),) * 2, skip_self=True) == pytest.approx(2 / 3)
    assert top_k(items, items, 1, skip_self=True).ravel().tolist()[:2] == [1, 0]
    alone = retrieval(items, items, (np.array([7, 7, 8]),) * 2, skip_self=True)
    assert (alone["queries"], alone["r_at_1"]) == (2, 1)  # the third is the only one of its kind


def test_a_sum_is_compared_with_its_parts() -> None:
    a, b, c = np.eye(3)[[0]], np.eye(3)[[1]], np.array([[0.7, 0.7, 0], [1, 0, 0], [0, 1, 0]])
    found = composition({"a": a, "b": b}, c, [np.array([0])])
    assert found == {"a + b": 1, "a only": 0, "b only": 0}


def test_the_gap_is_the_distance_of_the_means() -> None:
    rng = np.random.default_rng(4)
    a = rng.normal(size=(100, 8))
    assert modality_gap(a, a[::-1]) == pytest.approx(0, abs=1e-12)
    assert modality_gap(a, a + np.eye(8)[0]) == pytest.approx(1)
