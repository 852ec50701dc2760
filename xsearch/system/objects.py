"""Immutable files that processes of many machines share: in a folder, or below any URL of fsspec.

A file is put only where there is none of its name: of several writers one wins, and no reader ever finds a
file incomplete or changed.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol
from uuid import uuid4

from xsearch.errors import UsageError
from xsearch.system.durable import open_file
from xsearch.system.folder import Folder
from xsearch.system.http import http_options
from xsearch.system.transfer import Transfer, bounded

__all__ = ["LocalObjects", "Objects", "RemoteObjects", "objects_at"]

COPIED = 1 << 20  # bytes at a time


class Objects(Protocol):
    """Files by name."""

    def put(self, name: str, content: bytes) -> None:
        """Write a file durably, unless there is one of this name."""
        ...

    def put_file(self, name: str, path: Path) -> None:
        """`put` with the content of a local file, of any size."""
        ...

    def get(self, name: str) -> bytes:
        """Return the content of a file. Raises FileNotFoundError."""
        ...

    def get_file(self, name: str, path: Path, most: int) -> None:
        """Write the content of a file of at most so many bytes to a local one, in place.

        Raises FileNotFoundError, and TooLong, from a server.
        """
        ...

    def names(self) -> list[str]: ...

    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name."""
        ...

    def remove(self, name: str) -> None:
        """Delete a file, if it exists."""
        ...


def objects_at(place: str | Path, *, create: bool = False) -> Objects:
    """Return the files in a folder, or below a URL. Raises UsageError for a wrong URL.

    create: make the folder, also of a `file://`, if it does not exist; else FileNotFoundError is raised.
    """
    if isinstance(place, Path) or "://" not in place:
        return _local(Path(place), create)
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    try:
        system, root = url_to_fs(place, use_listings_cache=False, **http_options(place))
    except (ImportError, ValueError) as error:  # another package is needed; no protocol of fsspec
        raise UsageError(f"{place}: {error}") from error
    if isinstance(system, LocalFileSystem):  # it would write in place
        return _local(Path(root), create)
    return RemoteObjects(system, root.rstrip("/"))


def _local(folder: Path, create: bool) -> LocalObjects:
    if create:
        folder.mkdir(parents=True, exist_ok=True)
    return LocalObjects(Folder(folder))


class LocalObjects:
    """Files in a folder, of a file system with hard links."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def put(self, name: str, content: bytes) -> None:
        self._put(name, BytesIO(content))

    def put_file(self, name: str, path: Path) -> None:
        with open_file(path) as content:
            self._put(name, content)

    def _put(self, name: str, content: BinaryIO) -> None:
        scratch = f".{uuid4().hex}.{name}"
        try:
            with self._folder.create(scratch) as file:
                shutil.copyfileobj(content, file, COPIED)
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

    def get_file(self, name: str, path: Path, most: int) -> None:
        with open_file(self._folder.path / name) as file, path.open("wb") as target:
            shutil.copyfileobj(file, target, COPIED)

    def names(self) -> list[str]:
        return [name for name in self._folder.names() if not name.startswith(".")]

    def sizes(self) -> dict[str, int]:
        return {name: self._folder.size(name) for name in self.names()}

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

    def put_file(self, name: str, path: Path) -> None:
        with suppress(FileExistsError):
            self._system.put_file(str(path), f"{self._root}/{name}", mode="create")

    def get(self, name: str) -> bytes:
        return bytes(self._system.cat_file(f"{self._root}/{name}"))

    def get_file(self, name: str, path: Path, most: int) -> None:
        self._system.get_file(f"{self._root}/{name}", str(path), callback=bounded(Transfer(most)))

    def names(self) -> list[str]:
        return sorted(self.sizes())

    def sizes(self) -> dict[str, int]:
        with suppress(FileNotFoundError):
            entries = self._system.ls(self._root, detail=True)
            return {entry["name"].rpartition("/")[2]: entry["size"] or 0 for entry in entries}
        return {}

    def remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._system.rm_file(f"{self._root}/{name}")
