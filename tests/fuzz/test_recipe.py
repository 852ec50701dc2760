"""Recipes: one that is read back as it was, or UsageError."""

from __future__ import annotations

import contextlib
import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.mutation import JSON, corpus, fuzz, mutated
from xsearch.errors import UsageError
from xsearch.train import Recipe

KEYS = [
    "start",
    "fresh",
    "seed",
    "ema",
    "modality",
    "stage",
    "precision",
    "scenes",
    "chunk",
    "name",
    "lora_rank",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recipes")


def check(recipe: Recipe) -> None:
    assert Recipe.of(json.loads(json.dumps(recipe.to_dict()))) == recipe
    for stage in recipe.stages:
        assert all(0 <= stage.lr_at(step, 10) <= stage.lr for step in range(10))


@fuzz
@given(mutated("recipe"))
@example(b"a = " + b"[" * 5_000)
@example(b"[modality.audio]\ntemperature = inf")
@example(b"seed = " + b"9" * 5_000)
@example(b"name = 1979-05-27T07:32:00Z")
def test_files(folder: Path, data: bytes) -> None:
    path = folder / "mine.toml"
    path.write_bytes(data)
    with contextlib.suppress(UsageError):
        check(Recipe.load(path))


@fuzz
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), JSON, max_size=3))
@example({"modality": {"audio": {"temperature": 1e-320}}})
@example({"stage": [{"learn": ["vision"], "bind": ["text"], "steps": 1, "warmup": 1e308}]})
def test_settings(changes: dict[str, object]) -> None:
    content = tomllib.loads(corpus("recipe")[0].decode())
    with contextlib.suppress(UsageError):
        check(Recipe.of(content | changes))
