"""The store: create, open, read and write a collection folder."""

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
from xsearch.store.manifest import COPY, FOLDERS, Manifest, read_manifest, write_manifest
from xsearch.store.nearest import NAME
from xsearch.store.snapshot import Snapshot
from xsearch.store.verify import recover_manifest
from xsearch.store.writer import Writer
from xsearch.system.durable import fsync
from xsearch.types import Fingerprint

__all__ = ["Store"]

SEALED = 80  # bytes at the end of a manifest that hold its checksum


class Store:
    """A collection folder. Construct with `Store.create` or `Store.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = os.fspath(path / NAME)

    @staticmethod
    def create(path: Path, fingerprint: Fingerprint, source: str | None = None) -> Store:
        """Create an empty collection for the vectors of one model.

        source: location of that model, recorded in the manifest.
        Raises StoreError if `path` is anything but an empty folder.
        """
        path = Path(path)
        if any((path / name).exists() for name in (NAME, COPY)):
            raise StoreError(f"a collection already exists at {path}; open it, or choose another folder")
        try:
            # folders without a manifest are left by a killed `create`
            if path.exists() and {child.name for child in path.iterdir()} - {*FOLDERS, "lock", "lock.json"}:
                raise StoreError(f"{path} is not empty and not a collection; choose another folder")
            created = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
            for name in FOLDERS:
                (path / name).mkdir(parents=True, exist_ok=True)
            write_manifest(path, Manifest(fingerprint, source=source))
            for folder in created:
                fsync(folder.absolute().parent)
        except OSError as error:
            raise StoreError(f"cannot create a collection at {path}: {error}") from error
        return Store(path)

    @staticmethod
    def open(path: Path) -> Store:
        """Open a collection.

        Raises NoCollection if there is none, StoreError if it is damaged or from a newer xsearch.
        """
        path = Path(path)
        read_manifest(path)
        return Store(path)

    def version(self) -> bytes:
        """Return a token that changes with every commit, by any process. Raises NoCollection.

        It ends with the checksum of the manifest: inode and time alone, which tell manifests of format 1
        apart, repeat if commits are faster than the clock of the file system (measured).
        """
        try:
            descriptor = os.open(self._manifest, os.O_RDONLY)
        except OSError:
            read_manifest(self.path)  # raises with the reason
            raise
        try:
            status = os.fstat(descriptor)
            os.lseek(descriptor, max(status.st_size - SEALED, 0), os.SEEK_SET)
            return b"%d %d " % (status.st_ino, status.st_mtime_ns) + os.read(descriptor, SEALED)
        finally:
            os.close(descriptor)

    def snapshot(self, previous: Snapshot | None = None) -> Snapshot:
        """Return the collection as of the last commit. Raises StoreError if a file is missing or damaged.

        previous: an earlier snapshot, to reuse its open files.
        """
        manifest = read_manifest(self.path)
        while True:
            try:
                return Snapshot(self.path, manifest, previous)
            except (OSError, pa.ArrowException) as error:
                # Two commits and a compact may pass between reading the manifest and mapping its files.
                failed, manifest = manifest.generation, read_manifest(self.path)
                if manifest.generation == failed:
                    raise StoreError(
                        f"cannot read {self.path}: {error}; run `xsearch verify --collection {self.path}`"
                    ) from error

    @contextmanager
    def writer(
        self, *, timeout_s: float = 0, repair: bool = False, step: Callable[[str], None] | None = None
    ) -> Iterator[Writer]:
        """Lock the collection and yield its writer; changes that are not committed are discarded.

        timeout_s: how long to wait for another writer.
        repair: fall back to the copy of the manifest if the manifest is damaged.
        step: called with the name of each step of a commit before it runs, for fault injection in tests.
        Raises Locked, naming the process that holds the lock.
        """
        lock, holder = FileLock(self.path / "lock"), self.path / "lock.json"
        try:
            lock.acquire(timeout=timeout_s)
        except Timeout:
            raise Locked(
                f"{self.path} is locked by {_describe(holder)}; wait for it to finish, or stop it"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot write to {self.path}: {error}") from error
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            with suppress(OSError):  # informational only, the disk may be full
                holder.write_text(json.dumps(who))
            manifest = recover_manifest(self.path)[0] if repair else read_manifest(self.path)
            yield Writer(self.path, manifest, step or (lambda name: None))
        finally:
            holder.unlink(missing_ok=True)
            lock.release()


def _describe(holder: Path) -> str:
    try:
        who = json.loads(holder.read_text())
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError):
        return "another process"  # starting up or exiting
