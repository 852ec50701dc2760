"""Search against the slow, obvious answer: numpy over all vectors."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from dataclasses import replace
from itertools import count
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from xsearch.errors import BadFilter, UsageError
from xsearch.index import Index, build, make_plan
from xsearch.query import Calibration, Embedded, Query, View, calibrate, embed, search, search_many, vector
from xsearch.query import view as module
from xsearch.query.calibration import SAMPLE, Baseline, pooled
from xsearch.query.device_vectors import DeviceVectors
from xsearch.store import Snapshot, Store
from xsearch.types import Fingerprint, Hit, Modality

DIM = 16
STAMP = Fingerprint("fake", "0", "1", DIM)
KINDS = (Modality.IMAGE, Modality.TEXT, Modality.AUDIO)


class Dim:
    """A backend for queries that are vectors."""

    fingerprint = STAMP


def embedded(query: Query) -> Embedded:
    (found,) = embed([query], Dim())  # type: ignore[arg-type]
    return found


def baseline(query: Embedded, snapshot: Snapshot, kind: Modality) -> tuple[float, float, float]:
    """Centre, spread and deviation."""
    centre, spread, deviation = (
        View(snapshot).scaling.baselines([query])[:, 0, list(Modality).index(kind)].tolist()
    )
    return centre, spread, deviation


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def random_rows(rng: np.random.Generator, kind: Modality, n: int) -> np.ndarray:
    """float32 [n, DIM]: every kind in its own corner of the space, as in a joint model."""
    corner = [*KINDS, *Modality].index(kind)
    return unit(rng.normal(size=(n, DIM)) + 4 * np.eye(DIM)[corner])


def make(path: Path, vectors: np.ndarray, kinds: list[Modality], **columns: Any) -> Store:
    store = Store.create(path, STAMP)
    with store.writer() as writer:
        table = {
            "path": [f"/{i}" for i in range(len(kinds))],
            "modality": [str(kind) for kind in kinds],
            **columns,
        }
        writer.add(pa.table(table), vectors)
        writer.commit()
    return store


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Store:
    """200 pictures, 60 texts, 1 sound; `year` counts; every tenth item removed."""
    kinds = [KINDS[0]] * 200 + [KINDS[1]] * 60 + [KINDS[2]]
    vectors = np.concatenate([random_rows(rng, kind, kinds.count(kind)) for kind in KINDS])
    store = make(tmp_path / "c", vectors, kinds, year=list(range(len(kinds))))
    with store.writer() as writer:
        writer.remove(np.arange(0, 260, 10))
        writer.set_calibration(calibrate(writer.snapshot).to_dict())
        writer.commit()
    return store


def ask(rng: np.random.Generator, kind: Modality = Modality.IMAGE) -> Embedded:
    return embedded(vector(random_rows(rng, kind, 1)[0], kind))


def width(vectors: np.ndarray) -> float:
    """Distance from their mean, for more than a few vectors that are not alike."""
    cosines = (vectors @ vectors.T)[np.triu_indices(len(vectors), k=1)]
    alike = cosines.mean() * len(vectors) / (len(vectors) + 4) if len(cosines) else 0.0
    return float(np.sqrt(1 - alike))


def oracle(
    snapshot: Snapshot, query: Embedded, ids: np.ndarray, *, balanced: bool
) -> list[tuple[int, float]]:
    """(id, score) of all `ids`, best first."""
    items = snapshot.items(snapshot.ids, ["id", "modality"]).to_pylist()
    widths = {kind: width(snapshot.vectors(snapshot.select(modalities=[kind]))) for kind in KINDS}
    found = []
    for item, row in zip(items, snapshot.vectors(snapshot.ids), strict=True):
        if item["id"] in ids:
            cosine = float(row @ query.vector)
            centre, spread, _ = baseline(query, snapshot, Modality(item["modality"]))
            scale = spread ** (1 / 3) * widths[Modality(item["modality"])] ** (2 / 3)
            found.append(((cosine - centre) / scale if balanced else cosine, item["id"]))
    return [(id, score) for score, id in sorted(found, key=lambda pair: (-pair[0], pair[1]))]


def check(hits: list[Hit], expected: list[tuple[int, float]], *, balanced: bool) -> None:
    assert [hit.id for hit in hits] == [id for id, _ in expected]
    scores = [hit.balanced if balanced else hit.cosine for hit in hits]
    np.testing.assert_allclose(scores, [score for _, score in expected], atol=1e-4)
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("top", [1, 10, 1000])
@pytest.mark.parametrize(
    ("options", "keep"),
    [
        ({}, lambda year: True),
        ({"modality": "text"}, lambda year: 200 <= year < 260),
        ({"modality": ["text", Modality.AUDIO]}, lambda year: year >= 200),
        ({"where": "year < 50 OR year > 250"}, lambda year: year < 50 or year > 250),
        ({"where": "year % 2 = 0", "modality": "image"}, lambda year: year % 2 == 0 and year < 200),
        ({"where": "year > 1000"}, lambda year: False),
    ],
)
def test_search_agrees_with_a_full_sort(
    store: Store, rng: np.random.Generator, rank: Any, top: int, options: dict[str, Any], keep: Any
) -> None:
    snapshot, query, balanced = store.snapshot(), ask(rng), rank == "balanced"
    rows = snapshot.items(snapshot.ids, ["id", "year"]).to_pylist()
    ids = np.array([row["id"] for row in rows if keep(row["year"])])
    hits = search(View(snapshot), query, top=top, rank=rank, **options)
    check(hits, oracle(snapshot, query, ids, balanced=balanced)[:top], balanced=balanced)


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize(
    ("where", "keep"),
    [
        (None, lambda year: True),
        ("year < 30", lambda year: year < 30),
        ("year <> 77", lambda year: year != 77),
        ("year % 2 = 0", lambda year: year % 2 == 0),
        ("year > 225 or year < 45", lambda year: year > 225 or year < 45),
        ("year < 0", lambda year: False),
    ],
)
def test_groups_are_what_passes_by_kind_and_by_what_the_index_covers(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch,
    where: str | None, keep: Any, every: int, apart: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "SCAN", 20)
    kinds = [KINDS[0]] * 150 + [KINDS[1]] * 80 + [KINDS[2]] * 5
    vectors = np.concatenate([random_rows(rng, kind, kinds.count(kind)) for kind in KINDS])
    unknown = [0.0] * 180 + [1.0] * 30 + [0.0] * 25
    store = make(tmp_path / "c", vectors, kinds, year=list(range(235)), unknown_share=unknown)
    with store.writer() as writer:
        writer.remove(np.arange(0, 230, 10))
        writer.commit()
    snapshot, indexed = store.snapshot(), np.arange(5, 235, every)  # some of which are removed
    plan = make_plan(len(indexed), DIM, device="cpu", recipe="IVF8,Flat")
    index = build(plan, vectors, [(indexed, vectors[indexed])])
    lists = dict(zip(index.ids.tolist(), index.list_of.tolist(), strict=True))
    sizes = Counter(lists.values())

    expected: dict[tuple[bool, Modality | None], list[int]] = {}
    for id in snapshot.ids.tolist():
        if keep(id):
            expected.setdefault((unknown[id] == 0, kinds[id] if apart else None), []).append(id)
    groups = View(snapshot, index).groups(where, None, apart=apart)
    order = sorted(expected, key=lambda part: (not part[0], part[1] and KINDS.index(part[1])))
    codes = [*Modality]
    assert [(group.is_known, None if group.kind is None else codes[group.kind]) for group in groups] == order
    for group, ids in zip(groups, map(expected.get, order), strict=True):
        assert ids is not None
        assert group.ids.tolist() == ids
        assert {codes[code]: n for code, n in enumerate(group.counts) if n} == Counter(
            kinds[id] for id in ids
        )
        covered = [id for id in ids if id in lists] if len(ids) > 20 else []
        assert group.uncovered.tolist() == [id for id in ids if id not in covered]
        assert group.covered == len(covered)
        assert (group.subset is None) == (not covered)
        if group.subset is not None:
            assert group.subset.ids.tolist() == covered
            assert group.subset.lists.tolist() == sorted({lists[id] for id in covered})
            assert group.subset.share == len(covered) / sum(sizes[at] for at in group.subset.lists.tolist())


def test_what_passes_a_filter_is_looked_for_once_unless_time_decides(store: Store) -> None:
    view = View(store.snapshot())

    def groups(where: str) -> Any:
        return view.groups(where, None, apart=True)

    first = groups("year < 50")
    assert [len(group.ids) for group in first] == [45]
    assert groups("year < 50") is first
    for at in range(module.FILTERS):
        groups(f"year < {at}")
    assert groups("year < 50") is not first  # the oldest makes room
    assert groups("epoch(now()) > year") is not groups("epoch(now()) > year")


@pytest.mark.parametrize("unique", [False, True])
def test_many_queries_get_what_each_gets_alone(store: Store, rng: np.random.Generator, unique: bool) -> None:
    snapshot, queries = store.snapshot(), [ask(rng) for _ in range(5)]
    queries.append(ask(rng, Modality.TEXT))
    how: dict[str, Any] = {"top": 7, "where": "year < 230", "unique": unique}
    view = View(snapshot)
    alone = [search(view, query, **how) for query in queries]
    assert search_many(view, queries, **how) == alone
    parts = random_rows(rng, Modality.IMAGE, 2)
    others = [ask(rng, Modality.DEPTH), embedded(vector(parts[0], "image") - 0.5 * vector(parts[1], "text"))]
    assert search_many(View(snapshot), [*queries, *others], **how)[:-2] == alone
    assert search_many(view, [], **how) == []


class HalfIndex(Index):
    """Covers every second item and finds the nearest of them, as FAISS does: candidates, not the truth."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.ids = snapshot.ids[::2]
        self.calls: list[np.ndarray | None] = []

    def covers(self, ids: np.ndarray) -> np.ndarray:
        return np.isin(ids, self.ids)

    def lists_of(self, ids: np.ndarray) -> np.ndarray:
        return np.where(np.isin(ids, self.ids), 0, -1)

    plan = SimpleNamespace(nprobe=1)

    def subset(self, ids: np.ndarray, lists: np.ndarray | None = None) -> Any:
        ids = np.intersect1d(ids, self.ids)
        return SimpleNamespace(ids=ids, lists=ids, share=self.share, list_of=ids)

    def candidates(self, k: int) -> int:
        return 2 * k

    def reads(self, subset: Any, nprobe: int | None = None) -> float:
        return self.codes

    codes, share = 0.0, 1.0  # that it compares; of the entries of a subset's lists

    def members(self, query: np.ndarray, subset: Any, nprobe: int | None = None) -> np.ndarray:
        return np.sort(self.search(query, 30, allowed=subset.ids)[1][0])

    def search_each(self, queries: np.ndarray, k: int, subsets: list[tuple[Any, int | None]]) -> list[Any]:
        return [self.search(queries, k, allowed=subset and subset.ids) for subset, _ in subsets]

    def search(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        self.calls.append(allowed)
        ids = self.ids if allowed is None else np.intersect1d(self.ids, allowed)
        scores = self.snapshot.vectors(ids) @ queries[0]
        best = np.argsort(-scores)[:k]
        padding = np.full(k - len(best), -1)
        return np.append(scores[best], padding)[None], np.append(ids[best], padding)[None]


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("where", [None, "year < 150"])
def test_items_outside_the_index_are_found_too(
    store: Store, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, rank: Any, where: str | None
) -> None:
    monkeypatch.setattr(module, "SCAN", 20)  # so that 200 items count as many
    snapshot, query = store.snapshot(), ask(rng)
    index: Any = HalfIndex(snapshot)
    search(View(snapshot), query)  # what is kept of a snapshot depends on the index
    hits = search(View(snapshot, index), query, top=15, rank=rank, where=where)
    scanned = search(View(snapshot), query, top=15, rank=rank, where=where)
    assert [hit.id for hit in hits] == [hit.id for hit in scanned]
    assert index.calls


def test_candidates_of_an_index_on_a_gpu_are_compared_there(
    store: Store, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SCAN", 20)
    snapshot, query = store.snapshot(), ask(rng)
    device = DeviceVectors(snapshot, torch.device("cpu"))
    monkeypatch.setattr(HalfIndex, "on_gpu", True)
    monkeypatch.setattr(DeviceVectors, "on_gpu", lambda source: device)
    view = View(snapshot, HalfIndex(snapshot))  # type: ignore[arg-type]
    scanned = search(View(snapshot), query, top=15)
    for _ in range(8):  # more candidates in all than there are items, which are then resident
        assert [hit.id for hit in search(view, query, top=15)] == [hit.id for hit in scanned]
    ids = snapshot.ids[None, :30]
    expected = query.vector @ snapshot.vectors(ids[0]).T
    monkeypatch.setattr(Snapshot, "stored", None)
    np.testing.assert_allclose(view.cosines(query.vector[None], ids)[0], expected, atol=1e-6)


def test_a_selective_filter_is_scanned(store: Store, rng: np.random.Generator) -> None:
    snapshot = store.snapshot()
    index: Any = HalfIndex(snapshot)
    assert search(View(snapshot, index), ask(rng), where="year < 15")
    assert index.calls == []


@pytest.mark.parametrize("at", [-1, 1])
def test_what_takes_less_time_is_done(
    store: Store, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    monkeypatch.setattr(module, "SCAN", 20)
    snapshot = store.snapshot()
    index: Any = HalfIndex(snapshot)
    view = View(snapshot, index)
    (group,) = view.groups("year < 150", [Modality.IMAGE], apart=True)
    index.codes = group.covered * (module.ITEM + module.EACH) + at
    hits = search(view, query := ask(rng), where="year < 150", modality="image", top=9)
    assert len(index.calls) == (at < 0)
    scanned = search(View(snapshot), query, where="year < 150", modality="image", top=9)
    assert [hit.id for hit in hits] == [hit.id for hit in scanned]
    index.codes, index.share = 0.0, 0.01  # of one query the items in the lists that it would visit
    rare, before = View(snapshot, index), len(index.calls)
    hits = search(rare, query, where="year < 150", modality="image", top=9)
    assert len(index.calls) == before + 1
    assert [hit.id for hit in hits] == [hit.id for hit in scanned]
    whole: Any = HalfIndex(snapshot)
    whole.ids, whole.share = snapshot.ids, 0.01
    hits = search(View(snapshot, whole), query, where="year < 150", modality="image", top=35)
    assert len(hits) == 35  # more than there are in those lists
    monkeypatch.setattr(Snapshot, "is_near", False)
    search(view, query, where="year < 150", modality="image", top=9)
    assert len(index.calls) == before + 2


def test_a_filter_takes_more_lists_for_each_kind(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SCAN", 20)
    snapshot = store.snapshot()
    index: Any = HalfIndex(snapshot)
    index.plan = SimpleNamespace(nprobe=1_000)
    view = View(snapshot, index)
    (all_images, *_) = every = view.groups(None, None, apart=True)
    lists = sum(len(group.subset.lists) for group in every if group.subset)
    share = 1_000 * len(all_images.subset.lists) / lists  # type: ignore[union-attr]
    assert view._nprobe(all_images, every) == math.ceil(share)
    few = replace(all_images, ids=all_images.ids[: len(all_images.ids) // 2])
    assert view._nprobe(few, every) == math.ceil(share * 2**module.RARER)
    few = replace(all_images, ids=all_images.ids[:3])
    assert view._nprobe(few, every) == math.ceil(share * module.WIDER)
    assert view._nprobe(few, every, wider=1.5) == math.ceil(share * 1.5)
    assert view._nprobe(few, [few]) is None


def test_a_second_scan_loads_faiss(
    store: Store, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[int] = []
    library = importlib.import_module("xsearch.index.library")
    monkeypatch.setattr(library, "_scans", count())
    for each in (library, module):
        monkeypatch.setattr(each, "load_faiss", lambda: loaded.append(1))
    small, view = View(store.snapshot()), View(store.snapshot())
    search(small, ask(rng))
    search(small, ask(rng))
    small.warm()
    assert not loaded
    monkeypatch.setattr(module, "SCAN", 20)
    search(view, ask(rng))
    assert not loaded
    search(view, ask(rng))
    assert loaded
    loaded.clear()
    view.warm()
    assert loaded


def test_one_kind_does_not_crowd_out_the_others(store: Store, rng: np.random.Generator) -> None:
    snapshot, query = store.snapshot(), ask(rng)
    by_cosine = search(View(snapshot), query, top=20, rank="cosine")
    balanced = search(View(snapshot), query, top=20)
    others = [sum(hit.modality != "image" for hit in hits) for hits in (by_cosine, balanced)]
    assert others[0] <= 2
    assert others[1] >= 4  # of 61 among 235


def test_balancing_keeps_the_order_within_a_kind(store: Store, rng: np.random.Generator) -> None:
    snapshot, one = store.snapshot(), ask(rng)
    parts = [vector(random_rows(rng, kind, 1)[0], kind) for kind in (Modality.IMAGE, Modality.TEXT)]
    for query in (one, embedded(parts[0] + 0.5 * parts[1]), embedded(parts[0] - parts[1])):
        mixed = search(View(snapshot), query, top=1000)
        for kind in KINDS:
            balanced, plain = (
                search(View(snapshot), query, top=1000, modality=kind, rank=rank)  # type: ignore[arg-type]
                for rank in ("balanced", "cosine")
            )
            assert [replace(hit, score=hit.cosine) for hit in balanced] == list(plain)
            assert [hit.id for hit in mixed if hit.modality == kind] == [hit.id for hit in plain]


def test_min_cosine_is_a_cosine(store: Store, rng: np.random.Generator) -> None:
    snapshot, query = store.snapshot(), ask(rng)
    everything = search(View(snapshot), query, top=1000)
    some = search(View(snapshot), query, top=1000, min_cosine=0.5)
    assert [hit.id for hit in some] == [hit.id for hit in everything if hit.cosine >= 0.5]
    assert 0 < len(some) < len(everything)


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
def test_expected_counts_what_may_answer(
    store: Store, rng: np.random.Generator, rank: Any, unique: bool
) -> None:
    view, query = View(store.snapshot()), ask(rng)
    options: dict[str, Any] = {"top": 1000, "rank": rank, "unique": unique}
    everything = search(view, query, **options)
    few = search(view, query, where="year < 50", **options)
    number = {kind: sum(hit.modality == kind for hit in everything) for kind in KINDS}
    centres, _, deviations = view.scaling.baselines([query])[:, 0]
    for hit in everything:
        at = list(Modality).index(hit.modality)
        ways = np.array([hit.cosine - centres[at], deviations[at]]) / (1 - centres[at])
        z, one = np.arctanh(np.clip(ways, -0.9995, 0.9995))
        chance = 1 - NormalDist().cdf(z / one)
        assert hit.expected == pytest.approx(number[hit.modality] * chance, rel=1e-3, abs=1e-9)
    by_id = {hit.id: hit.expected for hit in everything}
    assert [hit.expected for hit in few] == pytest.approx([by_id[hit.id] * 45 / 180 for hit in few])
    assert everything.nearest_expected == pytest.approx(len(KINDS) * min(by_id.values()))
    assert few.nearest_expected == pytest.approx(few[0].expected) or len({hit.modality for hit in few}) > 1


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("bound", [0.0, 0.3, 5.0, 40.0, 1e9])
def test_max_expected_leaves_out_what_chance_explains(
    store: Store, rng: np.random.Generator, rank: Any, unique: bool, bound: float
) -> None:
    view = View(store.snapshot())
    for query in (ask(rng), ask(rng, Modality.TEXT)):
        everything = search(view, query, top=1000, rank=rank, unique=unique)
        expected = [hit.id for hit in everything if hit.expected is not None and hit.expected <= bound]
        for top in (3, 1000):
            some = search(view, query, top=top, rank=rank, unique=unique, max_expected=bound)
            assert [hit.id for hit in some] == expected[:top]
            if top == 1000 or not expected:
                assert some.nearest_expected == pytest.approx(everything.nearest_expected, rel=0.5)


def test_unrelated_items_are_as_near_as_expected(tmp_path: Path, rng: np.random.Generator) -> None:
    kinds = [Modality.IMAGE] * 300 + [Modality.TEXT] * 300
    vectors = np.concatenate([random_rows(rng, kind, 300) for kind in KINDS[:2]])
    view = View(make(tmp_path / "c", vectors, kinds).snapshot())
    nearest = [search(view, ask(rng), top=1, modality="text").nearest_expected or 0 for _ in range(300)]
    for bound in (0.1, 0.3, 1.0):
        assert bound / 3 < np.mean(np.array(nearest) <= bound) < bound * 1.5


@pytest.mark.parametrize("numbers", [(1, 0), (1, 1), (2, 1), (10, 2), (10, 10)])
def test_few_items_have_sane_figures(
    tmp_path: Path, rng: np.random.Generator, numbers: tuple[int, int]
) -> None:
    rows = [random_rows(rng, kind, n) for kind, n in zip(KINDS, numbers, strict=False)]
    kinds = [kind for kind, n in zip(KINDS, numbers, strict=False) for _ in range(n)]
    view = View(make(tmp_path / "c", np.concatenate(rows), kinds).snapshot())
    for kind in KINDS:
        for hit in search(view, ask(rng, kind)):
            assert hit.expected is not None
            assert 1e-4 < hit.expected <= numbers[KINDS.index(hit.modality)]


def test_alike_items_do_not_explain_a_copy_of_one(tmp_path: Path, rng: np.random.Generator) -> None:
    picture = random_rows(rng, Modality.IMAGE, 1)
    view = View(make(tmp_path / "c", np.repeat(picture, 5, axis=0), [Modality.IMAGE] * 5).snapshot())
    same, other = (search(view, embedded(vector(one, "image"))) for one in (picture[0], -picture[0]))
    assert same.found
    assert not same.remark
    assert not other.found
    assert other.remark == "nothing like it here: the nearest would be found 8.41 times by chance"


def test_whether_something_is_found_does_not_depend_on_how_many_are_asked_for(
    store: Store, rng: np.random.Generator
) -> None:
    view, query = View(store.snapshot()), ask(rng)
    one, *others = (search(view, query, top=top).nearest_expected for top in (1, 5, 100))
    assert others == pytest.approx([one, one], rel=1e-4)
    own = replace(query, own=np.array([11, 12]))
    expected = {hit.id: hit.expected for hit in search(view, own, top=1000)}
    assert expected[11] == expected[12] == 0  # what is of the same file is no chance
    unread = search(view, replace(query, is_unread=True), top=1000)
    number = Counter(hit.modality for hit in unread)
    assert all(hit.expected == number[hit.modality] for hit in unread)
    assert not unread.found


def test_texts_that_cannot_be_read_are_near_by_chance(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = random_rows(rng, Modality.TEXT, 8)
    store = make(tmp_path / "c", rows, [Modality.TEXT] * 8, unknown_share=[0.0] * 5 + [1.0] * 3)
    query = embedded(vector(rows[6], "text"))
    hits = search(View(store.snapshot()), query)
    assert [hit.expected for hit in hits if hit.id > 4] == [8, 8, 8]
    assert {hit.id for hit in search(View(store.snapshot()), query, max_expected=7.9)} <= set(range(5))


def test_figures_of_an_earlier_release_are_measured_again(store: Store, rng: np.random.Generator) -> None:
    def hits(calibration: dict[str, Any]) -> Any:
        with store.writer() as writer:
            writer.set_calibration(calibration)
            writer.commit()
        return search(View(store.snapshot()), query)

    query = ask(rng)
    earlier = {"next_id": 261, "pairs": {"image,image": [0.1, 0.2, 300]}}
    assert hits(earlier) == hits(calibrate(store.snapshot()).to_dict())


def test_unique_folds_copies_and_windows_and_still_fills_the_answer(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    few = random_rows(rng, Modality.IMAGE, 30)
    vectors = unit(np.repeat(few, 20, axis=0) + 0.001 * rng.normal(size=(600, DIM)))  # 20 that look the same
    more = random_rows(rng, Modality.AUDIO, 40)  # 4 files of 10 different windows
    digests = [f"i{i}" for i in range(600)] + [f"a{i // 10}" for i in range(40)]
    kinds = [Modality.IMAGE] * 600 + [Modality.AUDIO] * 40
    snapshot = make(tmp_path / "c", np.concatenate([vectors, more]), kinds, sha256=digests).snapshot()
    query = ask(rng)
    hits = search(View(snapshot), query, top=25, unique=True, rank="cosine")
    everything = search(View(snapshot), query, top=640, rank="cosine")
    groups = [hit.id // 20 if hit.id < 600 else hit.extra["sha256"] for hit in everything]
    firsts = [hit.id for at, hit in enumerate(everything) if groups[at] not in groups[:at]]
    assert [hit.id for hit in hits] == firsts[:25]
    assert len(search(View(snapshot), query, top=100, unique=True)) == 34


def test_unique_looks_as_deep_into_every_kind(tmp_path: Path, rng: np.random.Generator) -> None:
    few = random_rows(rng, Modality.IMAGE, 100)
    few[1:6] = unit(few[0] + 0.1 * rng.normal(size=(5, DIM)))  # near to it, but not the same
    copies = np.repeat([30, 1], [1, 99])
    pictures = np.repeat(few, copies, axis=0)
    rows = np.concatenate([pictures, random_rows(rng, Modality.TEXT, 200)])
    kinds = [Modality.IMAGE] * len(pictures) + [Modality.TEXT] * 200
    digests = [f"i{i}" for i in np.repeat(np.arange(100), copies)] + [f"t{i}" for i in range(200)]
    store = make(tmp_path / "c", rows, kinds, sha256=digests)
    with store.writer() as writer:
        writer.set_calibration(calibrate(writer.snapshot).to_dict())
        writer.commit()
    snapshot = store.snapshot()
    query = embedded(vector(few[0], "image"))
    everything = search(View(snapshot), query, top=1000)
    groups = [hit.extra["sha256"] for hit in everything]
    firsts = [hit.id for at, hit in enumerate(everything) if groups[at] not in groups[:at]]
    for top in (2, 5, 20):
        assert [hit.id for hit in search(View(snapshot), query, top=top, unique=True)] == firsts[:top]


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("sign", [1, -1])
def test_no_cosine_is_above_1(tmp_path: Path, rng: np.random.Generator, rank: Any, sign: float) -> None:
    snapshot = make(tmp_path / "c", random_rows(rng, Modality.IMAGE, 200), [Modality.IMAGE] * 200).snapshot()
    vectors = snapshot.vectors(snapshot.ids)
    products = np.abs(vectors @ unit(vectors).T)
    assert products.max() > 1  # as float16 is rounded
    for row in np.unique(np.argwhere(products > 1)[:, 0]):
        hits = search(View(snapshot), embedded(vector(sign * vectors[row], "image")), top=200, rank=rank)
        assert len(hits) == 200
        assert max(abs(hit.cosine or 0) for hit in hits) == 1
    query = embedded(vector(vectors[row], "image"))
    assert replace(query, parts=query.parts * 1.01).cosines.tolist() == [1]


def test_an_unknown_content_equals_nothing(tmp_path: Path, rng: np.random.Generator) -> None:
    """Case: --unique after an import, whose items have no sha256."""
    vectors = random_rows(rng, Modality.IMAGE, 6)
    digests = [None, None, "", "", "a", "a"]
    snapshot = make(tmp_path / "c", vectors, [Modality.IMAGE] * 6, sha256=digests).snapshot()
    for top in (3, 5, 100):
        hits = search(View(snapshot), ask(rng), top=top, unique=True)
        assert len(hits) == len({hit.id for hit in hits}) == min(top, 5)


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
@pytest.mark.parametrize("where", [None, "year < 230"])
@pytest.mark.parametrize("indexed", [False, True])
def test_its_own_items_do_not_answer(
    store: Store, rng: np.random.Generator, rank: Any, unique: bool, where: str | None, indexed: bool
) -> None:
    snapshot = store.snapshot()
    view = View(snapshot, HalfIndex(snapshot) if indexed else None)  # type: ignore[arg-type]
    owns = [np.empty(0, np.int64), snapshot.ids[50:90], snapshot.select("modality = 'image'"), snapshot.ids]
    queries = [replace(ask(rng), own=own) for own in owns]
    options: dict[str, Any] = {"rank": rank, "unique": unique, "where": where}
    found = search_many(view, queries, top=30, exclude_self=True, **options)
    for query, hits in zip(queries, found, strict=True):
        every = search(view, query, top=1000, **options)
        expected = [hit for hit in every if hit.id not in query.own][:30]
        assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert list(found[3]) == []
    assert search(view, queries[2], top=30, **options) == search(view, queries[2], top=30, **options)
    assert set(queries[2].own) & {hit.id for hit in search(view, queries[2], top=300, **options)}


def test_no_kinds_at_all_have_no_hits(store: Store, rng: np.random.Generator) -> None:
    assert list(search(View(store.snapshot()), ask(rng), modality=[])) == []


def test_hits_carry_what_is_known(tmp_path: Path, rng: np.random.Generator) -> None:
    rows = random_rows(rng, Modality.TEXT, 2)
    store = make(
        tmp_path / "c", rows, [Modality.TEXT] * 2, text=["a", None], mime=["text/plain", None], year=[7, None]
    )
    hits = sorted(search(View(store.snapshot()), ask(rng)), key=lambda hit: hit.id)
    assert (hits[0].path, hits[0].text, hits[0].extra) == ("/0", "a", {"mime": "text/plain", "year": 7})
    assert (hits[1].text, hits[1].extra, hits[1].start_s) == (None, {}, None)
    assert isinstance(hits[0].modality, Modality)
    assert type(hits[0].score) is float


@pytest.mark.parametrize(
    "options",
    [
        {"top": 0},
        {"min_cosine": 7},
        {"min_cosine": np.nan},
        {"rank": "best"},
        {"modality": "smell"},
        {"modality": ["text", "x"]},
    ],
)
def test_impossible_requests_are_usage_errors(store: Store, rng: np.random.Generator, options: Any) -> None:
    with pytest.raises(UsageError, match="expected"):
        search(View(store.snapshot()), ask(rng), **options)


def test_a_bad_filter_says_so(store: Store, rng: np.random.Generator) -> None:
    with pytest.raises(BadFilter):
        search(View(store.snapshot()), ask(rng), where="year <")


def test_an_empty_collection_has_no_hits(tmp_path: Path, rng: np.random.Generator) -> None:
    snapshot = Store.create(tmp_path / "c", STAMP).snapshot()
    for unique in (False, True):
        assert list(search(View(snapshot), ask(rng), unique=unique)) == []


def test_one_item_is_found(tmp_path: Path, rng: np.random.Generator) -> None:
    snapshot = make(tmp_path / "c", random_rows(rng, Modality.TEXT, 1), [Modality.TEXT]).snapshot()
    (hit,) = search(View(snapshot), ask(rng))
    assert hit.balanced is not None
    assert np.isfinite(hit.balanced)


# ---------------------------------------------------------------- calibration


def test_calibration_is_the_median_and_the_upper_tail_of_all_pairs(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    rows = {kind: random_rows(rng, kind, 30 + 10 * i) for i, kind in enumerate(KINDS)}
    kinds = [kind for kind in KINDS for _ in rows[kind]]
    snapshot = make(tmp_path / "c", np.concatenate(list(rows.values())), kinds).snapshot()
    pairs = calibrate(snapshot).pairs
    for a in KINDS:
        for b in KINDS:
            cosines = [x @ y for i, x in enumerate(rows[a]) for j, y in enumerate(rows[b]) if a != b or i < j]
            assert pairs[a, b].centre == pytest.approx(np.median(cosines), abs=1e-3)
            high = np.median(cosines) + 1.645 * pairs[a, b].spread
            assert np.mean(np.array(cosines) > high) == pytest.approx(0.05, abs=0.005)
            high = np.median(cosines) + pairs[a, b].deviation
            assert np.mean(np.array(cosines) > high) == pytest.approx(0.1587, abs=0.005)
            assert pairs[a, b].count == min(len(rows[a]), len(rows[b]))


def test_calibration_reads_a_bounded_sample(tmp_path: Path, rng: np.random.Generator) -> None:
    n = 3 * SAMPLE
    snapshot = make(tmp_path / "c", random_rows(rng, Modality.TEXT, n), [Modality.TEXT] * n).snapshot()
    assert calibrate(snapshot).pairs[Modality.TEXT, Modality.TEXT].count == SAMPLE
    assert calibrate(snapshot) == calibrate(snapshot)


def test_calibration_survives_the_manifest(store: Store) -> None:
    calibration = calibrate(store.snapshot())
    assert Calibration.from_dict(calibration.to_dict()) == calibration
    assert Calibration.from_dict(None).pairs == {}


def test_composed_queries_combine_their_parts(store: Store, rng: np.random.Generator) -> None:
    """Against the same sum made for many other queries of the same kinds."""
    snapshot = store.snapshot()
    images = snapshot.vectors(snapshot.select(modalities=[Modality.IMAGE]))
    texts = snapshot.vectors(snapshot.select(modalities=[Modality.TEXT]))
    query = embedded(vector(images[3], "image") - 0.6 * vector(texts[5], "text"))
    centre, spread, _ = baseline(query, snapshot, Modality.TEXT)
    cosines = np.array([(a - 0.6 * b) @ texts.T / query.norm for a in images for b in texts])
    assert centre == pytest.approx(np.median(cosines), abs=0.03)
    assert spread == pytest.approx(cosines.std(), abs=0.05)


def test_a_kind_that_the_collection_lacks_is_measured_on_the_query(
    store: Store, rng: np.random.Generator
) -> None:
    snapshot = store.snapshot()
    query = embedded(vector(unit(rng.normal(size=DIM)), "depth"))
    centre, spread, deviation = baseline(query, snapshot, Modality.IMAGE)
    cosines = snapshot.vectors(snapshot.select(modalities=[Modality.IMAGE])) @ query.vector
    assert centre == pytest.approx(np.median(cosines), abs=0.05)
    assert spread == pytest.approx(cosines.std(), abs=0.05)
    others = [calibrate(snapshot).pairs[kind, Modality.IMAGE].deviation for kind in KINDS]
    assert deviation == pytest.approx(np.sqrt((cosines.var() + np.mean(np.square(others))) / 2), abs=0.03)


def test_parts_that_agree_deviate_as_one(store: Store, rng: np.random.Generator) -> None:
    snapshot, picture = store.snapshot(), random_rows(rng, Modality.IMAGE, 1)[0]
    one = vector(picture, "image")
    centre, spread, deviation = baseline(embedded(one), snapshot, Modality.TEXT)
    twice = baseline(embedded(one + one), snapshot, Modality.TEXT)
    assert (twice[0], twice[2]) == pytest.approx((centre, deviation), abs=1e-6)
    opposite = baseline(embedded(-1 * one), snapshot, Modality.TEXT)
    assert opposite == pytest.approx((-centre, spread, deviation), abs=1e-6)


def test_pooling_agrees_with_all_numbers_together(rng: np.random.Generator) -> None:
    a, b = rng.normal(1, 2, 30), rng.normal(-1, 1, 50)
    parts = [np.array([some.mean(), some.std(), some.std(), some.size]) for some in (a, b)]
    both = np.concatenate([a, b])
    assert pooled(np.stack(parts, axis=1)) == pytest.approx((both.mean(), both.std(), both.std(), 80))


def test_the_spread_of_normal_figures_is_their_standard_deviation(rng: np.random.Generator) -> None:
    normal = Baseline.of(rng.normal(0.3, 0.1, 200_000), 9)
    assert (normal.centre, normal.spread, normal.deviation) == pytest.approx((0.3, 0.1, 0.1), rel=0.02)
    assert Baseline.of(np.array([0.4]), 1) == Baseline(0.4, 0.0, 0.0, 1)


def test_an_empty_query_cannot_be_made() -> None:
    assert Query().parts == ()


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
def test_an_item_finds_itself_first_in_any_company(
    tmp_path: Path, rng: np.random.Generator, rank: str, unique: bool
) -> None:
    alike = unit(np.ones(DIM) + 0.01 * rng.normal(size=(5, DIM)))  # pictures, besides two that differ
    vectors = np.concatenate([alike, random_rows(rng, KINDS[0], 2), random_rows(rng, KINDS[2], 1)])
    kinds = [KINDS[0]] * 7 + [KINDS[2]]
    snapshot = make(tmp_path / "c", vectors, kinds, sha256=[str(row) for row in range(8)]).snapshot()
    for id in range(8):
        query = embedded(vector(vectors[id], kinds[id]))
        hits = search(View(snapshot), query, top=3, rank=rank, unique=unique)
        assert hits[0].cosine > 0.999
        assert hits[0].id == id or id < 5
        assert all(abs(hit.balanced or 0) < 10 for hit in hits)


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
def test_the_querys_own_item_comes_before_those_of_the_same_vector(
    tmp_path: Path, rng: np.random.Generator, rank: str
) -> None:
    vectors = np.concatenate([np.repeat(unit(np.ones((1, DIM))), 3, axis=0), random_rows(rng, KINDS[0], 4)])
    view = View(make(tmp_path / "c", vectors, [KINDS[0]] * 7).snapshot())
    for id in range(3):
        query = replace(embedded(vector(vectors[id], KINDS[0])), own=np.array([id]))
        found = [hit.id for hit in search(view, query, top=3, rank=rank)]
        assert found == [id, *sorted({0, 1, 2} - {id})]


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
def test_the_best_window_of_the_querys_own_file_comes_first(
    store: Store, rng: np.random.Generator, rank: str, unique: bool
) -> None:
    snapshot = store.snapshot()
    own = np.array([11, 12, 205, 260])  # far from the query
    query = replace(ask(rng), own=own)
    cosines = snapshot.vectors(own) @ query.vector
    for top in (1, 5, 300):
        hits = search(View(snapshot), query, top=top, rank=rank, unique=unique)
        assert hits[0].id == own[cosines.argmax()]
        assert len({hit.id for hit in hits}) == len(hits)
        others = [hit.id for hit in search(View(snapshot), ask(rng), top=top, rank=rank)]
        assert len(hits) == len(others) or unique
    texts = search(View(snapshot), query, modality="text", rank=rank, unique=unique)
    assert texts[0].id == 205
    assert not {11, 12, 205, 260} & {
        hit.id for hit in search(View(snapshot), query, top=300, exclude_self=True)
    }


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
@pytest.mark.parametrize("unique", [False, True])
def test_texts_of_unknown_words_come_last(
    tmp_path: Path, rng: np.random.Generator, rank: str, unique: bool
) -> None:
    kinds = [KINDS[0]] * 5 + [KINDS[1]] * 10
    vectors = np.concatenate([random_rows(rng, kind, kinds.count(kind)) for kind in KINDS[:2]])
    shares = np.array([None] * 5 + [0.0] * 5 + [0.75, 1.0] * 2 + [0.7], object)
    columns = {"unknown_share": shares.tolist(), "sha256": list(map(str, range(15)))}
    view = View(make(tmp_path / "c", vectors, kinds, **columns).snapshot())
    unknown = set(range(10, 14))
    query = embedded(vector(vectors[10], KINDS[1]))
    for top in (3, 11, 15):
        found = [hit.id for hit in search(view, query, top=top, rank=rank, unique=unique)]
        assert len(found) == top
        assert not unknown & set(found[:11])
    texts = [hit.id for hit in search(view, query, top=15, rank=rank, modality="text", unique=unique)]
    assert set(texts[6:]) == unknown
    exact = view.snapshot.vectors(view.snapshot.ids) @ query.vector
    for one, anyway in (
        (query, True),
        (replace(query, own=np.array([10])), False),
    ):  # it is such a text itself
        found = [hit.id for hit in search(view, one, top=15, rank="cosine", unique=unique, anyway=anyway)]
        assert found == np.argsort(-exact, kind="stable").tolist()
    fitting = search(view, query, where="unknown_share = 1", rank=rank, unique=unique)
    assert {hit.id for hit in fitting} == {11, 13}
    opposite = embedded(vector(-vectors[10], KINDS[1]))
    assert not search(view, opposite, top=20, rank=rank, min_cosine=0.9)
