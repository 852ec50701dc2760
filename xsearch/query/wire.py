"""Hits as JSON from which they come back as they were: types, floats and all.

A JSON object is always a value with the name of its type, so that nothing a user stores is mistaken for one.
NaN and the infinities are written as Python's `json` writes and reads them.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from xsearch.errors import UnknownWords, UsageError
from xsearch.query.expression import Query
from xsearch.query.hits import Hits
from xsearch.types import Box, Hit, Modality

__all__ = ["Understood", "from_wire", "to_wire"]

_HIT = tuple(field.name for field in fields(Hit))
_TYPES: dict[type, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    Box: (lambda value: list(astuple(value)), lambda values: Box(*values)),
    bytes: (lambda value: base64.b64encode(value).decode(), base64.b64decode),
    date: (date.isoformat, date.fromisoformat),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    Decimal: (str, Decimal),
    dict: (
        lambda value: [[_encoded(part) for part in pair] for pair in value.items()],
        lambda pairs: {_decoded(name): _decoded(value) for name, value in pairs},
    ),
    time: (time.isoformat, time.fromisoformat),
    timedelta: (
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: timedelta(*parts),
    ),
    tuple: (lambda value: list(map(_encoded, value)), lambda values: tuple(map(_decoded, values))),
}
_NAMES = {kind.__name__: kind for kind in _TYPES}


@dataclass(frozen=True, slots=True, eq=False)
class Understood:
    """A query as the server that has answered it took it: an `Embedded` without its vectors."""

    query: Query  # with the modality of every part
    cosines: Sequence[float]
    norm: float
    own: Sequence[int]
    windows: Sequence[int]
    left_out: Sequence[str]
    is_unread: bool


def to_wire(hits: Hits) -> dict[str, Any]:
    """The wire form, fit for JSON. Raises UsageError for metadata of a type that it lacks."""
    query, problem = hits.query, hits.problem
    return {
        "hits": [[_encoded(getattr(hit, name)) for name in _HIT] for hit in hits],
        "query": query
        and {
            "kinds": [part.modality for part in query.query.parts],
            "cosines": list(map(float, query.cosines)),
            "norm": float(query.norm),
            "own": list(map(int, query.own)),
            "windows": list(query.windows),
            "left_out": list(query.left_out),
            "is_unread": query.is_unread,
        },
        "nearest_expected": hits.nearest_expected,
        "kinds": hits.kinds,
        "missing_shards": hits.missing_shards,
        "problem": problem
        and {
            "text": problem.text,
            "words": problem.words,
            "near": problem.near,
            "model": problem.model,
        },
    }


def from_wire(content: Mapping[str, Any], query: Query) -> Hits:
    """The hits; query: that which they answer, whose sources do not travel."""
    understood = None
    if (about := content["query"]) is not None:
        kinds = map(Modality, about["kinds"])
        parts = [replace(part, modality=kind) for part, kind in zip(query.parts, kinds, strict=True)]
        figures = {field.name: about[field.name] for field in fields(Understood) if field.name != "query"}
        understood = Understood(Query(tuple(parts)), **figures)
    problem = content["problem"]
    return Hits(
        (_hit(dict(zip(_HIT, map(_decoded, row), strict=True))) for row in content["hits"]),
        understood,
        content["nearest_expected"],
        content["kinds"],
        problem and UnknownWords(**problem),
        content.get("missing_shards", ()),
    )


def _hit(values: dict[str, Any]) -> Hit:
    return Hit(**values | {"modality": Modality(values["modality"])})


def _encoded(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list():
            return list(map(_encoded, value))
    if (kind := type(value)) not in _TYPES:
        raise UsageError(f"metadata of type {kind.__name__} has no wire form")
    return {kind.__name__: _TYPES[kind][0](value)}


def _decoded(value: Any) -> Any:
    match value:
        case list():
            return list(map(_decoded, value))
        case dict():
            ((name, content),) = value.items()
            return _TYPES[_NAMES[name]][1](content)
    return value
