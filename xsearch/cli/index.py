"""`index`: plan, build, tune and describe the FAISS index of a collection."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli import options, output
from xsearch.cli.group import new_group
from xsearch.cli.table import print_table
from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION, Device

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.index import Plan

__all__ = ["app"]

PAST_ONE = 10_000_000  # items: with 1,024 dimensions their vectors are larger than most machines' memory

app = new_group("Plan, build and tune the index of a collection.")

Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="FACTORY", help="A FAISS factory string with IVF, or Flat."),
]
On = Annotated[Device, typer.Option("--device", help="Device to search on.")]
Memory = Annotated[
    int | None,
    typer.Option("--memory-mb", min=1, metavar="MB", help="Limit for codes and ids in memory."),
]


def _count(text: str) -> int:
    """Parse a number of items, such as 1e9."""
    with suppress(ValueError, OverflowError):
        if (count := int(float(text))) >= 1:
            return count
    raise typer.BadParameter(f"{text!r} is no number of items, such as 250000 or 1e9")


@app.command()
def plan(
    items: Annotated[
        int | None,
        typer.Option("--items", parser=_count, metavar="N", help="Plan for so many items, such as 1e9."),
    ] = None,
    recipe: Recipe = None,
    device: On = "auto",
    memory_mb: Memory = None,
    hours: Annotated[
        float,
        typer.Option("--hours", min=0.01, metavar="H", help="Time to ingest 10 million items or more in."),
    ] = 24.0,
    decode_ms: Annotated[
        float | None,
        typer.Option("--decode-ms", min=0, metavar="MS", help="Milliseconds of a core to decode an item."),
    ] = None,
    embed_ms: Annotated[
        float | None,
        typer.Option("--embed-ms", min=0, metavar="MS", help="Milliseconds of a core to embed an item."),
    ] = None,
    media_kb: Annotated[
        float | None,
        typer.Option("--media-kb", min=0, metavar="KB", help="Media per item; as in the collection."),
    ] = None,
    folder: options.Collection = options.NEAREST,
) -> None:
    """Print which index the items would get, and why.

    For 10 million or more, also what machines they take. Costs per item are the collection's own where it
    knows them, else as measured of pictures.
    """
    collection = _open(folder)
    planned = collection.plan_index(items=items, recipe=recipe, device=device, memory_bytes=_bytes(memory_mb))
    typer.echo(planned.why)
    if planned.n < PAST_ONE:
        return
    media_bytes = None if media_kb is None else 1000 * media_kb
    needs = collection.capacity(
        planned, hours=hours, embed_ms=embed_ms, decode_ms=decode_ms, media_bytes=media_bytes
    )
    for note in needs.notes():
        typer.echo(note)
    print_table(needs.HEADER, needs.rows())


@app.command()
def build(
    recipe: Recipe = None,
    device: On = "auto",
    memory_mb: Memory = None,
    shards: Annotated[
        int | None, typer.Option("--shards", min=1, metavar="N", help="Write the index as so many files.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Join these files into one at the end.")] = False,
    engine: Annotated[
        options.Engine,
        typer.Option("--engine", help="local: add items on this machine; ray: on many that share its files."),
    ] = options.Engine.LOCAL,
    address: options.Address = None,
    folder: options.Folder = DEFAULT_COLLECTION,
) -> None:
    """Train a new index and add all items to it.

    Searches use the old index meanwhile. A --recipe is kept for later builds. So is an index of
    --shards until the next build: what is ingested meanwhile is scanned.
    """
    run = None
    if engine is options.Engine.RAY:
        from xsearch.cluster import Tasks

        if shards is None:
            raise UsageError("--engine ray adds shards in parallel; choose how many with --shards")
        run = Tasks(address)
        run.check()
    elif address is not None:
        raise UsageError("--address is an option of --engine ray")
    if merge and shards is None:
        raise UsageError("--merge joins what --shards writes")
    built = _open(folder).build_index(
        recipe=recipe,
        device=device,
        memory_bytes=_bytes(memory_mb),
        shards=shards,
        merge=merge,
        run=run,
    )
    typer.echo(built.why)


@app.command()
def tune(
    recall: Annotated[
        float, typer.Option("--recall", min=0, max=1, metavar="X", help="Share of the true 10 best to find.")
    ] = 0.95,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", metavar="MS", help="Limit for one query.")
    ] = None,
    plot_file: Annotated[Path | None, options.plot(".svg")] = None,
    folder: options.Folder = DEFAULT_COLLECTION,
) -> None:
    """Measure recall, and keep the cheapest parameters that reach it.

    Items are the queries: for each kind, some of this kind (same) and of the others (cross); and some of any
    kind among all items, by cosine (all) and balanced.
    """
    collection = _open(folder)
    if collection.snapshot().index_path is None:
        typer.echo(f"{folder}: nothing to tune, everything is scanned exactly")
        return
    tuned = collection.tune_index(recall=recall, latency_ms=latency_ms)
    if plot_file is not None:
        from xsearch.index import plot

        kept, about = (tuned.nprobe, tuned.refine), f"{tuned.recipe}, {tuned.n:,} items"
        plot_file.write_text(plot(tuned.points, recall, kept=kept, about=about), encoding="utf-8")
        output.note(f"plot: {plot_file}")
    _print_points(tuned)
    if tuned.recall is not None and tuned.recall < recall:
        output.note(f"a recall of {recall:g} is out of reach; this is the nearest to it")


@app.command()
def info(json: options.JsonObject = False, folder: options.Collection = options.NEAREST) -> None:
    """Print recipe, parameters, recall, coverage and size."""
    about = _open(folder).index_info()
    output.print_json(about) if json else output.print_fields(about)


def _open(folder: str | Path) -> Collection:
    import xsearch

    return xsearch.open(folder)


def _bytes(memory_mb: int | None) -> int | None:
    return None if memory_mb is None else memory_mb * 10**6


def _print_points(plan: Plan) -> None:
    sorts = list(plan.points[0].recalls)
    rows = [
        (
            str(point.nprobe),
            str(point.refine),
            *(f"{point.recalls[sort]:.3f}" for sort in sorts),
            f"{1000 / point.ms_per_query:,.0f}",
            f"{point.latency_ms:.2f}",
            "<-" if (point.nprobe, point.refine) == (plan.nprobe, plan.refine) else "",
        )
        for point in plan.points
    ]
    recalls = [f"recall@10 {sort}" for sort in sorts]
    print_table(("nprobe", "refine", *recalls, "queries/s", "one query ms", "kept"), rows)
