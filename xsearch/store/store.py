"""A collection on the disk: create it, open it, look at it, write to it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from xsearch.errors import Locked, StoreError
from xsearch.store.manifest import COPY, FOLDERS, NAME, Manifest, read_manifest, write_manifest
from xsearch.store.snapshot import Snapshot
from xsearch.store.verify import current
from xsearch.store.writer import Writer
from xsearch.system.durable import fsync
from xsearch.types import Fingerprint

__all__ = ["Store"]

SEALED = 80  # bytes at the end of a manifest that hold its checksum


class Store:
    """A collection folder. Make one with `Store.create`, find one with `Store.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = os.fspath(path / NAME)

    @staticmethod
    def create(path: Path, fingerprint: Fingerprint, source: str | None = None) -> Store:
        """Make an empty collection for the vectors of one model.

        source: where that model is, kept for those who open the collection.
        Raises StoreError if there is something at `path` other than an empty folder.
        """
        path = Path(path)
        if any((path / name).exists() for name in (NAME, COPY)):
            raise StoreError(f"there is a collection at {path} already; open it, or choose another folder")
        try:
            # a killed `create` leaves folders without a manifest, which are not a reason to refuse
            if path.exists() and {child.name for child in path.iterdir()} - {*FOLDERS, "lock", "lock.json"}:
                raise StoreError(f"{path} is not empty and not a collection; choose another folder")
            made = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
            for name in FOLDERS:
                (path / name).mkdir(parents=True, exist_ok=True)
            write_manifest(path, Manifest(fingerprint, source=source))
            for folder in made:
                fsync(folder.absolute().parent)
        except OSError as error:
            raise StoreError(f"cannot make a collection at {path}: {error}") from error
        return Store(path)

    @staticmethod
    def open(path: Path) -> Store:
        """Open a collection.

        Raises NoCollection where there is none, StoreError where it is damaged or from a newer xsearch.
        """
        path = Path(path)
        read_manifest(path)
        return Store(path)

    def version(self) -> bytes:
        """Differs after every commit, also of other processes. Raises NoCollection where there is none.

        It ends as the manifest does, with its checksum. Inode and time alone, which tell manifests of format
        1 apart, come again where commits are faster than the clock of the file system (measured).
        """
        try:
            descriptor = os.open(self._manifest, os.O_RDONLY)
        except OSError:
            read_manifest(self.path)  # says what is wrong
            raise
        try:
            status = os.fstat(descriptor)
            os.lseek(descriptor, max(status.st_size - SEALED, 0), os.SEEK_SET)
            return b"%d %d " % (status.st_ino, status.st_mtime_ns) + os.read(descriptor, SEALED)
        finally:
            os.close(descriptor)

    def snapshot(self, previous: Snapshot | None = None) -> Snapshot:
        """The collection as of the last commit. Raises StoreError where a file is missing or damaged.

        previous: an earlier one, whose open files are shared.
        """
        manifest = read_manifest(self.path)
        while True:
            try:
                return Snapshot(self.path, manifest, previous)
            except (OSError, pa.ArrowException) as error:
                # Two commits and a compact may pass between reading the manifest and mapping its files.
                seen, manifest = manifest.generation, read_manifest(self.path)
                if manifest.generation == seen:
                    raise StoreError(
                        f"cannot read {self.path}: {error}; see `xsearch verify --collection {self.path}`"
                    ) from error

    @contextmanager
    def writer(
        self, *, timeout_s: float = 0, repair: bool = False, step: Callable[[str], None] | None = None
    ) -> Iterator[Writer]:
        """The one writer: what it does becomes visible at its `commit()`s, what is not committed is dropped.

        timeout_s: how long to wait for another writer.
        repair: where the manifest is damaged, start from its copy.
        step: called with the name of each step of a commit before it is done, for tests that end there.
        Raises Locked, naming the holder.
        """
        lock, holder = FileLock(self.path / "lock"), self.path / "lock.json"
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise Locked(
                f"{self.path} is being written to by {_describe(holder)}; wait, or stop it"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.path}: {error}") from error
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            with suppress(OSError):  # a full disk: others then do not learn who it is
                holder.write_text(json.dumps(who))
            manifest = current(self.path)[0] if repair else read_manifest(self.path)
            yield Writer(self.path, manifest, step or (lambda name: None))
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"  # it has just started, or just ended
