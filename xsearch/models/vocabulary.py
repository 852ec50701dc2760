"""The vocabulary of a small model: words of its training texts, one a line in `words.txt` of its folder.

A model without the file has an open vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

import regex

from xsearch.english import FUNCTION_WORDS, forms
from xsearch.errors import ModelError
from xsearch.system.durable import read_file

__all__ = ["WORDS", "Vocabulary", "save_words", "words_of"]

WORDS = "words.txt"
MOST_BYTES = 16 << 20  # the bundled model's has 3 kB
MEMO = 1 << 16  # words whose known form is remembered
SIMILAR = 0.8  # difflib's ratio of a near word: one letter in five differs

_LEARNED = regex.compile(r"[^\W\d_]{2,}")  # without numbers and single letters
_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}\u200c\u200d]*(?:'\p{L}+)*")
_LETTER = regex.compile(r"\p{L}")


class Vocabulary:
    """The words, in lower case, that a model has learned. Immutable; safe to share between threads."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = frozenset(words)
        self._known_form = lru_cache(MEMO)(self._find)

    @staticmethod
    def load(folder: Path) -> Vocabulary | None:
        """The vocabulary of the model in `folder`; None: open. Raises ModelError if it cannot be read."""
        path = folder / WORDS
        try:
            return Vocabulary(read_file(path, MOST_BYTES).decode().split())
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise ModelError(
                f"the vocabulary {path} cannot be read: {error}; copy the model again"
            ) from error

    def __reduce__(self) -> tuple[type[Vocabulary], tuple[frozenset[str]]]:
        return Vocabulary, (self.words,)

    def known_form(self, word: str) -> str | None:
        """The learned word that `word` is a form of, or is; a singular comes before its plural.

        A small model has read a plural in few phrases, and answers the singular better.

        >>> Vocabulary(["dog", "dogs", "puppies", "running"]).known_form("dogs")
        'dog'
        >>> [Vocabulary(["puppies", "running"]).known_form(word) for word in ("Puppy", "ran", "cat")]
        ['puppies', 'running', None]
        """
        return self._known_form(word.lower())

    def unknown(self, text: str) -> list[str]:
        """Content words of `text` without a learned form, each once, in order."""
        return list(dict.fromkeys(word for word in _content(text) if self._known_form(word) is None))

    def unknown_share(self, text: str) -> float:
        """The share of content words without a learned form; 1 if there are no content words."""
        known = [self._known_form(word) is not None for word in _content(text)]
        return 1 - sum(known) / len(known) if known else 1.0

    def reduce(self, text: str) -> str:
        """The content words of `text` in their learned forms; a text of learned words only, as it is.

        >>> vocabulary = Vocabulary(["the", "dog", "playing"])
        >>> vocabulary.reduce("The dogs are PLAYING, grandmother!"), vocabulary.reduce("The dog, playing.")
        ('dog playing', 'The dog, playing.')
        """
        words = _words(text)
        if words and all(self._known_form(word) == word for word in words):
            return text
        return " ".join(form for word in _content(text) if (form := self._known_form(word)))

    def near(self, word: str, n: int = 3) -> list[str]:
        """At most `n` learned content words that are spelled like `word`, or begin it; best first.

        >>> Vocabulary(["the", "elephant", "sun"]).near("elefant")
        ['elephant']
        """
        return get_close_matches(word.lower(), sorted(self.words - FUNCTION_WORDS), n, SIMILAR)

    def _find(self, word: str) -> str | None:
        if word.partition("'")[0] in FUNCTION_WORDS:
            return word if word in self.words or len(word) == 1 else None  # single letters are not listed
        return next((form for form in forms(word) if form in self.words), None)


def words_of(texts: Iterable[Sequence[str]], least: int = 1) -> frozenset[str]:
    """The words, in lower case, that at least `least` media have in one of their texts."""
    counts = Counter(word for some in texts for word in set(_LEARNED.findall(" ".join(some).lower())))
    return frozenset(word for word, count in counts.items() if count >= least)


def save_words(words: Iterable[str], folder: Path) -> None:
    (folder / WORDS).write_text("\n".join(sorted(words)) + "\n", encoding="utf-8")


def _words(text: str) -> list[str]:
    """Runs of letters and digits, in lower case; the parts of a compound apart."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text).replace("\u2019", "'")
    return _WORD.findall(text.lower())


def _content(text: str) -> Iterator[str]:
    """The words that are neither function words nor numbers."""
    for word in _words(text):
        head, _, tail = word.partition("'")
        is_function = head in FUNCTION_WORDS or tail == "t"  # it's, don't
        if not is_function and _LETTER.search(word):
            yield head if tail == "s" else word
