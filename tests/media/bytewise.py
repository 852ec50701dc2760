"""TIFF files and boxes, byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Sequence

SHORT, LONG = 3, 4
Tags = dict[int, int | Sequence[int]]  # values; bytes are bytes


def box(kind: bytes, *content: bytes) -> bytes:
    """A box of ISO 14496-12."""
    return struct.pack(">I", 8 + sum(map(len, content))) + kind + b"".join(content)


class Tiff:
    """Data and directories of a file like TIFF, also of BigTIFF."""

    def __init__(self, order: str = "<", *, version: bytes = b"", is_big: bool = False) -> None:
        self.order, self.data = order, bytearray(b"II" if order == "<" else b"MM")
        self.number, self.room = ("Q", 8) if is_big else ("I", 4)
        head = struct.pack(f"{order}HHH", 43, 8, 0) if is_big else version or struct.pack(f"{order}H", 42)
        self.data += head + bytes(self.room)

    def put(self, data: bytes) -> int:
        self.data += bytes(len(self.data) % 2) + data
        return len(self.data) - len(data)

    def directory(self, tags: Tags, following: int = 0) -> int:
        """Write LONGs, SHORTs of 258 and 274, and bytes; return the offset."""
        entries = []
        for tag, values in sorted(tags.items()):
            kind = 1 if isinstance(values, bytes) else SHORT if tag in (258, 274) else LONG
            many = (values,) if isinstance(values, int) else tuple(values)
            packed = struct.pack(f"{self.order}{len(many)}{' BxHI'[kind]}", *many)
            if len(packed) > self.room:
                packed = struct.pack(self.order + self.number, self.put(packed))
            head = struct.pack(f"{self.order}HH{self.number}", tag, kind, len(many))
            entries.append(head + packed.ljust(self.room, b"\0"))
        count = struct.pack(self.order + ("H" if self.room == 4 else "Q"), len(entries))
        return self.put(count + b"".join(entries) + struct.pack(self.order + self.number, following))

    def done(self, first: int) -> bytes:
        """Return the file, of which `first` is the offset of the first directory."""
        self.data[self.room : 2 * self.room] = struct.pack(self.order + self.number, first)
        return bytes(self.data)
