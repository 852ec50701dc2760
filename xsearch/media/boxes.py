"""Boxes of ISO base media files (ISO 14496-12), which JPEG XL and Canon's CR3 are too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

__all__ = ["boxes", "content"]

MOST = 1_000  # boxes of a level
LARGEST = 4 << 20  # bytes of a box that is read
_HEADS = {b"meta": 4, b"uuid": 16}  # bytes before the boxes inside: version and flags; the UUID


def boxes(file: IO[bytes], start: int, end: int, *, most: int = MOST) -> Iterator[tuple[bytes, int, int]]:
    """Yield the type of each box between two offsets, and where its content starts and ends."""
    for _ in range(most):
        file.seek(start)
        head = file.read(16)
        size, kind, begin = int.from_bytes(head[:4], "big"), head[4:8], start + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), start + 16
        stop = start + size if size else end
        if len(head) < 8 or not begin <= stop <= end:
            return
        yield kind, begin, stop
        start = stop


def content(file: IO[bytes], *path: bytes, start: int = 0, end: int) -> bytes | None:
    """Return the content of the first box at a path of types, None without one."""
    kind, *rest = path
    for each, begin, stop in boxes(file, start, end):
        if each == kind:
            if rest:
                inside = content(file, *rest, start=begin + _HEADS.get(kind, 0), end=stop)
                if inside is not None:
                    return inside
                continue
            file.seek(begin)
            return file.read(min(stop - begin, LARGEST))
    return None
