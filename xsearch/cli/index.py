"""`index`: how a collection is searched: plan, build, measure and describe its FAISS index."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli import options, output
from xsearch.errors import StoreError, UsageError
from xsearch.types import DEFAULT_COLLECTION

if TYPE_CHECKING:
    from xsearch.index import Index, OperatingPoint, Plan
    from xsearch.store import Snapshot

__all__ = ["app"]

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Plan, build and tune the index of a collection.",
)


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


Recipe = Annotated[
    str | None,
    typer.Option("--recipe", metavar="FACTORY", help="A FAISS factory string with IVF, or Flat."),
]
On = Annotated[Device, typer.Option("--device", help="Search on.")]
Memory = Annotated[
    int | None,
    typer.Option("--memory-mb", min=1, metavar="MB", help="What codes and ids may take in memory."),
]


@app.command()
def plan(
    items: Annotated[
        int | None, typer.Option("--items", min=1, metavar="N", help="As if there were so many.")
    ] = None,
    recipe: Recipe = None,
    device: On = Device.AUTO,
    memory_mb: Memory = None,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Say in one paragraph which index the items would get, and why."""
    typer.echo(_plan(_snapshot(index), items, recipe, device, memory_mb).why)


@app.command()
def build(
    recipe: Recipe = None,
    device: On = Device.AUTO,
    memory_mb: Memory = None,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Train a new index on a sample of the items and put all of them in.

    Searches go on with the old one meanwhile. A recipe that is given is kept for later.
    """
    from xsearch.derive import keep_index
    from xsearch.index import new_index
    from xsearch.store import Store

    with Store.open(index).writer() as writer:
        made = new_index(writer.snapshot, device=device.value, recipe=recipe, memory_bytes=_bytes(memory_mb))
        keep_index(writer, made)
        plan = made.plan if made else _plan(writer.snapshot, None, recipe, device, memory_mb)
        typer.echo(plan.why)
        writer.commit()


@app.command()
def tune(
    recall: Annotated[
        float, typer.Option("--recall", min=0, max=1, help="Share of the true 10 best to be found.")
    ] = 0.95,
    latency_ms: Annotated[
        float | None, typer.Option("--latency-ms", metavar="MS", help="What one query may take at most.")
    ] = None,
    plot_file: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="Also draw it, as SVG.")
    ] = None,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Measure recall against the exact answer, and keep the cheapest that is enough.

    Items are the queries: for each kind, some of this kind (same) and of the others (cross).
    """
    from xsearch.derive import keep_index
    from xsearch.index import plot, tune_on
    from xsearch.store import Store

    with Store.open(index).writer() as writer:
        snapshot = writer.snapshot
        if plot_file is not None and plot_file.suffix.lower() != ".svg":
            raise UsageError(f"--plot {plot_file}: expected a name that ends in .svg")
        tuned, points = tune_on(_index(snapshot), snapshot, target=recall, latency_ms=latency_ms)
        keep_index(writer, tuned)
        writer.commit()
    _print_points(tuned.plan, points)
    if tuned.plan.recall is not None and tuned.plan.recall < recall:
        output.note(f"a recall of {recall:g} is out of reach; this is the nearest to it")
    if plot_file is not None:
        plot_file.write_text(plot(points, recall), encoding="utf-8")
        output.note(f"plot: {plot_file}")


@app.command()
def info(
    index: options.Index = DEFAULT_COLLECTION,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print recipe, parameters, measured recall, coverage and size."""
    snapshot = _snapshot(index)
    if snapshot.index_path is None:
        about: dict[str, object] = {"recipe": "Flat", "why": "everything is scanned exactly"}
    else:
        found = _index(snapshot)
        plan = found.plan
        names = (
            "recipe",
            "device",
            "lists",
            "nprobe",
            "refine",
            "recall",
            "filtered",
            "growth",
            "sample",
            "error",
            "why",
        )
        about = {name: getattr(plan, name) for name in names}
        inside = int(found.covers(snapshot.ids).sum())
        about |= {
            "trained_for": plan.n,
            "items": len(snapshot),
            "covered": inside,
            "removed": len(found.ids) - inside,
            "bytes": sum(file.stat().st_size for file in snapshot.index_path.iterdir()),
        }
    if json:
        output.print_json(about)
        return
    for name, value in about.items():
        if value is not None:
            typer.echo(f"{name:<11} {f'{value:,}' if isinstance(value, int) else value}")


def _snapshot(index: Path) -> Snapshot:
    from xsearch.store import Store

    return Store.open(index).snapshot()


def _index(snapshot: Snapshot) -> Index:
    """The one that the collection has; there must be one."""
    from xsearch.index import Index

    if snapshot.index_path is None:
        raise StoreError(
            f"{snapshot.path} has no index, everything is scanned exactly; make one with xsearch index build"
        )
    return Index.load(snapshot.index_path, snapshot.manifest.index_digests)


def _plan(
    snapshot: Snapshot, items: int | None, recipe: str | None, device: Device, memory_mb: int | None
) -> Plan:
    from xsearch.index import draw, make_plan

    n, dim, memory_bytes = items or len(snapshot), snapshot.fingerprint.dim, _bytes(memory_mb)
    rough = make_plan(n, dim, device=device.value, recipe=recipe, memory_bytes=memory_bytes)
    if recipe is not None or rough.recipe == "Flat" or not len(snapshot):
        return rough
    sample = snapshot.vectors(snapshot.ids[draw(snapshot.modalities, rough.sample)])
    return make_plan(n, dim, device=device.value, sample=sample, memory_bytes=memory_bytes)


def _bytes(memory_mb: int | None) -> int | None:
    return None if memory_mb is None else memory_mb * 10**6


def _print_points(plan: Plan, points: Sequence[OperatingPoint]) -> None:
    sorts = list(points[0].recalls)
    rows = [
        (
            str(point.nprobe),
            str(point.refine),
            *(f"{point.recalls[sort]:.3f}" for sort in sorts),
            f"{1000 / point.ms_per_query:,.0f}",
            f"{point.latency_ms:.2f}",
            "<-" if (point.nprobe, point.refine) == (plan.nprobe, plan.refine) else "",
        )
        for point in points
    ]
    recalls = [f"recall@10 {sort}" for sort in sorts]
    header = ("nprobe", "refine", *recalls, "queries/s", "one query ms", "kept")
    output.print_table(header, rows, numbers=len(header) - 1)
