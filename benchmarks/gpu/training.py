"""Training steps of the recipe of the bundled model, on random inputs; and its loop, as a run has it."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from benchmarks.gpu.part import Part
from benchmarks.random_model import batch_of
from xsearch.models import ImageBindConfig, Preprocess, build_tower, load_config
from xsearch.models.imagebind import lay_out
from xsearch.models.precision import training_precision
from xsearch.models.registry import BUNDLED
from xsearch.train.gradients import backward
from xsearch.train.loop import train
from xsearch.train.loss import info_nce
from xsearch.train.recipe import Recipe, Stage
from xsearch.train.scene_pairs import CAPTIONS, ROUND, ScenePairs
from xsearch.train.start import start
from xsearch.train.state import State

LARGER = (1024, 4096)  # than the recipe's batch, of pictures and texts
STEPS = (5, 5, 25)  # of runs; the first warms up, and all begin and end with the same
SCENES = 2  # the stage of the recipe that learns from scenes, too: vision and text


def training(part: Part) -> None:
    """Media are ready on the device in single steps, not in the loop."""
    recipe, (config, _) = Recipe.load("bundled"), load_config(BUNDLED)
    stages = {(stage.learn, stage.size): stage for stage in recipe.stages}.values()  # not twice the same
    if part.tiny:  # without bfloat16, in which a CPU may be slow, as it is with Muon
        recipe, stages = replace(recipe, precision="fp32", muon=False), list(stages)[:1]
    for stage in stages:
        batch = 4 if part.tiny else recipe.modality[stage.bind[0]].batch
        for size in (batch, *LARGER) if "vision" in stage.towers and not part.tiny else (batch,):
            figures = partial(_step, part, config, recipe, stage, size)
            part.measure(
                figures, learn=", ".join(stage.learn), side=stage.size or None, batch=size, least_s=3
            )
    figures = partial(_loop, part, config, recipe)
    part.measure(figures, learn=f"{', '.join(recipe.stages[SCENES].learn)}: the loop", batch=ROUND)


def _step(part: Part, config: ImageBindConfig, recipe: Recipe, stage: Stage, size: int) -> dict:
    """One optimiser step after the other. The pictures of a tower that does not learn are embedded before."""
    device, name = part.device, stage.bind[0]
    precision = training_precision(recipe.precision, device)
    towers = {each: build_tower(config, each).to(device).train() for each in stage.towers}
    for tower in towers.values():
        lay_out(tower)
    inputs = {each: batch_of(each, size, config).to(device) for each in towers}
    if "vision" in inputs:
        side = stage.size or config.vision.image_size
        inputs["vision"] = torch.randn(size, 3, side, side, device=device)
    else:
        towers["vision"] = nn.Identity()
        inputs["vision"] = nn.functional.normalize(torch.randn(size, config.embed_dim, device=device), dim=1)
    learners = nn.ModuleDict({each: towers[each] for each in stage.towers})
    state = State(learners, nn.ParameterDict(), stage, recipe.ema, muon=recipe.muon)
    losses = []

    def step() -> None:
        state.prepare(stage.lr)
        loss = backward(
            towers,
            inputs,
            lambda rows: info_nce(rows["vision"], rows[name], recipe.modality[name].temperature),
            autocast=lambda: torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"),
        )
        nn.utils.clip_grad_norm_(state.parameters, stage.clip_norm)
        state.advance()
        losses.append(loss)

    if part.on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    took = part.seconds(step)
    return {
        "type": precision,
        "ms": 1000 * took,
        "items/s": size / took,
        "MB": torch.cuda.max_memory_allocated(device) / 1e6 if part.on_gpu else None,
        "loss": f"{losses[0]:.3f} to {losses[-1]:.3f}",
    }


def _loop(part: Part, config: ImageBindConfig, recipe: Recipe) -> dict:
    """`xsearch.train` with random scenes: what a step takes by the difference of two runs."""
    rng = np.random.default_rng(0)
    rounds = 1 if part.tiny else 4
    arrays = {}
    for name in ("vision", "text"):
        some = batch_of(name, rounds * ROUND, config).numpy()
        arrays[name] = some.astype(np.float16)
        if name == "text":
            arrays[name] = np.repeat(some.astype(np.int16)[:, None], CAPTIONS, axis=1)
    scenes = ScenePairs(arrays, rng.permutation(np.tile(np.arange(ROUND), rounds)))
    counts = (1, 2) if part.tiny else STEPS
    took = []
    for steps in counts:
        stage = replace(recipe.stages[SCENES], steps=steps, epochs=0.0)
        stage = replace(stage, size=32) if part.tiny else stage
        short = replace(recipe, start="bundled", stages=(stage,), cache=False)
        with TemporaryDirectory() as folder:
            model = start(short, [], Path(folder)).model
            began = time.perf_counter()
            train(model, Preprocess(config), short, {}, Path(folder), scenes=scenes, device=str(part.device))
            took.append(time.perf_counter() - began)
    step_s = (took[-1] - took[-2]) / (counts[-1] - counts[-2])
    return {"ms": 1000 * step_s, "items/s": ROUND / step_s}
