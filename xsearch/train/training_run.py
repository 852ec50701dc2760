"""A whole run: tables in, a model folder out."""

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

from xsearch.errors import UsageError
from xsearch.models.checkpoint import save_model
from xsearch.models.config import TOWER_OF
from xsearch.models.precision import training_precision
from xsearch.pairs import BadRow, Pairs, check_pairs
from xsearch.scenes import TRAINING_SEED, caption, sample
from xsearch.system.cores import CORES
from xsearch.system.durable import publish
from xsearch.train.card import CARD, card
from xsearch.train.curves import CURVES, curves
from xsearch.train.gradients import rank
from xsearch.train.held_out import HeldOut
from xsearch.train.loop import train
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ROUND, ScenePairs
from xsearch.train.start import Start, start
from xsearch.types import Modality

__all__ = ["Tables", "read_tables", "run"]

MADE_OF = "run.json"
SAID = 20_000  # captions of scenes, for a tokenizer
HELD_SEED, HELD_ROUNDS = 7, 4

Tables = dict[str, Pairs]  # by the tower beside the pictures


def read_tables(paths: Sequence[Path], split: str) -> tuple[Tables, list[BadRow]]:
    """The good rows of a split by tower, and what is wrong with the others.

    Raises UsageError for a table that is none, and for two tables of one modality.
    """
    tables: Tables = {}
    bad: list[BadRow] = []
    for path in paths:
        pairs = Pairs(path)
        pairs = pairs.take(pairs.splits == split)
        problems = check_pairs(pairs, pictures=True)
        bad += problems
        wrong = [problem.row - 1 for problem in problems]
        pairs = pairs.take(~np.isin(pairs.rows, wrong))
        for modality in dict.fromkeys(pairs.modalities.tolist()):
            name = TOWER_OF[Modality(modality)]
            if name == "vision":
                raise UsageError(f"{path}: modality {modality}: a picture is bound to other media only")
            if name in tables:
                raise UsageError(f"{path}: {name} is in {tables[name].path} already; put them into one table")
            tables[name] = pairs.take(pairs.modalities == modality)
    return tables, bad


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
    """Train as the recipe says, and write `out/model` with its card; go on where `out` has been left.

    Under torchrun every process calls this. Raises UsageError if `out` belongs to another recipe or to
    other tables.
    """
    with _group(device) as here:
        recipe = dataclasses.replace(recipe, precision=_precision(recipe, out, here))
        begun = _first(partial(_begin, recipe, tables, out))
        model, preprocess = begun.model, begun.preprocess
        scenes = seen = None
        if recipe.scenes:
            render = partial(ScenePairs.render, out, preprocess, workers=CORES)
            scenes = _first(partial(render, rounds=-(-recipe.scenes // ROUND), seed=TRAINING_SEED))
            seen = _first(partial(render, rounds=HELD_ROUNDS, seed=HELD_SEED))
        held = HeldOut(held_out or {}, preprocess, seen)
        each = workers // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        train(model, preprocess, recipe, tables, out, scenes=scenes, held_out=held, device=here, workers=each)
        folder = out / "model"
        if rank() == 0:
            assert preprocess.tokenizer is not None
            save_model(model, preprocess.tokenizer, folder, words=begun.words)
            (folder / CARD).write_text(card(recipe, model, tables, out, command), encoding="utf-8")
            (folder / "recipe.json").write_text(json.dumps(recipe.to_dict(), indent=1), encoding="utf-8")
            try:
                curves(out, folder / CURVES)
            except UsageError as problem:
                tqdm.write(f"{CURVES} was not drawn: {problem}", file=sys.stderr)
        return folder


def _precision(recipe: Recipe, out: Path, device: str) -> Any:
    """ "auto" resolved: to that of the run in `out` if there is one, so that it continues as it began."""
    if recipe.precision == "auto" and (out / MADE_OF).exists():
        made_of = json.loads((out / MADE_OF).read_text(encoding="utf-8"))
        return str(made_of["recipe"].get("precision", "fp32"))
    return training_precision(recipe.precision, torch.device(device))


def _begin(recipe: Recipe, tables: Tables, out: Path) -> Start:
    """The model that the recipe starts from; what `out` is made of is written there, or compared with it."""
    out.mkdir(parents=True, exist_ok=True)
    made_of = {
        "recipe": recipe.to_dict(),
        "tables": {name: [pairs.path.name, len(pairs)] for name, pairs in tables.items()},
    }
    text = json.dumps(made_of, indent=1)
    path = out / MADE_OF
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(
            f"{out} holds a run of another recipe, or of tables with other rows; "
            "give another --out, or remove it"
        )
    begun = start(recipe, _texts(recipe, tables), out)
    if not path.exists():
        with publish(path) as part:
            part.write_text(text, encoding="utf-8")
    return begun


def _texts(recipe: Recipe, tables: Tables) -> Iterator[str]:
    """All that is to be read."""
    if recipe.scenes:
        yield from (caption.render(scene) for scene in sample(SAID, seed=TRAINING_SEED))
    for pair in tables.get("text", ()):
        if isinstance(pair.other, str):
            yield pair.other


def _first(make: Any) -> Any:
    """What `make` gives; the first process calls it before the others, which find what it has written."""
    made = make() if rank() == 0 else None
    if dist.is_initialized():
        dist.barrier()
    return make() if made is None else made


@contextmanager
def _group(device: str) -> Iterator[str]:
    """The device of this process, in a group with the others if torchrun has started them."""
    cuda = torch.cuda.is_available() and device != "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield ("cuda" if cuda else "cpu") if device == "auto" else device
        return
    here = f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"
    if cuda:
        torch.cuda.set_device(here)
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield here
    finally:
        dist.destroy_process_group()
