"""Write beside, fsync, replace, fsync the directory: a reader sees the old file or the new one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["fsync", "publish"]


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
