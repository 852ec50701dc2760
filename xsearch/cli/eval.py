"""`eval`: how good a model is, on pairs, a collection, rendered scenes or a public data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.cli.group import new_group
from xsearch.cli.table import print_table

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.evaluate import Evaluation

__all__ = ["Benchmark", "app"]

app = new_group("Measure a model: recall, zero-shot accuracy, modality gap.")


class Benchmark(StrEnum):
    ESC50 = "esc50"
    CLOTHO = "clotho"
    AUDIOCAPS = "audiocaps"
    NYU_D = "nyu-d"
    SUN_D = "sun-d"
    LLVIP = "llvip"
    EGO4D = "ego4d"
    IMAGENET = "imagenet"


Prompts = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help='Lines such as "a photo of a {}.", or JSON with templates and the names of classes.',
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", "-o", metavar="FILE", callback=options.writable, help="Also write all figures, as JSON."
    ),
]
Plot = Annotated[Path | None, options.plot(".png")]


@app.command()
def pairs(
    table: Annotated[
        Path,
        typer.Argument(
            metavar="TABLE", help="A .parquet, .csv, .jsonl, .arrow or .tar file, or a folder of shards."
        ),
    ],
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only the rows with this split.")
    ] = None,
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="Column of the classes.")] = "label",
    prompts: Prompts = None,
    out: Out = None,
    plot: Plot = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure on a table of pairs: image, other, modality.

    Prints how well each picture finds its partners and each partner its pictures
    (R@k, median rank, mAP); with labels also zero-shot classification, and every kind
    searched with every other.
    """
    from xsearch.evaluate import evaluate_pairs, read_prompts
    from xsearch.pairs import read_pairs

    templates, classes = read_prompts(prompts) if prompts else ([], {})
    rows = read_pairs(table, split=split, label=label)
    backend = _backend(model, device, dtype)
    with output.progress_bar("pairs") as show:
        measured = evaluate_pairs(
            backend,
            rows,
            templates=templates,
            classes=classes,
            progress=lambda done: show(done, len(rows)),
        )
    _report(measured, backend, f"{table}, {split}" if split else str(table), out, plot)


@app.command()
def collection(
    label: Annotated[str, typer.Option("--label", metavar="COLUMN", help="Metadata column of the classes.")],
    folder: options.Collection = options.NEAREST,
    prompts: Prompts = None,
    out: Out = None,
    plot: Plot = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure on a collection whose items have labels.

    Every kind is searched with every other, and with the words of the labels.
    """
    import xsearch
    from xsearch.evaluate import evaluate_collection, read_prompts

    templates, classes = read_prompts(prompts) if prompts else ([], {})
    opened = xsearch.open(folder, model, device=device, dtype=dtype)
    measured = evaluate_collection(
        opened.backend, opened.snapshot(), label, templates=templates, classes=classes
    )
    _report(measured, opened.backend, f"{folder}, {label}", out, plot)


@app.command()
def scenes(
    count: Annotated[int, typer.Argument(metavar="N", min=2, help="Number of scenes.")] = 200,
    out: Out = None,
    plot: Plot = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure on rendered scenes, in six modalities.

    Every kind is searched with every other; pictures and sounds are also added up.
    """
    from xsearch.evaluate import evaluate_scenes

    backend = _backend(model, device, dtype)
    _report(evaluate_scenes(backend, count), backend, f"{count:,} rendered scenes", out, plot)


@app.command()
def benchmark(
    name: Annotated[Benchmark, typer.Argument(metavar="NAME", help="Name of the data set.")],
    data: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set, as published.")],
    prompts: Prompts = None,
    out: Out = None,
    plot: Plot = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure on a public data set, beside the published figures."""
    from xsearch.evaluate import evaluate_benchmark, read_prompts

    templates, classes = read_prompts(prompts) if prompts else ([], {})
    backend = _backend(model, device, dtype)
    with output.progress_bar("pairs") as show:
        measured = evaluate_benchmark(
            backend, name, data, templates=templates, classes=classes, progress=show
        )
    _report(measured, backend, f"{name}, {data}", out, plot)


def _backend(model: str | None, device: str, dtype: str) -> Backend:
    from xsearch.backend.imagebind import ImageBindBackend

    return ImageBindBackend.load(model, device, dtype)


def _report(measured: Evaluation, backend: Backend, what: str, out: Path | None, plot: Path | None) -> None:
    """Write what the options ask for, and print the figures."""
    if out is not None:
        about = {"what": what, "model": backend.fingerprint.name, "digest": backend.fingerprint.digest}
        out.write_text(output.to_json(about | measured.figures), encoding="utf-8")
    if plot is not None:
        from xsearch.evaluate import draw

        draw(measured, f"{backend.fingerprint.name}: {what}").save(plot, "PNG")
    _print(measured)


def _print(measured: Evaluation) -> None:
    figures = measured.figures
    for count, reason in zip([figures.get("skipped")], figures.get("skipped_first", []), strict=False):
        output.note(f"{count:,} media could not be read and are left out; the first: {reason}")
    for title, section, columns, name in _SECTIONS:
        if rows := figures.get(section):
            typer.echo(title)
            cells = [
                (name(row), *(_figure(row[key]) for key in columns), _figure(row.get("published", "")))
                for row in rows
            ]
            print_table(("", *(_HEADS.get(key, key) for key in columns), "ImageBind"), cells)
            typer.echo()
    if rows := figures.get("matrix"):
        second = "p_at_10" if "words" in figures else "r_at_10"
        typer.echo(
            f"P@1 / {_HEADS[second]} of a kind (rows) among another; T: the pair is trained, e: it emerges"
        )
        _print_matrix(rows, second)
        typer.echo()
    for name, share in figures.get("composition", {}).items():
        typer.echo(f"{share:.3f}  {name}: the first hit is right")
    if "colour_histogram" in figures:
        typer.echo(f"{figures['colour_histogram']:.3f}  P@1 of pictures by their colours alone")


_HEADS = {
    "r_at_1": "R@1", "r_at_5": "R@5", "r_at_10": "R@10", "p_at_1": "P@1", "p_at_10": "P@10", "map": "mAP",
    "median_rank": "MedR", "top1": "top-1", "top5": "top-5", "mean_per_class": "per class",
}  # fmt: skip
_SECTIONS: Sequence[tuple[str, str, tuple[str, ...], Callable[[dict[str, Any]], str]]] = (
    (
        "Retrieval",
        "retrieval",
        ("r_at_1", "r_at_5", "r_at_10", "median_rank", "map", "chance", "queries", "items"),
        lambda row: f"{row['query']} -> {row['answer']} ({row['relation']})",
    ),
    (
        "Zero-shot classification",
        "zero_shot",
        ("top1", "top5", "mean_per_class", "map", "classes", "samples"),
        lambda row: row["modality"],
    ),
    (
        "The words of the labels",
        "words",
        ("p_at_1", "p_at_10", "r_at_10", "chance", "queries", "items"),
        lambda row: f"text -> {row['answer']}",
    ),
    ("Modality gap", "gap", ("distance",), lambda row: f"{row['a']} - {row['b']}"),
)


def _figure(value: float | str) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def _print_matrix(rows: Sequence[dict[str, Any]], second: str) -> None:
    mark = {"trained": "T", "emergent": "e", "same": "="}
    kinds = list(dict.fromkeys(row["query"] for row in rows))
    cells = {
        (row["query"], row["answer"]): f"{row['p_at_1']:.2f} / {row[second]:.2f} {mark[row['relation']]}"
        if row["queries"]  # else these kinds have no label in common
        else "-"
        for row in rows
    }
    lines = [(a, *(cells[a, b] for b in kinds)) for a in kinds]
    print_table(("", *kinds), lines, shortened={})
