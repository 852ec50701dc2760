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
        ({"lr": 1}, "lr: unknown setting; expected one of stage, modality, name"),
        (
            {"stage": [{**GOOD["stage"][0], "rate": 1}]},
            "stage 1: rate: unknown setting",
        ),
        ({"modality": {"audio": {"temperature": 1, "cold": 1}}}, "modality.audio.cold: unknown setting"),
        ({"seed": "one"}, "seed = 'one': Input should be a valid integer"),
        ({"seed": True}, "seed = True: Input should be a valid integer"),
        ({"ema": -1}, "ema = -1: Input should be greater than or equal to 0"),
        ({"check_steps": 0}, "check_steps = 0: Input should be greater than 0"),
        ({"modality": 3}, "modality = 3: Input should be an object"),
        ({"modality": {"audio": 3}}, "modality.audio = 3: Input should be an object"),
        (
            {"modality": {"audio": {"temperature": "0.05"}}},
            "audio.temperature = '0.05': Input should",
        ),
        ({"modality": {"audio": {"temperature": 0.0}}}, "temperature = 0.0: Input should be greater"),
        (
            {"modality": {"audio": {"temperature": 1, "batch": 0}}},
            "batch = 0: Input should be greater",
        ),
        ({"modality": {"audio": {"temperature": 1, "image": "medium"}}}, "'none', 'weak' or 'strong'"),
        ({"modality": {"ears": {"temperature": 1}}}, "modality.ears = 'ears': String should match"),
        ({"modality": {"vision": {"temperature": 1}}}, "pattern '^(text|audio|depth|thermal|imu)$'"),
        ({"stage": 3}, "stage = 3: Input should be a valid array"),
        ({"stage": {"learn": ["audio"]}}, "stage: Input should be a valid array"),
        (
            {"stage": [{"learn": "audio", "bind": ["audio"], "steps": 1}]},
            "stage 1: learn = 'audio': Input",
        ),
        (
            {"stage": [{"learn": [1], "bind": ["audio"], "steps": 1}]},
            "stage 1: learn.0 = 1: Input should be",
        ),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "lr": float("nan")}]}, "lr = nan"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "betas": [0.9]}]}, "betas"),
        ({"stage": [{"learn": ["audio", "audio:lora"], "bind": ["audio"], "steps": 1}]}, "twice"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio", "audio"], "steps": 1}]}, "twice"),
        ({"stage": []}, "no [[stage]]"),
        (
            {"stage": [{"learn": ["ears"], "bind": ["audio"], "steps": 1}]},
            "stage 1: learn.0 = 'ears'",
        ),
        ({"stage": [{"learn": ["audio:half"], "bind": ["audio"], "steps": 1}]}, "(:(all|head|lora))?"),
        (
            {"stage": [{"learn": ["depth"], "bind": ["depth"], "steps": 1}]},
            "stage 1: binds depth, and",
        ),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"]}]}, "steps or epochs"),
        ({"stage": [{"learn": ["audio"], "bind": ["audio"], "steps": 1, "epochs": 2}]}, "steps or epochs"),
        ({"stage": [{"learn": ["imu"], "bind": ["audio"], "steps": 1}]}, "imu learns but is not bound"),
        (
            {"stage": [{**GOOD["stage"][0], "lrs": {"imu": 1}}]},
            "stage 1: lrs: imu does not learn",
        ),
        (
            {"stage": [{**GOOD["stage"][0], "lrs": {"audio": 0}}]},
            "stage 1: lrs.audio = 0: Input",
        ),
        ({"stage": [{**GOOD["stage"][0], "lrs": 1}]}, "lrs = 1: Input should be an object"),
        ({"modality": {"audio": {}}}, "modality.audio.temperature: Field required"),
        (
            {"fresh": ["nose"]},
            "'nose': String should match pattern '^(vision|text|",
        ),
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
