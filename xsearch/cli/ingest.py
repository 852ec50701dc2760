"""`ingest`: bring a collection in step with folders of media."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.cli.table import relative, relative_paths
from xsearch.cli.watch import changes
from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION, Modality

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.ingest import Progress, Report

__all__ = ["ingest", "open_or_create", "print_report", "progress_bar"]

SHOWN = 10  # skipped files that are listed
TYPES = 4  # extensions of files that are not media


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
    folder: options.Collection = DEFAULT_COLLECTION,
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
) -> None:
    """Embed new and changed media under PATH.

    May be interrupted at any time; run it again to continue.

    A GLOB is compared with names and with paths below PATH ("flir/*", also "media/flir/*" for the PATH
    media), from ./ on with paths below the current folder. * also matches /. Hidden files and folders of
    the system (@eaDir, $RECYCLE.BIN) are left out, and so is what a file .xsearchignore in any folder names,
    in the syntax of .gitignore.
    """
    rules, globs = [_rule(text) for text in kinds or []], exclude or []
    if watch and (dry_run or strict):
        raise UsageError("--watch does not end; leave out --dry-run and --strict")
    from xsearch.media import Exclusion, is_url  # and with it numpy

    Exclusion(globs)  # raises UsageError before a collection is created
    if watch and any(map(is_url, paths)):
        raise UsageError("--watch follows local folders only; for a URL, run ingest again")
    from xsearch.ingest import ingest as compare

    def once(paths: Sequence[str], prune: bool | Sequence[str]) -> Report:
        with json_lines() if json_progress else progress_bar() as progress:
            if collection is None:
                return compare(None, paths, None, kinds=rules, exclude=globs, metadata=metadata, dry_run=True)
            return collection.ingest(
                paths,
                kinds=rules,
                exclude=globs,
                metadata=metadata,
                prune=prune,
                captions=not no_captions,
                dry_run=dry_run,
                progress=progress,
            )

    def show(report: Report) -> None:
        if json_progress:
            typer.echo(json.dumps({"event": "report", **asdict(report)}, default=str))
        else:
            print_report(report, folder, dry_run=dry_run)

    collection = None
    if not dry_run or _is_collection(folder):
        collection = open_or_create(folder, model, device, dtype)
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
        if news := _news(report, printed):
            show(news)


def _news(report: Report, printed: set[object]) -> Report | None:
    """Return a report without what earlier reports have printed; None if nothing has happened since."""
    is_first = not printed
    skipped = tuple(skip for skip in report.skipped if skip not in printed)
    notes = tuple(note for note in report.notes if note not in printed)
    printed.update(("report", *skipped, *notes))
    is_new = is_first or report.items or _touched(report) or skipped or notes
    return replace(report, skipped=skipped, notes=notes) if is_new else None


def _touched(report: Report) -> int:
    """Return how much of the collection has changed without being embedded."""
    return report.changed + report.described + report.duplicates + report.moved + report.removed


def open_or_create(folder: Path, model: str | None, device: str = "auto", dtype: str = "auto") -> Collection:
    """The collection at `folder`; for a new one a note names the model."""
    import xsearch
    from xsearch.models.registry import resolve

    new = not _is_collection(folder)
    if new:
        output.note(f"new collection: {folder.absolute()}")
        output.note(resolve(model).line)
    collection = xsearch.open(folder, model, create=True, device=device, dtype=dtype)
    if new:
        able = collection.backend.capabilities()
        output.note(f"computing in {able.dtype} on {able.device}")
    return collection


@contextmanager
def json_lines() -> Iterator[Any]:
    """A callback that prints progress as JSON lines: at most one a second, and one for the last file."""
    last_s = -1.0

    def show(now: Progress) -> None:
        nonlocal last_s
        if now.done == now.total or now.seconds - last_s >= 1:
            last_s = now.seconds
            typer.echo(json.dumps({"event": "progress", **asdict(now)}))

    yield show


@contextmanager
def progress_bar() -> Iterator[Any]:
    """A callback that shows progress on stderr if that is a terminal."""
    from tqdm import tqdm

    bar = None

    def show(now: Progress) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(total=now.total, unit=" files", disable=None, leave=False, dynamic_ncols=True)
        bar.update(now.done - bar.n)
        rates = [f"{kind} {count / now.seconds:.0f}/s" for kind, count in now.items.items()]
        skipped = [f"{now.skipped} skipped"] * bool(now.skipped)
        megabytes = f"{now.bytes / 1e6 / now.seconds:.1f} MB/s"
        bar.set_postfix_str(", ".join([*rates, megabytes, *skipped]), refresh=False)

    try:
        yield show
    finally:
        if bar is not None:
            bar.close()


def print_report(report: Report, folder: Path, *, dry_run: bool = False) -> None:
    """Print what an ingest did: counts on stdout, what was skipped and why on stderr."""
    files = sum(report.files.values())
    new = output.counts(report.new, "file")
    if dry_run:
        moved = f", move {output.plural(report.moved, 'file')}" if report.moved else ""
        typer.echo(f"would embed {new}{moved}; {report.unchanged:,} unchanged; nothing was written")
    elif report.items:
        rate = f"in {report.seconds:.1f} s, {report.items_per_s:.1f} items/s"
        typer.echo(f"{folder}: {output.counts(report.items, 'item')} from {new}, {rate}")
    elif not files:
        typer.echo(f"{folder}: no media found")
    elif report.unchanged and not _touched(report):
        still = "file is as it was" if report.unchanged == 1 else "files are as they were"
        typer.echo(f"{folder}: nothing changed, {report.unchanged:,} {still}")
    else:
        typer.echo(f"{folder}: nothing embedded")
    for count, what in (
        (report.unchanged if report.items else 0, "unchanged"),
        (report.changed, "changed since the last run"),
        (report.described, "with new metadata"),
        (report.duplicates, "with the same bytes as another file, not embedded twice"),
        (0 if dry_run else report.moved, "moved"),
        (report.removed, "items of vanished or excluded files" + (" to remove" if dry_run else " removed")),
        (report.not_media, f"not media ({_types(report.not_media_types)})"),
        (report.excluded, "excluded"),
        (report.ignored, "kept out by `xsearch rm --ignore`"),
        (len(report.skipped), "skipped"),
    ):
        if count:
            typer.echo(f"{count:>7,}  {what}")
    if report.items:
        spent = [f"{what} {seconds:.1f} s" for what, seconds in report.spent.items() if seconds >= 0.05]
        output.note(f"time spent: {', '.join(spent)}")
    for note in report.notes:
        output.note(relative_paths(note))
    for skip in report.skipped[:SHOWN]:
        output.note(f"skipped {relative(skip.path)}: {skip.reason}")
    if len(report.skipped) > SHOWN:
        output.note(f"and {len(report.skipped) - SHOWN:,} more: xsearch skipped --collection {folder}")


def _types(counts: Mapping[str, int]) -> str:
    """Return the most frequent extensions, and how many other files there are.

    >>> _types({".json": 2000, ".db": 60, "": 3})
    '.json 2,000, .db 60, others 3'
    """
    shown = dict([(kind, count) for kind, count in counts.items() if kind][:TYPES])
    others = sum(counts.values()) - sum(shown.values())
    return ", ".join(f"{kind} {count:,}" for kind, count in {**shown, "others": others}.items() if count)


def _is_collection(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def _rule(text: str) -> tuple[Modality, str]:
    kind, equals, pattern = text.partition("=")
    if not equals or not pattern or kind not in list(Modality):
        raise UsageError(f"--as {text}: expected KIND=GLOB with KIND one of {', '.join(Modality)}")
    return Modality(kind), pattern
