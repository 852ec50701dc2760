"""A whole run: tables in, a model folder out."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from xsearch.errors import UsageError
from xsearch.models.checkpoint import save_model
from xsearch.models.config import TOWER_OF, TOWERS
from xsearch.models.vocabulary import save_words
from xsearch.pairs import BadRow, Pairs, check_pairs
from xsearch.scenes import caption, sample
from xsearch.train.card import CARD, CURVES, card, curves
from xsearch.train.check import HeldOut
from xsearch.train.loop import train
from xsearch.train.recipe import Recipe
from xsearch.train.scenes import ROUND, SEED, ScenePairs
from xsearch.train.start import start
from xsearch.types import Modality

__all__ = ["Tables", "read_tables", "run"]

RECIPE = "recipe.json"
CAPTIONS = 20_000  # of scenes, for a tokenizer
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
        pairs = pairs.take(np.flatnonzero(pairs.splits == split))
        problems = check_pairs(pairs)
        bad += problems
        wrong = {problem.row - 1 for problem in problems}
        pairs = pairs.take(np.array([row not in wrong for row in pairs.rows], bool))
        for modality in dict.fromkeys(pairs.modalities.tolist()):
            name = TOWER_OF[Modality(modality)]
            if name == "vision":
                raise UsageError(f"{path}: modality {modality}: a picture is bound to other media only")
            if name in tables:
                raise UsageError(f"{path}: {name} is in {tables[name].path} already; put them into one table")
            tables[name] = pairs.take(np.flatnonzero(pairs.modalities == modality))
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

    Under torchrun every process calls this. Raises UsageError if `out` belongs to another recipe.
    """
    with _processes(device) as (here, rank):
        out.mkdir(parents=True, exist_ok=True)
        _remember(out / RECIPE, recipe)
        model, preprocess = start(recipe, _texts(recipe, tables))
        assert preprocess.tokenizer is not None
        scenes, seen = None, None
        if recipe.scenes:
            cores = len(os.sched_getaffinity(0))
            rounds, config = -(-recipe.scenes // ROUND), model.config

            def rendered(rounds: int, seed: int) -> ScenePairs:
                assert preprocess.tokenizer is not None
                return ScenePairs.render(
                    out, config, preprocess.tokenizer, rounds=rounds, workers=cores, seed=seed
                )

            for turn in (0, 1):  # the first process renders, the others read
                if (rank > 0) == turn:
                    scenes, seen = rendered(rounds, SEED), rendered(HELD_ROUNDS, HELD_SEED)
                if dist.is_initialized():
                    dist.barrier()
        held = HeldOut(held_out or {}, preprocess, seen)
        train(
            model, preprocess, recipe, tables, out, scenes=scenes, held_out=held, device=here, workers=workers
        )
        folder = out / "model"
        if rank == 0:
            save_model(model, preprocess.tokenizer, folder)
            if "text" in (TOWERS if recipe.start == "scratch" else recipe.fresh):
                save_words(_texts(recipe, tables), folder)
            (folder / CARD).write_text(card(recipe, model, tables, out, command), encoding="utf-8")
            curves(out, folder / CURVES)
        return folder


def _texts(recipe: Recipe, tables: Tables) -> Iterator[str]:
    """All that a tokenizer should be able to read well."""
    if recipe.scenes:
        yield from (caption.render(scene) for scene in sample(CAPTIONS, seed=SEED))
    for pair in tables.get("text", ()):
        if isinstance(pair.other, str):
            yield pair.other


def _remember(path: Path, recipe: Recipe) -> None:
    text = json.dumps(recipe.to_dict(), indent=1)
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UsageError(f"{path.parent} holds a run of another recipe; give another --out, or remove it")
    path.write_text(text, encoding="utf-8")


@contextmanager
def _processes(device: str) -> Iterator[tuple[str, int]]:
    """The device and the number of this process; in a group with the others, if torchrun has started them."""
    cuda = torch.cuda.is_available() and device != "cpu"
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield (("cuda" if cuda else "cpu") if device == "auto" else device), 0
        return
    dist.init_process_group("nccl" if cuda else "gloo")
    try:
        yield (f"cuda:{os.environ['LOCAL_RANK']}" if cuda else "cpu"), dist.get_rank()
    finally:
        dist.destroy_process_group()
