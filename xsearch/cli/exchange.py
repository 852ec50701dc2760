"""`export` and `import`: collections as plain Parquet."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from xsearch.cli import options, output
from xsearch.types import DEFAULT_COLLECTION

__all__ = ["export", "import_"]


def export(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A file NAME.parquet, or a folder for several.")],
    modality: options.Modalities = None,
    where: options.Where = None,
    float32: Annotated[
        bool, typer.Option("--float32", help="Vectors as float32, not as the float16 that is stored.")
    ] = False,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Write items and their vectors as plain Parquet."""
    import xsearch

    collection = xsearch.open(index)
    with _progress_bar() as progress:
        count = collection.export(out, modality=modality, where=where, float32=float32, progress=progress)
    size = sum(file.stat().st_size for file in [out, *out.rglob("*")] if file.is_file())
    typer.echo(f"{out}: {count:,} items from {index}, {size:,} bytes")


def import_(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="Parquet, a folder of it, or one of clip-retrieval's.")
    ],
    index: options.Index = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="What made the vectors, if SOURCE does not say so."),
    ] = None,
    dry_run: options.DryRun = False,
) -> None:
    """Add items with vectors from Parquet or clip-retrieval.

    May be interrupted at any time and started again.
    """
    import xsearch

    with _progress_bar() as progress:
        done = xsearch.Collection.import_(source, index, model, dry_run=dry_run, progress=progress)
    new = output.counts(done.new, "item")
    if dry_run:
        typer.echo(f"would add {new}; nothing was written")
    else:
        typer.echo(f"{index}: added {new} from {source} in {done.seconds:.1f} s")
    for count, what in (
        (done.known, "there already"),
        (done.other, "of files that are there with another content or time, left as they are"),
        (done.unusable, "without a vector that has a direction, left out"),
        (done.scaled, "vectors scaled to length 1"),
    ):
        if count:
            typer.echo(f"{count:>7,}  {what}")


@contextmanager
def _progress_bar() -> Iterator[Callable[[int, int], None]]:
    """A callback that shows how many items are done, on stderr if that is a terminal."""
    from tqdm import tqdm

    with tqdm(unit=" items", unit_scale=True, disable=None, leave=False, dynamic_ncols=True) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
