"""Errors pass between processes as they are."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from xsearch.errors import Damaged, ModelMismatch, StoreError, TooLarge, UnknownWords, XsearchError

ERRORS = [
    XsearchError("a"),
    StoreError("cannot read", 3),
    TooLarge("too large"),
    Damaged(Path("c"), "manifest.json", "missing"),
    ModelMismatch(stored="a", given="b"),
    UnknownWords("qwxz", words=["qwxz"], near=[], model="tiny"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_passes_between_processes(error: XsearchError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert (str(again), again.args, vars(again)) == (str(error), error.args, vars(error))
