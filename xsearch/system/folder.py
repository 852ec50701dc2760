"""A folder opened by descriptor: writing and deleting in it cannot leave it, whatever it contains."""

from __future__ import annotations

import errno
import io
import os
import weakref
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import BinaryIO
from uuid import uuid4

from xsearch.errors import StoreError

__all__ = ["Folder", "Step"]

Step = Callable[
    [str], None
]  # called before an operation with its verb and path: "write segments/1a/vectors.arrow"


class Folder:
    """A folder on disk, written through its descriptor: no link below it is followed.

    path: where it is, for libraries that open files by name. name: its path for `step`, "" for the topmost.
    step: see `Step`; raising an exception stands for the failure of the operation.
    """

    def __init__(
        self, path: Path, step: Step = lambda name: None, *, name: str = "", within: Folder | None = None
    ) -> None:
        self.path, self.name, self._step = path, name, step
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if within is None:
            self._descriptor = os.open(path, flags)
        else:
            self._descriptor = os.open(path.name, flags | os.O_NOFOLLOW, dir_fd=within._descriptor)
        weakref.finalize(self, os.close, self._descriptor)

    def open(self, name: str, *, create: bool = False) -> Folder:
        """Open the folder `name`. Raises StoreError if it is a link or a file."""
        if create and not self.exists(name):
            self.make(name)
            self.fsync()
        mode = self._mode(name)
        if mode is not None and not S_ISDIR(mode):
            what = "is a link" if S_ISLNK(mode) else "is no folder"
            raise StoreError(
                f"{self.path / name} {what}: nothing is written or deleted there; put a folder in its place"
            )
        return Folder(self.path / name, self._step, name=self._inside(name), within=self)

    def names(self) -> list[str]:
        """The names of its files and folders, sorted."""
        return sorted(os.listdir(self._descriptor))  # noqa: PTH208

    def exists(self, name: str) -> bool:
        """Whether it has a file, a folder or a link of this name."""
        return self._mode(name) is not None

    def check_file(self, name: str) -> None:
        """Raise OSError if `name` exists and is no regular file."""
        mode = self._mode(name)
        if mode is not None and not S_ISREG(mode):
            raise OSError(errno.EINVAL, "is no file: delete it", str(self.path / name))

    def make(self, name: str) -> Folder:
        """Create a folder and open it."""
        self._step(f"mkdir {self._inside(name)}")
        os.mkdir(name, dir_fd=self._descriptor)
        return self.open(name)

    def create(self, name: str) -> BinaryIO:
        """Create a file, which must not exist, and open it for writing."""
        self._step(f"create {self._inside(name)}")
        raw = _File(name, self._descriptor, lambda: self._step(f"write {self._inside(name)}"))
        return io.BufferedWriter(raw, 1 << 20)

    def fsync(self, name: str | None = None) -> None:
        """Flush a file, or by default the names in this folder, to disk."""
        self._step(f"fsync {self.name or '.'}" if name is None else f"fsync {self._inside(name)}")
        if name is None:
            os.fsync(self._descriptor)
            return
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self._descriptor)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def move(self, name: str, target: Folder, new_name: str) -> None:
        """Move a file or folder into `target`, which has none of that name, durably."""
        self._step(f"rename {self._inside(name)}")
        os.rename(name, new_name, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor)
        target.fsync()
        self.fsync()

    def rename(self, name: str, new: str) -> None:
        """Give a file or folder another name, in the place of a file that has it. Not durable."""
        self._step(f"rename {self._inside(new)}")
        os.replace(name, new, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)

    def link(self, name: str, target: Folder, new: str) -> None:
        """Give a file a second name, in `target`. Not durable."""
        self._step(f"link {target._inside(new)}")
        os.link(name, new, src_dir_fd=self._descriptor, dst_dir_fd=target._descriptor, follow_symlinks=False)

    def publish(self, name: str, content: bytes) -> None:
        """Write a file durably; readers see its old content or the new, never a mixture."""
        part = f".{name}.{uuid4().hex}.part"
        try:
            with self.create(part) as file:
                file.write(content)
            self.fsync(part)
            if S_ISDIR(self._mode(name) or 0):  # by whom ever: it is kept beside
                self.rename(name, f"{name}.{uuid4().hex}.aside")
            self.rename(part, name)
            self.fsync()
        except BaseException:  # Ctrl-C too
            with suppress(OSError):
                self.remove(part)
            raise

    def size(self, name: str) -> int:
        """The bytes of a file, or of the files in a folder."""
        status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        if not S_ISDIR(status.st_mode):
            return status.st_size
        folder = self.open(name)
        return sum(map(folder.size, folder.names()))

    def remove(self, name: str, files: Collection[str] = ()) -> int:
        """Delete a file or link, or of a folder the named `files`, and the folder if it is empty then.

        Returns the bytes freed. Raises FileNotFoundError if there is none.
        """
        status = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        if not S_ISDIR(status.st_mode):
            self._step(f"unlink {self._inside(name)}")
            os.unlink(name, dir_fd=self._descriptor)
            return status.st_size
        folder = self.open(name)
        freed = sum(folder.remove(file) for file in folder.names() if file in files)
        if not folder.names():
            self._step(f"rmdir {self._inside(name)}")
            os.rmdir(name, dir_fd=self._descriptor)
        return freed

    def _mode(self, name: str) -> int | None:
        try:
            return os.stat(name, dir_fd=self._descriptor, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return None

    def _inside(self, name: str) -> str:
        return f"{self.name}/{name}" if self.name else name


class _File(io.FileIO):
    """A new file whose writes are announced."""

    def __init__(self, name: str, folder: int, step: Callable[[], None]) -> None:
        self._announce = step

        def create(name: str, flags: int) -> int:
            return os.open(name, flags | os.O_NOFOLLOW, 0o666, dir_fd=folder)

        super().__init__(name, "x", opener=create)

    def write(self, data: object) -> int:
        self._announce()
        return super().write(data)  # type: ignore[arg-type]
