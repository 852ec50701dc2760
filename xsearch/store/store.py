"""The store: create, open, read and write a collection folder."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from filelock import FileLock, Timeout

from xsearch.errors import Damaged, Locked, StoreError
from xsearch.nearest import NAME, folder_of
from xsearch.store.generations import GENERATIONS
from xsearch.store.manifest import (
    COPY,
    FOLDERS,
    MARK,
    PART,
    QUARANTINE,
    Manifest,
    Mark,
    open_manifest,
    read_manifest,
    read_mark,
    write_manifest,
)
from xsearch.store.snapshot import Snapshot, unreadable
from xsearch.store.verify import recover_manifest
from xsearch.store.writer import Writer
from xsearch.system.durable import fsync, read_file
from xsearch.system.folder import Folder, Step
from xsearch.types import Fingerprint

__all__ = ["Store"]

LOCK, HOLDER = "lock", "lock.json"
CREATION_S = 30.0  # longest wait for another process that creates the same collection
LEFT_BEHIND = {*FOLDERS, GENERATIONS, LOCK, HOLDER, MARK}  # by a killed `create`, besides scratch files
SEALED = 80  # bytes at the end of a manifest that hold its checksum


class Store:
    """A collection folder. Construct with `Store.create` or `Store.open`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = os.fspath(path / NAME)

    @property
    def place(self) -> str:
        """The folder, or the URL of which it has copies."""
        return str(self.path)

    @staticmethod
    def create(
        path: Path, fingerprint: Fingerprint, source: str | None = None, *, exist_ok: bool = False
    ) -> Store:
        """Create an empty collection for the vectors of one model.

        source: location of that model, recorded in the manifest. exist_ok: open one that exists, such as one
            that another process is creating.
        Raises StoreError if `path` is anything but an empty folder or what a killed `create` left.
        """
        path = folder_of(path)
        try:
            if not _exists(path):
                created = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
                path.mkdir(parents=True, exist_ok=True)
                folder = Folder(path)
                problem = _obstacle(folder, path)
                if problem is not None and not _exists(path):  # else it has been created meanwhile
                    raise StoreError(problem)
                with _locked(path, CREATION_S):
                    if not _exists(path):
                        _create(folder, Manifest(fingerprint, source=source))
                        for each in created:
                            fsync(each.absolute().parent)
                        return Store(path)
        except OSError as error:
            raise StoreError(f"cannot create a collection at {path}: {error}") from error
        if exist_ok:
            return Store.open(path)
        raise StoreError(f"a collection already exists at {path}; open it, or choose another folder")

    @staticmethod
    def open(path: Path) -> Store:
        """Open a collection in a folder; `open_store` also opens one at a URL.

        Raises NoCollection if there is none, StoreError if it is damaged or from a newer xsearch.
        """
        path = folder_of(path)
        read_manifest(path)
        return Store(path)

    def version(self) -> bytes:
        """Return a token that changes with every commit, by any process. Raises NoCollection.

        It ends with the checksum of the manifest: inode and time alone, which tell manifests of format 1
        apart, repeat if commits are faster than the clock of the file system (measured).
        """
        try:
            descriptor = os.open(self._manifest, os.O_RDONLY | os.O_NONBLOCK)
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
        failed = None
        while True:
            manifest, lease = open_manifest(self.path)
            try:
                return Snapshot(self.path, manifest, previous, lease)
            except BaseException as error:
                lease.close()
                if not isinstance(error, OSError | MemoryError | pa.ArrowException):
                    raise
                # Two commits and a compact may pass between reading the manifest and mapping its files.
                failed, before = manifest.generation, failed
                if failed == before:
                    raise unreadable(self.path, error) from error

    @contextmanager
    def writer(
        self, *, timeout_s: float = 0, repair: bool = False, step: Step = lambda name: None
    ) -> Iterator[Writer]:
        """Lock the collection and yield its writer; changes that are not committed are discarded.

        timeout_s: how long to wait for another writer.
        repair: fall back to the copy of the manifest if the manifest is damaged or older.
        step: called before each operation on the disk, for fault injection in tests; see `Folder`.
        Raises Locked, naming the process that holds the lock.
        """
        with _locked(self.path, timeout_s):
            mark = Mark()
            with suppress(Damaged):  # a finding of `verify`; the manifest says less, but enough
                mark = read_mark(self.path)
            manifest = recover_manifest(self.path)[0] if repair else _last_manifest(self.path)
            yield Writer(_checked(Folder(self.path, step)), manifest, mark)


def _checked(folder: Folder) -> Folder:
    """The same folder. Raises StoreError if a writer could leave it."""
    for name in {*FOLDERS, GENERATIONS, QUARANTINE}.intersection(folder.names()):
        folder.open(name)
    return folder


def _last_manifest(path: Path) -> Manifest:
    """Read the manifest. Raises StoreError if its copy is newer: a commit would lose what that one has."""
    manifest, copied = read_manifest(path), 0
    with suppress(StoreError):
        copied = read_manifest(path, COPY).generation
    if copied > manifest.generation:
        raise StoreError(
            f"{path / NAME} has generation {manifest.generation}, its copy {copied}; take the newer one with "
            f"`xsearch verify --repair --collection {path}`, or delete {COPY} to keep the older one"
        )
    return manifest


def _exists(path: Path) -> bool:
    return any((path / name).exists() for name in (NAME, COPY))


def _obstacle(folder: Folder, path: Path) -> str | None:
    """Why no collection can be created in a folder without one, None for an empty one."""
    names = folder.names()
    if any(not (name in LEFT_BEHIND or PART.fullmatch(name)) for name in names):
        return f"{path} is not empty and not a collection; choose another folder"
    if "segments" in names and folder.open("segments").names():
        return f"{path} has lost its manifest; run `xsearch verify --repair --collection {path}`"
    return None


def _create(folder: Folder, manifest: Manifest) -> None:
    """Write an empty collection into a folder that may have what a killed process left there."""
    for name in filter(PART.fullmatch, folder.names()):
        folder.remove(name)
    for name in FOLDERS:
        folder.open(name, create=True)
    write_manifest(folder, manifest)


@contextmanager
def _locked(path: Path, timeout_s: float) -> Iterator[None]:
    """Hold the lock of the collection at `path`. Raises Locked, naming the process that holds it."""
    try:
        folder = Folder(path)
        folder.check_file(LOCK)
        lock = FileLock(path / LOCK)
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise Locked(
            f"{path} is locked by {_describe(path / HOLDER)}; wait for it to finish, or stop it"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot write to {path}: {error}") from error
    try:
        since = datetime.now(UTC).isoformat(timespec="seconds")
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
        with suppress(OSError):  # informational only, the disk may be full
            _discard(folder)
            with folder.create(HOLDER) as file:
                file.write(json.dumps(who).encode())
        yield
    finally:
        with suppress(OSError):
            _discard(folder)
        lock.release()


def _discard(folder: Folder) -> None:
    with suppress(FileNotFoundError):
        folder.remove(HOLDER)


def _describe(holder: Path) -> str:
    try:
        who = json.loads(read_file(holder, 1 << 12))
        return f"process {who['pid']} on {who['host']} since {who['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"  # starting up or exiting
