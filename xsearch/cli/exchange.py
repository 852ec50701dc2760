"""`export`, `import` and `push`: collections as plain files, and at URLs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xsearch.cli import options, output
from xsearch.types import DEFAULT_COLLECTION, KEPT_GENERATIONS

__all__ = ["export", "import_", "push"]


def _writable(out: Path) -> Path | None:
    return out if out.is_dir() else options.writable(out)


def export(
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT",
            callback=_writable,
            help="NAME.parquet, .jsonl, .csv (without vectors) or .npy (vectors, with the other columns in "
            "NAME.parquet), or a folder for Parquet files of bounded size.",
        ),
    ],
    modality: options.Modalities = None,
    where: options.Where = None,
    float32: Annotated[
        bool, typer.Option("--float32", help="Write the vectors in Parquet as float32, not float16.")
    ] = False,
    keep_formulas: options.KeepFormulas = False,
    folder: options.Collection = options.NEAREST,
) -> None:
    """Write items and vectors: Parquet, JSON lines, CSV or NumPy."""
    import xsearch

    collection = xsearch.open(folder)
    with output.progress_bar("items") as progress:
        count = collection.export(
            out,
            modality=modality,
            where=where,
            float32=float32,
            keep_formulas=keep_formulas,
            progress=progress,
        )
    size = sum(file.stat().st_size for file in [out, *out.rglob("*")] if file.is_file())
    output.say(f"{out}: {count:,} items from {folder}, {size:,} bytes")
    if out.suffix.lower() == ".npy":
        output.note(f"the columns of its rows are in {out.with_suffix('.parquet')}")


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="A .parquet, .jsonl or .npy file, or a folder of Parquet or clip-retrieval.",
        ),
    ],
    folder: options.Folder = DEFAULT_COLLECTION,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME", help="Model of the vectors, if SOURCE does not name it."),
    ] = None,
    trust_paths: options.TrustPaths = False,
    dry_run: options.DryRun = False,
) -> None:
    """Add items with vectors from an export, Parquet, clip-retrieval.

    May be interrupted at any time; run it again to continue. Files that SOURCE names are not opened, unless
    --trust-paths or an ingest names them too.
    """
    import xsearch

    with output.progress_bar("items") as progress:
        done = xsearch.Collection.import_(
            source, folder, model, trust_paths=trust_paths, dry_run=dry_run, progress=progress
        )
    new = output.counts(done.new, "item")
    if dry_run:
        output.say(f"would add {new}; nothing was written")
    else:
        output.say(f"{folder}: added {new} from {source} in {done.seconds:.1f} s")
    for count, what in (
        (done.known, "there already"),
        (done.other, "of files that are there with another content or time, left as they are"),
        (done.unusable, "without a vector that has a direction, left out"),
        (done.scaled, "vectors scaled to length 1"),
    ):
        if count:
            output.say(f"{count:>7,}  {what}")


def push(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Where, such as s3://bucket/name: for this collection alone.")
    ],
    keep: Annotated[
        int,
        typer.Option("--keep", min=1, metavar="N", help="Generations that stay there; older are deleted."),
    ] = KEPT_GENERATIONS,
    folder: options.Collection = options.NEAREST,
) -> None:
    """Publish a collection at a URL, for others to search.

    Only what is not there yet is sent. May be interrupted at any time; run it again to continue. Every
    command that reads a collection takes the URL as its --collection; servers follow later pushes.
    """
    import xsearch

    with output.progress_bar("B") as progress:
        done = xsearch.open(folder).push(url, keep=keep, progress=progress)
    sent = (
        f"{output.plural(done.files, 'file')}, {done.bytes:,} bytes sent" if done.files else "nothing to send"
    )
    output.say(f"{url}: generation {done.generation} of {folder}, {sent}")
    if done.deleted:
        output.note(f"{output.plural(done.deleted, 'file')} of older generations deleted")
