"""Searchers in this process answer together as the index of one file does; without Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.fakes import DIM, FakeBackend
from xsearch.cluster.searcher import Searcher
from xsearch.cluster.spread import Spread
from xsearch.collection import Collection
from xsearch.derive import build_shards
from xsearch.errors import Unavailable
from xsearch.index import Index, Listing, in_turn
from xsearch.query import View, vector
from xsearch.query.answers import search_many
from xsearch.query.embedding import embed
from xsearch.store import Published, Snapshot, Store, open_store
from xsearch.types import Modality

D, N = DIM, 9_000
RECIPE = "PCAR16,IVF32,PQ8x4fs"


def rows(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = np.random.default_rng(7).standard_normal((40, D))[rng.integers(0, 40, count)]
    vectors = vectors + 0.4 * rng.standard_normal((count, D))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def table(count: int, name: str) -> pa.Table:
    kinds = [("image", "text", "audio")[i % 7 // 3] for i in range(count)]
    return pa.table({"path": [f"/{name}/{i}" for i in range(count)], "modality": kinds})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Items in three shards, some that came later, and some that are gone."""
    store = Store.create(tmp_path_factory.mktemp("spread") / "c", FakeBackend().fingerprint)
    with store.writer() as writer:
        vectors = rows(N, 0)
        vectors[3_000:3_040] = vectors[100]  # equal, in two shards
        writer.add(table(N, "a"), vectors)
        writer.commit()
        build_shards(writer, 3, in_turn, merge=False, recipe=RECIPE)
        writer.add(table(200, "b"), rows(200, 1))
        writer.remove(range(0, N, 50))
        writer.commit()
    return store


class Calls:
    """Calls searchers of this process; those in `down` do not answer."""

    def __init__(self, snapshot: Snapshot, url: str | None = None) -> None:
        place = url or str(snapshot.path), str(snapshot.index_path), snapshot.manifest.index_digests
        self.searchers = [Searcher(*place, shard) for shard in range(3)]
        self.down, self.calls = set[int](), list[str]()

    def __call__(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        self.calls.append(method)
        return [
            None if some is None or shard in self.down else getattr(self.searchers[shard], method)(*some)
            for shard, some in enumerate(arguments)
        ]


@pytest.fixture
def calls(store: Store) -> Calls:
    return Calls(store.snapshot())


OPTIONS: list[dict[str, Any]] = [
    {},
    {"rank": "cosine"},
    {"rank": "cosine", "top": 60},
    {"modality": "audio"},
    {"where": "id % 3 = 0"},
    {"where": "id < 2500", "rank": "cosine"},
    {"unique": True},
    {"max_expected": 1.0},
]


def queries() -> list[Any]:
    kinds = list(Modality)[:2]
    asked = [vector(row, kinds[at % 2]) for at, row in enumerate(rows(12, 5))]
    stored = rows(N, 0)[100]
    return embed([*asked, vector(stored, Modality.IMAGE)], FakeBackend())


def answers(view: View, options: dict[str, Any]) -> Iterator[Any]:
    for hits in search_many(view, queries(), **options):
        figures = [(hit.id, hit.score, hit.cosine, hit.expected) for hit in hits]
        yield figures, hits.nearest_expected, hits.missing_shards


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_answers_are_those_of_one_index(store: Store, calls: Calls, options: dict[str, Any]) -> None:
    snapshot = store.snapshot()
    one = View(snapshot, Index.load(snapshot.index_path))
    spread = View(snapshot, Spread(Listing.read(snapshot.index_path), calls))
    assert list(answers(spread, options)) == list(answers(one, options))
    assert {"visit", "cosines"} <= set(calls.calls)


@pytest.mark.parametrize("rank", ["balanced", "cosine"])
def test_a_single_query_with_a_rare_filter_is_compared_with_the_same_items(
    store: Store, calls: Calls, monkeypatch: pytest.MonkeyPatch, rank: str
) -> None:
    monkeypatch.setattr("xsearch.query.view.SCAN", 5)
    snapshot = store.snapshot()
    one = View(snapshot, Index.load(snapshot.index_path).tuned(nprobe=1, refine=1))
    spread = View(snapshot, Spread(Listing.read(snapshot.index_path), calls).tuned(nprobe=1, refine=1))
    for query in queries():
        found, expected = (
            search_many(view, [query], where="id % 90 = 7", rank=rank, top=3)[0] for view in (spread, one)
        )
        assert list(found) == list(expected)
    assert "members" in calls.calls


def test_a_search_without_a_shard_fails_unless_it_may_be_partial(store: Store, calls: Calls) -> None:
    snapshot = store.snapshot()
    listing = Listing.read(snapshot.index_path)
    spread = View(snapshot, Spread(listing, calls))
    partial = View(snapshot, Spread(listing, calls, allow_partial=True))
    whole = list(answers(spread, {"top": 50, "rank": "cosine"}))
    calls.down.add(1)
    with pytest.raises(Unavailable, match="shards 1 "):
        list(answers(spread, {}))
    some = list(answers(partial, {"top": 50, "rank": "cosine"}))
    gone = set(listing.parts[1].tolist())
    for (hits, _, missing), (expected, _, _) in zip(some, whole, strict=True):
        assert missing == (1,)
        assert not gone & {id for id, *_ in hits}
        left = [hit for hit in expected if hit[0] not in gone]
        assert hits[: len(left)] == left
    calls.down.clear()
    assert list(answers(partial, {"top": 50, "rank": "cosine"})) == whole


def test_cosines_that_no_searcher_gives_are_computed_here(store: Store, calls: Calls) -> None:
    snapshot = store.snapshot()
    view = View(snapshot, Spread(Listing.read(snapshot.index_path), calls))
    ids = np.stack([snapshot.ids[[5, 4_000, 8_000, -1]], np.array([-1, *snapshot.ids[[7, 3_001, -5]]])])
    expected = View(snapshot).cosines(rows(2, 3), ids)
    np.testing.assert_array_equal(view.cosines(rows(2, 3), ids), expected)
    calls.down.add(2)
    np.testing.assert_array_equal(view.cosines(rows(2, 3), ids), expected)


def test_searchers_follow_the_collection(store: Store, tmp_path: Path) -> None:
    other = Store.create(tmp_path / "c", FakeBackend().fingerprint)
    with other.writer() as writer:
        writer.add(table(N, "a"), rows(N, 0))
        writer.commit()
        build_shards(writer, 3, in_turn, merge=False, recipe=RECIPE)
        calls, old = Calls(other.snapshot()), other.snapshot()
        view = View(old, Spread(Listing.read(old.index_path), calls))
        before = list(answers(view, {}))
        removed = [id for hits, *_ in before for id, *_ in hits]
        writer.remove(removed)
        writer.commit()
        assert list(answers(view, {})) == before  # of the state that it is of
        later = View(other.snapshot(), view.index)
        one = View(other.snapshot(), Index.load(old.index_path))
        assert list(answers(later, {})) == list(answers(one, {}))
    assert len(Collection(other)) == N - len(set(removed))


def test_searchers_of_a_url_need_no_other_files_than_their_own(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, node = f"file://{tmp_path}/there", tmp_path / "node"
    Published(url).push(store.snapshot())
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))
    snapshot = open_store(url).snapshot()
    assert snapshot.index_path is not None
    listing = Listing.read(snapshot.index_path)
    digests = snapshot.manifest.index_digests
    monkeypatch.setenv("XSEARCH_HOME", str(node))  # from now on, on another machine
    alone = Searcher(url, str(snapshot.index_path), digests, 1)
    assert [path.name for path in node.rglob("*.faiss") if path.stat().st_nlink > 1] == ["shard-1.faiss"]
    assert not [path for path in snapshot.index_path.glob("*.faiss") if path.stat().st_nlink > 1]
    assert len(alone.lists()) == len(listing.parts[1])
    spread = View(snapshot, Spread(listing, Calls(snapshot, url)))
    one = View(store.snapshot(), Index.load(_index(store)))
    assert list(answers(spread, {})) == list(answers(one, {}))


def _index(store: Store) -> Path:
    path = store.snapshot().index_path
    assert path is not None
    return path
