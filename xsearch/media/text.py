"""Text files -> texts."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from xsearch.errors import Unreadable, Unsupported
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_size", "decode", "encoding", "read"]

EXCERPT = 400  # letters
MAX_BYTES = 16 << 20  # bytes; the King James Bible has 4.3 MB
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose BOM is a prefix of it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROL = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f]")  # except white space, DOS EOF (1A) and ANSI escape (1B)


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield a file as one sample, of any length. Raises Unreadable if the file is empty or not text."""
    text = decode(file.path)
    if not text.strip():
        raise Unreadable(f"{file.path}: empty: contains no words")
    yield Sample(Modality.TEXT, text, text=" ".join(text.lstrip()[:EXCERPT].split()))


def check_size(path: Path, size: int) -> None:
    """Raise Unreadable if a text file exceeds MAX_BYTES."""
    if size > MAX_BYTES:
        raise Unreadable(f"{path}: over 16 MB, probably data or a log; split it to index it as text")


def decode(path: Path) -> str:
    """Return a file in UTF-8, UTF-16, UTF-32 or cp1252 as text. Raises Unreadable if it is not text."""
    with path.open("rb") as file:
        data = file.read(MAX_BYTES)
    try:
        decoder = codecs.getincrementaldecoder(encoding(data))
        text = decoder().decode(data)  # drops an incomplete character at the end
        if len(_CONTROL.findall(text)) > len(text) / 100:
            raise ValueError("too many control characters")
    except ValueError:
        raise Unsupported(
            f"{path}: binary data or text in an unknown encoding; save it as UTF-8 if it is text"
        ) from None
    return text


def encoding(data: bytes) -> str:
    """Detect the encoding of a text. Raises ValueError if it is ambiguous."""
    if marked := next((name for mark, name in _BOMS.items() if data.startswith(mark)), None):
        return marked
    if b"\0" in data:
        even, odd = data[::2], data[1::2]
        for name, high, low in (("utf-16-be", even, odd), ("utf-16-le", odd, even)):
            if len(high) == len(low) < 2 * high.count(0) and 0 not in low:  # mostly Latin letters
                return name
        raise ValueError("binary")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not data[: error.start].isascii():
            return "utf-8"  # truncated within a character
        if len(data.translate(None, bytes(range(128)))) > len(data) / 4:
            raise  # too many non-ASCII bytes for a Latin alphabet
        return "cp1252"  # a superset of latin-1
    return "utf-8"
