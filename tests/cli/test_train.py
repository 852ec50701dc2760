"""`xsearch train`: what a person sees."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from xsearch.cli.app import app

RECIPE = """
start = "bundled"
check_steps = 2
[modality.thermal]
temperature = 0.1
batch = 4
[[stage]]
learn = ["thermal:head"]
bind = ["thermal"]
steps = 2
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Six pictures with a thermal picture each, one of which is no picture, and two to look at."""
    rows = ["image,other,modality,split"]
    rng = np.random.default_rng(0)
    for number in range(8):
        pixels = rng.integers(0, 255, (20, 24), dtype=np.uint8)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{number}.png")
        Image.fromarray(pixels).save(tmp_path / f"{number}_ir.png")
        rows.append(f"{number}.png,{number}_ir.png,thermal,{'train' if number < 6 else 'val'}")
    (tmp_path / "3_ir.png").write_text("not a picture")
    path = tmp_path / "pairs.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


def call(*given: object):
    return CliRunner().invoke(app, ["train", *map(str, given)])


def test_a_run_makes_a_model_that_can_be_used(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    given = (table, "--recipe", tmp_path / "mine.toml", "--out", tmp_path / "run", "--workers", 0)
    found = call(*given)
    assert found.exit_code == 0, found.output
    assert "left out: " in found.stderr
    assert "3_ir.png" in found.stderr
    folder = tmp_path / "run" / "model"
    assert {path.name for path in folder.iterdir()} >= {
        "config.json",
        "MODEL_CARD.md",
        "curves.png",
        "recipe.json",
    }
    assert "| thermal | 6 |" in (folder / "MODEL_CARD.md").read_text()
    assert Image.open(io.BytesIO((folder / "curves.png").read_bytes())).width == 1000
    from xsearch.backend.imagebind import ImageBindBackend
    from xsearch.types import Modality, Sample

    vector = ImageBindBackend.load(str(folder)).embed([Sample(Modality.TEXT, "a dog")])
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)
    before = (tmp_path / "run" / "log.jsonl").read_text(), (folder / "config.json").read_text()
    again = call(*given)  # there is nothing left to do
    assert again.exit_code == 0
    assert ((tmp_path / "run" / "log.jsonl").read_text(), (folder / "config.json").read_text()) == before
    table.write_text(table.read_text() + "0.png,0_ir.png,thermal,train\n")
    assert "tables with other rows" in " ".join(call(*given).stderr.split())
    other = call(*given, "--seed", 5)
    assert other.exit_code == 2
    assert "another recipe" in other.output + other.stderr


def test_a_run_continues_in_the_precision_that_it_began_in(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE)
    given = (table, "--recipe", tmp_path / "mine.toml", "--out", tmp_path / "run", "--workers", 0)
    assert call(*given).exit_code == 0
    made_of = tmp_path / "run" / "run.json"  # as a CPU of the other kind would have written it
    other = {"fp32": "bf16", "bf16": "fp32"}
    text = json.loads(made_of.read_text())
    text["recipe"]["precision"] = other[text["recipe"]["precision"]]
    made_of.write_text(json.dumps(text, indent=1))
    assert call(*given).exit_code == 0
    assert json.loads((tmp_path / "run" / "model" / "recipe.json").read_text()) == text["recipe"]


def test_a_table_is_checked_before(table: Path) -> None:
    found = call(table, "--check")
    assert found.exit_code == 1
    assert "row 4, other is bad" in found.stderr
    assert [line.split() for line in found.stdout.splitlines()] == [
        ["pairs", "train", "val"],
        ["thermal", "5", "2"],
    ]


def test_a_recipe_is_checked_with_its_tables(table: Path, tmp_path: Path) -> None:
    table.write_text(table.read_text().replace("3.png,3_ir.png,thermal,train\n", ""))
    recipe = tmp_path / "mine.toml"
    recipe.write_text(RECIPE.replace("\nsteps = 2", "\nepochs = 3"))
    found = call(table, "--recipe", recipe, "--check")
    assert (found.exit_code, found.stderr) == (0, "")
    assert found.stdout.splitlines()[-1].split() == ["1", "thermal:head", "thermal", "3"]
    for wrong, message in (
        ("temprature = 0.1", "did you mean temperature?"),
        ('temperature = 0.1\nbatch = "x"', "batch"),
        ("temperature = 0.1\nbalanced = true", "no labels to balance"),
    ):
        recipe.write_text(RECIPE.replace("temperature = 0.1\nbatch = 4", wrong))
        found = call(table, "--recipe", recipe, "--check")
        assert found.exit_code == 2
        assert message in found.stderr
    recipe.write_text(RECIPE.replace("thermal", "depth"))
    assert "no pairs of pictures and depth" in call(table, "--recipe", recipe, "--check").stderr
    assert not (tmp_path / "training").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "nothing to learn from"),
        (["--recipe", "none", "--scenes", "1"], "no recipe none"),
        (["nowhere.csv"], "nowhere.csv"),
    ],
)
def test_wrong_usage_is_said(given: list[str], message: str) -> None:
    found = call(*given)
    assert found.exit_code == 2
    assert message in " ".join((found.output + found.stderr).split())


def test_a_missing_file_is_told_and_left_out(table: Path, tmp_path: Path) -> None:
    (tmp_path / "3_ir.png").unlink()
    (tmp_path / "mine.toml").write_text(RECIPE)
    found = call(table, "--recipe", tmp_path / "mine.toml", "--out", tmp_path / "run", "--workers", 0)
    assert "row 4, other is left out" in found.stderr
    assert "| thermal | 5 |" in (tmp_path / "run" / "model" / "MODEL_CARD.md").read_text()


def test_the_log_is_json(table: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(RECIPE.replace("batch = 4", 'batch = 4\nimage = "none"'))
    call(table, "--recipe", tmp_path / "mine.toml", "--out", tmp_path / "run", "--workers", 0)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("loss" in line for line in lines)
    recipe = json.loads((tmp_path / "run" / "model" / "recipe.json").read_text())
    assert {line["precision"] for line in lines} == {recipe["precision"]} <= {"fp32", "bf16"}
    assert f"computed in {recipe['precision']}" in (tmp_path / "run" / "model" / "MODEL_CARD.md").read_text()
    assert any("thermal/vision>thermal" in line for line in lines)
