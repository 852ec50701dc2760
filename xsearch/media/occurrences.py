"""Where a pattern of bytes occurs in a file of any size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO

__all__ = ["occurrences"]

BLOCK = 1 << 20


def occurrences(file: IO[bytes], pattern: bytes, following: int = 0) -> Iterator[tuple[int, bytes]]:
    """Yield the offset of each occurrence of a pattern, and the `following` bytes after it."""
    size = len(pattern) + following
    offset, data = file.seek(0), b""
    while block := file.read(BLOCK):
        data, at = data + block, -1
        while 0 <= (at := data.find(pattern, at + 1)) <= len(data) - size:
            yield offset + at, data[at + len(pattern) : at + size]
        kept = min(size - 1, len(data))
        offset, data = offset + len(data) - kept, data[len(data) - kept :]
