"""MP4 files of a few bytes whose tables state any number of samples."""

from __future__ import annotations

import zlib
from struct import pack

__all__ = ["box", "film", "full", "track"]

MATRIX = pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)


def box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return pack(">I4s", 8 + len(data), kind) + data


def full(kind: bytes, *parts: bytes) -> bytes:
    """A box with a version and flags."""
    return box(kind, bytes(4), *parts)


def track(samples: int, *, edits: int = 0, handler: bytes = b"vide", number: int = 1) -> bytes:
    """A track of `samples` samples of one byte, which `edits` repeat."""
    size = pack(">HH", 64, 48)
    entry = box(b"mp4v", bytes(6), pack(">H", 1), bytes(16), size, bytes(8), bytes(40), pack(">Hh", 24, -1))
    tables = box(
        b"stbl",
        full(b"stsd", pack(">I", 1), entry),
        full(b"stts", pack(">III", 1, samples, 512)),
        full(b"stsc", pack(">IIII", 1, 1, samples, 1)),
        full(b"stsz", pack(">II", 1, samples)),
        full(b"stco", pack(">II", 1, 40)),
    )
    edit = pack(">IiI", 1000, 0, 0x10000)
    return box(
        b"trak",
        full(
            b"tkhd",
            bytes(8),
            pack(">I", number),
            bytes(8),
            bytes(16),
            MATRIX,
            pack(">II", 64 << 16, 48 << 16),
        ),
        box(b"edts", full(b"elst", pack(">I", edits), edit * edits)) if edits else b"",
        box(
            b"mdia",
            full(b"mdhd", bytes(8), pack(">IIHH", 12800, samples * 512 % 2**32, 0x55C4, 0)),
            full(b"hdlr", bytes(4), handler, bytes(13)),
            box(b"minf", full(b"vmhd", bytes(8)), tables),
        ),
    )


def film(*tracks: bytes, is_packed: bool = False, fragments: int = 0) -> bytes:
    """is_packed: whether the header is compressed. fragments: samples that one behind it states."""
    header = full(b"mvhd", bytes(8), pack(">II", 1000, 1000), bytes(76), pack(">I", 2))
    movie = box(b"moov", header, *tracks)
    if is_packed:
        packed = pack(">I", len(movie)) + zlib.compress(movie)
        movie = box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", packed)))
    fragment = box(b"moof", box(b"traf", full(b"trun", pack(">I", fragments)))) if fragments else b""
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", bytes(10)) + movie + fragment
