"""The only place that opens files with Pillow: by a list of formats, within limits of pixels and memory."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import IO, Any, cast

from PIL import Image

from xsearch.errors import TooLarge
from xsearch.media.limits import MAX_DECODED_MB, MAX_PIXELS, MAX_SCANS

__all__ = [
    "FORMATS",
    "check_cost",
    "check_decoded",
    "check_pixels",
    "most_pixels",
    "opened",
    "too_many_pixels",
]

# Pillow's decoders of raster formats. Others start programs (EPS), read text as pictures, or decode nothing.
FORMATS = "JPEG PNG GIF WEBP TIFF BMP DIB AVIF PPM JPEG2000 ICO CUR ICNS PSD DDS QOI SGI PCX XBM XPM"
# Bytes a pixel that a decoder takes, with opacity and 16 bits; Pillow's image of four bytes a pixel included
_COST = {"JPEG2000": 24, "WEBP": 16, "AVIF": 14, "HEIF": 10, "JXL": 16}
_MARKER = re.compile(rb"\xff([^\0\xd0-\xd8\xff])")  # of those with a length
_START_OF_SCAN, _END = b"\xda", b"\xd9"


def opened(file: IO[bytes], formats: str = FORMATS) -> Image.Image:
    """Open a picture lazily, of these formats only. Raises what Pillow raises."""
    return Image.open(file, formats=formats.split())


def most_pixels() -> float:
    """Return the limit of pixels; Pillow's, if XSEARCH_MAX_PIXELS is not set and the caller changed that."""
    limit = MAX_PIXELS.value
    if limit != MAX_PIXELS.default:
        Image.MAX_IMAGE_PIXELS = -(-limit // 2)  # Pillow warns above it and raises above twice as many
        return limit
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def too_many_pixels(path: Path) -> TooLarge:
    """Return the error of a picture beyond the limit of pixels."""
    return TooLarge(
        f"{path}: over {most_pixels():,} pixels; {MAX_PIXELS.advice} or raise {MAX_PIXELS.setting}"
    )


def check_pixels(path: Path, pixels: int) -> None:
    """Raise TooLarge if an array of `pixels` elements exceeds the limit."""
    if pixels > most_pixels():
        raise too_many_pixels(path)


def check_decoded(path: Path, pixels: int, format: str, more: float = 0) -> None:
    """Raise TooLarge if pixels are too many, or decoding them takes too much memory. more: bytes a pixel."""
    check_pixels(path, pixels)
    MAX_DECODED_MB.check(path, pixels * (_COST.get(format, 4) + more))


def check_cost(path: Path, image: Image.Image) -> None:
    """Raise TooLarge if decoding an open picture would take too much memory, or too long."""
    more = 0.0
    if image.info.get("progressive"):
        layers = cast(Any, image).layer  # (id, across, down, ...) of each component
        whole = max(layer[1] for layer in layers) * max(layer[2] for layer in layers)
        more = 2 * sum(layer[1] * layer[2] for layer in layers) / whole  # coefficients of 16 bits
        MAX_SCANS.check(path, _scans(cast(Any, image).fp))
    check_decoded(path, image.width * image.height, image.format or "", more)


def _scans(file: IO[bytes]) -> int:
    """Return the number of scans of a JPEG file, which is left where it was."""
    place = file.tell()
    file.seek(0)
    data = file.read()
    file.seek(place)
    at = count = 0
    while (marker := _MARKER.search(data, at)) and marker[1] != _END:
        count += marker[1] == _START_OF_SCAN
        at = marker.end() + int.from_bytes(data[marker.end() : marker.end() + 2], "big")
    return count
