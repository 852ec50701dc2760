"""Queries from elsewhere: the wire form and terms; a query that names no file, or UsageError."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.mutation import JSON, altered, fuzz, mutated
from xsearch.errors import UsageError
from xsearch.query import Query
from xsearch.query.grammar import parse_term
from xsearch.types import Url


def check(content: Any) -> None:
    with contextlib.suppress(UsageError):
        query = Query.from_dict(content)
        assert not any(isinstance(part.source, Path | Url) for part in query.parts)
        assert all(math.isfinite(part.weight) for part in query.parts)
        repr(query)
        again = Query.from_dict(json.loads(json.dumps(query.to_dict())))
        assert again.to_dict() == query.to_dict()


@fuzz
@given(altered("query") | JSON)
@example({"parts": [{"item": 1 << 80}]})
@example({"parts": [{"item": -1}]})
@example({"parts": [{"kind": "text", "text": "a", "weight": 1 << 2_000}]})
@example({"parts": [{"kind": "image", "vector": [1 << 2_000]}]})
@example({"parts": [{"kind": "image", "vector": [float("nan")]}]})
@example({"parts": [{"kind": [], "text": "a"}]})
@example({"parts": {"kind": "text", "text": "a"}})
@example({"parts": b"abc"})
def test_wire_forms(content: Any) -> None:
    check(content)


@fuzz
@given(mutated("query"))
def test_wire_forms_as_text(data: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(data)
        check(content)


PIECES = st.sampled_from(
    ["text", "image", "item", "imga", ":", "@", "0.5", "-1", "nan", "1e999", "/", "\\", " ", "\0", "17"]
)


@fuzz
@given(st.lists(PIECES, max_size=8).map("".join))
@example("item:" + "9" * 5_000)
@example("a@" + "9" * 5_000)
@example("x" * 100_000 + ":y")
def test_terms(text: str) -> None:
    with contextlib.suppress(UsageError):
        term = parse_term(text)
        assert term.value.strip()
        assert math.isfinite(term.weight)
        if term.kind:
            assert parse_term(f"{term.kind}:{term.value}@{term.weight!r}") == term
