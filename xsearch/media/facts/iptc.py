"""IPTC records (IIM 4.2) -> columns. Pillow reads those of opened images only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xsearch.media.facts import values

__all__ = ["columns"]

# Data sets of record 2
_TEXTS = {"title": 5, "description": 120, "copyright": 116}
_LISTS = {"keywords": 25, "creator": 80}
_DATE, _TIME = 55, 60


def columns(block: bytes) -> dict[str, Any]:
    """Return what the records of a block state; of a damaged one what precedes the damage."""
    texts: dict[int, list[str]] = {}
    for number, value in _records(block):
        texts.setdefault(number, []).append(values.decoded(value))
    facts: dict[str, Any] = {name: texts[number][0] for name, number in _TEXTS.items() if number in texts}
    facts |= {name: values.joined(texts[number]) for name, number in _LISTS.items() if number in texts}
    date, time = (texts.get(number, [""])[0] for number in (_DATE, _TIME))
    return facts | values.taken(f"{date} {time}", date)


def _records(block: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield number and value of each data set of record 2."""
    at = 0
    while block[at : at + 1] == b"\x1c" and at + 5 <= len(block):
        record, number, size = block[at + 1], block[at + 2], int.from_bytes(block[at + 3 : at + 5], "big")
        at += 5
        if size & 0x8000:  # the size follows, in so many bytes
            width = size & 0x7FFF
            size, at = int.from_bytes(block[at : at + width], "big"), at + width
        if record == 2 and at + size <= len(block):
            yield number, block[at : at + size]
        at += size
