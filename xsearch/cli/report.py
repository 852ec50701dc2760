"""What an ingest prints: its progress, and its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xsearch.cli import output
from xsearch.cli.table import relative, relative_paths
from xsearch.system.terminal import unescaped

if TYPE_CHECKING:
    from xsearch.ingest import Progress, Report

__all__ = ["json_lines", "json_report", "news", "print_report", "progress_bar"]

SHOWN = 10  # skipped files that are listed
TYPES = 4  # extensions of files that are not media


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
            shown: dict[str, Any] = {"disable": None, "leave": False, "dynamic_ncols": True}
            bar = tqdm(total=now.total, unit=" files", file=unescaped(sys.stderr), **shown)
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
        output.say(f"would embed {new}{moved}; {report.unchanged:,} unchanged; nothing was written")
    elif report.items:
        rate = f"in {report.seconds:.1f} s, {report.items_per_s:.1f} items/s"
        output.say(f"{folder}: {output.counts(report.items, 'item')} from {new}, {rate}")
    elif not files:
        output.say(f"{folder}: no media found")
    elif report.unchanged and not _touched(report):
        still = "file is as it was" if report.unchanged == 1 else "files are as they were"
        output.say(f"{folder}: nothing changed, {report.unchanged:,} {still}")
    else:
        output.say(f"{folder}: nothing embedded")
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
            output.say(f"{count:>7,}  {what}")
    if report.items:
        spent = [f"{what} {seconds:.1f} s" for what, seconds in report.spent.items() if seconds >= 0.05]
        output.note(f"time spent: {', '.join(spent)}")
    for note in report.notes:
        output.note(relative_paths(note))
    for skip in report.skipped[:SHOWN]:
        output.note(f"skipped {relative(skip.path)}: {skip.reason} ({skip.kind})")
    if len(report.skipped) > SHOWN:
        output.note(f"and {len(report.skipped) - SHOWN:,} more: xsearch skipped --collection {folder}")
    if report.passing:
        again = output.plural(report.passing, "file")
        output.note(f"the next ingest tries {again} again, which could not be read for now")


def json_report(report: Report) -> str:
    """Return a report as the last of the `json_lines`."""
    skipped = [{**asdict(skip), "kind": skip.kind} for skip in report.skipped]
    return json.dumps({"event": "report", **asdict(report), "skipped": skipped}, default=str)


def _types(counts: Mapping[str, int]) -> str:
    """Return the most frequent extensions, and how many other files there are.

    >>> _types({".json": 2000, ".db": 60, "": 3})
    '.json 2,000, .db 60, others 3'
    """
    shown = dict([(kind, count) for kind, count in counts.items() if kind][:TYPES])
    others = sum(counts.values()) - sum(shown.values())
    return ", ".join(f"{kind} {count:,}" for kind, count in {**shown, "others": others}.items() if count)


def news(report: Report, printed: set[object]) -> Report | None:
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
