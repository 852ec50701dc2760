"""Copies of files: fetched once, verified, shared by processes, and deleted where room is needed."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import weakref
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from xsearch.errors import StoreError
from xsearch.system.cache import HELD, Cache, WrongContent

KB = 1000


def named(content: bytes) -> str:
    return sha256(content).hexdigest()


def content_of(number: int) -> bytes:
    return bytes([number]) * KB


class View:
    """A view of some files, held until `close()`."""

    def __init__(self, cache: Cache, state: str = "1") -> None:
        self.cache = cache
        with cache.view("of url", state, self._make) as self.folder:
            held = (self.folder / HELD).open("rb")
            fcntl.flock(held, fcntl.LOCK_SH)
        self.close = weakref.finalize(self, held.close)

    def _make(self, folder: Path) -> None:
        (folder / HELD).write_text("")
        for number in range(9):
            (folder / str(number)).touch()

    def link(self, number: int, get: Callable[[Path], object] | None = None) -> bytes:
        content = content_of(number)
        fetch = get or (lambda path: path.write_bytes(content))
        self.cache.link(self.folder / str(number), named(content), KB, fetch)
        return (self.folder / str(number)).read_bytes()


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache").open()


def blobs(cache: Cache) -> set[str]:
    return {path.name for path in (cache.folder / "blobs").iterdir()}


def fail(path: Path) -> None:
    raise AssertionError(f"{path} is fetched again")


def test_a_file_is_fetched_once_for_all_views(cache):
    views = [View(cache), View(Cache(cache.folder).open()), View(cache, "2")]
    assert views[0].link(1) == content_of(1)
    assert [view.link(1, fail) for view in views] == [content_of(1)] * 3
    assert blobs(cache) == {named(content_of(1))}
    assert views[0].folder == views[1].folder != views[2].folder


def test_what_arrives_wrong_is_fetched_once_more(cache):
    view, wrong = View(cache), [b"wrong", b"wrong", content_of(1)]
    get = lambda path: path.write_bytes(wrong.pop(0))  # noqa: E731
    with pytest.raises(WrongContent):
        view.link(1, get)
    assert not blobs(cache)
    wrong.insert(0, b"wrong")
    assert view.link(1, get) == content_of(1)


def test_what_was_used_least_recently_makes_room(cache, monkeypatch):
    monkeypatch.setenv("XSEARCH_CACHE_GB", str(4.5 * KB / 1e9))
    view = View(cache)
    for number in (1, 2, 3, 4):
        view.link(number)
        os.utime(view.folder / str(number), ns=(number, number))
    os.utime(view.folder / "1", ns=(9, 9))
    view.close()
    other = View(cache, "2")
    other.link(5)
    assert blobs(cache) == {named(content_of(number)) for number in (1, 3, 4, 5)}
    assert not view.folder.exists()


def test_what_is_in_use_stays(cache, monkeypatch):
    monkeypatch.setenv("XSEARCH_CACHE_GB", str(2.5 * KB / 1e9))
    view, other = View(cache), View(cache, "2")
    view.link(1)
    view.link(2)
    with pytest.raises(
        StoreError, match=r"2,000 bytes are in use, 1,000 more .* XSEARCH_CACHE_GB to 3e-06 or"
    ):
        other.link(3)
    assert len(blobs(cache)) == 2
    view.close()
    other.link(3)
    assert named(content_of(3)) in blobs(cache)


def test_a_deleted_copy_is_fetched_again(cache):
    view = View(cache)
    view.link(1)
    cache.drop(named(content_of(1)))
    assert view.link(1) == content_of(1)


def test_what_a_killed_process_has_left_is_in_nobodys_way(cache, monkeypatch):
    left = cache.folder / "blobs" / f"{named(content_of(1))}.{KB}.part"
    left.write_bytes(b"a half")
    (cache.folder / "views" / "of url" / ".half").mkdir(parents=True)
    other = left.with_name(f"{named(content_of(2))}.{KB}.part")
    other.write_bytes(b"a half")
    monkeypatch.setenv("XSEARCH_CACHE_GB", str(1.5 * KB / 1e9))
    assert View(cache).link(1) == content_of(1)
    assert blobs(cache) == {named(content_of(1))}
    assert not (cache.folder / "views" / "of url" / ".half").exists()


def test_threads_fetch_a_file_once(cache):
    fetched = []

    def get(path: Path) -> None:
        fetched.append(path)
        path.write_bytes(content_of(1))

    views = [View(cache, str(i % 3)) for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda view: view.link(1, get), views)) == {content_of(1)}
    assert len(fetched) == 1


def in_process(folder: Path, log: Path) -> bytes:
    def get(path: Path) -> None:
        with log.open("a") as file:
            file.write("fetched\n")
        path.write_bytes(content_of(1))

    return View(Cache(folder).open()).link(1, get)


def test_processes_fetch_a_file_once(cache, tmp_path):
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        tasks = [pool.submit(in_process, cache.folder, tmp_path / "log") for _ in range(4)]
        assert {task.result() for task in tasks} == {content_of(1)}
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_a_full_disk_is_named(cache):
    def get(path: Path) -> None:
        path.write_bytes(b"a part")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(StoreError, match=r"No space left on device; make room, or set XSEARCH_HOME"):
        View(cache).link(1, get)
    assert not blobs(cache)


def test_the_folder_has_to_be_ours(cache, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot write to the cache at .*file"):
        Cache(tmp_path / "file").open()
    user = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    with pytest.raises(StoreError, match="belongs to another user; set XSEARCH_HOME"):
        Cache(cache.folder).open()
