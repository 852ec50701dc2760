"""One term of a query: its kind, its value, its weight."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xsearch.errors import UsageError
from xsearch.query.grammar import Term, parse_term, split_weight
from xsearch.types import Modality

KINDS = st.sampled_from(Modality)
WEIGHTS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.text(min_size=1).filter(str.strip)


@given(KINDS, VALUES, WEIGHTS)
def test_what_is_written_in_full_is_read_back(kind: Modality, value: str, weight: float) -> None:
    assert parse_term(f"{kind}:{value}@{weight!r}") == Term(kind, value, weight)
    assert parse_term(f"{value}@{weight!r}", kind=kind) == Term(kind, value, weight)


@given(st.text())
def test_every_text_is_a_term_or_a_usage_error(text: str) -> None:
    with contextlib.suppress(UsageError):
        term = parse_term(text)
        assert term.value.strip()
        assert term.value in text


@given(VALUES)
def test_an_existing_name_is_never_split(name: str) -> None:
    exists = {name}.__contains__
    assert parse_term(name, exists=exists) == Term(None, name, 1.0)
    assert parse_term(f"{name}@0.5", exists=exists) == Term(None, name, 0.5)
    assert parse_term(f"depth:{name}@2", exists=exists) == Term(Modality.DEPTH, name, 2.0)


@pytest.mark.parametrize(
    ("text", "term"),
    [
        ("sea.wav", Term(None, "sea.wav")),
        ("sea.wav@0.7", Term(None, "sea.wav", 0.7)),
        ("audio:sea.wav@-1", Term(Modality.AUDIO, "sea.wav", -1.0)),
        ("audio:sea.wav@.5", Term(Modality.AUDIO, "sea.wav", 0.5)),
        ("audio:sea.wav@1e-3", Term(Modality.AUDIO, "sea.wav", 0.001)),
        ("audio:sea.wav@+2.", Term(Modality.AUDIO, "sea.wav", 2.0)),
        ("a cage@.5", Term(None, "a cage", 0.5)),
        ("me@home", Term(None, "me@home")),
        ("me@home.jpg@2", Term(None, "me@home.jpg", 2.0)),
        ("text:me@home", Term(Modality.TEXT, "me@home")),
        ("text:me@2@1", Term(Modality.TEXT, "me@2")),
        ("text:a:b", Term(Modality.TEXT, "a:b")),
        ("text:image:b", Term(Modality.TEXT, "image:b")),
        ("a:b", Term(None, "a:b")),
        ("text:sound:a", Term(Modality.TEXT, "sound:a")),
        ("item:17@0.5", Term("item", "17", 0.5)),
        ("note: buy milk", Term(None, "note: buy milk")),
        ("std::vector", Term(None, "std::vector")),
        ("12:30", Term(None, "12:30")),
        ("shot@2x.png", Term(None, "shot@2x.png")),
        ("image:shot@2x.png@3", Term(Modality.IMAGE, "shot@2x.png", 3.0)),
        (r"C:\x.jpg", Term(None, r"C:\x.jpg")),
        (r"image:C:\x.jpg@2", Term(Modality.IMAGE, r"C:\x.jpg", 2.0)),
        ("https://me:secret@host/x.jpg", Term(None, "https://me:secret@host/x.jpg")),
        ("video:https://host:80/x.mp4@0.5", Term(Modality.VIDEO, "https://host:80/x.mp4", 0.5)),
        ("price@1_000", Term(None, "price@1_000")),
        ("price@١", Term(None, "price@١")),
        ("a@", Term(None, "a@")),
        ("a @ 2", Term(None, "a @ 2")),
    ],
)
def test_terms(text: str, term: Term) -> None:
    assert parse_term(text) == term


@pytest.mark.parametrize("text", ["", " ", "text:", "text: ", "@2", "text:@2", "audio:@-.5"])
def test_an_empty_value_is_refused_by_name(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        parse_term(text)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sound:a", "'sound' is none of the kinds image, .*, item; for words: text:sound:a"),
        ("Text:a@2", r"\(did you mean text:\?\)"),
        ("imgae:bird.jpg", r"\(did you mean image:\?\)"),
        ("item:bird.jpg", "the id of an item"),
        ("item:-1", "the id of an item"),
        ("item:²", "the id of an item"),
    ],
)
def test_a_mistyped_kind_or_id_is_refused(text: str, part: str) -> None:
    with pytest.raises(UsageError, match=part):
        parse_term(text)


@pytest.mark.parametrize("weight", ["nan", "-NaN", "inf", "Infinity", "1e999"])
def test_a_weight_is_finite(weight: str) -> None:
    with pytest.raises(UsageError, match=f"'a@{weight}'"):
        parse_term(f"text:a@{weight}")
    assert parse_term(f"text:a@{weight}@1") == Term(Modality.TEXT, f"a@{weight}")


def test_existence_decides_what_a_name_is() -> None:
    files = {"shot@2", "text:a", "x@nan"}.__contains__
    assert parse_term("shot@2", exists=files) == Term(None, "shot@2")
    assert parse_term("shot@2@0.5", exists=files) == Term(None, "shot@2", 0.5)
    assert parse_term("image:shot@2", exists=files) == Term(Modality.IMAGE, "shot@2")
    assert parse_term("text:a@2", exists=files) == Term(None, "text:a", 2.0)
    assert parse_term("text:a", kind=Modality.TEXT, exists=files) == Term(Modality.TEXT, "text:a")
    assert parse_term("image:x@nan", exists=files) == Term(Modality.IMAGE, "x@nan")
    assert split_weight("x@nan", exists=files) == ("x@nan", 1.0)
