"""Immutable files that processes of many machines share: in a folder, or below any URL of fsspec.

A file is put only where there is none of its name: of several writers one wins, and no reader ever finds a
file incomplete or changed.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from xsearch.errors import UsageError
from xsearch.system.durable import open_file
from xsearch.system.folder import Folder

__all__ = ["LocalObjects", "Objects", "RemoteObjects", "objects_at"]


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
