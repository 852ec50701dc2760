"""The collection that is meant where none is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import xsearch
from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.errors import NoCollection
from xsearch.nearest import default_collection
from xsearch.types import DEFAULT_COLLECTION


@pytest.fixture
def below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, two below `tmp_path`; the user's data are in `tmp_path / "data"`."""
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", "/nowhere")
    monkeypatch.delenv("XSEARCH_COLLECTION", raising=False)
    return folder


def make(folder: Path) -> Path:
    return Collection.create(folder / DEFAULT_COLLECTION, backend=FakeBackend()).path


def test_the_nearest_comes_first_and_a_named_one_before_it(
    below: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert default_collection() == DEFAULT_COLLECTION
    with pytest.raises(NoCollection, match="nor in a folder above or at"):
        xsearch.open()
    for folder in (tmp_path / "data" / "xsearch", tmp_path, tmp_path / "a"):
        made = make(folder)
        assert default_collection() == xsearch.open().path == made
    make(below)
    assert default_collection() == DEFAULT_COLLECTION
    monkeypatch.setenv("XSEARCH_COLLECTION", str(tmp_path))
    assert default_collection() == tmp_path


def test_the_home_of_the_user_is_the_last_folder_to_look_in(
    below: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "a"))
    assert default_collection() == DEFAULT_COLLECTION
    there = make(tmp_path / "a")
    assert default_collection() == there


@pytest.mark.skipif(not hasattr(os, "chown") or os.geteuid() != 0, reason="only root may give files away")
def test_one_of_another_user_is_not_used(
    below: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    os.chown(make(tmp_path) / "manifest.json", 12_345, -1)
    assert default_collection() == DEFAULT_COLLECTION
    assert "belongs to another user" in caplog.text
