"""What the header of a container states of its tracks, read without a decoder: any process may do so."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO

from xsearch.media.boxes import boxes
from xsearch.media.limits import MAX_INDEX

__all__ = ["check_index", "has_pictures"]

HEADER = 1 << 20  # bytes that name the tracks
MOST = 10_000  # boxes that are read to find the tracks, which are in front of fragments
DEEPEST = 10  # boxes within boxes, as FFmpeg reads them
INSIDE = {b"moov", b"trak", b"edts", b"mdia", b"minf", b"stbl", b"tref", b"cmov", b"moof", b"traf"}
READ = {b"tkhd", b"hdlr", b"chap", b"stsz", b"stz2", b"elst", b"trun"}
CONTENT = 1 << 10  # bytes that are read of these
LARGEST_HEADER = 64 << 20  # bytes, of a compressed one
BOX = 10  # entries that take as long as a box
_COUNTS = {b"stsz": slice(8, 12), b"stz2": slice(8, 12), b"elst": slice(4, 8), b"trun": slice(4, 8)}
_PICTURES = {  # what headers have for a track of pictures
    "video/x-ms-asf": re.compile(rb"\xc0\xef\x19\xbc\x4d\x5b\xcf\x11\xa8\xfd\x00\x80\x5f\x5c\x44\x2b"),
    "video/x-msvideo": re.compile(b"vids"),
    "video/x-flv": re.compile(rb"\AFLV\x01[\x01\x03\x05\x07]"),
    "video/vnd.rn-realmedia": re.compile(b"video/x-pn-|video/x-rn-"),
    "video/mpeg": re.compile(rb"\x00\x00\x01[\xb3\xe0-\xef]"),
    "video/mp2t": re.compile(rb"\x00\x00\x01[\xe0-\xef]"),
}
_MATROSKA = re.compile(rb"\x16\x54\xae\x6b(.*?)\x1f\x43\xb6\x75", re.DOTALL)  # from the tracks to a cluster
_TYPE = re.compile(rb"\x83\x81([\x01\x02])")  # of a track: pictures, sound


_Box = tuple[bytes, bytes]  # its kind, the start of its content


def has_pictures(path: Path, mime: str) -> bool:
    """Return False only for a container that states sound, and no pictures other than those of chapters."""
    with path.open("rb") as file:
        if mime in ("video/x-matroska", "video/webm"):
            tracks = _MATROSKA.search(file.read(HEADER))
            types = set(_TYPE.findall(tracks[1])) if tracks else set()
            return b"\1" in types or b"\2" not in types
        if pattern := _PICTURES.get(mime):
            return bool(pattern.search(file.read(HEADER)))
        handlers: dict[bytes, bytes] = {}  # by number of the track
        chapters, number = set[bytes](), b""
        for kind, content in islice(_boxes(file), MOST):
            if kind == b"tkhd":
                number = content[20:24] if content[:1] == b"\1" else content[12:16]
            elif kind == b"hdlr":
                handlers.setdefault(number, content[8:12])
            elif kind == b"chap":
                chapters.update(content[at : at + 4] for at in range(0, len(content), 4))
    shown = [handler for number, handler in handlers.items() if number not in chapters]
    return b"vide" in shown or b"soun" not in shown


def check_index(file: IO[bytes], path: Path) -> None:
    """Raise TooLarge if a file in ISO's base format states so many samples that FFmpeg's index is too large.

    A few bytes can state any number of samples, and edits repeat them.
    """
    total = samples = edits = 0
    for count, (kind, content) in enumerate(_boxes(file)):
        number = int.from_bytes(content[_COUNTS[kind]], "big") if kind in _COUNTS else 0
        if kind == b"trak":
            samples = edits = 0
        elif kind == b"elst":
            edits += number
            total += samples * edits
        else:
            samples += number
            total += number * max(edits, 1)
        MAX_INDEX.check(path, max(total, count * BOX))
    file.seek(0)


def _boxes(file: IO[bytes], start: int = 0, end: int | None = None, depth: int = 0) -> Iterator[_Box]:
    """Yield all boxes, those that contain others before them, with the content that is read of them."""
    end = file.seek(0, 2) if end is None else end
    for kind, begin, stop in boxes(file, start, end, most=MAX_INDEX.value):
        file.seek(begin)
        yield kind, file.read(min(stop - begin, CONTENT)) if kind in READ else b""
        if kind == b"cmvd":  # a compressed header, behind its size
            file.seek(begin + 4)
            with suppress(zlib.error):
                inside = zlib.decompressobj().decompress(file.read(stop - begin - 4), LARGEST_HEADER)
                yield from _boxes(BytesIO(inside), depth=depth + 1)
        elif kind in INSIDE and depth < DEEPEST:
            yield from _boxes(file, begin, stop, depth + 1)
