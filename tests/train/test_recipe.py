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
    assert set(names) == {"paper", "bundled", "scenes"}
    for name in names:
        recipe = Recipe.load(name)
        assert Recipe.of(recipe.to_dict()) == recipe


def test_the_paper_is_table_9():
    paper = Recipe.load("paper")
    wanted = {  # temperature, batch, replication, epochs, peak lr, warm-up epochs, weight decay, clip
        "audio": (0.05, 2048, 1.25, 64, 1.6e-3, 2, 0.2, 1),
        "depth": (0.2, 512, 50, 64, 1.6e-3, 2, 0.2, 1),
        "thermal": (0.1, 512, 25, 64, 5e-4, 2, 0.05, 5),
        "imu": (0.2, 512, 1, 8, 5e-4, 2, 0.5, 1),
    }
    for stage, (name, (heat, batch, often, epochs, lr, rising, decay, clip)) in zip(
        paper.stages, wanted.items(), strict=True
    ):
        bind = paper.modality[name]
        assert (stage.learn, stage.bind) == ((name,), (name,))
        assert (bind.temperature, bind.batch, bind.replicate, bind.learned) == (heat, batch, often, False)
        assert (stage.epochs, stage.lr, stage.weight_decay, stage.clip_norm) == (epochs, lr, decay, clip)
        assert stage.warmup * epochs == rising
        assert stage.betas == (0.9, 0.95)
    assert (paper.start, set(paper.fresh)) == ("imagebind", set(wanted))  # pictures and words rest
    assert paper.modality["audio"].image != "strong"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 1}, "no setting 'lr'"),
        ({"seed": "one"}, "not of type int"),
        ({"seed": True}, "not of type int"),
        ({"ema": -1}, "too small"),
        ({"check_steps": 0}, "too small"),
        ({"modality": 3}, "expected tables"),
        ({"modality": {"audio": 3}}, "expected a table"),
        ({"modality": {"audio": {"temperature": "0.05"}}}, "not of type float"),
        ({"modality": {"audio": {"temperature": 0.0}}}, "too small"),
        ({"modality": {"audio": {"temperature": 1, "batch": 0}}}, "too small"),
        ({"modality": {"audio": {"temperature": 1, "image": "medium"}}}, "one of none, weak, strong"),
        ({"modality": {"ears": {"temperature": 1}}}, "no tower 'ears'"),
        ({"stage": 3}, "expected tables"),
        ({"stage": {"learn": ["audio"]}}, "expected tables"),
        ({"stage": [{"learn": "audio", "bind": ["audio"], "steps": 1}]}, "learn = 'audio' is not"),
        ({"stage": [{"learn": [1], "bind": ["audio"], "steps": 1}]}, "learn = [1] is not"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "lr": float("nan")}]}, "lr = nan"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "betas": [0.9]}]}, "betas"),
        ({"stage": [{"learn": ["audio", "audio:lora"], "bind": ["audio"], "steps": 1}]}, "twice"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio", "audio"], "steps": 1}]}, "twice"),
        ({"stage": []}, "no [[stage]]"),
        ({"stage": [{"learn": ["ears"], "bind": ["audio"], "steps": 1}]}, "no tower 'ears'"),
        ({"stage": [{"learn": ["audio:half"], "bind": ["audio"], "steps": 1}]}, "'half' is not one of"),
        ({"stage": [{"learn": ["audio"], "bind": ["depth"], "steps": 1}]}, "[modality.depth] is missing"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"]}]}, "steps or epochs"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "epochs": 2}]}, "steps or epochs"),
        ({"stage": [{"learn": ["imu"], "bind": ["audio"], "steps": 1}]}, "imu learns but is not bound"),
        ({"stage": [{**GOOD["stage"][0], "lrs": {"imu": 1}}]}, "no tower 'imu'; there are audio"),
        ({"stage": [{**GOOD["stage"][0], "lrs": {"audio": 0}}]}, "not all numbers above 0"),
        ({"stage": [{**GOOD["stage"][0], "lrs": 1}]}, "lrs = 1 is not of type dict"),
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
    with pytest.raises(UsageError, match=r"neither a \.toml file nor one of bundled, paper, scenes"):
        Recipe.load("nothing")
    (tmp_path / "mine.toml").write_text(
        '[modality.audio]\ntemperature = 1\n[[stage]]\nlearn = ["audio"]\nbind = ["audio"]\nsteps = 1\n'
    )
    assert Recipe.load(tmp_path / "mine.toml").name == "mine"
    (tmp_path / "x.toml").write_text("seed = ")
    with pytest.raises(UsageError, match=r"x\.toml"):
        Recipe.load(tmp_path / "x.toml")


def test_the_learning_rate_warms_up_and_fades():
    stage = Stage(learn=("audio",), bind=("audio",), steps=100, warmup=0.1, lr=1.0)
    rates = [stage.lr_at(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[-1] < 0.01
