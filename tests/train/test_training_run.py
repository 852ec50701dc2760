"""A run from tables to a model folder."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from xsearch.train import Bind, Recipe, Stage, read_tables, run
from xsearch.train.card import CARD
from xsearch.train.curves import CURVES


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Four pictures with a thermal picture each."""
    rows = ["image,other,modality"]
    for number in range(4):
        pixels = np.full((12, 16), 60 * number, np.uint8)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / f"{number}_ir.png")
        rows.append(f"{number}.png,{number}_ir.png,thermal")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def test_without_matplotlib_a_run_ends_with_a_model_and_says_so(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = (Stage(learn=("thermal:head",), bind=("thermal",), steps=1),)
    recipe = Recipe(start="bundled", modality={"thermal": Bind(temperature=0.1)}, stages=stages)
    tables, _ = read_tables([table], "train")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    folder = run(recipe, tables, tmp_path / "run", device="cpu")
    assert (folder / CARD).exists()
    assert not (folder / CURVES).exists()
    (line,) = [line for line in capsys.readouterr().err.splitlines() if CURVES in line]
    assert line == "curves.png was not drawn: matplotlib is not installed: pip install 'xsearch[plot]'"
