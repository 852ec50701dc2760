"""How one term of a query is written: `KIND:VALUE@WEIGHT`, of which only VALUE is required.

    audio:sea.wav@0.7    text:a cage    bird.jpg    item:17    https://host/bird.jpg@-1

Parsing opens nothing: whether a name is a file is decided by the predicate `exists` of the caller, and where
there are no files (a server) every name is just a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from xsearch.errors import UsageError
from xsearch.types import Modality

__all__ = ["Kind", "Term", "parse_term", "split_weight"]

Exists = Callable[[str], bool]
Kind = Modality | Literal["item"]  # "item": the value is the id of a stored one
_KINDS: tuple[Kind, ...] = (*Modality, "item")
_PREFIX = re.compile(r"([a-z]{2,}):[^\s/\\:]", re.ASCII | re.IGNORECASE)  # no sentence, URL or drive
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """A value, its kind (None: that of the file, or text), and its weight."""

    kind: Kind | None
    value: str
    weight: float = 1.0


def parse_term(text: str, *, kind: Kind | None = None, exists: Exists = lambda name: False) -> Term:
    """The term that `text` describes; if `kind` is known already, `text` is VALUE@WEIGHT.

    A name for which `exists` holds is never split. Raises UsageError for an empty value, a bad weight, an id
    that is no number, and a word and a colon that are no kind.

    >>> parse_term("audio:sea.wav@0.7")
    Term(kind=<Modality.AUDIO: 'audio'>, value='sea.wav', weight=0.7)
    >>> parse_term("note: a song")
    Term(kind=None, value='note: a song', weight=1.0)
    """
    rest = text
    if kind is None and not exists(text) and not exists(text.rpartition("@")[0]):
        prefix, colon, after = text.partition(":")
        if colon and prefix in _KINDS:
            kind, rest = _KINDS[_KINDS.index(prefix)], after
        elif mistyped := _PREFIX.match(text):
            raise UsageError(_no_kind(text, mistyped[1]))
    value, weight = split_weight(rest, exists=exists)
    if not value.strip():
        raise UsageError(f"empty term {text!r}; expected KIND:VALUE@WEIGHT, such as audio:sea.wav@0.7")
    if kind == "item" and not (value.isdecimal() and value.isascii()):
        raise UsageError(f"term {text!r}: expected the id of an item, such as item:17@0.5, got {value!r}")
    return Term(kind, value, weight)


def _no_kind(text: str, prefix: str) -> str:
    near = get_close_matches(prefix.lower(), _KINDS, n=1)
    hint = f" (did you mean {near[0]}:?)" if near else ""
    return f"term {text!r}: {prefix!r} is none of the kinds {', '.join(_KINDS)}{hint}; for words: text:{text}"


def split_weight(text: str, *, exists: Exists = lambda name: False) -> tuple[str, float]:
    """(value, weight) of `VALUE@WEIGHT`; the weight is 1 where there is none, or where `exists(text)` holds.

    A value that itself ends like a weight needs one. Raises UsageError for an infinite weight or NaN.

    >>> split_weight("sea.wav@0.7"), split_weight("me@home.jpg"), split_weight("me@2@1")
    (('sea.wav', 0.7), ('me@home.jpg', 1.0), ('me@2', 1.0))
    """
    value, at, number = text.rpartition("@")
    if not at or not _NUMBER.fullmatch(number) or exists(text):
        return text, 1.0
    weight = float(number)
    if not math.isfinite(weight):
        raise UsageError(f"weight of {text!r}: expected a finite number; to search for this itself, add @1")
    return value, weight
