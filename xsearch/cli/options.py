"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xsearch.types import Modality, Rank

__all__ = [
    "Csv",
    "Device",
    "DryRun",
    "Dtype",
    "Html",
    "Index",
    "Json",
    "MinCosine",
    "Modalities",
    "Model",
    "Paths",
    "RankBy",
    "Top",
    "Unique",
    "Where",
]

Index = Annotated[
    Path, typer.Option("--index", envvar="XSEARCH_INDEX", metavar="DIR", help="Folder of the collection.")
]
Model = Annotated[
    str | None, typer.Option("--model", metavar="NAME", help="bundled, imagebind, or a folder of weights.")
]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        envvar="XSEARCH_DEVICE",
        metavar="NAME",
        help="Compute on: auto, cpu, cuda, cuda:1.",
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        envvar="XSEARCH_DTYPE",
        metavar="NAME",
        help="Compute with: fp32, bf16, fp16; auto: bf16 where it is fast.",
    ),
]
Modalities = Annotated[
    list[Modality] | None,
    typer.Option("--modality", metavar="KIND", help="Only items of this kind; repeatable."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help='Only items for which it holds: "duration_s > 60".'),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, change nothing.")]

Top = Annotated[int, typer.Option("--top", min=1, metavar="N", help="How many results.")]
RankBy = Annotated[
    Rank, typer.Option("--rank", help="balanced: comparable across kinds; cosine: the bare similarity.")
]
MinCosine = Annotated[
    float | None, typer.Option("--min-cosine", metavar="X", help="Only items with at least this cosine.")
]
Unique = Annotated[bool, typer.Option("--unique", help="Fold near duplicates.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the same columns as CSV.")]
Paths = Annotated[bool, typer.Option("--paths", help="Print one path per line, for xargs.")]
Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Also write a page with pictures and players.")
]
