"""Which xsearch this is: programs that work together on one answer compare it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

import xsearch

__all__ = ["code", "settings", "user"]

# What decides where to search and whom to ask, not what the answer is; the others are options, too
_NEUTRAL = {
    "XSEARCH_COLLECTION", "XSEARCH_DEVICE", "XSEARCH_DTYPE", "XSEARCH_INDEX", "XSEARCH_MODEL",
    "XSEARCH_SERVER", "XSEARCH_TOKEN",
}  # fmt: skip


@cache
def code() -> str:
    """A digest of the place, sizes and times of the files of this installation, as of the first call.

    Two releases differ in it, and so do the states of a source folder under one version.
    """
    folder = str(Path(xsearch.__file__).parent)
    return sha256("\n".join([folder, *sorted(_files(folder))]).encode()).hexdigest()


def _files(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file():
                status = entry.stat()
                yield f"{entry.path} {status.st_size} {status.st_mtime_ns}"
            elif entry.name != "__pycache__" and entry.is_dir(follow_symlinks=False):
                yield from _files(entry.path)


def user() -> int | None:
    """The id of the user whose process this is, None where users have none."""
    return os.getuid() if hasattr(os, "getuid") else None


def settings() -> str:
    """A digest of the environment variables of xsearch that may change an answer."""
    names = (name for name in os.environ if name.startswith("XSEARCH_") and name not in _NEUTRAL)
    return sha256("\n".join(f"{name}={os.environ[name]}" for name in sorted(names)).encode()).hexdigest()
