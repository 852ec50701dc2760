"""Chained sound files: whole Ogg (RFC 3533) or FLAC files one after another, like recordings of web radio."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO

from PIL.ContainerIO import ContainerIO

from xsearch.media.occurrences import occurrences

__all__ = ["Link", "links"]

OGG_PAGE = b"OggS\0"  # capture pattern and version; the next byte has the flags of the page
FIRST_PAGE = 2  # flag: the page begins a logical stream
FLAC = b"fLaC", b"\0\0\0\x22", b"\x80\0\0\x22"  # marker, then the header of STREAMINFO, 34 bytes long


class Link(ContainerIO[bytes]):
    """A part of a file, as a file. Unlike Pillow's, it has a name, and reads nothing if asked for 0 bytes."""

    @property
    def name(self) -> str:
        return self.fh.name

    def read(self, n: int = -1) -> bytes:
        return super().read(n) if n else b""


def links(path: Path, mime: str) -> list[tuple[int, int]]:
    """Return the spans of the links of a chained file in order; [] if it is not chained."""
    if mime not in ("audio/ogg", "audio/flac"):
        return []
    with path.open("rb") as file:
        starts = list(_ogg_starts(file) if mime == "audio/ogg" else _flac_starts(file))
    return list(pairwise([*starts, path.stat().st_size])) if len(starts) > 1 else []


def _ogg_starts(file: IO[bytes]) -> Iterator[int]:
    """Yield where links start: their streams begin together, before all other pages."""
    is_within = True
    for at, flags in occurrences(file, OGG_PAGE, 1):
        is_first = bool(flags[0] & FIRST_PAGE)
        if is_first and is_within:
            yield at
        is_within = not is_first


def _flac_starts(file: IO[bytes]) -> Iterator[int]:
    marker, *headers = FLAC
    return (at for at, following in occurrences(file, marker, 4) if following in headers)
