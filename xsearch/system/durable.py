"""Durable atomic writes (scratch file, fsync, rename, fsync of the folder) and file digests."""

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
    """Return the hex sha256 of a file."""
    with path.open("rb") as file:
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
