"""Immutable files that processes of many machines share: in a folder, or below any URL of fsspec.

A file is put only where there is none of its name: of several writers one wins, and no reader ever finds a
file incomplete or changed. A reader may keep it in a `Cache`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from xsearch.errors import UsageError
from xsearch.system.durable import digest, open_file, publish
from xsearch.system.folder import Folder

__all__ = ["Cache", "LocalObjects", "Objects", "RemoteObjects", "objects_at"]


class Objects(Protocol):
    """Files by name."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file durably, unless there is one of this name."""
        ...

    def get(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError."""
        ...

    def names(self) -> list[str]: ...

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        ...


def objects_at(place: str | Path) -> Objects:
    """Return the files in a folder, which must exist, or below a URL. Raises UsageError for a wrong URL."""
    if isinstance(place, Path) or "://" not in place:
        return LocalObjects(Folder(Path(place)))
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, root = url_to_fs(place, use_listings_cache=False)
    except (ImportError, ValueError) as error:  # another package is needed; no protocol of fsspec
        raise UsageError(f"{place}: {error}") from error
    if isinstance(system, LocalFileSystem):  # it would write in place
        return LocalObjects(Folder(Path(root)))
    return RemoteObjects(system, root.rstrip("/"))


class LocalObjects:
    """Files in a folder, of a file system with hard links."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        scratch = f".{uuid4().hex}.{name}"
        try:
            with self._folder.create(scratch) as file:
                file.write(content)
            self._folder.fsync(scratch)
            with suppress(FileExistsError):
                self._folder.link(scratch, self._folder, name)
            self._folder.fsync()
        finally:
            with suppress(FileNotFoundError):
                self._folder.remove(scratch)

    def get(self, name: str) -> bytes:
        with open_file(self._folder.path / name) as file:
            return file.read()

    def names(self) -> list[str]:
        return [name for name in self._folder.names() if not name.startswith(".")]

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._folder.remove(name)


class RemoteObjects:
    """Files of an fsspec file system that creates files exclusively, as S3 does with `If-None-Match: *`."""

    def __init__(self, system: Any, root: str) -> None:
        self._system, self._root = system, root

    def put(self, name: str, content: bytes) -> None:
        with suppress(FileExistsError):
            self._system.pipe_file(f"{self._root}/{name}", content, mode="create")

    def get(self, name: str) -> bytes:
        return bytes(self._system.cat_file(f"{self._root}/{name}"))

    def names(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(path.rpartition("/")[2] for path in self._system.ls(self._root, detail=False))
        return []

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}")


class Cache:
    """A folder of local copies of immutable files, named by their content; those unused for longest go first.

    most: bytes that it holds; one larger file is held alone.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, sha256: str, fetch: Callable[[], bytes]) -> Path:
        """Return the copy of the file of this content, fetched if need be.

        It may be deleted once others are requested; whoever has opened it keeps it. Raises ValueError if
        something else is fetched.
        """
        path = self._folder / sha256
        with suppress(FileNotFoundError):
            os.utime(path)  # used now
            return path
        with publish(path) as part:
            part.write_bytes(fetch())
            if digest(part) != sha256:
                raise ValueError(f"fetched a file of another content than {sha256}")
        self._shrink(path)
        return path

    def _shrink(self, newest: Path) -> None:
        """Delete files until the others fit."""
        entries = []
        for entry in os.scandir(self._folder):
            with suppress(FileNotFoundError):  # another process has deleted it
                status = entry.stat()
                entries.append((status.st_mtime_ns, status.st_size, Path(entry.path)))
        size = sum(bytes for _, bytes, _ in entries)
        for _, bytes, path in sorted(entries):
            if size <= self._most:
                return
            if path != newest and not path.name.startswith("."):
                path.unlink(missing_ok=True)
                size -= bytes
