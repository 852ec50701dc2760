"""Texts: windows of about 60 words that end where a paragraph or a sentence ends, if one does."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from xsearch.errors import Unreadable
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_size", "marked", "read", "windows"]

LARGEST = 16 << 20  # bytes; the King James Bible has 4.3 MB
WINDOW_WORDS = 60  # about the 77 tokens of CLIP's context
LONGEST_WORDS = 75  # of the last window, rather than leave a stub
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # written without spaces: each counts as a word
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]{{1,80}}")  # what is longer is no word but data
_CONTROL = re.compile(r"[\0-\x08\x0e-\x19\x1c-\x1f]")  # not white space, DOS's end, and the escape of colours
_SENTENCE_END = re.compile(r"[.!?。！？…]['\")\]»”’]*$")


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample per window of the decoded text. Unreadable if it is empty or not text."""
    empty = True
    for window in windows(_decode(file.path)):
        empty = False
        yield Sample(Modality.TEXT, window, text=window)
    if empty:
        raise Unreadable(f"{file.path}: empty: no text in it")


def check_size(path: Path, size: int) -> None:
    """Unreadable for what is too long to be read by anybody, before anything reads it."""
    if size > LARGEST:
        raise Unreadable(f"{path}: over 16 MB, which is data or a log rather than a text; split it")


def windows(text: str) -> Iterator[str]:
    """Cut a text into consecutive windows of at most 75 words, usually 30 to 60; white space is made single.

    >>> list(windows("One two.\\n\\nThree."))
    ['One two. Three.']
    """
    words = _WORD.finditer(text)
    held = list(islice(words, LONGEST_WORDS + 1))
    while len(held) > LONGEST_WORDS:
        ends = range(WINDOW_WORDS, WINDOW_WORDS // 2, -1)  # a window is at least half full
        gaps = ((e, text[held[e - 1].end() : held[e].start()]) for e in ends)
        end = next((e for e, gap in gaps if gap.count("\n") > 1), None)  # of a paragraph
        end = end or next((e for e in ends if _SENTENCE_END.search(held[e - 1][0])), WINDOW_WORDS)
        yield _single(text[held[0].start() : held[end - 1].end()])
        held = held[end:] + list(islice(words, end))
    if held:
        yield _single(text[held[0].start() :])


def marked(data: bytes) -> str | None:
    """The encoding that the byte order mark at the start of a text tells, if there is one."""
    return next((name for mark, name in _BOMS.items() if data.startswith(mark)), None)


def _single(text: str) -> str:
    return " ".join(text.split())


def _decode(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(LARGEST)
    try:
        decoder = codecs.getincrementaldecoder(_encoding(data))
        text = decoder().decode(data)  # but for half a character at its end
        if len(_CONTROL.findall(text)) > len(text) / 100:
            raise ValueError("no text has so many control characters")
    except ValueError:
        raise Unreadable(
            f"{path}: binary data, or text in an uncertain encoding; save it as UTF-8 if it is text"
        ) from None
    return text


def _encoding(data: bytes) -> str:
    """ValueError if it would be a guess."""
    if encoding := marked(data):
        return encoding
    if b"\0" in data:
        even, odd = data[::2], data[1::2]
        for name, zeros, others in (("utf-16-be", even, odd), ("utf-16-le", odd, even)):
            if len(zeros) == len(others) < 2 * zeros.count(0) and 0 not in others:  # mostly Western letters
                return name
        raise ValueError("binary")
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if error.reason == "unexpected end of data" and not data[: error.start].isascii():
            return "utf-8"  # cut off within a character
        if len(data.translate(None, bytes(range(128)))) > len(data) / 4:
            raise  # more than the accents of any Western language: another alphabet
        return "cp1252"  # latin-1 with quotation marks
    return "utf-8"
