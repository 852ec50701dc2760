"""Older generations that are still read.

A reader holds a shared lock on the manifest file that it has opened. A writer that replaces the manifest
keeps a link to it in `generations/`, and deletes the link, and what only that generation references, once
nobody holds the lock. Where links or locks are not supported, no generation counts as read.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xsearch.errors import StoreError
from xsearch.store.manifest import NAME, Manifest, read_manifest
from xsearch.system.folder import Folder

__all__ = ["GENERATIONS", "Reading", "keep", "still_read"]

GENERATIONS = "generations"
_NAMES = re.compile(r"\d{1,19}\.json")


@dataclass(frozen=True, slots=True)
class Reading:
    """A generation that is read. readers: process ids, as far as the system tells them."""

    manifest: Manifest
    readers: tuple[int, ...]


def keep(folder: Folder, generation: int) -> bool:
    """Link the current manifest, which is about to be replaced; return whether that is possible."""
    try:
        with suppress(FileExistsError):  # by a writer that was killed
            folder.link(NAME, folder.open(GENERATIONS, create=True), f"{generation}.json")
    except OSError:
        return False
    return True


def still_read(folder: Folder) -> Iterator[Reading]:
    """Yield the generations that other processes read; delete the links to all others."""
    if not folder.exists(GENERATIONS):
        return
    links = folder.open(GENERATIONS)
    for name in filter(_NAMES.fullmatch, links.names()):
        readers = _readers(links.path / name)
        if not readers:
            links.remove(name)
        elif others := tuple(pid for pid in readers if pid != os.getpid()):
            with suppress(StoreError):
                yield Reading(read_manifest(folder.path, f"{GENERATIONS}/{name}"), others)


def _readers(path: Path) -> tuple[int, ...]:
    """The processes that hold a lock on a file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # no link that a writer has made
        return ()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _holders(os.fstat(descriptor))
    except OSError:  # not supported
        pass
    finally:
        os.close(descriptor)
    return ()


def _holders(status: os.stat_result) -> tuple[int, ...]:
    """The processes that hold a lock on a file, from Linux's table; (0,) where there is none."""
    file = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    with suppress(OSError):
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        if found := {int(line[4]) for line in lines if line[1] == "FLOCK" and line[5] == file}:
            return tuple(sorted(found))
    return (0,)
