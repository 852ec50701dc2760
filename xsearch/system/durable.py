"""Durable atomic writes (scratch file, fsync, rename, fsync of the folder); reads of regular files only."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from uuid import uuid4

__all__ = ["digest", "fsync", "open_file", "publish", "read_file"]


def open_file(path: Path) -> BufferedReader:
    """Open a regular file for reading. Raises OSError for anything else: a pipe would block for ever."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file", str(path))
    return open(descriptor, "rb")  # noqa: PTH123


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Raises OSError."""
    with open_file(path) as file:
        if os.fstat(file.fileno()).st_size > most:
            raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
        return file.read()


def digest(path: Path) -> str:
    """Return the hex sha256 of a regular file."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a scratch path next to `path` for a file or folder; rename it to `path` if the block succeeds.

    Readers see the old content or the new, never a mixture.
    """
    part = path.with_name(f".{path.name}.{uuid4().hex}.part")
    try:
        yield part
        fsync(part)
        part.replace(path)  # atomic: same directory
        fsync(path.parent)
    except BaseException:  # Ctrl-C too
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
        raise
