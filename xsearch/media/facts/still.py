"""Picture files -> their EXIF, XMP and IPTC blocks -> columns. No pixel is decoded."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, Any, NamedTuple

from PIL import Image

from xsearch.media import boxes, formats
from xsearch.media.facts import exif, iptc, values, xmp
from xsearch.media.faults import Watched, watched
from xsearch.media.image import opened, pillow

__all__ = ["columns"]

LARGEST = 4 << 20  # bytes of a block
MOST_CHUNKS = 100_000  # of a PNG: pixels come in chunks of 8 kB or more
# Words of people, which XMP knows best, then IPTC; EXIF takes precedence for all others
_WORDS = ("title", "description", "keywords", "creator", "copyright", "rating")
_XMP_TAG, _IPTC_TAG = 700, 33723
_PNG_TEXTS = {"title": "title", "author": "creator", "description": "description", "copyright": "copyright"}


class Blocks(NamedTuple):
    """The blocks of a file, as bytes; of a TIFF file, its directory."""

    exif: bytes | exif.Directory | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    texts: Mapping[str, Any] | None = None  # columns of the text chunks of a PNG


def columns(path: Path) -> dict[str, Any]:
    """Return what a picture states."""
    with watched(path, Watched) as file:
        head = file.read(formats.HEAD)
        mime = formats.detect(path, head)
        if head[:2] in (b"II", b"MM"):  # TIFF, and most RAW files
            return _merged(_of_tiff(file))
        if mime == "image/png":
            return _merged(_of_png(file))
        if mime == "image/x-fuji-raf":  # a JPEG with its EXIF at an offset in the header
            start, size = (int.from_bytes(head[at : at + 4], "big") for at in (84, 88))
            file.seek(start)
            with pillow.opened(BytesIO(file.read(min(size, LARGEST))), "JPEG") as image:
                return _merged(_of_image(image))
        if mime in ("image/jxl", "image/x-canon-cr3"):
            return _of_boxes(file, path.stat().st_size, mime)
        with opened(path) if mime == "image/heic" else pillow.opened(file) as image:  # HEIC is of a plugin
            return _merged(_of_image(image))


def _merged(blocks: Blocks) -> dict[str, Any]:
    tags = blocks.exif
    if isinstance(tags, bytes):
        tags = exif.Directory(BytesIO(re.sub(rb"\A(Exif\0\0)+", b"", tags))) if tags else None
    of_exif = _stated(exif.columns(tags)) if tags else {}
    of_iptc = _stated(iptc.columns(blocks.iptc)) if blocks.iptc else {}
    of_xmp = _stated(xmp.columns(blocks.xmp)) if blocks.xmp else {}
    facts = {**(blocks.texts or {}), **of_xmp, **of_iptc, **of_exif}
    for block in (of_iptc, of_xmp):
        facts |= {name: block[name] for name in _WORDS if name in block}
    dated = next((block for block in (of_exif, of_xmp, of_iptc) if "taken_at" in block), None)
    if dated is not None:
        facts["taken_zone"] = dated.get("taken_zone")
        if of_xmp.get("taken_at") == dated["taken_at"]:
            facts["taken_zone"] = facts["taken_zone"] or of_xmp.get("taken_zone")
        facts["taken_at"] = dated["taken_at"]
    elif tags:
        facts |= exif.modified(tags)
    return facts


def _stated(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if value not in (None, "")}


def _of_tiff(file: IO[bytes]) -> Blocks:
    tags = exif.Directory(file)
    packet, block = tags[_XMP_TAG], tags[_IPTC_TAG]
    if isinstance(block, tuple):  # Photoshop declares integers of four bytes
        block = b"".join(word.to_bytes(4, "little") for word in block if isinstance(word, int))
    if isinstance(packet, tuple):
        packet = bytes(packet)
    return Blocks(tags, packet, block)


def _of_png(file: IO[bytes]) -> Blocks:
    """Return the blocks of a PNG, also those behind its pixels, which are skipped."""
    file.seek(8)
    packet, tags = None, None
    texts: dict[str, Any] = {}
    for _ in range(MOST_CHUNKS):
        head = file.read(8)
        if len(head) < 8 or head[4:] == b"IEND":
            break
        size, kind = int.from_bytes(head[:4], "big"), head[4:]
        if size > LARGEST or kind not in (b"eXIf", b"iTXt", b"tEXt", b"zTXt"):
            file.seek(size + 4, 1)
            continue
        data = file.read(size)
        file.seek(4, 1)  # checksum
        if kind == b"eXIf":
            tags = data
            continue
        with suppress(ValueError, zlib.error):
            key, text = _png_text(kind, data)
            if key == b"XML:com.adobe.xmp":
                packet = text
            elif name := _PNG_TEXTS.get(key.decode("latin-1").lower()):
                texts[name] = values.decoded(text)
            elif key == b"Creation Time":
                texts |= values.taken(text.decode("latin-1"))
    return Blocks(tags, packet, texts=texts)


def _png_text(kind: bytes, data: bytes) -> tuple[bytes, bytes]:
    """Return key and text of a chunk. Raises ValueError or zlib.error if it is damaged."""
    key, _, rest = data.partition(b"\0")
    is_compressed = kind == b"zTXt"
    if kind == b"iTXt":
        is_compressed = rest[:1] == b"\1"
        _, _, rest = rest[2:].split(b"\0", 2) if rest.count(b"\0", 2) >= 2 else (b"", b"", b"")
    elif is_compressed:
        rest = rest[1:]
    return key, zlib.decompressobj().decompress(rest, LARGEST) if is_compressed else rest


def _of_image(image: Image.Image) -> Blocks:
    """Return the blocks before the pixels."""
    packet, resources = image.info.get("xmp"), image.info.get("photoshop")
    block = resources.get(0x0404) if isinstance(resources, dict) else None
    return Blocks(image.info.get("exif"), packet if isinstance(packet, bytes) else None, block)


def _of_boxes(file: IO[bytes], end: int, mime: str) -> dict[str, Any]:
    """Return what the boxes of JPEG XL state, or of CR3, which has each directory in another box."""
    if mime == "image/jxl":
        tags = boxes.content(file, b"Exif", end=end)
        return _merged(Blocks(tags and tags[4:], boxes.content(file, b"xml ", end=end)))
    kinds = (b"CMT1", b"CMT2", b"CMT4")  # the first directory, EXIF, GPS
    directories = (boxes.content(file, b"moov", b"uuid", kind, end=end) for kind in kinds)
    return _stated(exif.columns(*(exif.Directory(BytesIO(each or b"")) for each in directories)))
