"""The exact scan is a full sort, however the vectors come."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xsearch.index import cosines, exact, exact_by_group, rerank
from xsearch.index.halves import products
from xsearch.system.float16 import to_float32


def unit(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    x = rng.standard_normal((n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def full_sort(queries, vectors, ids, k):
    """The slow, obvious oracle."""
    scores, found = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1)
    for q, similarity in enumerate(queries @ vectors.astype(np.float32).T):
        best = sorted(zip(-similarity, ids, strict=True))[:k]
        scores[q, : len(best)] = [-score for score, _ in best]
        found[q, : len(best)] = [id for _, id in best]
    return scores, found


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
@pytest.mark.parametrize(
    ("n", "k", "block"), [(0, 3, 9), (1, 1, 9), (7, 9, 2), (5_000, 10, 5_000), (5_000, 7, 333)]
)
def test_exact_agrees_with_a_full_sort(n, k, block, dtype):
    rng = np.random.default_rng(n)
    vectors, queries = unit(rng, n, 16).astype(dtype), unit(rng, 5, 16)
    ids = rng.permutation(n) + 1_000  # not row numbers, not in order
    blocks = [(ids[i : i + block], vectors[i : i + block]) for i in range(0, n, block)]
    scores, found = exact(queries, blocks, k)

    true_scores, true_ids = full_sort(queries, vectors, ids, k)
    assert (scores.dtype, found.dtype, scores.shape) == (np.float32, np.int64, (5, k))
    np.testing.assert_allclose(scores, true_scores, atol=1e-6)
    np.testing.assert_array_equal(found, true_ids)  # no ties in random vectors


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_of_equal_scores_the_lower_id_is_first(data):
    rows = data.draw(st.lists(st.integers(0, 3), max_size=40))
    ids = np.array(data.draw(st.permutations(range(len(rows)))), np.int64)
    k, block = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 9))
    vectors = np.eye(4, dtype=np.float16)[rows].reshape(-1, 4)  # products of these are exact
    queries = np.array([[1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]], np.float32)
    blocks = [(ids[i : i + block], vectors[i : i + block]) for i in range(0, len(ids), block)]
    scores, found = exact(queries, blocks, k)
    true_scores, true_ids = full_sort(queries, vectors, ids, k)
    np.testing.assert_array_equal(scores, true_scores)
    np.testing.assert_array_equal(found, true_ids)


def test_more_rows_and_queries_than_fit_a_chunk():
    rng = np.random.default_rng(1)
    vectors, queries = unit(rng, 20_000, 256).astype(np.float16), unit(rng, 40, 256)
    queries[0] = vectors[19_999]
    scores, found = exact(queries, [(np.arange(20_000), vectors)], 10)
    similarity = queries @ vectors.astype(np.float32).T
    np.testing.assert_allclose(scores, np.sort(similarity, axis=1)[:, ::-1][:, :10], atol=1e-6)
    assert found[0, 0] == 19_999


@pytest.mark.parametrize("dim", [4, 24, 37])
@pytest.mark.parametrize("block", [7, 5_000])
def test_few_queries_are_compared_with_halves_as_they_are(dim, block, monkeypatch):
    module = sys.modules[exact.__module__]
    rng = np.random.default_rng(dim)
    vectors = unit(rng, 1_000, dim).astype(np.float16)[rng.integers(0, 1_000, 5_000)]  # with ties
    vectors.flags.writeable = False
    queries, ids = unit(rng, 3, dim), rng.permutation(5_000)

    def parts():  # read in the threads
        for at in range(0, 5_000, block):
            yield ids[at : at + block], lambda at=at: vectors[at : at + block]

    calls = []
    monkeypatch.setattr(module, "has_faiss", lambda: False)
    converted = exact(queries, parts(), 40)
    monkeypatch.setattr(module, "has_faiss", lambda: True)
    monkeypatch.setattr(module, "products", lambda *some: calls.append(1) or products(*some))
    scores, found = exact(queries, parts(), 40)
    assert calls
    np.testing.assert_allclose(scores, converted[0], atol=1e-6)
    true_scores, true_ids = full_sort(queries.astype(np.float64), vectors, ids, 40)
    np.testing.assert_allclose(scores, true_scores, atol=1e-6)
    np.testing.assert_array_equal(found, true_ids)
    calls.clear()
    exact(queries[[0] * (module.FEW + 1)], parts(), 9)
    assert not calls


def test_products_of_nothing_of_every_second_row_and_of_a_query_of_nan():
    rng = np.random.default_rng(3)
    vectors, queries = unit(rng, 90, 8).astype(np.float16), unit(rng, 3, 8)
    assert products(queries, vectors[:0]).shape == (3, 0)
    expected = queries @ vectors[::2].astype(np.float32).T
    np.testing.assert_allclose(products(queries, vectors[::2]), expected, atol=1e-6)
    queries[1] = np.nan
    expected = queries @ vectors.astype(np.float32).T
    np.testing.assert_allclose(products(queries, vectors), expected, atol=1e-6)
    assert (exact(queries[1:2], [(np.arange(90), vectors)], 3)[1] < 90).all()


@pytest.mark.usefixtures("four_threads")
def test_threads_find_what_one_finds_with_ties_in_all_of_their_parts(monkeypatch):
    rng = np.random.default_rng(2)
    rows = rng.integers(0, 4, 3_000)
    vectors, ids = np.eye(4, dtype=np.float16)[rows], rng.permutation(3_000)
    queries = unit(rng, 3, 4)
    monkeypatch.setattr(sys.modules[exact.__module__], "CHUNK", 64 * 4)  # 47 products
    scores, found = exact(queries, [(ids, vectors)], 1_000)
    true_scores, true_ids = full_sort(queries, vectors, ids, 1_000)
    np.testing.assert_allclose(scores, true_scores, atol=1e-6)
    np.testing.assert_array_equal(found, true_ids)

    of_groups = exact_by_group(queries, [(ids, vectors)], 9, lambda some: some % 3, [2, 0])
    for group, (_, found) in zip([2, 0], of_groups, strict=True):
        inside = ids % 3 == group
        np.testing.assert_array_equal(found, full_sort(queries, vectors[inside], ids[inside], 9)[1])


@pytest.mark.usefixtures("four_threads")
def test_an_error_of_the_blocks_is_raised_in_the_middle_of_a_scan():
    def torn():
        for start in range(0, 9_000, 64):
            yield np.arange(start, start + 64), np.zeros((64, 4), np.float32)
        raise OSError("gone")

    def unreadable():
        raise OSError("gone")

    for blocks in (torn(), [(np.arange(9), unreadable)] * 9):
        with pytest.raises(OSError, match="gone"):
            exact(np.eye(4, dtype=np.float32), blocks, 3)


def test_halves_are_widened_exactly():
    halves = np.arange(1 << 16).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)].reshape(-1, 4)  # all there are
    out = np.empty(halves.shape, np.float32)
    to_float32(halves, out)
    np.testing.assert_array_equal(out.view(np.uint32), halves.astype(np.float32).view(np.uint32))


def test_rerank_sorts_candidates_by_their_vectors():
    rng = np.random.default_rng(2)
    vectors, queries = unit(rng, 50, 8), unit(rng, 4, 8)
    candidates = np.array([rng.choice(50, 12, replace=False) for _ in queries])
    candidates[1, 3:] = -1
    candidates[2] = -1
    scores, found = rerank(queries, candidates, lambda ids: vectors[ids], 5)
    for q, query in enumerate(queries):
        own = candidates[q][candidates[q] >= 0]
        best = own[np.argsort(-(vectors[own] @ query))][:5]
        assert found[q].tolist() == [*best, *[-1] * (5 - len(best))]
        np.testing.assert_allclose(scores[q, : len(best)], vectors[best] @ query, atol=1e-6)
        assert np.isneginf(scores[q, len(best) :]).all()
    scores, found = rerank(queries, np.empty((4, 0), np.int64), lambda ids: vectors[ids], 3)
    assert (found == -1).all()
    assert scores.shape == (4, 3)


def test_candidates_of_many_queries_are_compared_in_parts_with_repeated_and_missing_ones():
    rng = np.random.default_rng(3)
    vectors, queries = unit(rng, 50, 256), unit(rng, 200, 256)
    candidates = rng.integers(-1, 50, (200, 11))  # several TABLEs
    candidates[:60] = -1  # a part without any
    found = cosines(queries, candidates, lambda ids: vectors[ids].astype(np.float16))
    expected = np.einsum("qd,qcd->qc", queries, vectors.astype(np.float16).astype(np.float32)[candidates])
    np.testing.assert_allclose(found, np.where(candidates < 0, -np.inf, expected), atol=1e-6)
    for row in (0, 60, 199):  # to the bit, whatever shares the batch
        alone = cosines(queries[row : row + 1], candidates[row : row + 1, :7], lambda ids: vectors[ids])
        again = cosines(queries[row:], candidates[row:], lambda ids: vectors[ids])
        np.testing.assert_array_equal(alone[0], again[0, :7])


def test_one_query_is_one_part_in_this_thread_however_many_candidates_it_has():
    rng = np.random.default_rng(4)
    vectors = unit(rng, 600, 1024).astype(np.float16)
    query, ids = unit(rng, 1, 1024), rng.permutation(600)[None]
    threads = []

    def stored(rows):
        threads.append(threading.get_ident())
        return vectors[rows]

    found = cosines(query, ids, stored)
    np.testing.assert_allclose(found[0], vectors[ids[0]].astype(np.float32) @ query[0], atol=1e-6)
    assert threads == [threading.get_ident()]
