"""Vectors without a collection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import xsearch
from xsearch.errors import UsageError


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> xsearch.Model:
    return xsearch.load_model(str(tiny_model), device="cpu")


def test_media_of_any_kind_become_unit_rows(model: xsearch.Model, tmp_path: Path) -> None:
    Image.new("RGB", (20, 30), "red").save(tmp_path / "red.png")
    pixels = np.full((30, 20, 3), (255, 0, 0), np.uint8)
    media = ["a red dog", tmp_path / "red.png", str(tmp_path / "red.png"), xsearch.image(pixels)]
    vectors = model.embed([*media, xsearch.text("a red dog") + xsearch.image(pixels)])
    assert (vectors.shape, vectors.dtype) == ((5, 24), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors[1:4], vectors[[1, 1, 1]], atol=1e-6)
    both = vectors[0] + vectors[1]
    np.testing.assert_allclose(vectors[4], both / np.linalg.norm(both), atol=1e-5)
    assert model.embed([]).shape == (0, 24)


def test_official_scaling_is_that_of_the_towers(model: xsearch.Model, tmp_path: Path) -> None:
    heat = xsearch.thermal(np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30))
    unit, official = model.embed([heat]), model.embed([heat], scaling="official")
    tower = model.backend.tower("thermal")  # type: ignore[attr-defined]
    scale = float(tower.log_logit_scale.exp().clamp(max=100))
    np.testing.assert_allclose(official, scale * unit, rtol=1e-4)
    words = xsearch.embed_official({"text": ["a red dog"]}, str(model.backend.folder), device="cpu")  # type: ignore[attr-defined]
    np.testing.assert_allclose(model.embed(["a red dog"], scaling="official"), words["text"], rtol=1e-5)
    with pytest.raises(UsageError, match="no official scaling"):
        model.embed([heat - xsearch.text("dog")], scaling="official")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda model: model.embed("a dog"), "expected a list"),
        (lambda model: model.embed(["a dog"], scaling="foo"), "expected unit or official"),
        (lambda model: model.embed([5]), "got int"),
        (lambda model: xsearch.text(5), "expected a str"),
        (lambda model: xsearch.image(5), "expected a path"),
        (lambda model: xsearch.item("a"), "expected the id"),
    ],
)
def test_wrong_types_are_usage_errors(model: xsearch.Model, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        given(model)
    assert model.embed([], scaling="official").shape == (0, 24)
