"""Recipes: what is written is what is done, and what is wrong is said."""

from __future__ import annotations

import pytest

from xsearch.errors import UsageError
from xsearch.train import Recipe, Stage
from xsearch.train.recipe import RECIPES

GOOD = {
    "modality": {"audio": {"temperature": 0.05}},
    "stage": [{"learn": ["audio:head"], "bind": ["audio"], "steps": 3}],
}


def test_the_recipes_in_the_wheel_load_and_come_back():
    names = [path.stem for path in RECIPES.glob("*.toml")]
    assert {"paper", "bundled"} <= set(names)
    for name in names:
        recipe = Recipe.load(name)
        assert Recipe.of(recipe.to_dict()) == recipe


def test_the_paper_is_table_9():
    paper = Recipe.load("paper")
    assert {name: bind.temperature for name, bind in paper.modality.items()} == {
        "audio": 0.05, "depth": 0.2, "thermal": 0.1, "imu": 0.2,
    }  # fmt: skip
    assert all("vision" not in stage.towers and "text" not in stage.towers for stage in paper.stages)
    assert paper.modality["audio"].image != "strong"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1}, "no setting 'lr'"),
        ({"seed": "one"}, "not of type int"),
        ({"ema": -1}, "negative"),
        ({"stage": []}, "no [[stage]]"),
        ({"stage": [{"learn": ["ears"], "bind": ["audio"], "steps": 1}]}, "no tower 'ears'"),
        ({"stage": [{"learn": ["audio:half"], "bind": ["audio"], "steps": 1}]}, "'half' is not one of"),
        ({"stage": [{"learn": ["audio"], "bind": ["depth"], "steps": 1}]}, "[modality.depth] is missing"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"]}]}, "steps or epochs"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "epochs": 2}]}, "steps or epochs"),
        ({"stage": [{"learn": ["imu"], "bind": ["audio"], "steps": 1}]}, "imu learns but is not bound"),
        ({"modality": {"audio": {}}}, "temperature"),
        ({"fresh": ["nose"]}, "no tower 'nose'"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    with pytest.raises(UsageError) as problem:
        Recipe.of({**GOOD, **change}, "mine.toml")
    assert "mine.toml" in str(problem.value)
    assert message in str(problem.value)


def test_files_that_are_none_are_said(tmp_path):
    with pytest.raises(UsageError, match=r"neither a \.toml file nor one of bundled, paper"):
        Recipe.load("nothing")
    (tmp_path / "x.toml").write_text("seed = ")
    with pytest.raises(UsageError, match=r"x\.toml"):
        Recipe.load(tmp_path / "x.toml")


def test_the_learning_rate_warms_up_and_fades():
    stage = Stage(learn=("audio",), bind=("audio",), steps=100, warmup=10, lr=1.0)
    rates = [stage.lr_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 0.01
