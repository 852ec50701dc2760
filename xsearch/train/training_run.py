"""A training run: pair tables in, a model folder out."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from tqdm import tqdm

from xsearch.errors import UsageError, optional_module
from xsearch.models.checkpoint import load_config, save_model
from xsearch.models.config import SMALL, TOWER_OF
from xsearch.models.precision import training_precision
from xsearch.models.registry import resolve
from xsearch.models.transforms import Preprocess
from xsearch.pairs import BadRow, Pairs, check_pairs
from xsearch.scenes import caption, sample
from xsearch.scenes.world import TRAINING_SEED
from xsearch.system.cores import CORES
from xsearch.system.durable import publish
from xsearch.train.card import CARD, card
from xsearch.train.curves import CURVES, curves
from xsearch.train.gradients import rank
from xsearch.train.held_out import HeldOut
from xsearch.train.loop import train
from xsearch.train.pictures import Pictures
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ROUND, ScenePairs
from xsearch.train.sources import Sources, require_pairs
from xsearch.train.start import Start, start
from xsearch.types import Modality

__all__ = ["Tables", "planned_steps", "read_tables", "run"]

MANIFEST = "run.json"  # the recipe and the tables of a run
CACHE = "cache"  # in its folder: rendered scenes and decoded pictures, which would be made again
ROOM = 1.25  # short side of decoded pictures, relative to the vision tower's: a crop has all its pixels
CAPTIONS = 20_000  # of scenes, to train a tokenizer on
HELD_OUT_SEED, HELD_OUT_ROUNDS = 7, 4

Tables = dict[str, Pairs]  # by the tower of the partners


def read_tables(paths: Sequence[Path], split: str, *, decode: bool = False) -> tuple[Tables, list[BadRow]]:
    """The valid rows of a split by tower, and the problems of the others.

    decode: also decode all media.
    Raises UsageError for a file that is not a pair table, and for two tables of one modality.
    """
    tables: Tables = {}
    bad: list[BadRow] = []
    for path in paths:
        pairs = Pairs(path)
        pairs = pairs.take(pairs.splits == split)
        problems = check_pairs(pairs, decode=decode, pictures=True)
        bad += problems
        invalid = [problem.row - 1 for problem in problems]
        pairs = pairs.take(~np.isin(pairs.rows, invalid))
        for modality in dict.fromkeys(pairs.modalities.tolist()):
            name = TOWER_OF[Modality(modality)]
            if name == "vision":
                raise UsageError(f"{path}: modality {modality}: pictures pair with other modalities only")
            if name in tables:
                raise UsageError(f"{path}: {name} is already in {tables[name].path}; merge the two tables")
            tables[name] = pairs.take(pairs.modalities == modality)
    return tables, bad


def planned_steps(recipe: Recipe, tables: Tables) -> list[int]:
    """The steps of each stage. Raises what would stop a run before its first step: UsageError, ModelError."""
    source = None if recipe.start == "scratch" else resolve(recipe.start).folder
    preprocess = Preprocess(SMALL if source is None else load_config(source)[0])
    kinds = np.zeros(-(-recipe.scenes // ROUND) * ROUND, np.int64)
    scenes = ScenePairs({}, kinds) if recipe.scenes else None
    require_pairs(recipe, tables, scenes)
    if any("lora" in stage.towers.values() for stage in recipe.stages):
        optional_module("peft", "train")
    numbers = range(1, len(recipe.stages) + 1)
    return [Sources(recipe, number, tables, scenes, preprocess, None).steps for number in numbers]


def run(
    recipe: Recipe,
    tables: Tables,
    out: Path,
    *,
    held_out: Mapping[str, Pairs] | None = None,
    device: str = "auto",
    workers: int = 0,
    command: str = "",
) -> Path:
    """Train as the recipe says and write `out/model` with its card; resumes an interrupted run in `out`.

    Under torchrun every process calls this. Raises UsageError if `out` holds a run of another recipe or of
    other tables.
    """
    with _process_group(device) as local_device:
        recipe = dataclasses.replace(recipe, precision=_precision(recipe, out, local_device))
        initial = _rank_0_first(partial(_begin, recipe, tables, out))
        model, preprocess = initial.model, initial.preprocess
        scenes = held_out_scenes = None
        if recipe.scenes:
            render = partial(ScenePairs.render, out / CACHE, preprocess, workers=CORES)
            rounds = -(-recipe.scenes // ROUND)
            scenes = _rank_0_first(partial(render, rounds=rounds, seed=TRAINING_SEED))
            held_out_scenes = _rank_0_first(partial(render, rounds=HELD_OUT_ROUNDS, seed=HELD_OUT_SEED))
        pictures = {}
        if recipe.cache:
            short = int(ROOM * preprocess.config.vision.image_size)
            for name in dict.fromkeys(name for stage in recipe.stages for name in stage.bind):
                decode = partial(
                    Pictures.decode, tables[name], out / CACHE / f"{name}.u8", short=short, workers=CORES
                )
                pictures[name] = _rank_0_first(decode)
        train(
            model,
            preprocess,
            recipe,
            tables,
            out,
            pictures=pictures,
            scenes=scenes,
            held_out=HeldOut(held_out or {}, preprocess, held_out_scenes),
            device=local_device,
            workers=workers // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        )
        folder = out / "model"
        if rank() == 0:
            assert preprocess.tokenizer is not None
            save_model(model, preprocess.tokenizer, folder, words=initial.words, license=recipe.license)
            (folder / CARD).write_text(card(recipe, model, tables, out, command), encoding="utf-8")
            (folder / "recipe.json").write_text(json.dumps(recipe.to_dict(), indent=1), encoding="utf-8")
            try:
                curves(out, folder / CURVES)
            except UsageError as error:
                tqdm.write(f"{CURVES} was not drawn: {error}", file=sys.stderr)
        return folder


def _precision(recipe: Recipe, out: Path, device: str) -> Any:
    """The precision of the recipe; "auto" resolves to that of the run in `out`, else to the fastest."""
    if recipe.precision == "auto" and (out / MANIFEST).exists():
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        return str(manifest["recipe"].get("precision", "fp32"))
    return training_precision(recipe.precision, torch.device(device))


def _begin(recipe: Recipe, tables: Tables, out: Path) -> Start:
    """The initial model. Writes the manifest of the run, or raises UsageError if `out` has another."""
    out.mkdir(parents=True, exist_ok=True)
    manifest = {
        "recipe": recipe.to_dict(),
        "tables": {name: [pairs.path.name, len(pairs)] for name, pairs in tables.items()},
    }
    text = json.dumps(manifest, indent=1)
    path = out / MANIFEST
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{out} holds a run of another recipe, or of tables with other rows; "
            "choose another --out, or delete it"
        )
    initial = start(recipe, _texts(recipe, tables), out)
    if not path.exists():
        with publish(path) as part:
            part.write_text(text, encoding="utf-8")
    return initial


def _texts(recipe: Recipe, tables: Tables) -> Iterator[tuple[str, ...]]:
    """The training texts of each medium."""
    if recipe.scenes:
        yield from ((caption.render(scene),) for scene in sample(CAPTIONS, seed=TRAINING_SEED))
    yield from (pair.texts for pair in tables.get("text", ()))


def _rank_0_first(make: Any) -> Any:
    """The result of `make`, called by rank 0 before the other processes, which then find its files."""
    result = make() if rank() == 0 else None
    if dist.is_initialized():
        dist.barrier()
    return make() if result is None else result


@contextmanager
def _process_group(device: str) -> Iterator[str]:
    """Yield the device of this process, which joins a process group if torchrun has started it."""
    cuda = torch.cuda.is_available() and device != "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ("cuda" if cuda else "cpu") if device == "auto" else device
        return
    local_device = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(local_device)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield local_device
    finally:
        dist.destroy_process_group()
