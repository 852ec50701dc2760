"""`train`: bind modalities to pictures."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.cli.table import print_table
from xsearch.errors import UsageError
from xsearch.system.cores import CORES

if TYPE_CHECKING:
    from xsearch.pairs import BadRow
    from xsearch.train import Recipe

__all__ = ["train"]

SHOWN = 20  # bad rows


def train(
    ctx: typer.Context,
    tables: Annotated[
        list[Path] | None,
        typer.Argument(metavar="TABLE", help="Pairs: image, other, modality, weight, split, label."),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for checkpoints, log and model.")
    ] = Path("training"),
    recipe: Annotated[
        str, typer.Option("--recipe", metavar="NAME", help="paper, bundled, or a .toml file.")
    ] = "paper",
    start: Annotated[
        str | None,
        typer.Option("--start", metavar="NAME", help="scratch, bundled, imagebind, or a folder."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", min=0, metavar="N", help="Rendered scenes to add.")
    ] = None,
    chunk: Annotated[
        int | None, typer.Option("--chunk", min=1, metavar="N", help="Rows of a batch to compute at once.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, metavar="N", help="Seed of everything random.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=0, metavar="N", help="Decoder processes; else all cores."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check all rows and media, and the recipe if --recipe names one."),
    ] = False,
    device: options.Device = "auto",
) -> None:
    """Train towers on pairs of pictures and other media.

    May be interrupted at any time; run it again to continue. Rows with split "train" are trained on, rows
    with split "val" are measured meanwhile. Use the result with --model DIR/model.

    On several GPUs: torchrun --nproc-per-node N -m xsearch train ...
    """
    from xsearch.train import Recipe, read_tables, run

    paths = tables or []
    chosen = Recipe.load(recipe)
    overrides: dict[str, Any] = {"start": start, "scenes": scenes, "chunk": chunk, "seed": seed}
    chosen = replace(chosen, **{name: value for name, value in overrides.items() if value is not None})
    if not paths and not chosen.scenes:
        raise UsageError("nothing to learn from: give a pair table, or --scenes N")
    if check:
        source = ctx.get_parameter_source("recipe")
        is_named = not paths or (source is not None and source.name != "DEFAULT")
        raise typer.Exit(_check(paths, chosen if is_named else None))
    pairs, bad = read_tables(paths, "train")
    _show(bad, "is left out")
    held_out, _ = read_tables(paths, "val")
    folder = run(
        chosen,
        pairs,
        out,
        held_out=held_out,
        device=device,
        workers=CORES if workers is None else workers,
        command=shlex.join(["xsearch", *sys.argv[1:]]),
    )
    if os.environ.get("RANK", "0") == "0":  # torchrun starts several of us
        output.note(f"the model is in {folder}; use it: xsearch ingest --model {folder}")


def _check(paths: list[Path], recipe: Recipe | None) -> int:
    """Print bad rows, how many good ones there are, and the stages of the recipe; return the exit code."""
    from xsearch.pairs import Pairs
    from xsearch.train import planned_steps, read_tables

    others = (split for path in paths for split in Pairs(path).splits.tolist())
    splits = dict.fromkeys(["train", "val", *others])
    read = {split: read_tables(paths, split, decode=True) for split in splits}
    bad = [row for _, rows in read.values() for row in rows]
    _show(bad, "is bad")
    kinds = dict.fromkeys(kind for tables, _ in read.values() for kind in tables)
    counts = [[f"{len(tables.get(kind, ())):,}" for tables, _ in read.values()] for kind in kinds]
    print_table(("pairs", *splits), [(kind, *row) for kind, row in zip(kinds, counts, strict=True)])
    if recipe is None:
        output.note("no recipe was checked; name one with --recipe")
        return 1 if bad else 0
    stages = zip(recipe.stages, planned_steps(recipe, read["train"][0]), strict=True)
    rows = [
        (str(number), " ".join(stage.learn), " ".join(stage.bind), f"{steps:,}")
        for number, (stage, steps) in enumerate(stages, start=1)
    ]
    print_table(("stage", "learns", "bound to pictures", "steps"), rows)
    return 1 if bad else 0


def _show(bad: list[BadRow], what: str) -> None:
    for row in bad[:SHOWN]:
        output.note(f"{row.table}: row {row.row}, {row.column} {what}: {row.reason}")
    if len(bad) > SHOWN:
        output.note(f"and {len(bad) - SHOWN:,} more")
