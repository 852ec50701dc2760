"""The size of a JPEG XL picture, by its header: its plugin decodes a picture when it opens it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import IO

from xsearch.media import boxes
from xsearch.media.image.pillow import check_decoded

__all__ = ["check", "pixels"]

CODESTREAM = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # ISO/IEC 18181-1, SizeHeader
_WIDTHS = (9, 13, 18, 30)  # bits of a side


def check(file: IO[bytes], path: Path) -> None:
    """Raise TooLarge if a picture exceeds the limits; a damaged one is the decoder's to refuse."""
    with suppress(ValueError):
        check_decoded(path, pixels(file), "JXL")
    file.seek(0)


def pixels(file: IO[bytes]) -> int:
    """Return width x height. Raises ValueError if the header is damaged."""
    file.seek(0)
    head = file.read(12)
    if not head.startswith(CODESTREAM):
        end = file.seek(0, 2)
        whole, part = (boxes.content(file, kind, end=end) for kind in (b"jxlc", b"jxlp"))
        head = whole[:12] if whole else (part or b"")[4:16]
    if not head.startswith(CODESTREAM) or len(head) < 11:
        raise ValueError("no JPEG XL codestream")
    bits = int.from_bytes(head[2:], "little")

    def take(count: int) -> int:
        nonlocal bits
        value, bits = bits & ((1 << count) - 1), bits >> count
        return value

    is_small = take(1)

    def side() -> int:
        return (take(5) + 1) * 8 if is_small else take(_WIDTHS[take(2)]) + 1

    height, ratio = side(), take(3)
    if not ratio:
        return side() * height
    across, down = _RATIOS[ratio - 1]
    return height * across // down * height
