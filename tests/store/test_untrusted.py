"""Collections that were unpacked from a stranger, restored from a backup, or left by a killed process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import xsearch
from xsearch.errors import StoreError, XsearchError
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.store.generations import GENERATIONS
from xsearch.store.manifest import COPY, FOLDERS, MARK, QUARANTINE, read_manifest
from xsearch.types import Fingerprint

STAMP = Fingerprint("tiny", "d1", "p1", 8)


def add(store: Store, n: int = 3) -> list[int]:
    vectors = np.tile(np.eye(8, dtype=np.float32)[0], (n, 1))
    with store.writer() as writer:
        ids = writer.add(pa.table({"path": ["a.txt"] * n, "modality": ["text"] * n}), vectors)
        writer.commit()
    return ids.tolist()


def remove(store: Store) -> None:
    with store.writer() as writer:
        writer.remove([0])
        writer.skip([{"path": "bad", "reason": "torn", "error": "Unreadable"}])
        writer.commit()


def compact(store: Store) -> None:
    with store.writer() as writer:
        writer.compact()


def repair(store: Store) -> None:
    verify(store.path, repair=True)


WRITERS = [add, remove, compact, repair]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "c", STAMP)
    add(store)
    remove(store)
    return store


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder of the user, with files that are named as those of a collection."""
    folder = tmp_path / "docs"
    for name in ("thesis.md", "items.parquet", f"{'0' * 32}.parquet", f"{'1' * 32}/plan.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
    return folder


def tree(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def reseal(path: Path, content: dict[str, Any]) -> None:
    """Write a manifest with a checksum that is right."""
    content.pop("sha256", None)
    body = json.dumps(content, indent=1).removesuffix("\n}").encode()
    path.write_bytes(body + b',\n "sha256": ' + f'"{hashlib.sha256(body).hexdigest()}"\n}}'.encode())


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", [*FOLDERS, GENERATIONS, QUARANTINE])
def test_no_writer_follows_a_linked_folder(store, victim, name, write):
    before = tree(victim)
    if (store.path / name).exists():
        shutil.rmtree(store.path / name)
    (store.path / name).symlink_to(victim)
    with pytest.raises(StoreError, match="link"):
        write(store)
    assert tree(victim) == before


@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize("name", ["lock", "lock.json", MARK, COPY, "manifest.json"])
def test_no_writer_follows_a_linked_file(store, victim, name, write):
    before = tree(victim)
    content = (store.path / name).read_bytes() if (store.path / name).exists() else b""
    (store.path / name).unlink(missing_ok=True)
    target = victim / "thesis.md"
    if content:
        (victim / name).write_bytes(content)
        target, before = victim / name, tree(victim) if name != "lock" else before
    (store.path / name).symlink_to(target)
    try:
        write(store)
    except XsearchError:
        assert name == "lock"
    assert {name: text for name, text in tree(victim).items() if name in before} == before


@pytest.mark.parametrize("inside", ["segments", "index", "tombstones", "words"])
def test_only_what_a_writer_has_written_is_deleted(store, victim, inside):
    """Linked and foreign entries with names of a writer, and foreign files in its folders."""
    before = tree(victim)
    (store.path / inside / ("2" * 32)).symlink_to(victim)
    (store.path / inside / "notes").mkdir()
    (store.path / inside / "notes" / "mine.txt").write_text("mine")
    (store.path / inside / ("3" * 32)).mkdir()
    (store.path / inside / ("3" * 32) / "mine.txt").write_text("mine")
    compact(store)
    compact(store)
    assert tree(victim) == before
    assert (store.path / inside / "notes" / "mine.txt").read_text() == "mine"
    assert (store.path / inside / ("3" * 32) / "mine.txt").read_text() == "mine"


NAMES = [
    "../../docs",
    "..",
    "/etc",
    "",
    "A" * 32,
    "0" * 31,
    f"{'0' * 32}/../../../docs",
    f"{'0' * 32}\n",
    7,
    None,
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "field", ["segments", "tombstones", "skipped", "index", "words", "previous", "digests"]
)
def test_a_name_that_no_writer_gives_is_damage(store, victim, field, name):
    before = tree(victim)
    content = json.loads((store.path / "manifest.json").read_text())
    if not name and field in ("index", "words"):  # there is none
        return
    if field == "segments":
        content[field].append(dict(content[field][0], uuid=name, first_id=10**6, last_id=10**6 + 2))
    elif field == "digests":
        content[field][str(name)] = "0" * 64
    elif field in ("index", "words"):
        content[field] = name
    else:
        content[field].append(name)
    reseal(store.path / "manifest.json", content)
    with pytest.raises(StoreError, match="not a manifest: unexpected name"):
        store.snapshot()
    (store.path / COPY).unlink()
    for write in (add, remove, compact):
        with pytest.raises(StoreError):
            write(store)
    repair(store)  # from what the segments say
    assert tree(victim) == before
    assert verify(store.path) == []
    assert store.snapshot().ids.tolist() == [1, 2]


LIES: list[dict[str, Any]] = [
    {"generation": -1},
    {"generation": "7"},
    {"generation": True},
    {"next_id": 10**30},
    {"next_id": 1.5},
    {"format": True},
    {"segments": None},
    {"segments": {}},
    {"segments": [7]},
    {"segments": [{"uuid": "0" * 32}]},
    {"tombstones": "abc"},
    {"calibration": []},
    {"source": 7},
    {"digests": []},
    {"digests": {f"skipped/{'0' * 32}.parquet": 7}},
    {"model": {"name": "x", "digest": "y", "preprocessing": "z", "dim": 10**9}},
    {"model": {"name": "x", "digest": "y", "preprocessing": "z", "dim": 0}},
    {"model": {"name": 7, "digest": "y", "preprocessing": "z", "dim": 8}},
    {"model": []},
    {"surprise": 1},
]
SEGMENT_LIES: list[dict[str, Any]] = [
    {"rows": 0},
    {"rows": -1},
    {"rows": True},
    {"rows": 10**12},
    {"first_id": -5},
    {"last_id": -1},
    {"last_id": 2**70},
    {"sha256": {"items.parquet": 7}},
    {"sha256": {"../../x": "0" * 64}},
    {"sha256": []},
]


@pytest.mark.parametrize("lie", [*LIES, *({"segment": lie} for lie in SEGMENT_LIES)], ids=str)
def test_a_manifest_that_lies_is_refused_in_one_line(store, lie):
    content = json.loads((store.path / "manifest.json").read_text())
    if "segment" in lie:
        content["segments"][0] |= lie["segment"]
    else:
        content |= lie
    reseal(store.path / "manifest.json", content)
    with pytest.raises(StoreError):
        store.snapshot()
    assert verify(store.path)


@pytest.mark.parametrize("put", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("name", ["manifest.json", COPY, MARK, "segments/*/items.arrow", "skipped/*.parquet"])
def test_a_pipe_or_folder_in_place_of_a_file_is_damage(store, name, put):
    (path,) = store.path.glob(name)
    path.unlink()
    put(path)
    if name not in (COPY, MARK):
        for read in (store.snapshot, partial(remove, store), partial(compact, store)):
            with pytest.raises(StoreError):
                read()
    assert verify(store.path)
    repair(store)
    assert verify(store.path) == []
    assert store.snapshot().ids.tolist() == [1, 2]


# ---------------------------------------------------------------- creation


@pytest.mark.parametrize(
    "left",
    [
        [".manifest.json.0123456789abcdef0123456789abcdef.part"],
        [".high-water.json.0123456789abcdef0123456789abcdef.part", "lock", "lock.json", "segments/"],
        [
            "high-water.json",
            ".manifest.json.0123456789abcdef0123456789abcdef.part",
            *(f"{name}/" for name in FOLDERS),
        ],
    ],
)
def test_what_a_killed_creation_left_is_cleaned_up(tmp_path, left):
    for name in left:
        path = tmp_path / "c" / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"")
    store = Store.create(tmp_path / "c", STAMP)
    assert not list(store.path.glob(".*"))
    assert add(store) == [0, 1, 2]
    assert verify(store.path) == []


@pytest.mark.parametrize("name", ["notes.txt", ".manifest.json.x.part", "segments.bak", ".git/config"])
def test_a_folder_with_other_files_is_left_alone(tmp_path, name):
    path = tmp_path / "c" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(StoreError, match="not empty"):
        Store.create(tmp_path / "c", STAMP)
    assert tree(tmp_path / "c") == {name: "mine"}


def test_what_is_created_after_the_first_look_is_opened(tmp_path, monkeypatch):
    looks = []

    def obstacle(*some):
        if not looks:
            looks.append(1)
            Store.create(tmp_path / "c", STAMP)
        return look(*some)

    look = sys.modules[Store.__module__]._obstacle
    monkeypatch.setattr(sys.modules[Store.__module__], "_obstacle", obstacle)
    assert Store.create(tmp_path / "c", STAMP, exist_ok=True).snapshot().ids.tolist() == []
    looks.clear()
    shutil.rmtree(tmp_path / "c")
    with pytest.raises(StoreError, match="already exists"):
        Store.create(tmp_path / "c", STAMP)


def test_of_many_starters_one_creates_and_the_others_open(tmp_path):
    start, stores, refused = threading.Barrier(8), [], []

    def begin(exist_ok: bool) -> None:
        start.wait()
        try:
            stores.append(Store.create(tmp_path / "c", STAMP, exist_ok=exist_ok))
        except StoreError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=begin, args=(i % 2 == 0,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores) + len(refused) == 8
    assert len(stores) >= 4  # who may find one opens it
    assert all("already exists" in problem for problem in refused)
    assert add(Store.open(tmp_path / "c")) == [0, 1, 2]


# ---------------------------------------------------------------- backups


def test_ids_are_never_reused_whatever_is_restored(store, tmp_path):
    backup = {name: (store.path / name).read_bytes() for name in ("manifest.json", COPY)}
    assert add(store) == [3, 4, 5]
    assert add(store) == [6, 7, 8]
    for restored in (["manifest.json", COPY], ["manifest.json"]):
        (store.path / COPY).unlink()
        for name in restored:
            (store.path / name).write_bytes(backup[name])
        (finding, *_) = verify(store.path)
        assert "has been committed" in finding.problem or "missing" in finding.problem
        first = min(add(store))
        assert first >= 9
        assert verify(store.path) == []
        assert min(add(store)) > first


def test_an_older_manifest_beside_a_newer_copy_is_found_and_the_newer_one_taken(store):
    old = (store.path / "manifest.json").read_bytes()
    add(store)
    add(store)
    newest = read_manifest(store.path)
    (store.path / "manifest.json").write_bytes(old)
    (finding,) = verify(store.path)
    assert (finding.path, finding.problem) == ("manifest.json", "generation 2, older than its copy")
    with pytest.raises(StoreError, match="verify --repair"):
        add(store)  # it would lose what the copy has
    assert verify(store.path, repair=True) == [finding]
    assert verify(store.path) == []
    assert read_manifest(store.path).segments == newest.segments
    assert add(store) == [9, 10, 11]


def test_a_manifest_whose_segments_are_gone_is_refused_in_one_line(store):
    old = [(name, (store.path / name).read_bytes()) for name in ("manifest.json", COPY)]
    add(store)
    compact(store)  # the segments of `old` are gone
    for name, content in old:
        (store.path / name).write_bytes(content)
    for read in (store.snapshot, partial(remove, store), partial(compact, store)):
        with pytest.raises(StoreError, match="run `xsearch verify"):
            read()
    repair(store)
    assert verify(store.path) == []
    assert min(add(store)) >= 6


def test_a_damaged_mark_is_found_and_rewritten(store):
    (store.path / MARK).write_text("{}")
    (finding,) = verify(store.path)
    assert finding.path == MARK
    verify(store.path, repair=True)
    assert verify(store.path) == []
    (store.path / MARK).unlink()  # as in earlier releases
    assert add(store) == [3, 4, 5]
    assert (store.path / MARK).exists()


# ---------------------------------------------------------------- readers of old generations

READ = """
import sys
from pathlib import Path
from xsearch.store import Store
snapshot = Store.open(Path(sys.argv[1])).snapshot()
print("open", flush=True)
sys.stdin.readline()
snapshot.items(snapshot.ids)
print(len(snapshot), flush=True)
"""


def test_compact_deletes_what_nobody_reads_and_names_who_reads(store):
    add(store)
    environment = {**os.environ, "PYTHONPATH": str(Path(xsearch.__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", READ, str(store.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline() == "open\n"
        old = read_manifest(store.path).files()
        with store.writer() as writer:
            done = writer.compact()
            assert done.readers in ((reader.pid,), (0,))
            assert done.kept_bytes > 0
            add_again = writer.compact()
            assert add_again.kept_bytes == done.kept_bytes
        assert all((store.path / name).exists() for name in old)
        reader.stdin.write("\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == "5\n"
    with store.writer() as writer:
        done = writer.compact()
    assert (done.kept_bytes, done.readers) == (0, ())
    assert done.freed_bytes > 0
    assert not any((store.path / name).exists() for name in old - read_manifest(store.path).files())
    assert list((store.path / GENERATIONS).iterdir()) == []


@pytest.mark.parametrize(
    "error", [OSError(12, "Cannot allocate memory"), MemoryError("malloc of size 9 failed")]
)
def test_lack_of_memory_is_not_taken_for_damage(store, monkeypatch, error):
    def fail(path: Path) -> None:
        raise error

    monkeypatch.setattr("xsearch.store.pages.map_file", fail)
    for read in (store.snapshot, partial(remove, store)):
        with pytest.raises(StoreError, match="close other programs") as refused:
            read()
        assert "verify" not in str(refused.value)
