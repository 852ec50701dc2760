"""Texts: windows of about 60 words that end where a paragraph or a sentence ends, if one does."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from xsearch.errors import Unreadable
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read", "windows"]

WINDOW_WORDS = 60  # about the 77 tokens of CLIP's context
_BOMS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it starts with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_IDEOGRAPH = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"  # written without spaces: each counts as a word
_WORD = re.compile(rf"[{_IDEOGRAPH}]|[^\s{_IDEOGRAPH}]{{1,80}}")  # what is longer is no word but data
_PARAGRAPH = re.compile(r"\s*\n\s*\n\s*")
_SENTENCE_END = re.compile(r"[.!?。！？…]['\")\]»”’]*$")


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample per window of the decoded text. Unreadable if it is empty or not text."""
    for window in windows(_decode(file.path)):
        yield Sample(Modality.TEXT, window, text=window)


def windows(text: str) -> list[str]:
    """Cut a text into consecutive windows of at most 75 words, usually 30 to 60; white space is made single.

    >>> windows("One two.\\n\\nThree.")
    ['One two. Three.']
    """
    words = list(_WORD.finditer(text))
    paragraph_ends = {gap.start() for gap in _PARAGRAPH.finditer(text)}
    found, start = [], 0
    while (
        len(words) - start > WINDOW_WORDS * 5 // 4
    ):  # the last window may be longer rather than leave a stub
        full = start + WINDOW_WORDS
        ends = range(full, start + WINDOW_WORDS // 2, -1)  # a window is at least half full
        end = next((e for e in ends if words[e - 1].end() in paragraph_ends), None)
        end = end or next((e for e in ends if _SENTENCE_END.search(words[e - 1][0])), full)
        found.append(text[words[start].start() : words[end - 1].end()])
        start = end
    found.append(text[words[start].start() :] if words else "")
    return [" ".join(window.split()) for window in found]


def _decode(path: Path) -> str:
    data = path.read_bytes()
    encoding = next((name for mark, name in _BOMS.items() if data.startswith(mark)), None)
    if encoding is None and b"\0" in data:
        raise Unreadable(f"{path}: binary data, not text; give it the extension of its kind")
    try:
        text = data.decode(encoding or "utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")  # every byte is a character there
    if not text.strip():
        raise Unreadable(f"{path}: empty: no text in it")
    return text
