"""The picture of an evaluation."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from xsearch.errors import UsageError
from xsearch.evaluate import Evaluation, draw, gaps
from xsearch.evaluate.chart import PRECISIONS, RECALLS, Z95, _bars, wilson
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


@pytest.mark.parametrize(
    ("share", "count", "expected"),
    [
        (0.0, 10, (0.0, 0.2775)),
        (0.9, 10, (0.5958, 0.9821)),
        (1.0, 10, (0.7225, 1.0)),
        (0.5, 100, (0.4038, 0.5962)),
    ],
)
def test_an_interval_is_wilsons(share: float, count: int, expected: tuple[float, float]) -> None:
    bounds = wilson(share, count)
    assert bounds == pytest.approx(expected, abs=1e-4)
    for bound in bounds:  # a score test of either bound is just not rejected
        assert (share - bound) ** 2 == pytest.approx(Z95**2 * bound * (1 - bound) / count, abs=1e-9)


def test_bars_start_at_zero_best_first_with_their_number_of_queries() -> None:
    from matplotlib.figure import Figure

    nan = float("nan")
    rows = {
        "a to b": {"r_at_1": 0.2, "r_at_5": 0.4, "r_at_10": 0.5, "queries": 1000, "chance": 0.01},
        "b to a": {"r_at_1": nan, "r_at_5": nan, "r_at_10": nan, "queries": 0, "chance": nan},
        "a to c": {"r_at_1": 0.3, "r_at_5": 0.3, "r_at_10": 0.3, "queries": 10, "published": 0.9},
    }
    _, fill = _bars("Retrieval", rows, RECALLS)
    fill(part := Figure().subfigures())
    (axes,) = part.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "a to c, n = 10", "a to b, n = 1,000", "b to a, n = 0",
    ]  # fmt: skip
    assert [bar.get_width() for bar in axes.patches] == [0.3, 0.3, 0.3, 0.2, 0.4, 0.5]
    intervals = [whiskers.get_segments()[0][:, 0].tolist() for whiskers in axes.collections]
    assert intervals[-1] == pytest.approx(wilson(0.5, 1000))
    assert axes.get_xlim()[0] == 0
    assert 0.9 < axes.get_xlim()[1] < 1
    assert axes.get_xlabel() == (
        "best R@1 first; whiskers: 95 % Wilson interval over n queries; dotted: R@1 by chance"
    )


def test_a_mean_that_is_no_share_of_the_queries_has_no_interval() -> None:
    from matplotlib.figure import Figure

    _, fill = _bars("Label words", {"text to a": {"p_at_1": 0.2, "p_at_10": 0.1, "queries": 50}}, PRECISIONS)
    fill(part := Figure().subfigures())
    assert len(part.axes[0].collections) == 1
