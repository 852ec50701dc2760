"""Collections at a URL: whole at any moment, read through the cache, and the same as the folder."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest

from xsearch.errors import Damaged, NoCollection, StoreError, UsageError
from xsearch.integrity import verify
from xsearch.store import Mirror, Published, Snapshot, Store, mirror, open_store
from xsearch.system import retries
from xsearch.system.objects import Objects, objects_at
from xsearch.types import Fingerprint

STAMP = Fingerprint("tiny", "d1", "p1", 8)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(mirror, "POLL_S", 0)
    monkeypatch.setattr(mirror, "PATIENCE_S", 60)
    monkeypatch.setattr(retries, "BACKOFF_S", (0, 0))
    return tmp_path / "home"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Two segments, an index in two files, words, and tables."""
    store = Store.create(tmp_path / "local", STAMP)
    add(store, 40)
    with store.writer() as writer:
        writer.remove([3])
        writer.skip([{"path": "bad", "reason": "torn", "error": "Unreadable"}])
        folder = writer.new_index_folder()
        for name in ("plan.json", "shard-0.faiss", "shard-1.faiss"):
            (folder / name).write_text(name)
        writer.set_index(folder)
        words = writer.new_words_file()
        words.write_text("words")
        writer.set_words(words)
        writer.commit()
    add(store, 3)
    return store


@pytest.fixture
def url() -> str:
    return f"memory://{uuid4().hex}"


@pytest.fixture(params=["file", "memory", "s3"])
def any_url(request: pytest.FixtureRequest, tmp_path: Path, url: str) -> str:
    places = {"file": lambda: f"file://{tmp_path}/there", "memory": lambda: url}
    return places.get(request.param, lambda: f"{request.getfixturevalue('bucket')}/{uuid4().hex}/")()


def add(store: Store, n: int) -> None:
    with store.writer() as writer:
        ids = np.arange(writer.next_id, writer.next_id + n)
        items = pa.table({"path": [f"{i}.txt" for i in ids], "modality": ["text"] * n})
        writer.add(items, np.eye(8, dtype=np.float32)[ids % 8])
        writer.commit()


def push(store: Store, url: str, **options: Any) -> Any:
    return Published(url).push(store.snapshot(), **options)


def state(snapshot: Snapshot) -> tuple[object, ...]:
    """All that a snapshot has."""
    for ids, vectors in snapshot.blocks():
        np.testing.assert_array_equal(vectors, np.eye(8)[ids % 8])
    np.testing.assert_array_equal(snapshot.vectors(snapshot.ids[::-7]), np.eye(8)[snapshot.ids[::-7] % 8])
    files = [*snapshot.manifest.index_digests]
    snapshot.bring_index()
    snapshot.bring(filter(None, [snapshot.manifest.words_file]))
    derived = [(snapshot.index_path / name).read_text() for name in files] if snapshot.index_path else []
    words = snapshot.words_path.read_text() if snapshot.words_path else None
    return (
        snapshot.table().to_pylist(),
        snapshot.skipped().to_pylist(),
        derived,
        words,
        snapshot.kinds.tolist(),
    )


def here(snapshot: Snapshot) -> set[str]:
    """The files of a snapshot that have been brought, without the names of their folders."""
    contents = snapshot.manifest.contents()
    return {path.rpartition("/")[2] for path in contents if (snapshot.path / path).stat().st_nlink > 1}


def test_what_was_pushed_is_read(store, any_url):
    pushed = push(store, any_url, keep=1)
    assert pushed.generation == 3
    assert pushed.files == len(store.snapshot().manifest.contents())
    assert state(open_store(any_url).snapshot()) == state(store.snapshot())
    assert push(store, any_url).files == 0

    add(store, 5)
    again = push(store, any_url, keep=1)
    assert (again.files, again.deleted) == (5, 0)
    with store.writer() as writer:
        writer.remove([0, 41])
        writer.compact()  # leaves gaps
    last = push(store, any_url, keep=1)
    assert last.deleted > 10
    assert state(open_store(any_url).snapshot()) == state(store.snapshot())
    generations, blobs = (
        objects_at(f"{any_url.rstrip('/')}/{name}").names() for name in ("generations", "blobs")
    )
    assert len(generations) == 1
    assert {*blobs} == {*store.snapshot().manifest.contents().values()}


def test_what_is_not_needed_is_not_fetched(store, url):
    push(store, url)
    snapshot = open_store(url).snapshot()
    tables = {path.rpartition("/")[2] for path in snapshot.manifest.tables()}
    assert here(snapshot) == {"plan.json", *tables}
    assert len(snapshot) == 42
    assert snapshot.contains(np.array([2, 3])).tolist() == [True, False]
    assert here(snapshot) == {"plan.json", *tables}

    first, second = (snapshot.path / entry.folder for entry in snapshot.manifest.segments)
    for _ in range(2):  # the second time, it has been verified already
        snapshot.vectors(np.array([41]))
    assert (first / "vectors.arrow").stat().st_nlink == 1 < (second / "vectors.arrow").stat().st_nlink
    snapshot.bring_index("shard-1.faiss")
    assert not here(snapshot) & {"shard-0.faiss", "items.arrow"}
    snapshot.items(np.array([41]))
    assert (first / "items.arrow").stat().st_nlink > 1


def test_a_second_reader_fetches_nothing(store, url):
    push(store, url)
    before, cached = state(open_store(url).snapshot()), copies(url)
    for path in cached:
        os.utime(path, (0, 0))
    blobs = objects_at(f"{url}/blobs")
    for name in blobs.names():
        blobs.remove(name)
    assert state(open_store(url).snapshot()) == before
    assert all(path.stat().st_mtime > 0 for path in cached)


def copies(url: str) -> list[Path]:
    """The copies that this machine has."""
    return list((Mirror(url).path.parent.parent / "blobs").iterdir())


class Steps:
    """Objects whose operations are announced; raising an exception stands for the end of the process."""

    def __init__(self, objects: Objects, step: Callable[[str], None]) -> None:
        self._objects, self._step = objects, step

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> Any:
            self._step(name)
            return getattr(self._objects, name)(*arguments)

        return call


class Stepped(Published):
    def __init__(self, url: str, step: Callable[[str], None]) -> None:
        super().__init__(url)
        self._step = step

    def _objects(self, folder: str, *, create: bool = False) -> Any:
        return Steps(super()._objects(folder, create=create), lambda name: self._step(f"{name} {folder}"))


class Killed(BaseException):
    pass


def killed_at(last: int) -> Callable[[str], None]:
    steps: Iterator[int] = iter(range(last + 1))

    def step(name: str) -> None:
        if next(steps, last) == last:
            raise Killed

    return step


def test_a_push_that_is_killed_at_any_moment_is_completed_by_the_next(store, url):
    push(store, url)
    old = state(store.snapshot())
    with store.writer() as writer:
        writer.remove([0, 41])
        writer.compact()
    new, seen = state(store.snapshot()), []
    objects = [objects_at(f"{url}/{name}") for name in ("blobs", "generations")]
    before = [{name: each.get(name) for name in each.names()} for each in objects]
    for last in range(100):
        for each, files in zip(objects, before, strict=True):
            for name in each.names():
                each.remove(name)
            for name, content in files.items():
                each.put(name, content)
        try:
            Stepped(url, killed_at(last)).push(store.snapshot(), keep=1)
            break
        except Killed:
            seen.append(state(open_store(url).snapshot()))
        assert seen[-1] in (old, new)
        push(store, url, keep=1)
        assert state(open_store(url).snapshot()) == new
        assert {*objects[0].names()} == {*store.snapshot().manifest.contents().values()}
    assert old in seen
    assert new in seen
    assert 20 < last < 99


def test_a_reader_that_comes_during_a_push_finds_a_whole_generation(store, url):
    push(store, url)
    reader, states = open_store(url), [state(store.snapshot())]
    with store.writer() as writer:
        writer.remove([0, 41])
        writer.compact()
    states.append(state(store.snapshot()))
    seen = []

    def step(name: str) -> None:
        reader.version()
        seen.append(states.index(state(reader.snapshot())))

    Stepped(url, step).push(store.snapshot(), keep=1)
    assert seen == sorted(seen)
    assert {*seen} == {0, 1}


def test_a_reader_follows_and_does_not_need_what_was_deleted(store, url):
    push(store, url)
    reader = open_store(url)
    version, old = reader.version(), reader.snapshot()
    late = reader.snapshot()
    assert reader.version() == version
    state(old)
    with store.writer() as writer:
        writer.remove([0, 41])
        writer.compact()
    push(store, url, keep=1)
    assert len(old) == 42
    state(old)
    assert reader.version() != version
    assert state(reader.snapshot(old)) == state(store.snapshot())
    assert state(late) == state(old)  # its files are here


def test_what_a_reader_lacks_of_a_deleted_generation_is_an_error(store, url):
    push(store, url)
    reader = open_store(url)
    old = reader.snapshot()
    with store.writer() as writer:
        writer.compact()
    push(store, url, keep=1)
    with pytest.raises(StoreError, match="lacks a file"):
        old.vectors(old.ids)
    assert state(reader.snapshot(old)) == state(store.snapshot())


def test_of_two_pushes_of_a_generation_one_wins(store, any_url, tmp_path):
    shutil.copytree(store.path, tmp_path / "copy")
    other = Store.open(tmp_path / "copy")
    push(store, any_url)
    for each in (store, other):
        add(each, 5)

    def win(name: str) -> None:  # after the other has looked, and sent its files
        if name == "put generations" and open_store(any_url).version() == b"3.json":
            push(other, any_url)

    with pytest.raises(StoreError, match="has another generation 4, from another copy"):
        Stepped(any_url, win).push(store.snapshot())
    assert state(open_store(any_url).snapshot()) == state(other.snapshot())
    with pytest.raises(StoreError, match="has another generation 4, from another copy"):
        push(store, any_url)


def test_a_collection_is_not_pushed_into_another(store):
    for place in (str(store.path), store.path.as_uri()):
        with pytest.raises(UsageError, match="a collection itself"):
            Published(place).push(store.snapshot())
    assert "blobs" not in {path.name for path in store.path.iterdir()}


def test_only_what_follows_is_pushed(store, url, tmp_path):
    push(store, url)
    older = Store.create(tmp_path / "older", STAMP)
    with pytest.raises(StoreError, match="generation 3 with ids below 43, later than generation 0"):
        push(older, url)
    other = Store.create(tmp_path / "other", Fingerprint("large", "d1", "p1", 8))
    for _ in range(4):
        add(other, 20)
    with pytest.raises(StoreError, match="of the model tiny, this one is of large"):
        push(other, url)
    assert open_store(url).version() == b"3.json"


def test_damaged_files_are_not_pushed(store, url):
    (segment, *_) = store.snapshot().manifest.segments
    flip(store.path / segment.folder / "vectors.arrow")
    with pytest.raises(Damaged, match=r"vectors\.arrow"):
        push(store, url)
    with pytest.raises(NoCollection, match=f"publish one with `xsearch push {url}`"):
        open_store(url)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_blob_is_reported(store, tmp_path):
    url = f"file://{tmp_path}/there"
    push(store, url)
    snapshot = open_store(url).snapshot()
    blob = snapshot.manifest.segments[0].sha256["vectors.arrow"]
    flip(tmp_path / "there" / "blobs" / blob)
    with pytest.raises(Damaged, match=f"{url}/blobs/{blob}: a wrong sha256, twice; delete it, and push"):
        snapshot.vectors(np.array([0]))
    (tmp_path / "there" / "blobs" / blob).unlink()
    assert push(store, url).files == 1
    assert state(snapshot) == state(store.snapshot())


def test_a_blob_that_was_cut_short_is_sent_again(store, url):
    push(store, url)
    blobs = objects_at(f"{url}/blobs")
    name, size = next(iter(blobs.sizes().items()))
    blobs.remove(name)
    blobs.put(name, b"half")
    assert push(store, url).bytes == size
    assert state(open_store(url).snapshot()) == state(store.snapshot())


@pytest.mark.parametrize(
    "content", [b"", b"{}", b'{"manifest": 1, "sizes": {}}', b'{"manifest": "{}", "sizes": {}}']
)
def test_a_damaged_generation_is_reported(url, content):
    objects_at(f"{url}/generations").put("7.json", content)
    with pytest.raises(Damaged, match=f"{url}/generations/7.json: .*; delete it"):
        open_store(url).snapshot()


def test_a_generation_cannot_name_files_elsewhere(store, url):
    push(store, url)
    generations = objects_at(f"{url}/generations")
    content = generations.get("3.json")
    generations.put("4.json", content.replace(b'"sizes": {', b'"sizes": {"../../../evil": 5,'))
    snapshot = open_store(url).snapshot()
    assert "evil" not in {path.name for path in snapshot.path.parent.parent.parent.rglob("*")}


def test_a_damaged_copy_is_found_and_fetched_again(store, url):
    push(store, url)
    snapshot = open_store(url).snapshot()
    state(snapshot)
    (segment, *_) = snapshot.manifest.segments
    flip(snapshot.path / segment.folder / "vectors.arrow")
    with pytest.raises(Damaged, match=f"--repair --collection {snapshot.path}"):
        state(open_store(url).snapshot())
    path = f"{segment.folder}/vectors.arrow"
    assert [finding.path for finding in verify(snapshot.path)] == [path]  # as the error says
    assert [finding.path for finding in verify(url, repair=True)] == [path]
    assert verify(url) == []
    assert state(open_store(url).snapshot()) == state(store.snapshot())


def test_a_full_cache_says_how_large_it_has_to_be(store, url, monkeypatch):
    push(store, url)
    monkeypatch.setenv("XSEARCH_CACHE_GB", "1e-7")
    with pytest.raises(StoreError, match="set XSEARCH_CACHE_GB to"):
        open_store(url).snapshot()


def test_a_collection_larger_than_the_cache_is_read_in_parts(store, url, monkeypatch):
    """Each generation fits, and of all of them the last ones stay."""
    push(store, url)
    size = sum(Published(url).read("3.json").sizes.values())
    monkeypatch.setenv("XSEARCH_CACHE_GB", str(1.5 * size / 1e9))
    reader = open_store(url)
    for _ in range(4):
        with store.writer() as writer:
            writer.compact()
        add(store, 2)
        push(store, url)
        reader.version()
        assert state(reader.snapshot()) == state(store.snapshot())
    kept = sum(path.stat().st_size for path in (reader.path.parent.parent / "blobs").iterdir())
    assert kept <= 1.5 * size


def test_a_lost_connection_is_retried_and_then_reported(store, url, monkeypatch):
    push(store, url)
    failures = [ConnectionError("cut"), ConnectionError("cut")]

    def step(name: str) -> None:
        if failures:
            raise failures.pop()

    assert Stepped(url, step).newest() == "3.json"
    failures.extend([ConnectionError("cut")] * 9)
    with pytest.raises(
        StoreError, match=f"{url}: ConnectionError: cut; check the network and the credentials"
    ):
        Stepped(url, step).newest()


def test_a_reader_goes_on_while_the_url_cannot_be_reached(store, url, caplog):
    push(store, url)
    reader, failures = Mirror(url), [PermissionError("denied")] * 2

    def step(name: str) -> None:
        if failures:
            raise failures.pop()

    reader._published = Stepped(url, step)
    add(store, 5)
    push(store, url)
    assert [reader.version() for _ in range(3)] == [b"3.json", b"3.json", b"4.json"]
    assert len(caplog.records) == 1
    assert "no permission: denied; check the credentials; meanwhile generation 3 is used" in caplog.text


def test_a_full_disk_there_is_no_error_of_the_cache(store, url):
    def step(name: str) -> None:
        if name == "put_file blobs":
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Stepped(url, step).push(store.snapshot())


def test_it_is_read_only(store, url, tmp_path):
    push(store, url)
    with pytest.raises(UsageError, match="is read-only: change the folder that was published there"):
        open_store(url).writer().__enter__()
    for refuse in (Store.open, lambda place: Store.create(place, STAMP)):
        with pytest.raises(UsageError, match=f"xsearch push {url} --collection FOLDER"):
            refuse(url)
    assert {path.name for path in tmp_path.iterdir()} == {"home", "local"}


def test_where_there_is_none(bucket, tmp_path):
    for place in (f"{bucket}/none", "s3://nowhere/none", f"file://{tmp_path}/none"):
        with pytest.raises(NoCollection, match=f"no collection at {place}; publish one with"):
            open_store(place)
    with pytest.raises(UsageError, match="nowhere"):
        open_store("nowhere://none")


def test_a_missing_bucket_is_named(store, bucket):
    with pytest.raises(StoreError, match=r"s3://nowhere/x lacks a file: .*; there is no such bucket"):
        push(store, "s3://nowhere/x")


def test_a_web_server_is_enough_for_reading(store, tmp_path):
    push(store, f"file://{tmp_path}/there")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/there"
        assert state(open_store(url).snapshot()) == state(store.snapshot())
        with pytest.raises(NoCollection):
            open_store(f"{url}/none")
        add(store, 1)
        with pytest.raises(UsageError, match="cannot be written to"):
            push(store, url)
        server.shutdown()


READ = """
import sys
from xsearch.store import open_store
snapshot = open_store(sys.argv[1]).snapshot()
print(len(snapshot.items(snapshot.ids)), float(snapshot.vectors(snapshot.ids).sum()))
"""


def test_processes_read_it_at_once(store, tmp_path):
    url = f"file://{tmp_path}/there"
    push(store, url)
    command = [sys.executable, "-c", READ, url]
    environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate()[0] for process in started] == ["42 42.0\n"] * 3
