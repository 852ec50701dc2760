"""The public face, from an empty folder to a picture table."""

from __future__ import annotations

import builtins
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import xsearch
from tests.fakes import DIM, FakeBackend
from xsearch.collection import Collection
from xsearch.errors import Locked, ModelMismatch, NoCollection, StoreError, Unreadable, UsageError
from xsearch.index import Index, Items, build, make_plan, new_index
from xsearch.query import Hits, read
from xsearch.types import Hit, Modality


def damage_plan(path: Path) -> None:
    (path / "plan.json").write_text("{")


FIGURES = ["score", "cosine", "balanced", "expected"]
HIT_COLUMNS = ["rank", *FIGURES, "id", "path", "modality", "start_s", "end_s", "text", "bm25"]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "sky").mkdir(parents=True)
    for name, colour in (("red", (255, 0, 0)), ("green", (0, 255, 0)), ("sky/blue", (0, 0, 255))):
        Image.new("RGB", (16, 16), colour).save(folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(Path(name).name)
    (folder / "red.json").write_text('{"year": 1999, "rank": 5}')
    return folder


@pytest.fixture
def collection(tmp_path: Path, folder: Path) -> Collection:
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    collection.ingest(folder)
    return collection


def test_a_text_finds_its_picture_and_a_picture_its_text(collection: Collection, folder: Path) -> None:
    (hit,) = collection.search("blue", top=1, modality="image")
    assert (hit.rank, hit.path, hit.modality) == (1, str(folder / "sky" / "blue.png"), Modality.IMAGE)
    (hit,) = collection.search(folder / "green.png", top=1, modality=["text"])
    assert hit.text == "green"


def test_a_sum_finds_what_has_both(collection: Collection, folder: Path) -> None:
    Image.new("RGB", (16, 16), (255, 0, 255)).save(folder / "magenta.png")
    collection.ingest(folder)
    hits = collection.search(
        xsearch.image(folder / "red.png") + xsearch.text("blue"), modality="image", top=1
    )
    assert Path(hits[0].path).name == "magenta.png"
    hits = collection.search(xsearch.image(folder / "magenta.png") - xsearch.text("blue"), modality="image")
    assert Path(hits[0].path).name == "red.png"
    assert hits.query is not None
    assert hits.query.cosines[1] < 0


def test_options_reach_the_search(collection: Collection) -> None:
    assert len(collection.search("red", top=2)) == 2
    assert [hit.extra["year"] for hit in collection.search("red", where="year = 1999")] == [1999, 1999]
    assert len(collection.search("red", min_cosine=1.0, modality="image")) == 0
    by_cosine = collection.search("red", rank="cosine")
    assert [hit.score for hit in by_cosine] == sorted((hit.score for hit in by_cosine), reverse=True)


def test_scores_are_cosines(collection: Collection, folder: Path) -> None:
    vectors = collection.snapshot().vectors(collection.snapshot().ids)
    query = collection.backend.embed(read(xsearch.text("red").parts[0]))[0]
    found = {hit.id: hit.cosine for hit in collection.search("red", top=100)}
    expected = np.minimum(vectors @ query, 1)  # of float16 vectors, which are longer than 1 by rounding
    np.testing.assert_allclose([found[id] for id in collection.snapshot().ids], expected, atol=1e-6)


def test_hits_are_an_immutable_sequence(collection: Collection) -> None:
    hits = collection.search("red")
    assert list(hits) == [hits[at] for at in range(len(hits))]
    assert hits[:2] == Hits(list(hits)[:2])
    assert hits[-1].rank == len(hits)
    with pytest.raises(TypeError):
        hits[0] = hits[1]  # type: ignore[index]


def test_ids_and_scores_are_arrays_for_which_no_hits_are_made(collection: Collection) -> None:
    hits = collection.search("red")
    ids, scores = hits.ids, hits.scores
    assert (len(hits), hits.ids.dtype) == (6, np.int64)
    assert "_hits" not in vars(hits)
    for each in (hits, hits[:], pickle.loads(pickle.dumps(hits))):
        assert each.ids.tolist() == [hit.id for hit in hits] == ids.tolist()
        assert each.scores.tolist() == [hit.score for hit in hits] == scores.tolist()


def test_hits_can_be_pickled(collection: Collection) -> None:
    hits = collection.search("red")
    again = pickle.loads(pickle.dumps(hits))
    assert again == hits
    np.testing.assert_array_equal(again.query.vector, hits.query.vector)  # type: ignore[union-attr]


def test_hits_become_tables(collection: Collection) -> None:
    hits = collection.search("red", top=6)
    rows, table, frame = hits.to_dicts(), hits.to_arrow(), hits.to_pandas()
    assert [list(row)[:12] for row in rows] == [HIT_COLUMNS] * 6
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]  # not the user's column of that name
    assert {row.get("year") for row in rows} == {1999, None}
    assert table.column_names[:12] == HIT_COLUMNS
    assert table["modality"].to_pylist() == [str(hit.modality) for hit in hits]
    assert frame["path"].tolist() == [hit.path for hit in hits]
    assert Hits([]).to_arrow().column_names == HIT_COLUMNS


def test_pandas_is_optional(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *args: Any) -> Any:
        if name == "pandas":
            raise ImportError
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(UsageError, match="pip install pandas"):
        collection.search("red").to_pandas()


def test_hits_show_as_a_picture_table_and_as_text(collection: Collection) -> None:
    hits = collection.search("red", top=3)
    assert hits._repr_html_().count("<tr>") == 4
    assert repr(hits).count("\n") == 2
    assert repr(Hits([])) == "no hits"


def test_remove_by_id_path_folder_and_filter(collection: Collection, folder: Path) -> None:
    green = collection.items(where="path like '%green.png'")["id"].to_pylist()
    assert collection.remove(green) == 1
    assert collection.remove([10_000]) == 0
    assert collection.remove(paths=[folder / "sky"], dry_run=True) == 2
    assert len(collection) == 5
    assert collection.remove(paths=[folder / "sky"]) == 2
    assert collection.remove(where="year = 1999") == 2
    assert len(collection) == 1
    assert len(collection.search("red")) == 1


def test_remove_where_narrows_what_is_named(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder / "sky")
    assert collection.remove(paths=[], where="true") == 0
    assert collection.remove(paths=["../sky"], where="modality = 'text'", dry_run=True) == 1
    assert collection.remove(collection.items()["id"].to_pylist(), where="year = 1999") == 2


@pytest.mark.parametrize(
    ("what", "numbers"),
    [
        ("/m/*.png", [0]),
        ("/m/**/*.png", [0, 1, 2]),
        ("/m/**", [0, 1, 2, 3]),
        ("/**/d?/../*.txt", [3]),
        ("/m/d*/b.[a-p]ng", [1]),
        ("/m/dé/*[!b].png", [2]),
        ("/m/dé/[b].png", [2]),  # its own name goes first
        ("/*/[b].png", []),
        ("/m/*", [0, 3]),
        ("/*", []),
        ("/m", [0, 1, 2, 3]),
        ("https://x.org/b", [4]),
    ],
)
def test_globs_of_paths(tmp_path: Path, what: str, numbers: list[int]) -> None:
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    paths = ["/m/a.png", "/m/dé/b.png", "/m/dé/[b].png", "/m/c.txt", "https://x.org/b"]
    with collection.store.writer() as writer:
        writer.add(pa.table({"path": paths, "modality": ["image"] * 5}), np.eye(5, DIM, dtype=np.float32))
        writer.commit()
    collection.remove(paths=[what])
    assert sorted(set(range(5)) - set(collection.items()["id"].to_pylist())) == numbers


def test_duplicates_are_listed_once_each(collection: Collection, folder: Path) -> None:
    assert len(collection.duplicates()) == 0
    for copy, of in (("a.png", "red.png"), ("sky/z.png", "red.png"), ("a.txt", "red.txt")):
        (folder / copy).write_bytes((folder / of).read_bytes())
    collection.ingest(folder)
    pictures, texts = collection.duplicates().to_pylist()
    assert texts["paths"] == [str(folder / name) for name in ("a.txt", "red.txt")]
    assert pictures["paths"] == [str(folder / name) for name in ("a.png", "red.png", "sky/z.png")]
    assert pictures["bytes"] == (folder / "red.png").stat().st_size
    assert [len(group["paths"]) for group in collection.duplicates(modality="image").to_pylist()] == [3]


def test_an_unknown_content_has_no_duplicates(collection: Collection) -> None:
    rows = {"path": ["/1", "/2", "/3", "/4"], "modality": ["image"] * 4, "bytes": [1] * 4}
    with collection.store.writer() as writer:
        writer.add(pa.table(rows | {"sha256": [None, None, "", ""]}), np.eye(4, DIM, dtype=np.float32))
        writer.commit()
    assert len(collection.duplicates()) == 0


def test_the_items_of_the_query_itself_can_be_left_out(collection: Collection, folder: Path) -> None:
    red = folder / "red.png"
    first, *others = collection.search(red, top=10)
    assert first.path == str(red)
    queries = [red, xsearch.item(first.id), xsearch.image(red.read_bytes()), xsearch.text("red")]
    for query, hits in zip(queries, collection.search_many(queries, top=10, exclude_self=True), strict=True):
        alone = collection.search(query, top=10, exclude_self=True)
        assert hits == alone
        assert len(hits) == (6 if query is queries[3] else 5)
    hits = collection.search(red, top=5, exclude_self=True)
    assert [hit.id for hit in hits] == [hit.id for hit in others]


def build_index(collection: Collection) -> Path:
    """A small FAISS index, as ingest would make of many items."""
    with collection.store.writer() as writer:
        snapshot = writer.snapshot
        plan = make_plan(len(snapshot), snapshot.fingerprint.dim, device="cpu", recipe="IVF1,Flat")
        path = writer.new_index_folder()
        build(plan, snapshot.vectors(snapshot.ids), snapshot.blocks()).save(path)
        writer.set_index(path)
        writer.commit()
    return path


@pytest.mark.parametrize("damage", [lambda path: shutil.rmtree(path.parent), damage_plan])
def test_an_index_that_is_gone_or_damaged_costs_nothing_but_speed(
    collection: Collection,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[Path], None],
) -> None:
    before = collection.search("red")
    damage(build_index(collection))
    assert collection.search("red") == collection.search("red") == before
    assert len(caplog.records) == 1
    collection.compact()

    def small(index: Index | None, items: Items) -> Index | None:
        return index or new_index(items, device="cpu", recipe="IVF1,Flat")

    monkeypatch.setattr("xsearch.derive.update", small)
    collection.ingest(folder)  # nothing new
    assert collection.stats()["index"] == "IVF1,Flat"
    assert collection.search("red") == before
    generation = collection.stats()["generation"]
    collection.ingest(folder)
    assert collection.stats()["generation"] == generation


def test_words_are_kept_in_step_with_the_items(collection: Collection, folder: Path) -> None:
    def answer() -> list[str]:
        return sorted(Path(hit.path).name for hit in collection.search("red", match="words"))

    first = collection.snapshot().words_path
    assert first is not None
    assert answer() == ["red.png", "red.txt"]
    (folder / "another.txt").write_text("red")
    collection.ingest(folder)
    second = collection.snapshot().words_path
    assert second not in (None, first)
    assert answer() == ["another.txt", "red.png", "red.txt"]
    with collection.store.writer() as writer:  # committed while words are not indexed, as in a running ingest
        items = pa.table({"path": ["/more.txt"], "modality": ["text"], "text": ["red"]})
        writer.add(items, writer.snapshot.vectors(writer.snapshot.ids[:1]))
        writer.commit()
    assert collection.snapshot().words_path == second
    assert answer() == ["another.txt", "more.txt", "red.png", "red.txt"]
    collection.remove(paths=[folder / "red.txt"])
    assert answer() == ["another.txt", "more.txt", "red.png"]
    collection.compact()
    collection.compact()
    assert collection.snapshot().words_path == second
    assert answer() == ["another.txt", "more.txt", "red.png"]
    collection.remove(where="true")
    collection.ingest(folder / "sky")
    assert collection.snapshot().words_path != second  # most of its items were removed
    assert answer() == []


def test_words_that_are_gone_or_damaged_are_read_again(
    collection: Collection, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = collection.search("red")
    for damage in (Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1] + b"x")):
        path = collection.snapshot().words_path
        assert path is not None
        damage(path)
        caplog.clear()
        again = Collection(collection.store, backend=FakeBackend())
        assert again.search("red") == again.search("red") == before
        assert len(caplog.records) == 1
        collection.ingest(folder)  # nothing new
        assert collection.snapshot().words_path != path
        assert collection.verify() == []
        generation = collection.stats()["generation"]
        collection.ingest(folder)
        assert collection.stats()["generation"] == generation


def test_a_manifest_without_a_source_opens(collection: Collection) -> None:
    path = collection.path / "manifest.json"
    content = json.loads(path.read_text()) | {"format": 1}
    del content["source"], content["sha256"]
    path.write_text(json.dumps(content))
    assert len(xsearch.open(collection.path)) == 6


def test_stats_items_and_skipped(collection: Collection, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    collection.ingest(folder)
    stats = collection.stats()
    assert stats["items"] == len(collection) == 6
    assert stats["modalities"] == {"image": 3, "text": 3}
    assert (stats["files"], stats["skipped"], stats["model"], stats["index"]) == (6, 1, "fake", "Flat")
    assert stats["bytes"] > 0
    texts = collection.items(modality="text", columns=["text"])["text"].to_pylist()
    assert sorted(texts) == ["blue", "green", "red"]
    assert len(collection.items(where="year = 1999", limit=1)) == 1
    assert collection.skipped()["error"].to_pylist() == ["Unreadable"]
    assert "6 items" in repr(collection)


def test_a_search_sees_what_others_commit(collection: Collection, tmp_path: Path) -> None:
    other = Collection(xsearch.open(tmp_path / "c").store, backend=FakeBackend())
    assert len(collection) == len(other) == 6
    other.remove(where="modality = 'text'")
    assert len(collection) == 3
    other.compact()
    assert len(collection.search("red")) == 3


def test_one_writer_at_a_time(collection: Collection, folder: Path) -> None:
    with collection.store.writer(), pytest.raises(Locked):
        collection.ingest(folder)


def test_another_model_is_refused(collection: Collection, tmp_path: Path) -> None:
    with pytest.raises(ModelMismatch, match="'fake', this run uses 'other'"):
        Collection(collection.store, backend=FakeBackend(name="other"))
    with pytest.raises(ModelMismatch, match="weights"):
        Collection(collection.store, backend=FakeBackend(gap=0.1))
    with pytest.raises(ModelMismatch, match="'fake'"):
        xsearch.open(tmp_path / "c").search("red")


def test_looking_needs_no_model(collection: Collection, tmp_path: Path) -> None:
    opened = xsearch.open(tmp_path / "c")
    assert len(opened.items()) == 6
    assert opened.ingest(tmp_path / "media", dry_run=True).unchanged == 6


def test_opening_nothing_and_creating_twice(tmp_path: Path, collection: Collection) -> None:
    with pytest.raises(NoCollection):
        xsearch.open(tmp_path / "nothing")
    with pytest.raises(StoreError):
        Collection.create(tmp_path / "c", backend=FakeBackend())


def test_hits_equal_by_content() -> None:
    hit = Hit(1, 0.5, 0.5, None, None, 7, "/a", Modality.TEXT)
    assert Hits([hit]) == Hits([hit])
    assert Hits([hit]) != Hits([])


def test_bytes_are_decoded_in_another_process_and_found(collection: Collection, folder: Path) -> None:
    content = (folder / "red.png").read_bytes()
    query = xsearch.Query.from_dict(json.loads(json.dumps(xsearch.image(content).to_dict())))
    with collection:
        hits = collection.search(query)
        best = max(hits, key=lambda hit: hit.cosine)
        assert (Path(best.path).name, round(best.cosine, 3)) == ("red.png", 1)
        data = query.to_dict()["parts"][0]["data"]
        assert collection.search(xsearch.Query.from_dict({"parts": [{"data": data}]})) == hits
        with pytest.raises(Unreadable, match="<image>: "):
            collection.search(xsearch.image(content[:40]))
        with pytest.raises(UsageError, match="no wire form"):
            xsearch.image(folder / "red.png").to_dict()


def test_an_item_is_found_by_its_id(collection: Collection, folder: Path) -> None:
    (green,) = collection.items(where="path like '%green.png'")["id"].to_pylist()
    hits = collection.search(xsearch.item(green), rank="cosine")
    assert hits.query is not None
    assert (hits[0].id, hits.query.query.parts[0].modality) == (green, "image")
    with pytest.raises(UsageError, match="no such item"):
        collection.search(xsearch.item(10_000))
    vectors = collection.embed([xsearch.item(green), "green", folder / "green.png"])
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-3)  # stored as float16


def test_segments_and_files_stay_few(collection: Collection, folder: Path) -> None:
    for number in range(16):
        (folder / f"{number}.txt").write_text(f"green {number}")
        (folder / f"{number - 2}.txt").unlink(missing_ok=True)
        collection.ingest(folder, prune=True)
        assert len(collection.snapshot().manifest.segments) <= 6
        assert len(list(collection.path.rglob("*"))) < 100
    assert len(collection) == 8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "expected"),
        ({"parts": [{"kind": "image", "path": "/etc/passwd"}]}, "expected text, data, item"),
        ({"parts": [{"kind": "smell", "text": "x"}]}, "kind: expected one of"),
        ({"parts": [{"kind": "image", "data": "?"}]}, "not base64"),
        ({"parts": [{"text": "x", "weight": "2"}]}, "weight: expected a number"),
        ({"parts": [{"text": "x", "weight": float("nan")}]}, "finite"),
        ({"parts": [{"kind": "audio", "vector": ["a"]}]}, "expected numbers"),
        ({"parts": [{"item": True}]}, "expected text, data, item"),
        ({"parts": [{"kind": "audio", "text": "x"}]}, "expected text, data, item"),
    ],
)
def test_the_wire_form_names_no_path(content: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        xsearch.Query.from_dict(content)


def test_a_query_survives_the_wire(rng: np.random.Generator) -> None:
    query = 2 * xsearch.text("red") - xsearch.item(5) + 0.5 * xsearch.vector(rng.normal(size=DIM), "depth")
    again = xsearch.Query.from_dict(json.loads(json.dumps(query.to_dict())))
    assert repr(again) == repr(query)
    np.testing.assert_array_equal(again.parts[2].source, query.parts[2].source)


def test_open_creates_where_asked(tmp_path: Path, tiny_model: Path) -> None:
    assert len(xsearch.open(tmp_path / "new", str(tiny_model), create=True)) == 0
    assert len(xsearch.open(tmp_path / "new", create=True)) == 0
