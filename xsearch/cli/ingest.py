"""`ingest`: bring a collection in step with folders of media."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xsearch.cli import options, output
from xsearch.cli.report import json_lines, json_report, news, print_report, progress_bar
from xsearch.cli.watch import changes
from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION, Modality

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.ingest import Report

__all__ = ["ingest", "open_or_create"]


def _there(paths: list[str]) -> list[str]:
    for path in paths:
        if "://" not in path and not Path(path).exists():
            raise typer.BadParameter(f"{path!r}: no such file or folder")
    return paths


def ingest(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATH", callback=_there, help="Folders and files of media, or their URLs."),
    ],
    folder: options.Folder = DEFAULT_COLLECTION,
    model: options.Model = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "auto",
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--as", metavar="KIND=GLOB", help='Read these files as KIND: "thermal=flir/*"; repeatable.'
        ),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="GLOB", help='Leave these files and folders out: raw, "*.tmp", "old/2019*"; repeatable.'
        ),
    ] = None,
    metadata: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            metavar="FILE",
            help="Table (CSV, JSON lines, Parquet) with a column path, whose others become metadata.",
        ),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Also remove items whose files are gone or excluded.")
    ] = False,
    no_captions: Annotated[
        bool,
        typer.Option("--no-captions", help="Do not embed what pictures say of themselves as texts."),
    ] = False,
    dry_run: options.DryRun = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a file was skipped.")] = False,
    json_progress: Annotated[
        bool, typer.Option("--json-progress", help="Print progress and report as JSON lines.")
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", help="Keep running and follow changes and deletions.")
    ] = False,
    where: Annotated[
        options.Engine,
        typer.Option("--engine", help="local: embed on this machine; ray: on many that share its files."),
    ] = options.Engine.LOCAL,
    address: options.Address = None,
    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Workers of Ray; as many as there is room for.")
    ] = None,
    gpus_per_worker: Annotated[
        float | None, typer.Option(min=0, metavar="N", help="GPUs of each worker; 1 if the cluster has any.")
    ] = None,
    parts: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where workers leave what they embed, such as s3://bucket/name, for this collection alone. "
            "Default: in it.",
        ),
    ] = None,
) -> None:
    """Embed new and changed media under PATH.

    May be interrupted at any time; run it again to continue.

    A GLOB is compared with names and with paths below PATH ("flir/*", also "media/flir/*" for the PATH
    media), from ./ on with paths below the current folder. * also matches /. Hidden files and folders of
    the system (@eaDir, $RECYCLE.BIN) are left out, and so is what a file .xsearchignore in any folder names,
    in the syntax of .gitignore.
    """
    if watch and (dry_run or strict):
        raise UsageError("--watch does not end; leave out --dry-run and --strict")
    engine = None
    if where is options.Engine.RAY:
        from xsearch.cluster import Ray

        if watch:
            raise UsageError("--watch embeds on this machine; leave out --engine ray")
        if ":" in device:
            raise UsageError(f"--device {device}: Ray chooses the GPUs of its workers; use auto, cpu or cuda")
        if device == "cpu" and gpus_per_worker is None:
            gpus_per_worker = 0
        engine = Ray(address, workers, gpus_per_worker, parts)
        engine.check()
    elif any(option is not None for option in (address, workers, gpus_per_worker, parts)):
        raise UsageError("--address, --workers, --gpus-per-worker and --parts are options of --engine ray")
    from xsearch.ingest import ingest as compare
    from xsearch.media import Exclusion, is_url  # and with it numpy

    rules = {"kinds": [_rule(text) for text in kinds or []], "exclude": exclude or [], "metadata": metadata}
    Exclusion(exclude or [])  # raises UsageError before a collection is created
    if watch and any(map(is_url, paths)):
        raise UsageError("--watch follows local folders only; for a URL, run ingest again")
    collection = None
    if not dry_run or _is_collection(folder):
        collection = open_or_create(folder, model, device, dtype)

    def once(paths: Sequence[str], prune: bool | Sequence[str]) -> Report:
        with json_lines() if json_progress else progress_bar() as progress:
            settings = {"captions": not no_captions, "dry_run": dry_run, "progress": progress, **rules}
            if collection is None:
                return compare(None, paths, None, **settings)
            return collection.ingest(paths, prune=prune, engine=engine, **settings)

    def show(report: Report) -> None:
        if json_progress:
            typer.echo(json_report(report))
        else:
            print_report(report, folder, dry_run=dry_run)

    if not watch:
        report = once(paths, prune)
        show(report)
        if strict and report.skipped:
            raise typer.Exit(1)
        return
    printed: set[object] = set()
    for there, deleted in changes(paths, folder):
        try:
            report = once(there, prune or deleted)
        except UsageError:
            if all(Path(path).exists() for path in there):
                raise
            continue  # gone meanwhile
        if new := news(report, printed):
            show(new)


def open_or_create(folder: Path, model: str | None, device: str = "auto", dtype: str = "auto") -> Collection:
    """The collection at `folder`; for a new one a note names the model."""
    import xsearch
    from xsearch.models.registry import resolve

    new = not _is_collection(folder)
    collection = xsearch.open(folder, model, create=True, device=device, dtype=dtype)
    if new:
        output.note(f"new collection: {folder.absolute()}")
        output.note(resolve(model).line)
        able = collection.backend.capabilities()
        output.note(f"computing in {able.dtype} on {able.device}")
    return collection


def _is_collection(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def _rule(text: str) -> tuple[Modality, str]:
    kind, equals, pattern = text.partition("=")
    if not equals or not pattern or kind not in list(Modality):
        raise UsageError(f"--as {text}: expected KIND=GLOB with KIND one of {', '.join(Modality)}")
    return Modality(kind), pattern
