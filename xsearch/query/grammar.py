"""How one term of a query is written: `KIND:VALUE@WEIGHT`, of which only VALUE is required.

    audio:sea.wav@0.7    text:a cage    bird.jpg    https://host/bird.jpg@-1

Parsing opens nothing: whether a name is a file is decided by the predicate `exists` of the caller, and where
there are no files (a server) every name is just a text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from xsearch.errors import UsageError
from xsearch.types import Modality

__all__ = ["Term", "parse_term", "split_weight"]

Exists = Callable[[str], bool]
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?|[+-]?(nan|inf|infinity)", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Term:
    """A value, its modality (None: that of the file, or text), and its weight."""

    modality: Modality | None
    value: str
    weight: float = 1.0


def parse_term(text: str, *, modality: Modality | None = None, exists: Exists = lambda name: False) -> Term:
    """The term that `text` describes; if `modality` is known already, `text` is VALUE@WEIGHT.

    A name for which `exists` holds is never split. Raises UsageError for an empty value or a bad weight.

    >>> parse_term("audio:sea.wav@0.7")
    Term(modality=<Modality.AUDIO: 'audio'>, value='sea.wav', weight=0.7)
    >>> parse_term("me@home: a song")
    Term(modality=None, value='me@home: a song', weight=1.0)
    """
    rest = text
    if modality is None and not exists(text) and not exists(text.rpartition("@")[0]):
        kind, colon, value = text.partition(":")
        if colon and kind in list(Modality):
            modality, rest = Modality(kind), value
    value, weight = split_weight(rest, exists=exists)
    if not value.strip():
        raise UsageError(f"empty term {text!r}; expected KIND:VALUE@WEIGHT, such as audio:sea.wav@0.7")
    return Term(modality, value, weight)


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
