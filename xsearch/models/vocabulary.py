"""The vocabulary of a small model: words of its training texts, one a line in `words.txt` of its folder.

A model without the file has an open vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["WORDS", "known_words", "save_words", "unknown_words", "words_of"]

WORDS = "words.txt"
_WORD = re.compile(r"[^\W\d_]{2,}")  # without numbers and single letters


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words of `texts`, in lower case."""
    return frozenset(word for text in texts for word in _WORD.findall(text.lower()))


def save_words(words: Iterable[str], folder: Path) -> None:
    (folder / WORDS).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")


def known_words(folder: Path) -> frozenset[str] | None:
    """The vocabulary of the model in `folder`; None: open."""
    path = folder / WORDS
    return frozenset(path.read_text(encoding="utf-8").split()) if path.exists() else None


def unknown_words(text: str, known: frozenset[str] | None) -> list[str]:
    """Words of `text` that are not in the vocabulary `known`, in order; a plural counts as its singular.

    known: in lower case; None: open, so that every word is known.
    """
    if known is None:
        return []
    words = dict.fromkeys(_WORD.findall(text.lower()))
    return [word for word in words if not {word, word.removesuffix("s"), word.removesuffix("es")} & known]
