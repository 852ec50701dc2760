"""Out and in again: what an export holds, who can read it, and that an import adds everything once."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.fakes import FakeBackend
from xsearch import exchange
from xsearch.collection import Collection
from xsearch.errors import ModelError, UsageError
from xsearch.exchange import export, exported, imported, load, read, source
from xsearch.store import ITEM_COLUMNS, Snapshot, Store
from xsearch.types import Fingerprint

DIM = 8
MODULES = (exported, imported, source)  # which count rows
STAMP = Fingerprint("tiny", "d1", "p1", DIM)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def unit(rng: np.random.Generator, n: int) -> np.ndarray:
    x = rng.standard_normal((n, DIM)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def add(store: Store, items: Mapping[str, list[Any]], vectors: np.ndarray) -> None:
    with store.writer() as writer:
        writer.add(pa.table(items), vectors)
        writer.commit()


@pytest.fixture
def store(tmp_path: Path, rng: np.random.Generator) -> Store:
    """Seven items in two segments with other user columns; one of them is removed."""
    store = Store.create(tmp_path / "c", STAMP, "bundled")
    times = {"path": ["/a.wav"] * 3, "modality": ["audio"] * 3, "start_s": [0.0, 10.0, 20.0]}
    add(store, times | {"year": [1, 2, 3]}, unit(rng, 3))
    texts = {"path": ["/ü.txt"] * 4, "modality": ["text"] * 4, "text": ["so", "so", "la", "ti"]}
    add(store, texts | {"Vector": ["x", "y", None, "z"], "sha256": ["f"] * 4}, unit(rng, 4))
    with store.writer() as writer:
        writer.remove([1])
        writer.commit()
    return store


def contents(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Everything about every item but its id, with its vector."""
    items = snapshot.items(snapshot.ids).drop_columns("id").to_pylist()
    for item, vector in zip(items, snapshot.vectors(snapshot.ids), strict=True):
        item["vector"] = vector.tolist()
    return items


def take(store: Store, source: Path, **options: Any) -> exchange.Imported:
    with store.writer() as writer:
        return load(read(source), writer.snapshot, writer, **options)


# ---------------------------------------------------------------- out


@pytest.mark.parametrize("float32", [False, True])
def test_duckdb_pandas_and_arrow_read_an_export_as_it_is(store: Store, tmp_path: Path, float32: bool) -> None:
    snapshot, path = store.snapshot(), tmp_path / "all.parquet"
    assert export(snapshot, path, float32=float32) == 6
    expected = snapshot.vectors(snapshot.ids)

    table = pq.read_table(path)
    assert table.column_names == [*ITEM_COLUMNS, "year", "vector_", "vector"]
    kind = pa.float32() if float32 else pa.float16()
    assert (table["vector"].type.value_type, table["vector"].type.list_size) == (kind, DIM)
    assert table["id"].to_pylist() == [0, 2, 3, 4, 5, 6]
    found = duckdb.sql(f"SELECT id, vector::FLOAT[{DIM}] FROM '{path}' WHERE path = '/ü.txt' ORDER BY id")
    assert [id for id, _ in found.fetchall()] == [3, 4, 5, 6]
    np.testing.assert_array_equal([vector for _, vector in found.fetchall()], expected[2:])
    frame = pd.read_parquet(path)
    np.testing.assert_array_equal(np.stack(frame["vector"]), expected)
    assert frame["text"].tolist()[2:] == ["so", "so", "la", "ti"]
    assert json.loads(table.schema.metadata[b"xsearch"])["model"]["digest"] == "d1"


def test_a_folder_holds_files_of_bounded_size(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exported, "FILE_ROWS", 4)
    monkeypatch.setattr(exported, "GROUP_ROWS", 3)
    shown: list[tuple[int, int]] = []
    snapshot = store.snapshot()
    export(snapshot, tmp_path / "new" / "out", progress=lambda *now: shown.append(now))
    files = sorted((tmp_path / "new" / "out").iterdir())
    assert [pq.read_table(file)["id"].to_pylist() for file in files] == [[0, 2, 3, 4], [5, 6]]
    assert [pq.ParquetFile(file).num_row_groups for file in files] == [2, 1]
    assert shown == [(3, 6), (4, 6), (6, 6)]
    other = Store.create(tmp_path / "other", STAMP)
    assert sum(take(other, tmp_path / "new" / "out").new.values()) == 6


def test_only_the_chosen_items_are_written(store: Store, tmp_path: Path) -> None:
    collection = Collection(store)
    assert collection.export(tmp_path / "a.parquet", where="year = 3") == 1
    assert collection.export(tmp_path / "b", modality="text") == 4
    assert collection.export(tmp_path / "c.parquet", where="false") == 0
    assert pq.read_table(tmp_path / "a.parquet")["start_s"].to_pylist() == [20.0]
    assert pq.read_table(tmp_path / "c.parquet").num_rows == 0
    assert take(Store.create(tmp_path / "new", STAMP), tmp_path / "c.parquet").new == {}


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_an_export_is_there_whole_or_not_at_all(store: Store, tmp_path: Path, name: str) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store.snapshot(), tmp_path / "x" / name, progress=stop)
    assert list((tmp_path / "x").iterdir()) == []
    export(store.snapshot(), tmp_path / "x" / name)
    with pytest.raises(UsageError, match="already"):
        export(store.snapshot(), tmp_path / "x" / name)


def test_a_csv_has_the_columns_for_spreadsheets(store: Store, tmp_path: Path) -> None:
    add(
        store,
        {"path": ['/a, "b".txt'], "modality": ["text"], "tags": [["x", "ü"]]},
        unit(np.random.default_rng(0), 1),
    )
    assert export(store.snapshot(), tmp_path / "all.CSV") == 7
    with (tmp_path / "all.CSV").open(encoding="utf-8", newline="") as lines:
        table = list(csv.DictReader(lines))
    items = store.snapshot().items(store.snapshot().ids).to_pylist()
    assert [row["path"] for row in table] == [item["path"] for item in items]
    assert [row["year"] for row in table] == ["1", "3", "", "", "", "", ""]
    assert json.loads(table[-1]["tags"]) == ["x", "ü"]
    assert "vector" not in table[0]
    with pytest.raises(UsageError, match="CSV has no vectors"):
        read(tmp_path / "all.CSV")


def test_numpy_reads_the_vectors_and_the_items_are_beside_them(store: Store, tmp_path: Path) -> None:
    snapshot = store.snapshot()
    export(snapshot, tmp_path / "all.npy")
    vectors, items = np.load(tmp_path / "all.npy"), pq.read_table(tmp_path / "all.parquet")
    assert vectors.dtype == np.float32
    np.testing.assert_array_equal(vectors, snapshot.vectors(np.array(items["id"].to_pylist())))
    export(snapshot, tmp_path / "none.npy", snapshot.ids[:0])
    assert np.load(tmp_path / "none.npy").shape == (0, DIM)
    (tmp_path / "none.npy").unlink()
    with pytest.raises(UsageError, match=r"none\.parquet already exists"):
        export(snapshot, tmp_path / "none.npy")


@pytest.mark.parametrize("name", ["out.json", "out.xlsx", "out.parquet.gz", "2024.01"])
def test_an_unknown_suffix_is_refused_with_those_there_are(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"\.parquet, \.csv, \.jsonl, \.npy, or a folder"):
        export(store.snapshot(), tmp_path / name)
    assert not (tmp_path / name).exists()


# ---------------------------------------------------------------- in


@pytest.mark.parametrize("rows", [2, 100])
@pytest.mark.parametrize("name", ["all.jsonl", "all.npy"])
def test_json_lines_and_numpy_come_back_as_they_were(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, rows: int
) -> None:
    for module in MODULES:
        monkeypatch.setattr(module, "GROUP_ROWS", rows)
    export(store.snapshot(), tmp_path / name)
    source = read(tmp_path / name)
    assert (source.rows, source.dim) == (6, DIM)
    assert source.fingerprint == (STAMP if name == "all.npy" else None)
    other = Store.create(tmp_path / "other", STAMP)
    assert take(other, tmp_path / name).new == {"audio": 2, "text": 4}
    ours = contents(other.snapshot())
    for row in ours:
        row["Vector"] = row.pop("vector_")
    assert ours == contents(store.snapshot())


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "cannot be read"),
        ('{"path": "/a", "modality": "text", "vector": "x"}', "cannot be read"),
        ('{"path": "/a", "modality": "smell", "vector": [1.0]}', "modality"),
        ('{"modality": "text", "vector": [1.0]}', "path"),
        ('{"path": "/a", "modality": "text", "vector": [1, 2]}\n\n'
         '{"path": "/a", "modality": "text", "vector": [1]}', "of 2 and of 1 dimensions"),
    ],
)  # fmt: skip
def test_json_lines_of_another_form_are_refused(tmp_path: Path, line: str, problem: str) -> None:
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match=problem):
        read(tmp_path / "x.jsonl")


def test_dates_in_json_lines_come_back_as_dates(store: Store, tmp_path: Path) -> None:
    taken = {"path": ["/b.jpg"], "modality": ["image"], "taken_at": [datetime(2024, 6, 1, 12, 30, 0, 5)]}
    add(store, taken, np.eye(DIM, dtype=np.float32)[:1])
    export(store.snapshot(), tmp_path / "x.jsonl", store.snapshot().ids[-1:])
    other = Store.create(tmp_path / "other", STAMP)
    take(other, tmp_path / "x.jsonl")
    assert contents(other.snapshot())[0]["taken_at"] == taken["taken_at"][0]


def test_json_lines_without_vectors_are_left_out(tmp_path: Path) -> None:
    lines = ['{"path": "/a", "modality": "text", "vector": null}', '{"path": "/b", "modality": "text"}']
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    report = take(Store.create(tmp_path / "c", STAMP), tmp_path / "x.jsonl")
    assert (report.new, report.unusable) == ({}, 2)


def test_an_array_without_its_items_is_refused(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.npy")
    np.save(tmp_path / "all.npy", np.load(tmp_path / "all.npy")[:3])
    with pytest.raises(UsageError, match=r"shape \[3, 8\] and .* 6 rows"):
        read(tmp_path / "all.npy")
    (tmp_path / "all.parquet").unlink()
    with pytest.raises(UsageError, match=r"all\.parquet is missing"):
        read(tmp_path / "all.npy")


def test_an_import_gives_back_what_was_exported(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.parquet")
    other = Store.create(tmp_path / "other", STAMP)
    add(other, {"path": ["/own.txt"], "modality": ["text"]}, np.eye(DIM)[:1].astype(np.float32))
    report = take(other, tmp_path / "all.parquet")
    assert report.new == {"audio": 2, "text": 4}
    assert (report.known, report.other, report.unusable, report.scaled) == (0, 0, 0, 0)
    seen = other.snapshot()
    assert seen.ids.tolist() == list(range(7))  # new ids
    ours = contents(seen)[1:]
    for row in ours:
        row["Vector"] = row.pop("vector_")
    assert ours == contents(store.snapshot())
    before = seen.manifest.generation
    assert take(other, tmp_path / "all.parquet").known == 6
    assert other.snapshot().manifest.generation == before


@pytest.mark.parametrize("step", ["mkdir segments/", "create .manifest.json.", "create .manifest.copy.json."])
@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_import_is_finished_by_the_next(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, at: int
) -> None:
    for module in MODULES:
        monkeypatch.setattr(module, "GROUP_ROWS", 2)
    export(store.snapshot(), tmp_path / "all.parquet")
    other, source = Store.create(tmp_path / "other", STAMP), read(tmp_path / "all.parquet")
    steps: list[str] = []

    def stop(name: str) -> None:
        steps.append(name)
        if sum(step in each for each in steps) == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), other.writer(step=stop) as writer:
        load(source, writer.snapshot, writer, commit_rows=2)
    kept = len(other.snapshot())
    assert kept == 2 * (at - ("copy" not in step))
    report = take(other, tmp_path / "all.parquet")
    assert (report.known, sum(report.new.values())) == (kept, 6 - kept)
    ours, theirs = contents(other.snapshot()), contents(store.snapshot())
    assert Counter(str(row["vector"]) for row in ours) == Counter(str(row["vector"]) for row in theirs)


def test_exports_that_overlap_add_up_once(store: Store, tmp_path: Path) -> None:
    snapshot, folder = store.snapshot(), tmp_path / "exports"
    export(snapshot, folder / "monday.parquet", snapshot.ids[:4])
    export(snapshot, folder / "tuesday.parquet", snapshot.ids[1:])
    report = take(Store.create(tmp_path / "other", STAMP), folder)
    assert (sum(report.new.values()), report.known) == (6, 3)


def test_a_file_of_another_content_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.parquet")
    other = Store.create(tmp_path / "other", STAMP)
    theirs = {"path": ["/ü.txt"], "modality": ["text"], "text": ["do"], "sha256": ["e"]}
    add(other, theirs, np.eye(DIM)[:1].astype(np.float32))
    report = take(other, tmp_path / "all.parquet")
    assert (report.other, report.new) == (4, {"audio": 2})
    assert [row["text"] for row in contents(other.snapshot()) if row["path"] == "/ü.txt"] == ["do"]


def test_looking_first_tells_the_same_and_writes_nothing(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.parquet")
    source = read(tmp_path / "all.parquet")
    assert load(source, None).new == {"audio": 2, "text": 4}
    report = load(source, store.snapshot())
    assert (report.new, report.known) == ({}, 6)


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float32()), pa.large_list(pa.float64()), pa.list_(pa.float16(), DIM)]
)
def test_vectors_are_made_unit_and_useless_ones_left_out(
    tmp_path: Path, rng: np.random.Generator, kind: pa.DataType
) -> None:
    vectors = (3 * unit(rng, 7)).tolist()
    vectors[1][2], vectors[2][3], vectors[3], vectors[4] = float("nan"), float("inf"), [0.0] * DIM, None
    items = {"Path": [f"/{i}.png" for i in range(7)], "modality": ["image"] * 7, "id": [7] * 7}
    pq.write_table(pa.table(items | {"VECTOR": pa.array(vectors, kind)}), tmp_path / "x.parquet")
    store = Store.create(tmp_path / "c", STAMP)
    source = read(tmp_path / "x.parquet")
    assert (source.rows, source.dim, source.fingerprint) == (7, DIM, None)
    report = take(store, tmp_path / "x.parquet")
    assert (report.new, report.unusable, report.scaled) == ({"image": 3}, 4, 3)
    snapshot = store.snapshot()
    assert snapshot.items(snapshot.ids)["path"].to_pylist() == ["/0.png", "/5.png", "/6.png"]
    np.testing.assert_allclose(snapshot.vectors(snapshot.ids)[0] * 3, vectors[0], atol=2e-3)


def test_what_duckdb_and_pandas_write_can_be_imported(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.parquet")
    duckdb.sql(f"COPY (FROM '{tmp_path}/all.parquet' ORDER BY id DESC) TO '{tmp_path}/duck.parquet'")
    frame = pd.read_parquet(tmp_path / "all.parquet")
    frame["text"] = frame["text"].astype("category")
    frame["mood"] = pd.Categorical(["up", None] * 3)
    frame.to_parquet(tmp_path / "panda.parquet")
    for name in ("duck", "panda"):
        other = Store.create(tmp_path / name, STAMP)
        assert sum(take(other, tmp_path / f"{name}.parquet").new.values()) == 6
        vectors = {str(row["vector"]) for row in contents(other.snapshot())}
        assert vectors == {str(row["vector"]) for row in contents(store.snapshot())}
    assert len(Store.open(tmp_path / "panda").snapshot().select("mood = 'up'")) == 3


def table(**columns: Any) -> pa.Table:
    fine = {"path": ["/a", "/b"], "modality": ["image", "text"], "vector": [[1.0] * DIM, [1.0] * DIM]}
    return pa.table({name: values for name, values in (fine | columns).items() if values is not None})


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (table(vector=None), "expected columns path, modality and vector; found path, modality"),
        (table(modality=["image", "smell"]), "smell"),
        (table(path=["/a", None]), "path"),
        (table(vector=["1,2", "3"]), "column vector is string; expected lists of floats"),
        (table(vector=[[1.0], [1.0, 2.0]]), "of 1 and of 2 dimensions"),
        (table(start_s=["soon", None]), "cannot be read: Failed to parse string: 'soon'"),
        (table().replace_schema_metadata({"xsearch": '{"model": {"name": "x"}}'}), "digest"),
        (table().replace_schema_metadata({"xsearch": "{"}), "cannot be read"),
    ],
)
def test_a_table_of_another_form_says_what_is_wrong(tmp_path: Path, content: pa.Table, problem: str) -> None:
    pq.write_table(content, tmp_path / "x.parquet")
    with pytest.raises(UsageError, match=problem) as raised:
        read(tmp_path / "x.parquet")
    assert "x.parquet" in str(raised.value)


def test_what_is_no_source_says_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    for path, problem in (("no", "no such"), ("c", "xsearch export"), ("torn.parquet", "cannot be read")):
        with pytest.raises(UsageError, match=problem):
            read(tmp_path / path)
    export(store.snapshot(), tmp_path / "two" / "a.parquet")
    pq.write_table(table(), tmp_path / "two" / "b.parquet")
    with pytest.raises(UsageError, match="not all of one model"):
        read(tmp_path / "two")


def test_an_export_with_a_wrong_byte_is_not_imported(store: Store, tmp_path: Path) -> None:
    export(store.snapshot(), tmp_path / "all.parquet")
    last = pq.ParquetFile(tmp_path / "all.parquet").metadata.row_group(0).column(len(ITEM_COLUMNS) + 2)
    content = bytearray((tmp_path / "all.parquet").read_bytes())
    content[last.data_page_offset + last.total_compressed_size - 1] ^= 1  # a bit of the last vector
    (tmp_path / "all.parquet").write_bytes(content)
    with pytest.raises(UsageError, match=r"all\.parquet: cannot be read"):
        take(Store.create(tmp_path / "other", STAMP), tmp_path / "all.parquet")


# ---------------------------------------------------------------- clip-retrieval


@pytest.fixture
def clip(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two shards of 3 and 2 pictures, with the texts of the first."""
    folder = tmp_path / "clip"
    for name in ("img_emb", "text_emb", "metadata"):
        (folder / name).mkdir(parents=True)
    for number, names in ((9, "abc"), (10, "de")):
        np.save(folder / "img_emb" / f"img_emb_{number}.npy", unit(rng, len(names)).astype(np.float16))
        described = {
            "image_path": [f"/{name}.jpg" if name != "b" else None for name in names],
            "caption": [f"a {name}" for name in names],
            "url": [f"https://x.org/{name}" for name in names],
            "width": [640] * len(names),
        }
        pq.write_table(pa.table(described), folder / "metadata" / f"metadata_{number}.parquet")
    np.save(folder / "text_emb" / "text_emb_9.npy", 2 * unit(rng, 3))
    return folder


def test_clip_retrievals_rows_are_joined_by_their_order(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES:
        monkeypatch.setattr(module, "GROUP_ROWS", 2)
    store = Store.create(tmp_path / "c", STAMP)
    report = take(store, clip)
    assert (report.new, report.scaled) == ({"image": 5, "text": 3}, 3)
    found = contents(store.snapshot())
    assert [row["path"] for row in found[:5]] == ["/a.jpg", "https://x.org/b", "/c.jpg", "/d.jpg", "/e.jpg"]
    assert [row["caption"] for row in found] == ["a a", "a b", "a c", "a d", "a e", "a a", "a b", "a c"]
    assert [row["text"] for row in found[4:]] == [None, "a a", "a b", "a c"]
    assert {(row["width"], row["width_"]) for row in found} == {(None, 640)}
    stored = np.load(clip / "img_emb" / "img_emb_10.npy")
    np.testing.assert_array_equal([row["vector"] for row in found[3:5]], stored)
    assert take(store, clip).known == 8


def test_texts_alone_are_named_by_their_row(clip: Path, tmp_path: Path) -> None:
    (clip / "img_emb").rename(clip / "elsewhere")
    described = clip / "metadata" / "metadata_9.parquet"
    pq.write_table(pa.table({"caption": ["one", "two", "two"]}), described)
    store = Store.create(tmp_path / "c", STAMP)
    assert take(store, clip).new == {"text": 3}
    found = contents(store.snapshot())
    assert [row["path"] for row in found] == [f"{described}:{number}" for number in range(3)]
    assert [row["text"] for row in found] == ["one", "two", "two"]


def test_vectors_and_metadata_that_do_not_match_are_refused(clip: Path, rng: np.random.Generator) -> None:
    np.save(clip / "img_emb" / "img_emb_10.npy", unit(rng, 3))
    with pytest.raises(UsageError, match=r"img_emb_10\.npy has shape \[3, 8\] and .* 2 rows"):
        read(clip)
    np.save(clip / "img_emb" / "img_emb_10.npy", np.array([1, 2]))
    with pytest.raises(UsageError, match="int64"):
        read(clip)
    (clip / "metadata" / "metadata_9.parquet").unlink()
    with pytest.raises(UsageError, match=r"metadata_9\.parquet"):
        read(clip)


# ---------------------------------------------------------------- collections


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "deep").mkdir(parents=True)
    for name, colour in (("red", "red"), ("deep/blue", "blue")):
        Image.new("RGB", (8, 8), colour).save(folder / f"{name}.png")
    (folder / "note.txt").write_text("green")
    (folder / "red.json").write_text('{"year": 1999}')
    return folder


@pytest.fixture
def collection(tmp_path: Path, folder: Path) -> Collection:
    collection = Collection.create(tmp_path / "own", backend=FakeBackend())
    collection.ingest(folder)
    return collection


def test_an_imported_collection_answers_and_knows_its_files(
    collection: Collection, folder: Path, tmp_path: Path
) -> None:
    source, path = tmp_path / "all.parquet", tmp_path / "new"
    collection.export(source)
    assert Collection.import_(source, path, dry_run=True).new == {"image": 2, "text": 1}
    assert not path.exists()
    Collection.import_(source, path)
    backend = FakeBackend()
    new = Collection(Store.open(path), backend=backend)
    assert new.snapshot().manifest.calibration is not None
    assert [hit.path for hit in new.search("red")] == [hit.path for hit in collection.search("red")]
    backend.seen.clear()
    assert new.ingest(folder).unchanged == 3
    report = new.ingest(folder.rename(tmp_path / "where they are on this machine"))
    assert (report.moved, backend.seen) == (3, [])
    assert len(new.items(where="year = 1999")) == 1


def test_vectors_of_another_model_are_refused(
    collection: Collection, tmp_path: Path, tiny_model: Path, clip: Path
) -> None:
    collection.export(tmp_path / "all.parquet")
    Collection.create(tmp_path / "other", backend=FakeBackend(name="other"))
    with pytest.raises(ModelError, match="other was embedded with 'other', not with 'fake'"):
        Collection.import_(tmp_path / "all.parquet", tmp_path / "other")
    with pytest.raises(ModelError, match=r"all\.parquet was embedded with 'fake', not with 'tiny'"):
        Collection.import_(tmp_path / "all.parquet", tmp_path / "new", str(tiny_model))
    with pytest.raises(UsageError, match="--model NAME"):
        Collection.import_(clip, tmp_path / "new")
    with pytest.raises(ModelError, match="vectors of 8 dimensions, those of tiny have 24"):
        Collection.import_(clip, tmp_path / "new", str(tiny_model))
    assert not (tmp_path / "new").exists()


def test_a_named_model_vouches_for_vectors_without_one(
    tmp_path: Path, tiny_model: Path, rng: np.random.Generator
) -> None:
    vectors = rng.standard_normal((2, 24)).tolist()
    pq.write_table(table(vector=vectors), tmp_path / "x.parquet")
    for _ in range(2):  # into a new collection, and into the one that is there
        Collection.import_(tmp_path / "x.parquet", tmp_path / "new", str(tiny_model))
    new = Collection(Store.open(tmp_path / "new"))
    assert len(new.search("red dog")) == 2  # the collection knows where its model is


# ---------------------------------------------------------------- strangers


def origins(store: Store) -> list[str | None]:
    return store.snapshot().table(["imported_from"])["imported_from"].to_pylist()


def test_the_mark_of_an_import_cannot_be_forged_and_lasts(collection: Collection, tmp_path: Path) -> None:
    collection.export(tmp_path / "all.parquet")
    forged = pq.read_table(tmp_path / "all.parquet").drop_columns("imported_from")
    forged = forged.append_column("Imported_From", pa.array(["", None, "x"]))
    pq.write_table(forged, tmp_path / "forged.parquet")
    Collection.import_(tmp_path / "forged.parquet", tmp_path / "new")
    new = Collection(Store.open(tmp_path / "new"), backend=FakeBackend())
    new.compact()
    assert origins(new.store) == ["forged.parquet"] * 3
    assert all(hit.is_imported for hit in new.search("red"))
    assert not any(hit.is_imported for hit in new.search("red").trusted())
    new.export(tmp_path / "again.parquet")
    Collection.import_(tmp_path / "again.parquet", tmp_path / "other")
    assert origins(Store.open(tmp_path / "other")) == ["again.parquet"] * 3


def test_an_ingest_reads_what_an_import_has_named(
    collection: Collection, folder: Path, tmp_path: Path
) -> None:
    collection.export(tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    (folder / "red.png").write_bytes((folder / "deep" / "blue.png").read_bytes())  # of the same size
    mtimes = [Path(path).stat().st_mtime_ns for path in table["path"].to_pylist()]
    at = table.schema.get_field_index("mtime_ns")
    pq.write_table(table.set_column(at, "mtime_ns", pa.array(mtimes)), tmp_path / "all.parquet")
    Collection.import_(tmp_path / "all.parquet", tmp_path / "new")
    new = Collection(Store.open(tmp_path / "new"), backend=FakeBackend())
    report = new.ingest(folder)
    assert (report.unchanged, report.changed, report.duplicates) == (2, 1, 1)
    assert origins(new.store) == [None] * 3
    by_path = {row["path"]: row["vector"] for row in contents(new.snapshot())}
    assert by_path[str(folder / "red.png")] == by_path[str(folder / "deep" / "blue.png")]
    assert new.ingest(folder).unchanged == 3


def test_trusted_paths_are_those_of_files_as_they_are_now(tmp_path: Path, folder: Path) -> None:
    rows = table(path=[str(folder / "red.png"), "https://x.org/a.png"], modality=["image"] * 2)
    pq.write_table(rows.replace_schema_metadata(None), tmp_path / "x.parquet")
    store = Store.create(tmp_path / "c", STAMP)
    for _ in range(2):
        take(store, tmp_path / "x.parquet", origin=None)
    status = (folder / "red.png").stat()
    stated = [(row["bytes"], row["mtime_ns"], row["imported_from"]) for row in contents(store.snapshot())]
    assert stated == [(status.st_size, status.st_mtime_ns, None), (None, None, None)]


def test_the_folder_of_a_model_is_trusted_like_other_paths(collection: Collection, tmp_path: Path) -> None:
    collection.export(tmp_path / "all.parquet")
    table = pq.read_table(tmp_path / "all.parquet")
    header = json.loads(table.schema.metadata[b"xsearch"]) | {"source": "/evil/model"}
    pq.write_table(table.replace_schema_metadata({"xsearch": json.dumps(header)}), tmp_path / "x.parquet")
    for trust, stored in ((False, None), (True, "/evil/model")):
        path = tmp_path / f"trust {trust}"
        Collection.import_(tmp_path / "x.parquet", path, trust_paths=trust)
        assert Store.open(path).snapshot().manifest.source == stored


def test_columns_of_strangers_become_plain(tmp_path: Path) -> None:
    columns = {
        "taken_at": pa.array([10**18, 0], pa.timestamp("us")),
        "old": pa.array([-(2**62), 0], pa.timestamp("ns", "Mars/Phobos")),
        "day": pa.array([2**31 - 1, 0], pa.int32()).cast(pa.date32()),
        "lasts": pa.array([2**62, 1], pa.duration("s")),
        "large": pa.array([2**64 - 1, 1], pa.uint64()),
        "nested": [[[{"a": [1]}]], None],
        "content": [b"\xff\x1b", b"a"],
        "mood": pa.array(["up", None]).dictionary_encode(),
        "tags": [["a", "b"], []],
        "track": ["one", "2"],
        "Rating": ["4", None],
        " ": ["x", "x"],
        "start_s": [float("inf"), 1.5],
        "end_s": ["nan", "2"],
        "duration_s": [-1e308, float("nan")],
    }
    pq.write_table(table(**columns), tmp_path / "x.parquet")
    store = Store.create(tmp_path / "c", STAMP)
    take(store, tmp_path / "x.parquet")
    first, second = contents(store.snapshot())
    assert (first["taken_at"], second["taken_at"]) == (None, datetime(1970, 1, 1))
    assert (first["old"].year, first["large"]) == (1823, 2.0**64)
    assert (first["day"], first["lasts"], first["mood"], first["tags"]) == (None, 2**62, "up", ["a", "b"])
    assert (first["nested"], second["nested"]) == ('[[{"a": [1]}]]', None)
    assert isinstance(second["content"], str)
    assert (first["track_"], first["Rating"]) == ("one", 4)
    assert " " not in first
    assert [first[name] for name in ("start_s", "end_s", "duration_s")] == [None, None, -1e308]
    assert [second[name] for name in ("start_s", "end_s", "duration_s")] == [1.5, 2.0, None]


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"text": pa.array([b"\xff", b"a"]).cast(pa.string(), safe=False)}, "cannot be read: .*UTF8"),
        ({f"column {i}": [0, 0] for i in range(source.MAX_COLUMNS)}, "at most 1,000"),
    ],
)
def test_damaged_and_too_many_columns_are_refused(
    tmp_path: Path, columns: dict[str, Any], problem: str
) -> None:
    pq.write_table(table(**columns), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match=problem):
        read(tmp_path / "x.parquet")


@pytest.mark.parametrize(
    "line",
    [
        f'{{"path": "/a", "modality": "text", "vector": [1.0], "x": {2**70}}}',
        f'{{"path": "/a", "modality": "text", "vector": [1.0], "x": {"[" * 5000}{"]" * 5000}}}',
        '{"path": "/a", "modality": "text", "vector": [1.0], "x": "\\ud800"}',
        "5",
        '["path"]',
        '"path"',
    ],
)
def test_monstrous_json_lines_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "x.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "x.jsonl")


@pytest.mark.parametrize(
    "header",
    [
        {"model": {"name": "x", "digest": ["d"], "preprocessing": "p", "dim": 8}, "source": None},
        {"model": {"name": 5, "digest": "d", "preprocessing": "p", "dim": 8}, "source": None},
        {"model": {"name": "x", "digest": "d", "preprocessing": "p", "dim": "8"}, "source": None},
        {"model": 5, "source": None},
        [1],
    ],
)
def test_a_header_that_names_no_model_is_refused(tmp_path: Path, header: Any) -> None:
    pq.write_table(table().replace_schema_metadata({"xsearch": json.dumps(header)}), tmp_path / "x.parquet")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path / "x.parquet")
