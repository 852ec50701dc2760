"""Chained sound files: whole Ogg (RFC 3533) or FLAC files one after another, like recordings of web radio."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from PIL.ContainerIO import ContainerIO

__all__ = ["Link", "links"]

CHUNK = 1 << 20
OGG_PAGE = b"OggS\0"  # capture pattern and version; the next byte has the flags of the page
FIRST_PAGE = 2  # flag: the page begins a logical stream
FLAC = b"fLaC", b"\0\0\0\x22", b"\x80\0\0\x22"  # marker, then the header of STREAMINFO, 34 bytes long


class Link(ContainerIO[bytes]):
    """A part of a file, as a file. Unlike Pillow's, it reads nothing if asked for 0 bytes."""

    def read(self, n: int = -1) -> bytes:
        return super().read(n) if n else b""


def links(path: Path, mime: str) -> list[tuple[int, int]]:
    """Return the spans of the links of a chained file in order; [] if it is not chained."""
    if mime not in ("audio/ogg", "audio/flac"):
        return []
    starts = list(_ogg_starts(path) if mime == "audio/ogg" else _flac_starts(path))
    return list(pairwise([*starts, path.stat().st_size])) if len(starts) > 1 else []


def _ogg_starts(path: Path) -> Iterator[int]:
    """Yield where links start: their streams begin together, before all other pages."""
    is_within = True
    for at, following in _occurrences(path, OGG_PAGE, 1):
        is_first = bool(following[0] & FIRST_PAGE)
        if is_first and is_within:
            yield at
        is_within = not is_first


def _flac_starts(path: Path) -> Iterator[int]:
    marker, *headers = FLAC
    return (at for at, following in _occurrences(path, marker, 4) if following in headers)


def _occurrences(path: Path, pattern: bytes, count: int) -> Iterator[tuple[int, bytes]]:
    """Yield where a pattern occurs in a file, and the `count` bytes after it."""
    size = len(pattern) + count
    with path.open("rb") as file:
        offset, data = 0, b""
        while chunk := file.read(CHUNK):
            data, at = data + chunk, -1
            while 0 <= (at := data.find(pattern, at + 1)) <= len(data) - size:
                yield offset + at, data[at + len(pattern) : at + size]
            kept = min(size - 1, len(data))
            offset, data = offset + len(data) - kept, data[len(data) - kept :]
