"""Batches and the loop, on random numbers and towers of sixteen dimensions."""

from __future__ import annotations

import io
import json
import socket
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from PIL import Image

from xsearch.errors import ModelError, UsageError
from xsearch.models.config import SMALL
from xsearch.models.imagebind import ImageBind
from xsearch.models.tokenizer import train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.pairs import read_pairs
from xsearch.train import Bind, HeldOut, Recipe, ScenePairs, Stage, train
from xsearch.train.scene_pairs import CAPTIONS, GRID, ROUND

TINY = replace(
    SMALL,
    embed_dim=8,
    **{
        name: replace(getattr(SMALL, name), width=16, depth=1, heads=2, stem=(), blocks=())
        for name in ("vision", "text", "audio", "depth", "thermal", "imu")
    },
)
TINY = replace(  # one with batch norm, and one with dropout
    TINY, vision=replace(TINY.vision, stem=(4,)), imu=replace(TINY.imu, head_dropout=0.5)
)


@pytest.fixture(scope="module")
def pairs() -> ScenePairs:
    rng = np.random.default_rng(0)
    n, c = 2 * ROUND, TINY
    shapes = {
        "vision": (n, 3, c.vision.image_size, c.vision.image_size),
        "audio": (n, c.audio.clips, 1, c.audio.mels, c.audio.frames),
        "depth": (n, 1, c.depth.image_size, c.depth.image_size),
        "thermal": (n, 1, c.thermal.image_size, c.thermal.image_size),
        "imu": (n, 6, c.imu.samples),
    }
    arrays = {
        name: rng.standard_normal(shape, np.float32).astype(np.float16) for name, shape in shapes.items()
    }
    arrays["text"] = rng.integers(1, c.text.vocab - 1, (n, CAPTIONS, c.text.context)).astype(np.int16)
    arrays["text"][..., 5] = c.text.vocab - 1
    return ScenePairs(arrays, rng.permutation(np.repeat(np.arange(ROUND), 2)))


def test_a_batch_holds_every_kind_once_and_an_epoch_every_scene(pairs):
    numbered = replace(pairs, arrays={"imu": np.arange(2 * ROUND)})
    rows = [numbered.batch(step, [3], ["imu"])["imu"].long().numpy() for step in range(2)]
    assert all(sorted(pairs.kinds[r]) == list(range(ROUND)) for r in rows)
    assert sorted(np.concatenate(rows)) == list(range(2 * ROUND))


def test_the_sound_of_an_empty_place_comes_with_any_picture_of_it(pairs):
    numbered = replace(pairs, arrays={"vision": np.arange(2 * ROUND), "audio": np.arange(2 * ROUND)[:, None]})
    seen = set()
    for step in range(20):
        batch = {
            name: x.long().ravel()
            for name, x in numbered.batch(step, [3], ["vision", "audio"], silent=True).items()
        }
        kinds = {name: pairs.kinds[rows].reshape(GRID) for name, rows in batch.items()}
        assert (kinds["vision"][1:] == kinds["audio"][1:]).all()
        assert (kinds["vision"][0] % GRID[1] == kinds["audio"][0]).all()  # the same places
        seen |= set(kinds["vision"][0] // GRID[1])
    assert seen == set(range(GRID[0]))


BINDS = {name: Bind(temperature=0.1, batch=16) for name in ("text", "audio", "depth", "thermal", "imu")}


def recipe(*stages: tuple[tuple[str, ...], tuple[str, ...], int], **settings) -> Recipe:
    """Of (learn, bind, steps)."""
    made = tuple(Stage(learn=learn, bind=bind, steps=steps) for learn, bind, steps in stages)
    return Recipe(**({"modality": BINDS, "scenes": 1, "stages": made, "precision": "fp32"} | settings))


def run(given: Recipe, folder, tables=None, **how) -> ImageBind:
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["red green blue"], TINY.text.vocab, context=TINY.text.context)
    config = replace(TINY, text=replace(TINY.text, vocab=max(tokenizer.size, TINY.text.vocab)))
    return train(ImageBind(config), Preprocess(config, tokenizer), given, tables or {}, folder, **how)


@dataclass(frozen=True)
class PowerFails(ScenePairs):
    """The same pairs, until the power fails in the second step of this modality."""

    during: str = ""

    def batch(self, step, seed, names, **how):
        if step == 1 and self.during in names:
            raise KeyboardInterrupt
        return super().batch(step, seed, names, **how)


@pytest.mark.parametrize("during", ["text", "imu"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_run_ends_where_another_would_have(pairs, tmp_path, during, ema):
    given = recipe((("vision", "text"), ("text", "audio"), 2), (("imu",), ("imu",), 3), ema=ema)
    whole = run(given, tmp_path / "whole", scenes=pairs)
    failing = PowerFails(pairs.arrays, pairs.kinds, during)
    with pytest.raises(KeyboardInterrupt):
        run(given, tmp_path / "cut", scenes=failing, checkpoint_s=0)
    resumed = run(given, tmp_path / "cut", scenes=pairs)
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_what_rests_does_not_move(pairs, tmp_path):
    model = run(recipe((("audio",), ("audio",), 1), (("imu:head",), ("imu",), 1)), tmp_path, scenes=pairs)
    audio_only = run(recipe((("audio",), ("audio",), 1)), tmp_path / "none", scenes=pairs, checkpoint_s=0)
    torch.manual_seed(0)
    start = ImageBind(model.config)
    for name in ("vision", "text", "depth", "thermal"):
        torch.testing.assert_close(model.towers[name].state_dict(), start.towers[name].state_dict())
    moved = {
        name
        for name, parameter in model.towers["imu"].named_parameters()
        if not torch.equal(parameter, start.towers["imu"].get_parameter(name))
    }
    assert moved
    assert all(name.startswith("head.") for name in moved)
    torch.testing.assert_close(model.towers["audio"].state_dict(), audio_only.towers["audio"].state_dict())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_tower_may_have_its_own_learning_rate(pairs, tmp_path):
    given = recipe((("vision", "text"), ("text",), 2))
    slow = replace(given.stages[0], weight_decay=0.0, lrs={"text": 1e-9})
    model = run(replace(given, stages=(slow,)), tmp_path, scenes=pairs)
    torch.manual_seed(0)
    start = ImageBind(model.config)
    moved = {
        name: max(
            float((x - y).detach().abs().max())
            for x, y in zip(model.towers[name].parameters(), start.towers[name].parameters(), strict=True)
        )
        for name in ("vision", "text")
    }
    assert moved["text"] < 1e-7
    assert moved["vision"] > 1e-4


def test_lora_changes_only_the_blocks_and_leaves_a_plain_tower(pairs, tmp_path):
    pytest.importorskip("peft", reason="needs the extra train")
    model = run(recipe((("imu:lora",), ("imu",), 2)), tmp_path, scenes=pairs)
    torch.manual_seed(0)
    start = ImageBind(model.config).towers["imu"].state_dict()
    state = model.towers["imu"].state_dict()
    assert state.keys() == start.keys()
    moved = {name for name in state if not torch.equal(state[name], start[name])}
    assert moved
    assert all(name.startswith("trunk.blocks.") for name in moved)


def test_a_loss_that_stays_infinite_ends_the_run(pairs, tmp_path):
    spoilt = replace(pairs, arrays=pairs.arrays | {"imu": np.full_like(pairs.arrays["imu"], np.nan)})
    with pytest.raises(ModelError, match="not been finite"):
        run(recipe((("imu",), ("imu",), 40)), tmp_path, scenes=spoilt)


@dataclass(frozen=True)
class Spoilt(ScenePairs):
    """The second step has a picture that is no number."""

    def batch(self, step, seed, names, **how):
        made = super().batch(step, seed, names, **how)
        if step == 1:
            made["vision"][3, 0, 5, 5] = np.nan
        return made


def test_a_spoilt_step_leaves_nothing_behind(pairs, tmp_path):
    spoilt = Spoilt(pairs.arrays, pairs.kinds)
    model = run(recipe((("vision",), ("imu",), 4), ema=0.9), tmp_path, scenes=spoilt)
    for name, x in model.towers["vision"].state_dict().items():
        assert torch.isfinite(x).all(), name
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert "norm" in lines[-1]


def test_a_modality_of_weight_0_teaches_nothing(pairs, tmp_path):
    binds = {"imu": Bind(temperature=0.1, weight=0.0)}
    given = recipe((("imu",), ("imu",), 2), modality=binds)
    given = replace(given, stages=(replace(given.stages[0], weight_decay=0.0),))
    model = run(given, tmp_path, scenes=pairs)
    torch.manual_seed(0)
    start = ImageBind(model.config).towers["imu"].state_dict()
    torch.testing.assert_close(model.towers["imu"].state_dict(), start)


def test_without_held_out_pairs_no_stage_ends_early(pairs, tmp_path):
    given = recipe((("imu:head",), ("imu",), 5), check_steps=1, patience=1)
    run(given, tmp_path, scenes=pairs, held_out=HeldOut({}, Preprocess(TINY)))
    assert torch.load(tmp_path / "1-imu.pt", weights_only=True)["step"] == 5


def test_pairs_that_are_missing_are_said(tmp_path):
    with pytest.raises(UsageError, match="no pairs of pictures and audio"):
        run(recipe((("audio",), ("audio",), 1), scenes=0), tmp_path)


def test_a_stage_may_leave_the_scenes_out(pairs, tmp_path):
    given = recipe((("audio",), ("audio",), 1))
    with pytest.raises(UsageError, match="no pairs of pictures and audio"):
        run(replace(given, stages=(replace(given.stages[0], scenes=False),)), tmp_path, scenes=pairs)


def test_a_learned_temperature_moves(pairs, tmp_path):
    binds = {"imu": Bind(temperature=0.1, learned=True)}
    run(recipe((("imu",), ("imu",), 3), modality=binds), tmp_path, scenes=pairs)
    scale = torch.load(tmp_path / "1-imu.pt", weights_only=True)["scales"]["imu"]
    assert float(scale) != pytest.approx(-np.log(0.1), abs=1e-6)


# ---------------------------------------------------------------- tables


COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240)}


@pytest.fixture(scope="module")
def coloured(tmp_path_factory):
    """Two tables of pictures of one colour: with its name, and with a tone of its own. 64 pairs each."""
    import pyarrow as pa
    import soundfile

    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    paths = {}
    for modality in ("text", "audio"):
        rows = []
        for number in range(96):
            name = list(COLOURS)[number % 4]
            pixels = np.clip(np.array(COLOURS[name]) + rng.normal(0, 25, (16, 16, 3)), 0, 255)
            picture = io.BytesIO()
            Image.fromarray(pixels.astype(np.uint8)).save(picture, "PNG")
            other: str | bytes = f"something {name}"
            if modality == "audio":
                hz = 300 * 2 ** (number % 4)
                wave = np.sin(2 * np.pi * hz * np.arange(32_000) / 16_000) * 0.5
                sound = io.BytesIO()
                soundfile.write(sound, wave + rng.normal(0, 0.02, len(wave)), 16_000, "PCM_16", format="WAV")
                other = sound.getvalue()
            split = "train" if number < 64 else "val"
            rows.append(
                {
                    "image": picture.getvalue(),
                    "other": other,
                    "modality": modality,
                    "split": split,
                    "label": name,
                }
            )
        paths[modality] = folder / f"{modality}.arrow"
        table = pa.Table.from_pylist(rows)
        with pa.OSFile(str(paths[modality]), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write(table)
    return paths


def split(paths, name: str):
    return {modality: read_pairs(path, split=name) for modality, path in paths.items()}


def test_words_and_sounds_meet_though_they_were_never_paired(coloured, tmp_path):
    """64 pairs are learned by heart, held-out ones follow, and sound finds the word: chance is 0.25."""
    binds = {name: Bind(temperature=0.1, batch=16, image="weak") for name in ("text", "audio")}
    stages = (
        Stage(learn=("vision", "text"), bind=("text",), steps=60, lr=3e-3),
        Stage(learn=("audio",), bind=("audio",), steps=60, lr=3e-3),
    )
    given = Recipe(modality=binds, stages=stages, check_steps=60, ema=0.9, precision="fp32")
    torch.manual_seed(0)
    words = [f"something {name}" for name in COLOURS]
    tokenizer = train_tokenizer(words, 400, context=TINY.text.context)
    small = {name: replace(getattr(TINY, name), width=32, stem=()) for name in ("vision", "text", "audio")}
    config = replace(TINY, embed_dim=16, **small)
    config = replace(config, text=replace(config.text, vocab=tokenizer.size))
    preprocess = Preprocess(config, tokenizer)
    held_out = HeldOut(split(coloured, "val"), preprocess)
    model = train(ImageBind(config), preprocess, given, split(coloured, "train"), tmp_path, held_out=held_out)
    by_heart = HeldOut(split(coloured, "train"), preprocess).matrix(model, torch.device("cpu"))
    assert by_heart["text/vision>text"] == 1.0
    found = held_out.matrix(model, torch.device("cpu"))
    assert found["audio>text"] >= 0.7
    assert found["text>audio"] >= 0.7
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if line["stage"] == "1-vision-text" and "loss" in line]
    assert losses[-1] < np.log(4) + 0.3  # of 16 rows some four are right; it starts at log(16)
    assert any("audio>text" in line for line in lines)


def test_a_stage_ends_when_held_out_pairs_get_no_better(coloured, tmp_path):
    given = recipe((("text:head",), ("text",), 50), check_steps=1, patience=2, scenes=0)
    given = replace(given, modality={"text": Bind(temperature=0.1, batch=16, image="none")})
    tables, held_out = split(coloured, "train"), split(coloured, "val")
    tokenizer = train_tokenizer(["something red"], TINY.text.vocab, context=TINY.text.context)
    config = replace(TINY, text=replace(TINY.text, vocab=tokenizer.size))
    preprocess = Preprocess(config, tokenizer)
    torch.manual_seed(0)
    held = HeldOut({"text": held_out["text"]}, preprocess)
    train(ImageBind(config), preprocess, given, {"text": tables["text"]}, tmp_path, held_out=held)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert max(steps) < 50


# ---------------------------------------------------------------- two processes


PLAIN = replace(TINY, vision=replace(TINY.vision, stem=()), imu=replace(TINY.imu, head_dropout=0.0))


def _with_tables(paths, folder) -> ImageBind:
    """Sounds and words, labels and chunks, and looks at held-out pairs."""
    torch.set_num_threads(1)
    tokenizer = train_tokenizer(["something red"], TINY.text.vocab, context=TINY.text.context)
    config = replace(PLAIN, text=replace(PLAIN.text, vocab=tokenizer.size))
    preprocess = Preprocess(config, tokenizer)
    binds = {
        "text": Bind(temperature=0.1, batch=16, learned=True),
        "audio": Bind(temperature=0.1, batch=8, balanced=True),
    }
    stages = (Stage(learn=("vision", "text", "audio"), bind=("text", "audio"), steps=3, clip_norm=0.5),)
    settings = {"check_steps": 2, "patience": 5, "chunk": 3, "ema": 0.5, "precision": "fp32"}
    given = Recipe(modality=binds, stages=stages, **settings)
    torch.manual_seed(0)
    held_out = HeldOut(split(paths, "val"), preprocess)
    return train(ImageBind(config), preprocess, given, split(paths, "train"), folder, held_out=held_out)


def _one_of_two(rank: int, port: int, paths, folder) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    model = _with_tables(paths, folder)
    torch.save(model.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_train_what_one_does(coloured, tmp_path):
    with socket.socket() as waiting:
        waiting.bind(("127.0.0.1", 0))
        port = waiting.getsockname()[1]
    one = _with_tables(coloured, tmp_path / "one").state_dict()
    (tmp_path / "two").mkdir()
    mp.spawn(_one_of_two, args=(port, coloured, tmp_path / "two"), nprocs=2)
    for rank in range(2):
        other = torch.load(tmp_path / "two" / f"{rank}.pt", weights_only=True)
        for name, x in one.items():
            y = other[name]
            # Where no learned key stands beside them, softmax does not see the bias of the keys: its gradient
            # is rounding, which Adam makes large.
            if name.endswith("in_proj_bias") and name.replace("in_proj_bias", "bias_k") not in one:
                x, y = (torch.cat([bias.chunk(3)[0], bias.chunk(3)[2]]) for bias in (x, y))
            torch.testing.assert_close(y, x, atol=1e-5, rtol=1e-4, msg=f"{rank}: {name}")
    logs = [(tmp_path / name / "log.jsonl").read_text().splitlines() for name in ("one", "two")]
    assert len(logs[0]) == len(logs[1])
