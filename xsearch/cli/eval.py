"""`eval`: how good a model is, on a pair table, a collection, a public data set, or rendered scenes."""

from __future__ import annotations

import json as json_text
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.errors import UsageError

if TYPE_CHECKING:
    from xsearch.evaluate import Evaluation

__all__ = ["Benchmark", "evaluate"]


class Benchmark(StrEnum):
    ESC50 = "esc50"
    CLOTHO = "clotho"
    AUDIOCAPS = "audiocaps"
    NYU_D = "nyu-d"
    SUN_D = "sun-d"
    LLVIP = "llvip"
    EGO4D = "ego4d"
    IMAGENET = "imagenet"


def evaluate(
    table: Annotated[
        Path | None,
        typer.Argument(
            metavar="TABLE",
            help="Pairs: .parquet, .csv, .jsonl, .arrow or shards .tar, with columns image, other, "
            "modality and, if there are any, label and split. With --benchmark its folder.",
        ),
    ] = None,
    benchmark: Annotated[
        Benchmark | None, typer.Option("--benchmark", help="A public data set, as it comes.")
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", metavar="DIR", help="A collection whose items have a --label."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option("--scenes", min=2, metavar="N", help="Rendered scenes, in six modalities.")
    ] = None,
    split: Annotated[
        str | None, typer.Option("--split", metavar="NAME", help="Only the rows of TABLE with this split.")
    ] = None,
    label: Annotated[
        str | None, typer.Option("--label", metavar="COLUMN", help="What says the class. In TABLE: label.")
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help='Lines such as "a photo of a {}.", or JSON with templates and the names of classes.',
        ),
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Also write all figures here.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Also draw them, as one picture.")
    ] = None,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
) -> None:
    """Measure a model on pairs, a collection, a data set or scenes.

    Of pairs: does each picture find what belongs to it, and the other way round (R@k,
    median rank, mAP); with labels also zero-shot classification by their words, and every
    kind searched with every other. Of a collection: the same by a column of its metadata.
    """
    _check(table, benchmark, index, scenes, split, label, prompts)
    for file in (json, png):
        if file is not None and not file.absolute().parent.is_dir():
            raise UsageError(f"{file}: its folder does not exist")

    import xsearch
    from xsearch.backend.imagebind import ImageBindBackend
    from xsearch.evaluate import (
        draw,
        evaluate_benchmark,
        evaluate_collection,
        evaluate_pairs,
        evaluate_scenes,
        read_prompts,
    )
    from xsearch.pairs import read_pairs

    templates, classes = read_prompts(prompts) if prompts else ([], {})
    if index is not None:
        assert label is not None
        collection = xsearch.open(index, model, device=device, dtype=dtype)
        backend, what = collection.backend, f"{index}, {label}"
        found = evaluate_collection(
            backend, collection.snapshot(), label, templates=templates, classes=classes
        )
    else:
        pairs = None if table is None or benchmark else read_pairs(table, split=split, label=label or "label")
        backend = ImageBindBackend.load(model, device, dtype)
        with _progress_bar(None if pairs is None else len(pairs)) as progress:
            if scenes is not None:
                what, found = f"{scenes:,} rendered scenes", evaluate_scenes(backend, scenes)
            elif pairs is not None:
                what = f"{table}, {split}" if split else str(table)
                found = evaluate_pairs(
                    backend,
                    pairs,
                    templates=templates,
                    classes=classes,
                    progress=progress,
                )
            else:
                assert table is not None
                assert benchmark is not None
                what = f"{benchmark}, {table}"
                found = evaluate_benchmark(
                    backend, benchmark, table, templates=templates, classes=classes, progress=progress
                )
    _print(found)
    if json is not None:
        about = {"what": what, "model": backend.fingerprint.name, "digest": backend.fingerprint.digest}
        json.write_text(json_text.dumps(output.finite(about | found.figures), indent=1), encoding="utf-8")
    if png is not None:
        draw(found, f"{backend.fingerprint.name}: {what}").save(png, "PNG")


def _check(
    table: Path | None,
    benchmark: Benchmark | None,
    index: Path | None,
    scenes: int | None,
    split: str | None,
    label: str | None,
    prompts: Path | None,
) -> None:
    if benchmark is not None and table is None:
        raise UsageError(
            f"eval: --benchmark {benchmark} needs the folder of the data set, in the place of TABLE"
        )
    if (table is not None) + (index is not None) + (scenes is not None) != 1:
        raise UsageError("eval: expected one of TABLE, --index DIR and --scenes N")
    if index is not None and label is None:
        raise UsageError("eval: --index needs --label COLUMN, the metadata that says what a right answer is")
    if split is not None and (table is None or benchmark):
        raise UsageError("eval: --split is about a pair table")
    if label is not None and (scenes is not None or benchmark):
        raise UsageError("eval: --label is about a pair table or a collection")
    if prompts is not None and scenes is not None:
        raise UsageError("eval: --prompts is not for scenes, whose captions are known")


def _print(found: Evaluation) -> None:
    figures = found.figures
    for count, reason in zip([figures.get("skipped")], figures.get("skipped_first", []), strict=False):
        output.note(f"{count:,} media could not be read and are left out; the first: {reason}")
    for title, section, columns, name in _SECTIONS:
        if rows := figures.get(section):
            typer.echo(title)
            cells = [
                (*(_figure(row[key]) for key in columns), _figure(row.get("published", "")), name(row))
                for row in rows
            ]
            header = (*(_HEADS.get(key, key) for key in columns), "ImageBind", "")
            output.print_table(header, cells, numbers=len(header) - 1)
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
    "median_rank": "median rank", "top1": "top-1", "top5": "top-5", "mean_per_class": "per class",
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
    output.print_table(("", *kinds), lines)


@contextmanager
def _progress_bar(total: int | None) -> Iterator[Callable[[int], None]]:
    """A callback that shows how many pairs are done, on stderr if that is a terminal."""
    from tqdm import tqdm

    with tqdm(
        total=total, unit=" pairs", unit_scale=True, disable=None, leave=False, dynamic_ncols=True
    ) as bar:
        yield lambda done: bar.update(done - bar.n)
