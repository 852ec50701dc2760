"""Text files -> texts."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from xsearch.errors import Unreadable, Unsupported
from xsearch.media.limits import MAX_ITEMS, MAX_TEXT_MB
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_size", "decode", "encoding", "read"]

EXCERPT = 400  # letters
WORDS, LETTERS = 75, 500  # that a window of a text has at most; see `splitting`
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose BOM is a prefix of it
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_CONTROL = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f]")  # except white space, DOS EOF (1A) and ANSI escape (1B)


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield a file as one sample. Raises Unreadable if it is empty, no text, or of too many windows."""
    text = decode(file.path)
    if not (words := text.split()):
        raise Unreadable(f"{file.path}: empty: contains no words")
    MAX_ITEMS.check(file.path, max(len(words) / WORDS, (sum(map(len, words)) + len(words)) / LETTERS))
    yield Sample(Modality.TEXT, text, text=" ".join(text.lstrip()[:EXCERPT].split()))


def check_size(path: Path, size: int) -> None:
    """Raise TooLarge if a text file exceeds the limit."""
    MAX_TEXT_MB.check(path, size)


def decode(path: Path) -> str:
    """Return a file in UTF-8, UTF-16, UTF-32 or cp1252 as text. Raises Unreadable if it is not text."""
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_MB.bytes)
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
