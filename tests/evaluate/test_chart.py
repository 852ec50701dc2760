"""The picture of an evaluation."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from xsearch.errors import UsageError
from xsearch.evaluate import Evaluation, draw, gaps
from xsearch.types import Modality

VECTORS = {
    Modality.IMAGE: np.eye(4, dtype=np.float32),
    Modality.TEXT: np.roll(np.eye(4, dtype=np.float32), 1, axis=1),
}
ROW = {"query": "image", "answer": "text", "relation": "trained", "queries": 4}
FIGURES = {
    "retrieval": [ROW | {"r_at_1": 0.5, "r_at_5": 0.75, "r_at_10": 0.75, "published": 0.6}],
    "zero_shot": [{"modality": "image", "classes": 3, "top1": 0.5, "top5": 1.0, "mean_per_class": 0.5}],
    "words": [{"answer": "image", "p_at_1": 0.0, "p_at_10": 1.0}],
    "matrix": [ROW | {"p_at_1": 0.5}, ROW | {"query": "text", "queries": 0, "p_at_1": float("nan")}],
    "composition": {"image + text": 0.5, "image only": 0.0},
    "gap": gaps(VECTORS),
}


def test_every_section_adds_a_panel_and_equal_figures_give_equal_pixels() -> None:
    heights = []
    for count in range(len(FIGURES) + 1):
        some = dict(list(FIGURES.items())[:count])
        evaluation = Evaluation(some, VECTORS if "gap" in some else {})
        picture = draw(evaluation, "a title")
        assert picture.tobytes() == draw(evaluation, "a title").tobytes()
        assert (picture.mode, picture.width) == ("RGB", 1720)
        heights.append(picture.height)
    assert sorted(set(heights)) == heights


def test_without_matplotlib_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match=r"matplotlib is not installed: pip install 'xsearch\[plot\]'"):
        draw(Evaluation({}), "")
