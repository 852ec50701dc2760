"""An index follows its items: new ones are added, removed ones go, and others than before train it again."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pytest

from xsearch.index import Index, draw, exact, make_plan, new_index, recall_by_score, rerank, tune_on, update
from xsearch.index.plan import FLAT_BELOW

D = 32
RECIPE = "PCAR32,IVF32,PQ32x4fs"


def unit(x: np.ndarray) -> np.ndarray:
    return (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)


@dataclass
class Some:
    """Items in memory, as a snapshot gives them."""

    ids: np.ndarray
    modalities: np.ndarray
    rows: np.ndarray  # float16

    def vectors(self, ids):
        return self.rows[np.searchsorted(self.ids, ids)].astype(np.float32)

    def blocks(self, ids=None):
        requested = self.ids if ids is None else ids
        for start in range(0, len(requested), 700):
            some = requested[start : start + 700]
            yield some, self.rows[np.searchsorted(self.ids, some)]

    def __getitem__(self, rows) -> Some:
        return Some(self.ids[rows], self.modalities[rows], self.rows[rows])


def world(n: int, *, seed: int = 0, first: int = 10, kinds=("image", "text")) -> Some:
    """n items in clusters, each kind with an offset of its own: the modality gap."""
    rng = np.random.default_rng(seed)
    shape = np.random.default_rng(99)
    centres, gaps = shape.standard_normal((60, D)), 3 * shape.standard_normal((8, D))
    kind = np.sort(rng.integers(0, len(kinds), n))
    rows = unit(centres[rng.integers(0, 60, n)] + gaps[kind] + 0.5 * rng.standard_normal((n, D)))
    return Some(np.arange(n) + first, np.array(kinds)[kind], rows.astype(np.float16))


def both(one: Some, other: Some) -> Some:
    return Some(*(np.concatenate([getattr(one, name), getattr(other, name)]) for name in vars(one)))


def found(index, items, queries):
    _, ids = index.search(queries, 10 * 16, nprobe=index.plan.lists)
    assert np.isin(ids, items.ids).all()
    truth, _ = exact(queries, items.blocks(), 10)
    return recall_by_score(rerank(queries, ids, items.vectors, 10)[0], truth)


@pytest.fixture(scope="module")
def first():
    return world(4_000)


@pytest.fixture(scope="module")
def index(first):
    return new_index(first, device="cpu", recipe=RECIPE)


def test_a_sample_has_every_kind_and_the_size():
    kinds = np.array(["image"] * 9_000 + ["imu"] * 30 + ["text"] * 970)
    for count in (600, 5_000, 9_999, 10_000, 20_000):
        rows = draw(kinds, count)
        assert (np.diff(rows) > 0).all()
        assert min(count, 10_000) - 3 <= len(rows) <= min(count, 10_000)
        assert (kinds[rows] == "imu").sum() == 30  # all there are
        assert (kinds[rows] == "text").sum() >= min(970, count // 6)
    np.testing.assert_array_equal(draw(kinds, 600), draw(kinds, 600))


def test_few_items_need_no_index(first):
    assert new_index(first) is None
    assert update(None, first) is None
    assert new_index(first[:0]) is None
    assert new_index(first, recipe="Flat") is None
    assert len(first.ids) < FLAT_BELOW


def test_few_changes_are_left_alone(first, index):
    assert update(index, first) is index
    assert update(index, first[np.arange(4_000) % 50 > 0]) is index
    assert update(index, both(first, world(100, seed=1, first=9_000))) is index


def test_new_items_are_added_to_a_copy_and_removed_ones_go(first, index):
    more = world(1_500, seed=1, first=9_000)
    items = both(first[np.arange(4_000) % 3 > 0], more)
    queries = world(40, seed=2).rows.astype(np.float32)
    before = index.search(queries, 20)
    later = update(index, items)
    assert later is not index
    assert later.plan == index.plan  # not trained again
    np.testing.assert_array_equal(later.ids, items.ids)
    np.testing.assert_array_equal(later.stored(), items.ids)
    assert found(later, items, queries) >= 0.95
    for one, other in zip(before, index.search(queries, 20), strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(index.stored(), first.ids)


def test_ids_are_found_with_and_without_gaps(first, index):
    asked = np.array([-5, 9, 10, 11, 2_000, 4_009, 4_010, 10**12])
    gaps = new_index(first[np.arange(4_000) % 7 > 0], recipe=RECIPE)
    for some in (index, gaps):
        np.testing.assert_array_equal(some.covers(asked), np.isin(asked, some.ids))
        np.testing.assert_array_equal(some.subset(asked[2:]).ids, np.intersect1d(asked, some.ids))


def test_only_removed_items(first, index):
    half = first[::2]
    later = update(index, half)
    np.testing.assert_array_equal(later.stored(), half.ids)


def test_a_rotation_is_stored_without_what_it_was_computed_from(first, index, tmp_path):
    index.save(tmp_path)
    size = (tmp_path / "index.faiss").stat().st_size
    small = new_index(first, recipe=RECIPE.removeprefix("PCAR32,"))
    small.save(tmp_path)
    assert size - (tmp_path / "index.faiss").stat().st_size < 4 * D * D + 4 * 4 * D + 500  # the matrix itself


@pytest.mark.parametrize("recipe", [RECIPE, "IVF32,Flat", "PCAR16,IVF32,SQ8", "IVF16,PQ8x4"])
@pytest.mark.parametrize("kept", [1, 2])
def test_an_index_that_has_been_saved_is_extended(first, tmp_path, recipe, kept):
    new_index(first, recipe=recipe).save(tmp_path)
    items = both(first[::kept], world(900, seed=3, first=9_000))
    later = update(Index.load(tmp_path), items)
    np.testing.assert_array_equal(later.stored(), items.ids)
    np.testing.assert_array_equal(Index.load(tmp_path).stored(), first.ids)
    assert found(later, items, world(40, seed=2).rows.astype(np.float32)) >= 0.95


def test_a_few_removed_items_stay_until_there_are_more(first, index):
    items = both(first[1:], world(900, seed=7, first=9_000))
    later = update(index, items)
    np.testing.assert_array_equal(later.ids, np.append(first.ids[:1], items.ids))
    np.testing.assert_array_equal(later.stored(), later.ids)


@pytest.mark.parametrize("change", ["grown", "drifted", "unknown"])
def test_it_is_trained_again(first, index, change):
    if change == "grown":
        items = both(first, world(5_000, seed=4, first=9_000))
    elif change == "drifted":
        rng = np.random.default_rng(5)
        other = world(1_000, seed=5, first=9_000)
        items = both(first, Some(other.ids, other.modalities, unit(rng.standard_normal((1_000, D)))))
    else:
        index = index.tuned(error=None)  # as earlier versions left it
        items = both(first, world(900, seed=6, first=9_000))
    later = update(index.tuned(recall=0.97, nprobe=8, refine=3, growth=0.1), items)
    assert later.plan.n == len(items.ids)
    assert later.plan.recipe == RECIPE  # it was given
    assert (later.plan.nprobe, later.plan.refine, later.plan.growth) == (8, 3, 0.1)  # as it was tuned
    assert later.plan.recall is None
    untuned = update(index.tuned(nprobe=8), items).plan
    assert untuned.nprobe == make_plan(len(items.ids), D, recipe=RECIPE).nprobe
    np.testing.assert_array_equal(later.stored(), items.ids)


def test_many_items_get_the_plan_of_their_spectrum():
    items = world(FLAT_BELOW + 100)
    index = update(None, items)
    sample = items.vectors(items.ids[draw(items.modalities, index.plan.sample)])
    assert index.plan.recipe == make_plan(len(items.ids), D, sample=sample).recipe
    assert index.plan.error > 0
    assert not index.plan.given
    assert found(index, items, world(40, seed=2).rows.astype(np.float32)) >= 0.95


def test_tuning_measures_each_sort_of_query_against_the_exact_answer(first, index):
    tuned, points = tune_on(index, first, target=0.9, held_out=30)
    assert tuned.plan.recall >= 0.9
    assert all(set(point.recalls) == {"all", "same", "cross", "balanced"} for point in points)
    assert all(point.recall == min(point.recalls.values()) for point in points)
    assert points[0].recall < tuned.plan.recall
    assert tuned.plan.filtered is None  # what filters leave of so few is scanned
    queries = first.vectors(first.ids[first.modalities == "text"][:30])
    images = first[first.modalities == "image"]
    _, ids = tuned.search(queries, 10 * tuned.plan.refine, allowed=images.ids)
    truth, _ = exact(queries, images.blocks(), 10)
    assert recall_by_score(rerank(queries, ids, first.vectors, 10)[0], truth) >= 0.85


def test_tuning_measures_searches_with_a_filter_too():
    many = world(24_000)
    index = new_index(many, device="cpu", recipe=RECIPE).tuned(growth=0.5)
    tuned, _ = tune_on(index, many, target=0.9, held_out=30)
    assert tuned.plan.filtered >= 0.9 or tuned.plan.growth == 1
    assert tuned.plan.growth < 0.5


@pytest.mark.parametrize("few", [0, 25])
def test_balanced_answers_need_candidates_of_all_kinds(monkeypatch, few):
    """few: items of a kind that is scanned."""
    items = world(4_000, kinds=("audio", "depth", "image"))
    if few:
        other = world(few, first=9_000, kinds=("text",))
        items = both(items, other)
    index, module = new_index(items, device="cpu", recipe=RECIPE), sys.modules[tune_on.__module__]
    monkeypatch.setattr("xsearch.index.index.LEAST_PROBED", 1)
    monkeypatch.setattr(module, "PROBES", (1, 24, 32))
    monkeypatch.setattr(module, "REFINES", (1, 20))
    monkeypatch.setattr(module, "SAMPLE", 10_000)
    monkeypatch.setattr(module, "SCAN", 30 if few else 1_000)
    _, points = tune_on(index, items, target=1.1, held_out=30)
    by_place = {(point.nprobe, point.refine): point.recalls["balanced"] for point in points}
    assert by_place[32, 20] == 1
    assert by_place[1, 20] < by_place[24, 20] <= 1
    assert by_place[32, 1] < 0.95


def test_tuning_with_one_kind_has_no_other_queries(first, index):
    _, points = tune_on(index, first[first.modalities == "image"], target=0.5, held_out=10)
    assert set(points[0].recalls) == {"same"}
