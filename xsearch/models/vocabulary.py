"""The words that a small model was taught, one a line in `words.txt` of its folder.

A model without the file has read so much that nobody lists it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["WORDS", "known_words", "save_words", "unlearned", "words_of"]

WORDS = "words.txt"
_WORD = re.compile(r"[^\W\d_]{2,}")  # numbers and single letters say little


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """In lower case."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def save_words(words: Iterable[str], folder: Path) -> None:
    (folder / WORDS).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")


def known_words(folder: Path) -> frozenset[str] | None:
    """Those that the model in `folder` was taught; None if it does not say."""
    path = folder / WORDS
    return frozenset(path.read_text(encoding="utf-8").split()) if path.exists() else None


def unlearned(text: str, known: frozenset[str] | None) -> list[str]:
    """Words of `text` that are not `known`, in order; a plural is as known as its singular.

    known: in lower case; None: the model does not list them, so that every word passes.
    """
    if known is None:
        return []
    words = dict.fromkeys(_WORD.findall(text.lower()))
    return [word for word in words if not {word, word.removesuffix("s"), word.removesuffix("es")} & known]
