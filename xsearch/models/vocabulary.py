"""The words that a small model was taught, one a line in `words.txt` of its folder.

A model without the file has read so much that nobody lists it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["WORDS", "save_words", "unlearned"]

WORDS = "words.txt"
_WORD = re.compile(r"[^\W\d_]{2,}")  # numbers and single letters say little


def save_words(texts: Iterable[str], folder: Path) -> None:
    """Write down all words of these texts, as the model was taught them."""
    known = sorted({word for text in texts for word in _WORD.findall(text.lower())})
    (folder / WORDS).write_text("\n".join(known) + "\n", encoding="utf-8")


def unlearned(text: str, folder: Path) -> list[str]:
    """Words that the model in `folder` was never taught, in order; a plural is as known as its word."""
    path = folder / WORDS
    if not path.exists():
        return []
    known = set(path.read_text(encoding="utf-8").split())
    words = dict.fromkeys(_WORD.findall(text.lower()))
    return [word for word in words if not {word, word.removesuffix("s"), word.removesuffix("es")} & known]
