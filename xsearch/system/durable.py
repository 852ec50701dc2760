"""Files that last: written beside, fsynced, moved in, the folder fsynced; and their checksums."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["digest", "fsync", "publish"]


def digest(path: Path) -> str:
    """Hex sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Force a file, or a folder's list of names, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a scratch path beside `path`, for a file or a folder; move it in only if the block succeeds.

    A reader sees the old one or the new one, never a torn one.
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
