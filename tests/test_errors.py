"""Errors go from process to process as they are."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from xsearch.errors import Damaged, ModelMismatch, StoreError, UnknownWords, XsearchError

ERRORS = [
    StoreError("gone"),
    ModelMismatch(stored="a", given="b", choice="c"),
    Damaged(Path("c"), "manifest.json", "cut short"),
    UnknownWords("qwer", words=["qwer"], near=["were"], model="tiny"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickling(error: XsearchError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
