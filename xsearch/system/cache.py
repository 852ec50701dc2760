"""Copies of immutable files, named by their sha256, in a folder of bounded size that processes share.

    blobs/SHA256          a file, verified on arrival; SHA256.BYTES.part while it arrives
    views/NAME/STATE/     folders of hard links to blobs, made by `Cache.view`

A blob with a second link is in use, and stays. Where room is needed, the views that no process holds are
removed, and then the blobs that were used least recently.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

from filelock import FileLock

from xsearch.errors import StoreError
from xsearch.system.durable import digest, fsync
from xsearch.system.home import VIEWS, copies
from xsearch.system.settings import setting

__all__ = ["Cache", "WrongContent"]

CACHE_GB = 20.0  # by default, of all files together
PART = ".part"
HELD = "manifest.json"  # the file of a view that its readers lock


class WrongContent(Exception):
    """What has arrived, twice, is not what was asked for."""


class Cache:
    """The copies of this user. May be shared by threads and processes.

    Methods raise StoreError for what is wrong with the folder or its disk.
    """

    def __init__(self, folder: Path | None = None) -> None:
        """folder: by default, `copies()`."""
        self.folder = folder or copies()
        self._blobs = self.folder / "blobs"

    def open(self) -> Cache:
        """Make the folder. Raises StoreError if that is impossible, or it belongs to another user."""
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for each in (self._blobs, self.folder / VIEWS):
                each.mkdir(exist_ok=True)
        if self.folder.stat().st_uid != os.geteuid():
            raise StoreError(f"{self.folder} belongs to another user; set XSEARCH_HOME to a folder of yours")
        return self

    @contextmanager
    def view(self, name: str, state: str, make: Callable[[Path], None]) -> Iterator[Path]:
        """Yield the folder of a view, after `make` has filled it if it is new.

        As long as the file HELD in it is open with a shared lock, taken within the block, the view stays.
        """
        folder = self.folder / VIEWS / name / state
        with self._writing(), self._lock():
            if not folder.exists():
                folder.parent.mkdir(exist_ok=True)
                new = folder.with_name(f".{uuid4().hex}")
                try:
                    new.mkdir()
                    make(new)
                    new.rename(folder)
                except BaseException:
                    shutil.rmtree(new, ignore_errors=True)
                    raise
            yield folder

    def link(self, path: Path, sha256: str, size: int, get: Callable[[Path], None]) -> None:
        """Put a file in the place of `path`, in a view that is held.

        get: writes the content to a path, if it is not here yet; of OSErrors it may raise those of writing.
        Raises WrongContent.
        """
        blob = self._blobs / sha256
        beside = path.with_name(f".{uuid4().hex}")
        with self._writing():
            while True:
                try:
                    beside.hardlink_to(blob)
                    break
                except FileNotFoundError:  # not here yet, or evicted
                    if not path.parent.exists():
                        raise
                self._fetch(blob, size, get)
            os.utime(beside)
            beside.replace(path)

    def has(self, sha256: str) -> bool:
        """Whether a blob is here."""
        return (self._blobs / sha256).exists()

    def drop(self, sha256: str) -> None:
        """Delete a blob; it is fetched again when it is linked the next time."""
        (self._blobs / sha256).unlink(missing_ok=True)

    def _fetch(self, blob: Path, size: int, get: Callable[[Path], None]) -> None:
        """Fetch a blob, unless another thread or process has done that meanwhile."""
        part = blob.with_name(f"{blob.name}.{size}{PART}")
        with _claimed(part):
            try:
                if blob.exists():
                    return
                self._make_room(size)
                for _ in range(2):  # a bit may have flipped on the way
                    get(part)
                    if digest(part) == blob.name:
                        fsync(part)
                        part.rename(blob)
                        return
                raise WrongContent(blob.name)
            finally:
                part.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Delete what is not in use until `size` bytes, which one of the parts is for, are within bounds."""
        most = int(setting("XSEARCH_CACHE_GB", CACHE_GB) * 1e9)
        with self._lock():
            if self._bytes() <= most:
                return
            for manifest in (self.folder / VIEWS).glob(f"*/*/{HELD}"):
                _remove_unused(manifest, manifest.parent)
            for killed in (self.folder / VIEWS).glob("*/.*"):  # as this process has the lock
                shutil.rmtree(killed, ignore_errors=True)
            for part in self._blobs.glob(f"*{PART}"):
                _remove_unused(part, part)
            total = self._bytes()
            unused = [(status.st_mtime_ns, path) for path, status in self._entries() if status.st_nlink == 1]
            for _, path in sorted(unused):
                if total <= most:
                    return
                total -= path.stat().st_size
                path.unlink()
        if total > most:
            raise StoreError(
                f"the cache at {self.folder} is full: {total - size:,} bytes are in use, {size:,} more are "
                f"needed; set XSEARCH_CACHE_GB to {total / 1e9:.3g} or more (it is {most / 1e9:g})"
            )

    def _bytes(self) -> int:
        """The size of all blobs, with those that arrive."""
        arriving = (int(part.name.split(".")[1]) for part in self._blobs.glob(f"*{PART}"))
        return sum(arriving) + sum(status.st_size for _, status in self._entries())

    def _entries(self) -> Iterator[tuple[Path, os.stat_result]]:
        with os.scandir(self._blobs) as entries:
            yield from ((Path(each.path), each.stat()) for each in entries if PART not in each.name)

    def _lock(self) -> FileLock:
        return FileLock(self.folder / "lock")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            is_full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            remedy = "make room" if is_full else "check it"
            raise StoreError(
                f"cannot write to the cache at {self.folder}: {error.strerror or error}; {remedy}, "
                "or set XSEARCH_HOME to a folder on another disk"
            ) from error


@contextmanager
def _claimed(path: Path) -> Iterator[None]:
    """Make a file that one thread of one process has until the block ends, which may move or delete it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            with suppress(FileNotFoundError):  # moved or deleted by the one before
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    yield
                    return
        finally:
            os.close(descriptor)


def _remove_unused(held: Path, path: Path) -> None:
    """Remove a file or folder if nobody holds the lock of the file `held`."""
    with suppress(OSError):
        descriptor = os.open(held, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        finally:
            os.close(descriptor)
