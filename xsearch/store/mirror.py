"""Collections that are read at a URL, through the cache of this machine.

A generation is a view in the cache: a folder with the names and sizes of all its files, each of which is a
hole until it is brought. Its readers lock its manifest, as that of any collection, and what was brought stays
as long as they do. First the tables are brought; then the items, when those of any segment are read, the
vectors of each segment, and an index, or one of its files, when that is loaded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from time import monotonic
from types import TracebackType
from typing import Any

import pyarrow as pa

from xsearch.errors import Damaged, StoreError
from xsearch.nearest import NAME, folder_of, is_remote
from xsearch.store.manifest import open_manifest
from xsearch.store.published import CONNECTIONS, SUFFIX, Generation, Published
from xsearch.store.segments import MAPPED, MAPPED_SUMS
from xsearch.store.snapshot import Snapshot, unreadable
from xsearch.store.store import Store
from xsearch.store.verify import Finding
from xsearch.store.writer import Writer
from xsearch.system.cache import Cache, WrongContent
from xsearch.system.durable import digest
from xsearch.system.home import copies, view_folder

__all__ = ["Mirror", "open_store", "origin"]

LOG = logging.getLogger("xsearch")

ORIGIN = "origin"  # a file with the URL, in each view
POLL_S = 1.0  # between looks for a new generation
PATIENCE_S = 1.0  # for which a reader waits for the answer
HOLE = 0o000  # permissions, so that it is not read by mistake
LARGE = 100 << 20  # bytes to fetch that are reported


def origin(place: str | Path) -> str | None:
    """The URL of a collection, also where an error names its view in the cache; None for a folder."""
    if is_remote(place):
        return str(place)
    path = Path(place).absolute()
    is_view = copies().absolute() in path.parents and (path / ORIGIN).is_file()
    return (path / ORIGIN).read_text() if is_view else None


def open_store(place: str | Path) -> Store:
    """Open the collection in a folder or at a URL. Raises NoCollection, StoreError."""
    url = origin(place)
    return Store.open(Path(place)) if url is None else Mirror(url)


class Mirror(Store):
    """A collection at a URL, as of the last push: read-only. `path` has the views of its generations."""

    def __init__(self, url: str) -> None:
        """Raises NoCollection if there is none, StoreError if it cannot be reached."""
        self._published, self._cache = Published(url), Cache().open()
        super().__init__(view_folder(self.place))
        self.path.mkdir(exist_ok=True)
        self._newest = self._published.newest()
        self._lock, self._polled_s, self._failed = Lock(), monotonic(), False
        self._poll = Thread()  # none yet

    @property
    def place(self) -> str:
        return self._published.url

    def version(self) -> bytes:
        """Return the name of the newest generation, as of a look at the URL at most every POLL_S.

        Where it cannot be reached, the collection stays as it was.
        """
        with self._lock:
            if not self._poll.is_alive() and monotonic() - self._polled_s > POLL_S:
                self._poll = Thread(target=self._look, name="poll", daemon=True)
                self._poll.start()
                self._poll.join(PATIENCE_S)
            return self._newest.encode()

    def _look(self) -> None:
        try:
            self._newest, self._failed = self._published.newest(patient=False), False
        except StoreError as problem:
            if not self._failed:
                LOG.warning("%s; meanwhile generation %s is used", problem, self._newest.removesuffix(SUFFIX))
            self._failed = True
        finally:
            self._polled_s = monotonic()

    def snapshot(self, previous: Snapshot | None = None) -> Snapshot:
        while True:
            name = self._newest
            try:
                with self._view(name) as view:
                    return view.snapshot(previous)
            except StoreError:
                self._newest = self._published.newest()
                if self._newest == name:  # else this one has been deleted
                    raise

    def _view(self, name: str) -> _View:
        return _View(self._published, self._cache, self._published.read(name))

    @contextmanager
    def writer(self, **options: Any) -> Iterator[Writer]:
        """Raise UsageError."""
        folder_of(self.place)
        yield from ()

    def verify(self, *, repair: bool = False) -> list[Finding]:
        """Return the copies of the newest generation that are damaged. repair: fetch them again."""
        with self._view(self._published.newest()) as view:
            return list(view.verify(repair=repair))


class _View:
    """A generation in the cache. A context manager that gives it up if the block fails."""

    def __init__(self, published: Published, cache: Cache, generation: Generation) -> None:
        self._published, self._cache, self._generation = published, cache, generation
        self._contents = generation.manifest.contents()
        self._brought: set[str] = set()
        with cache.view(view_folder(published.url).name, generation.name, self._make) as self._folder:
            self._manifest, self._lease = open_manifest(self._folder)

    def __enter__(self) -> _View:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None:
            self._lease.close()

    def _make(self, folder: Path) -> None:
        for path, size in self._generation.sizes.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            hole = os.open(folder / path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, HOLE)
            try:
                os.ftruncate(hole, size)
            finally:
                os.close(hole)
        (folder / ORIGIN).write_text(self._published.url)
        (folder / NAME).write_bytes(self._generation.written)

    def snapshot(self, previous: Snapshot | None) -> Snapshot:
        if self._manifest.index:
            self.bring([f"index/{self._manifest.index}/plan.json"])
        try:
            return Snapshot(self._folder, self._manifest, previous, self._lease, self.bring)
        except (OSError, MemoryError, pa.ArrowException) as error:
            raise unreadable(self._folder, error) from error

    def bring(self, paths: Iterable[str]) -> None:
        """Fetch those of these files that are not here, in parallel. Raises StoreError."""
        missing = set(paths) - self._brought
        if not missing:
            return
        if any(path.endswith(f"/{MAPPED}") for path in missing):
            missing.update(
                path for path in self._contents if path.endswith((f"/{MAPPED}", f"/{MAPPED_SUMS}"))
            )
        holes = [path for path in sorted(missing) if self._is_hole(path)]
        for path in missing.difference(holes):
            os.utime(self._folder / path)  # for the cache, which deletes what was used least recently
        if new := [path for path in holes if not self._cache.has(self._contents[path])]:
            bytes = sum(self._generation.sizes[path] for path in new)
            report = LOG.warning if bytes > LARGE else LOG.info
            report("fetching %d files of %s, %.1f MB", len(new), self._published.url, bytes / 1e6)
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            try:
                list(pool.map(self._fetch, holes))
            except BaseException:  # Ctrl-C too
                pool.shutdown(cancel_futures=True)
                raise
        self._brought |= missing

    def _is_hole(self, path: str) -> bool:
        return (self._folder / path).stat().st_mode & 0o777 == HOLE

    def _fetch(self, path: str) -> None:
        blob, size = self._contents[path], self._generation.sizes[path]
        try:
            self._cache.link(self._folder / path, blob, size, partial(self._published.get, blob, size))
        except WrongContent as error:
            remedy = "delete it, and push the collection that was published there again"
            raise Damaged(self._published.url, f"blobs/{blob}", "a wrong sha256, twice", remedy) from error

    def verify(self, *, repair: bool) -> Iterator[Finding]:
        for path, blob in self._contents.items():
            if not self._is_hole(path) and digest(self._folder / path) != blob:
                if repair:
                    self._cache.drop(blob)
                    self._fetch(path)
                yield Finding(path, "a wrong sha256 of the copy in the cache", "fetched again")
        self._lease.close()
