"""The store keeps its promises: what is committed is there, exactly, and nothing else is."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xsearch.errors import Locked, NoCollection, StoreError
from xsearch.store import ITEM_COLUMNS, Store
from xsearch.store.manifest import read_manifest, write_manifest
from xsearch.system.folder import Folder
from xsearch.types import Fingerprint, Modality

DIM = 8
STAMP = Fingerprint("tiny", "d1", "p1", DIM)


def unit(rng: np.random.Generator, n: int, dim: int = DIM) -> np.ndarray:
    x = rng.standard_normal((n, dim)).astype(np.float32)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def table(n: int, start: int = 0, **columns: list[object]) -> pa.Table:
    kinds = list(Modality)
    rows = range(start, start + n)
    return pa.table(
        {
            "path": [f"/média/日本 {i}.jpg" for i in rows],
            "modality": [str(kinds[i % len(kinds)]) for i in rows],
            "bytes": [100 * i for i in rows],
            **columns,
        }
    )


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "ünï cödé", STAMP)


def fill(store: Store, rng: np.random.Generator, *sizes: int) -> np.ndarray:
    """Commit one segment per size; the vectors of all."""
    parts, start = [], 0
    with store.writer() as writer:
        for n in sizes:
            parts.append(unit(rng, n))
            writer.add(table(n, start), parts[-1])
            writer.commit()
            start += n
    return np.concatenate(parts)


def test_what_is_added_comes_back(store, rng):
    vectors = fill(store, rng, 5, 1, 7)
    snapshot = Store.open(store.path).snapshot()

    assert snapshot.ids.tolist() == list(range(13))
    assert (snapshot.fingerprint, snapshot.manifest.generation, len(snapshot)) == (STAMP, 3, 13)
    some = np.array([12, 0, 5, 5])  # any order, repeated
    np.testing.assert_array_equal(snapshot.vectors(some), vectors[some].astype(np.float16).astype(np.float32))
    rows = snapshot.items(some)
    assert rows["id"].to_pylist() == some.tolist()
    assert rows["path"].to_pylist() == [f"/média/日本 {i}.jpg" for i in some]
    assert tuple(rows.column_names) == ITEM_COLUMNS
    assert snapshot.items(some, ["bytes", "path"]).column_names == ["bytes", "path"]
    assert snapshot.modalities.tolist() == [str(list(Modality)[i % 7]) for i in range(13)]
    assert snapshot.counts() == {m: 2 if i < 6 else 1 for i, m in enumerate(Modality)}


def test_an_empty_collection_answers(store):
    snapshot = store.snapshot()
    none = np.empty(0, np.int64)

    assert (len(snapshot), snapshot.counts(), snapshot.files().num_rows, snapshot.skipped().num_rows) == (
        0,
        {},
        0,
        0,
    )
    assert snapshot.vectors(none).shape == (0, DIM)
    assert list(snapshot.blocks()) == []
    assert snapshot.items(none).num_rows == 0
    assert snapshot.select("bytes > 1", [Modality.IMAGE]).tolist() == []
    with store.writer() as writer:
        assert writer.add(table(0), np.empty((0, DIM), np.float32)).tolist() == []
        assert writer.commit().generation == 0  # nothing to say
        assert writer.compact().freed_bytes == 0


def test_blocks_stream_what_is_live(store, rng):
    vectors = fill(store, rng, 50, 3, 20).astype(np.float16)
    with store.writer() as writer:
        assert writer.remove([2, 52, 2, 999]) == 2
        assert writer.remove([2]) == 0
        writer.commit()
    snapshot = store.snapshot()
    for chosen in (None, np.array([0, 1, 49, 50, 72]), np.empty(0, np.int64)):
        blocks = list(snapshot.blocks(chosen, rows=16))
        wanted = snapshot.ids if chosen is None else chosen
        assert [i for ids, _ in blocks for i in ids] == wanted.tolist()
        assert all(len(ids) <= 16 for ids, _ in blocks)
        for ids, block in blocks:
            np.testing.assert_array_equal(block, vectors[ids])
    with pytest.raises(StoreError, match="no live item"):
        snapshot.vectors(np.array([52]))
    with pytest.raises(StoreError, match="no live item"):
        list(snapshot.blocks(np.array([1000])))


def test_a_snapshot_does_not_change(store, rng):
    vectors = fill(store, rng, 10, 10)
    before = store.snapshot()
    with store.writer() as writer:
        writer.remove(range(5))
        writer.add(table(4, 20), unit(rng, 4))
        assert len(store.snapshot()) == 20  # not committed
        writer.commit()
        assert len(store.snapshot()) == 19
        writer.compact()
        writer.compact()  # the files that `before` reads are gone
    assert not (store.path / "segments" / before.manifest.segments[0].uuid).exists()
    assert before.ids.tolist() == list(range(20))
    np.testing.assert_allclose(before.vectors(before.ids), vectors, atol=1e-3)
    assert before.items(np.array([0]))["path"].to_pylist() == ["/média/日本 0.jpg"]
    assert before.select("bytes < 200").tolist() == [0, 1]
    assert store.snapshot().ids.tolist() == [*range(5, 20), *range(20, 24)]


def test_ids_are_never_given_again(store, rng):
    fill(store, rng, 3)
    with store.writer() as writer:
        writer.remove([0, 1, 2])
        writer.compact()
    assert store.snapshot().manifest.segments == ()
    with store.writer() as writer:
        assert writer.add(table(1), unit(rng, 1)).tolist() == [3]
        writer.remove([3])  # before its commit
        assert writer.add(table(1), unit(rng, 1)).tolist() == [4]
        writer.commit()
    assert store.snapshot().ids.tolist() == [4]


def test_what_is_not_committed_is_dropped(store, rng):
    with store.writer() as writer:
        writer.add(table(2), unit(rng, 2))
    assert len(store.snapshot()) == 0
    with store.writer() as writer:
        assert writer.add(table(1), unit(rng, 1)).tolist() == [0]


@pytest.mark.parametrize("spoil", [np.nan, np.inf, 2.0])
def test_vectors_must_be_finite_and_of_length_1(store, rng, spoil):
    vectors = unit(rng, 3)
    vectors[1, 0] = spoil
    with store.writer() as writer, pytest.raises(StoreError, match="vector 1 has length"):
        writer.add(table(3), vectors)


def test_wrong_input_is_refused(store, rng):
    with store.writer() as writer:
        for items, vectors, match in [
            (table(2), unit(rng, 3), r"expected float16 or float32 \[2, 8\]"),
            (table(2), unit(rng, 2, DIM + 1), r"\[2, 9\]"),
            (table(2), unit(rng, 2).astype(np.float64), "float64"),
            (table(2).drop_columns("path"), unit(rng, 2), "expected path and modality"),
            (table(2, id=[1, 2]), unit(rng, 2), "no id"),
            (table(2, Bytes=[1, 2]), unit(rng, 2), "duplicate columns, ignoring case: bytes"),
            (table(2, width=["a", "b"]), unit(rng, 2), "wrong type"),
            (table(2).set_column(1, "modality", pa.array(["smell", "image"])), unit(rng, 2), "smell"),
            (table(2).set_column(0, "path", pa.array([None, "a"])), unit(rng, 2), "need a path"),
        ]:
            with pytest.raises(StoreError, match=match):
                writer.add(items, vectors)
        assert writer.commit().generation == 0


def test_columns_of_the_users_are_joined_by_name(store, rng):
    with store.writer() as writer:
        for start, columns in enumerate(
            [
                {},
                {"Artist": ["Ann"], "year": [1999]},
                {"artist": ["Bob"], "year": ["about 2000"]},
                {"tags": [["a", "b"]]},
            ]
        ):
            writer.add(table(1, start, **columns), unit(rng, 1))
            writer.commit()
    for _ in range(2):  # the same again after a merge
        snapshot = store.snapshot()
        rows = snapshot.items(snapshot.ids)
        assert rows["Artist"].to_pylist() == [None, "Ann", "Bob", None]
        assert rows["year"].to_pylist() == [None, "1999", "about 2000", None]  # types disagree: text
        assert rows["tags"].to_pylist() == [None, None, None, ["a", "b"]]
        assert snapshot.select("artist = 'Bob' or list_contains(tags, 'a')").tolist() == [2, 3]
        assert snapshot.items(np.array([1]), ["year"])["year"].to_pylist() == ["1999"]
        with store.writer() as writer:
            writer.compact()
    with pytest.raises(StoreError, match="no column colour; columns are id, path"):
        snapshot.items(snapshot.ids, ["colour"])


def test_a_record_is_the_row_of_the_table(store, rng):
    n = 9
    numbers = {
        f"{kind}": pa.array(range(n), kind) for kind in (pa.int8(), pa.int16(), pa.int32(), pa.int64())
    }
    columns = {
        **numbers,
        "single": pa.array(rng.normal(size=n), pa.float32()),
        "double": pa.array(rng.normal(size=n)),
        "unsigned": pa.array(range(n), pa.uint8()),
        "some": pa.array([None, *range(1, n)]),
        "is_even": [i % 2 == 0 for i in range(n)],
        "when": pa.array(range(n), pa.timestamp("us")),
        "words": ["", "é日", None, *map(str, range(3, n))],
        "title": ["", "é日", *map(str, range(2, n))],
        "tags": [[i] for i in range(n)],
    }
    with store.writer() as writer:
        writer.add(table(n, **columns), unit(rng, n))
        writer.commit()
    for exceeds_memory in (False, True):
        snapshot = store.snapshot()
        vars(snapshot)["_exceeds_memory"] = exceeds_memory
        for ids in (snapshot.ids[[7, 2, 2]], snapshot.ids, snapshot.ids[:1]):
            rows = snapshot.items(ids).to_pylist()
            known = [{name: value for name, value in row.items() if value is not None} for row in rows]
            assert snapshot.records(ids)(0, len(ids)) == known
        assert snapshot.vectors(snapshot.ids[:0]).shape == (0, snapshot.fingerprint.dim)


def test_files_are_grouped_by_path(store, rng):
    items = pa.table(
        {"path": ["b", "a", "b"], "modality": ["video", "text", "audio"], "sha256": ["2", "1", "2"]}
    )
    with store.writer() as writer:
        writer.add(items, unit(rng, 3))
        writer.commit()
    rows = store.snapshot().files().to_pylist()
    assert [(row["path"], row["sha256"], sorted(row["ids"])) for row in rows] == [
        ("a", "1", [1]),
        ("b", "2", [0, 2]),
    ]


def test_skipped_files_are_remembered_and_forgotten(store):
    def skips() -> dict[str, str]:
        rows = store.snapshot().skipped().to_pylist()
        assert all(row["error"] == "Unreadable" and row["when"] for row in rows)
        return {row["path"]: row["reason"] for row in rows}

    def row(path: str, reason: str) -> dict[str, str]:
        return {"path": path, "reason": reason, "error": "Unreadable"}

    with store.writer() as writer:
        writer.skip([row("a", "empty"), row("b", "torn")])
        writer.commit()
        writer.skip([row("a", "still empty")])
        writer.commit()
        assert skips() == {"a": "still empty", "b": "torn"}
        writer.compact()
        assert skips() == {"a": "still empty", "b": "torn"}
        writer.forget_skips(["b", "unknown"])
        writer.skip([row("c", "odd")])
        writer.commit()
        assert skips() == {"a": "still empty", "c": "odd"}
        generation = writer.manifest.generation
        writer.forget_skips(["unknown"])
        assert writer.commit().generation == generation
        writer.forget_skips(["a", "c"])
        assert writer.commit().skipped == ()


def test_index_and_calibration_travel_with_the_manifest(store, rng):
    fill(store, rng, 2)
    assert store.snapshot().index_path is None
    with store.writer() as writer:
        first = writer.new_index_folder()
        (first / "index.faiss").write_bytes(b"x")
        writer.set_index(first)
        writer.set_calibration({"image": {"text": [0.1, 0.2]}})
        writer.commit()
        assert store.snapshot().index_path == first
        second = writer.new_index_folder()
        writer.set_index(second)
        writer.commit()
        writer.new_index_folder()  # abandoned
        writer.compact()
        assert {path.name for path in (store.path / "index").iterdir()} == {second.name}
        writer.set_index(None)
        writer.commit()
        with pytest.raises(StoreError, match="build it again"):
            writer.set_index(first)
    assert store.snapshot().index_path is None
    assert store.snapshot().manifest.calibration == {"image": {"text": [0.1, 0.2]}}


def test_words_travel_with_the_manifest(store, rng):
    fill(store, rng, 2)
    assert store.snapshot().words_path is None
    (store.path / "words").rmdir()  # as before format 3
    with store.writer() as writer:
        first = writer.new_words_file()
        first.write_bytes(b"x")
        writer.set_words(first)
        manifest = writer.commit()
        assert store.snapshot().words_path == first
        assert manifest.digests[f"words/{first.name}"] == hashlib.sha256(b"x").hexdigest()
        second = writer.new_words_file()
        second.write_bytes(b"y")
        writer.set_words(second)
        assert writer.commit().previous == (f"words/{first.name}",)
        writer.new_words_file().write_bytes(b"abandoned")
        writer.compact()
        assert list((store.path / "words").iterdir()) == [second]
        writer.set_words(None)
        writer.commit()
        with pytest.raises(StoreError, match="cannot use the words"):
            writer.set_words(first)
    assert store.snapshot().words_path is None


def test_compact_merges_and_deletes_what_nobody_reads(store, rng):
    vectors = fill(store, rng, 4, 4, 4)
    with store.writer() as writer:
        writer.remove([1, 6])
        writer.commit()
        old = writer.manifest
        done = writer.compact()
        assert (done.segments_before, done.segments_after, done.kept_bytes) == (3, 1, 0)
        assert done.freed_bytes > 0
        assert writer.manifest.tombstones == ()
        assert not any((store.path / name).exists() for name in old.files())
        generation = writer.manifest.generation
        assert writer.compact().freed_bytes == 0
        assert writer.manifest.generation == generation  # nothing to do
    snapshot = store.snapshot()
    assert snapshot.ids.tolist() == [0, 2, 3, 4, 5, 7, 8, 9, 10, 11]
    np.testing.assert_array_equal(snapshot.vectors(snapshot.ids), vectors[snapshot.ids].astype(np.float16))


def test_the_files_are_what_the_readme_says(store, rng):
    vectors = fill(store, rng, 3)
    (entry,) = json.loads((store.path / "manifest.json").read_text())["segments"]
    folder = store.path / "segments" / entry["uuid"]
    with pa.memory_map(str(folder / "vectors.arrow")) as source:
        arrow = pa.ipc.open_file(source).read_all()
    assert arrow.schema.field("vector").type == pa.list_(pa.float16(), DIM)
    np.testing.assert_array_equal(np.array(arrow["vector"].to_pylist()), vectors.astype(np.float16))
    items = pq.read_table(folder / "items.parquet")
    assert items["id"].to_pylist() == arrow["id"].to_pylist() == [0, 1, 2]
    with pa.memory_map(str(folder / "items.arrow")) as source:
        assert pa.ipc.open_file(source).read_all() == items
    before, seal = (store.path / "manifest.json").read_bytes().split(b',\n "sha256": "')
    assert seal.decode() == hashlib.sha256(before).hexdigest() + '"\n}'
    for name, sha256 in entry["sha256"].items():
        assert sha256 == hashlib.sha256((folder / name).read_bytes()).hexdigest()


def test_create_and_open_refuse_what_they_should(tmp_path, store):
    with pytest.raises(StoreError, match="already"):
        Store.create(store.path, STAMP)
    (store.path / "manifest.json").unlink()
    with pytest.raises(StoreError, match="already"):  # which can be repaired
        Store.create(store.path, STAMP)
    with pytest.raises(NoCollection, match="xsearch ingest"):
        Store.open(tmp_path / "nowhere")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path / "full", STAMP)
    (tmp_path / "file").touch()
    with pytest.raises(NoCollection):
        Store.open(tmp_path / "file")
    with pytest.raises(StoreError):
        Store.create(tmp_path / "file", STAMP)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"format": 1}', "not a manifest"),
        ('{"format": 2}', r"manifest\.json: a wrong checksum; run `xsearch verify --repair"),
        ("[]", "damaged"),
        ('{"format"', "damaged"),
        ("\x00\xff", "damaged"),
    ],
)
def test_a_manifest_that_is_not_ours(store, content, match):
    (store.path / "manifest.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(StoreError, match=match):
        Store.open(store.path)


def test_a_manifest_of_a_newer_format(store):
    write_manifest(Folder(store.path), replace(read_manifest(store.path), format=4))
    with pytest.raises(StoreError, match="has format 4, this xsearch supports up to 3; install"):
        Store.open(store.path)


def test_a_missing_or_torn_file_is_named(store, rng):
    fill(store, rng, 30)
    path = store.path / "segments" / store.snapshot().manifest.segments[0].uuid / "vectors.arrow"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError, match=r"vectors\.arrow"):
        store.snapshot()
    path.unlink()
    with pytest.raises(StoreError, match=r"vectors\.arrow"):
        store.snapshot()
    path.write_bytes(whole)
    (path.parent / "items.arrow").write_bytes(b"ARROW1 torn")
    with pytest.raises(StoreError, match="the length of a file differs"):
        store.snapshot().items(np.array([0]))


def test_a_second_writer_is_told_who_the_first_is(store):
    program = (
        "import sys; from pathlib import Path; from xsearch.store import Store\n"
        "with Store.open(Path(sys.argv[1])).writer(): print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(store.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout.readline()
        with pytest.raises(Locked, match=f"by process {first.pid} on .* since 20"), store.writer():
            pass
        assert len(store.snapshot()) == 0  # readers never lock
        first.kill()
    with store.writer():  # the lock ends with its process
        pass
    assert not (store.path / "lock.json").exists()


def test_a_second_writer_waits_if_it_is_told_to(store, rng):
    done = threading.Event()

    def second() -> int:
        with Store.open(store.path).writer(timeout_s=30) as writer:
            assert done.is_set()
            return len(writer.snapshot)

    with ThreadPoolExecutor(1) as thread:
        with store.writer() as writer:
            waiting = thread.submit(second)
            time.sleep(0.1)
            writer.add(table(3), unit(rng, 3))
            writer.commit()
            done.set()
        assert waiting.result() == 3  # it goes on from what the first has left
