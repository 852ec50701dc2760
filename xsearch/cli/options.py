"""Options that several commands share."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from xsearch.errors import UsageError
from xsearch.nearest import default_collection, folder_of
from xsearch.types import DEFAULT_COLLECTION, Match, Modality, Rank, Sort

__all__ = [
    "ALIASES",
    "NEAREST",
    "Address",
    "Anyway",
    "Collection",
    "Csv",
    "Device",
    "DryRun",
    "Dtype",
    "Engine",
    "ExcludeSelf",
    "Folder",
    "Html",
    "Json",
    "JsonObject",
    "KeepFormulas",
    "Locate",
    "MatchBy",
    "MaxExpected",
    "MinCosine",
    "Modalities",
    "Model",
    "Paths",
    "RankBy",
    "Server",
    "SortBy",
    "Top",
    "TrustPaths",
    "Unique",
    "Where",
    "Yes",
    "plot",
    "writable",
]

# Former names of options, and those of other programs: accepted
ALIASES = {
    "index": "collection", "kind": "modality", "limit": "top", "min-score": "min-cosine", "png": "plot",
}  # fmt: skip


class Engine(StrEnum):
    """Where work is done."""

    LOCAL = "local"
    RAY = "ray"


def writable(file: Path | None) -> Path | None:
    """`file`, which can be written: checked before the work of which it is the result."""
    if file is not None:
        folder = file.absolute().parent
        if not folder.is_dir():
            raise typer.BadParameter(f"{file}: its folder does not exist")
        if file.is_dir():
            raise typer.BadParameter(f"{file}: is a folder")
        if not os.access(file if file.exists() else folder, os.W_OK):
            raise typer.BadParameter(f"{file}: no permission to write it")
    return file


def plot(suffix: str) -> Any:
    """The option --plot of a command that draws files of this kind."""

    def checked(file: Path | None) -> Path | None:
        if file is not None and file.suffix.lower() != suffix:
            raise typer.BadParameter(f"{file}: expected a name that ends in {suffix}")
        return writable(file)

    kind = suffix.removeprefix(".").upper()
    return typer.Option("--plot", metavar="FILE", callback=checked, help=f"Also draw the figures, as {kind}.")


def _is_named(ctx: typer.Context, param: typer.CallbackParam) -> bool:
    source = ctx.get_parameter_source(str(param.name))
    return ctx.resilient_parsing or source is None or source.name != "DEFAULT"


def _nearest(ctx: typer.Context, param: typer.CallbackParam, place: str) -> str:
    """`place` if it is named, else the collection that is meant."""
    return place if _is_named(ctx, param) else str(default_collection())


def _nearest_folder(ctx: typer.Context, param: typer.CallbackParam, folder: Path) -> Path:
    return folder if _is_named(ctx, param) else folder_of(default_collection())


def _folder(text: str | Path) -> Path:
    try:
        return folder_of(text)
    except UsageError as problem:
        raise typer.BadParameter(str(problem)) from None


def _server(choice: str) -> str:
    if choice not in ("auto", "off") and not choice.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{choice!r}: expected auto, off, or a URL such as http://127.0.0.1:8080")
    return choice


def _collection(what: str, **options: Any) -> Any:
    return typer.Option(
        "--collection",
        "-c",
        envvar=["XSEARCH_COLLECTION", "XSEARCH_INDEX"],
        show_envvar=False,  # the second is a former name
        show_default=False,
        metavar="DIR",
        help=f"{what}  [env var: XSEARCH_COLLECTION; default: {DEFAULT_COLLECTION}, here or above]",
        **options,
    )


NEAREST = str(DEFAULT_COLLECTION)
Collection = Annotated[str, _collection("Folder or URL of the collection.", callback=_nearest)]
Folder = Annotated[Path, _collection("Folder of the collection.", callback=_nearest_folder, parser=_folder)]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="NAME",
        help="bundled, imagebind, or a folder of weights.  [env var: XSEARCH_MODEL]",
    ),
]
Device = Annotated[
    str,
    typer.Option(
        "--device", envvar="XSEARCH_DEVICE", metavar="NAME", help="Compute on auto, cpu, cuda or cuda:1."
    ),
]
Dtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        envvar="XSEARCH_DTYPE",
        metavar="NAME",
        help="Compute in fp32, bf16, fp16 or int8; auto: bf16 where fast.",
    ),
]
Modalities = Annotated[
    list[Modality] | None,
    typer.Option("--modality", "-k", metavar="KIND", help="Only items of this kind; repeatable."),
]
Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="The Ray cluster; auto: that of this machine. Default: start one here.",
    ),
]
Where = Annotated[
    str | None,
    typer.Option("--where", "-w", metavar="SQL", help='Only items for which it holds: "duration_s > 60".'),
]
Server = Annotated[
    str,
    typer.Option(
        "--server",
        callback=_server,
        envvar="XSEARCH_SERVER",
        metavar="URL",
        help="Search by this running server, which is faster; auto: one of this collection; off: none.",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, change nothing.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

Top = Annotated[int, typer.Option("--top", "-n", min=1, metavar="N", help="Number of results.")]
RankBy = Annotated[
    Rank, typer.Option("--rank", help="balanced: comparable across kinds; cosine: the plain similarity.")
]
MatchBy = Annotated[
    Match | None,
    typer.Option("--match", help="What of an item answers a text; both unless by --rank cosine."),
]
SortBy = Annotated[
    Sort | None,
    typer.Option("--sort", help="By when it was taken: date, the newest first, or -date. Undated ones last."),
]
MaxExpected = Annotated[
    float | None,
    typer.Option(
        "--max-expected",
        metavar="X",
        min=0,
        help="Only items of which at most X would be as near by chance, or whose words match.",
    ),
]
MinCosine = Annotated[
    float | None,
    typer.Option("--min-cosine", metavar="X", help="Only items with at least this cosine, -1 to 1."),
]
Unique = Annotated[bool, typer.Option("--unique", help="Fold near duplicates.")]
Anyway = Annotated[bool, typer.Option("--anyway", help="Search though the model knows no word of a text.")]
ExcludeSelf = Annotated[
    bool, typer.Option("--exclude-self", help="Leave out the items of the query's own files.")
]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON list of objects.")]
JsonObject = Annotated[bool, typer.Option("--json", help="Print a JSON object.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the same columns as CSV.")]
KeepFormulas = Annotated[
    bool,
    typer.Option("--keep-formulas", help="In CSV, do not escape texts that begin with = + - @."),
]
TrustPaths = Annotated[
    bool, typer.Option("--trust-paths", help="Let pages open the files and URLs that only an import names.")
]
Locate = Annotated[
    bool, typer.Option("--locate", help="Mark where in each picture it is: boxes in --json, drawn in --html.")
]
Paths = Annotated[bool, typer.Option("--paths", help="Print one path per line, for xargs.")]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", metavar="FILE", callback=writable, help="Also write a page with pictures and players."
    ),
]
