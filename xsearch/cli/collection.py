"""`info`, `ls`, `rm`, `skipped`, `compact`, `verify`: look at a collection and tidy it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import options, output
from xsearch.errors import UsageError
from xsearch.types import DEFAULT_COLLECTION

if TYPE_CHECKING:
    from xsearch.collection import Collection

__all__ = ["compact", "info", "list_items", "remove", "skipped", "verify"]

ITEM_COLUMNS = ("id", "modality", "path", "start_s", "end_s", "text")


def info(
    index: options.Index = DEFAULT_COLLECTION,
    json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Print counts by kind, model, index and size."""
    stats = _open(index).stats()
    if json:
        output.print_json(stats)
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in stats.pop("modalities").items() if count)
    stats["items"] = f"{stats['items']:,}" + (f" ({kinds})" if kinds else "")
    stats["bytes"] = f"{stats['bytes']:,}"
    for name, value in stats.items():
        typer.echo(f"{name:<11} {value}")


def list_items(
    modality: options.Modalities = None,
    where: options.Where = None,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most so many.")] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List files with the same content, in groups.")
    ] = False,
    json: options.Json = False,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """List the items of a collection, by id."""
    collection = _open(index)
    if duplicates:
        _list_duplicates(collection.duplicates(modality=modality, where=where)[:limit].to_pylist(), json)
        return
    columns = None if json else ITEM_COLUMNS
    items = collection.items(modality=modality, where=where, limit=limit, columns=columns).to_pylist()
    if json:
        output.print_json(items)
        return
    rows = [
        (
            str(item["id"]),
            item["modality"],
            output.relative(item["path"]),
            output.window(item["start_s"], item["end_s"]),
            item["text"] or "",
        )
        for item in items
    ]
    output.print_table(("id", "kind", "path", "seconds", "text"), rows, numbers=1)
    if not rows:
        output.note("no items match")


def _list_duplicates(groups: list[dict[str, Any]], json: bool) -> None:
    if json:
        output.print_json(groups)
        return
    rows = [
        (str(number), str(group["bytes"]), output.relative(path))
        for number, group in enumerate(groups, start=1)
        for path in group["paths"]
    ]
    output.print_table(("group", "bytes", "path"), rows, numbers=2)
    if not rows:
        output.note("no two files have the same content")


def remove(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[WHAT]...",
            help="Ids, files, folders, or quoted globs: 'media/*.jpg'; ** crosses folders.",
        ),
    ] = None,
    where: options.Where = None,
    dry_run: options.DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Remove items from a collection. The media files themselves are not touched."""
    if not what and where is None:
        raise UsageError("rm: expected ids, paths or --where; to remove everything delete the folder")
    collection = _open(index)
    ids, paths = _ids_and_paths(what) if what else (None, None)
    count = collection.remove(ids, paths=paths, where=where, dry_run=True)
    if dry_run or not count:
        typer.echo(f"would remove {_items(count)}" if count else "no items match, nothing was removed")
        return
    if not yes:
        typer.confirm(f"Remove {_items(count)} from {index}?", abort=True, err=True)
    typer.echo(f"removed {_items(collection.remove(ids, paths=paths, where=where))}")


def skipped(json: options.Json = False, index: options.Index = DEFAULT_COLLECTION) -> None:
    """List the files that could not be read, and why."""
    rows = _open(index).skipped().to_pylist()
    if json:
        output.print_json(rows)
    elif rows:
        output.print_table(
            ("path", "reason"), [(output.relative(row["path"]), row["reason"]) for row in rows]
        )
    else:
        output.note("nothing was skipped")


def compact(index: options.Index = DEFAULT_COLLECTION) -> None:
    """Merge small files and delete what nothing refers to."""
    done = _open(index).compact()
    segments = f"{done.segments_before} segments are now {done.segments_after}"
    typer.echo(f"{index}: {segments}, {done.freed_bytes:,} bytes freed")


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Go on without what is broken.")] = False,
    json: options.Json = False,
    index: options.Index = DEFAULT_COLLECTION,
) -> None:
    """Check every byte of a collection.

    The exit code is 1 if something is wrong. --repair moves what is broken to the
    folder `quarantine` of the collection; the next ingest embeds its files again.
    """
    from xsearch.integrity import verify

    found = verify(index, repair=repair)
    if json:
        output.print_json([asdict(finding) for finding in found])
    else:
        for finding in found:
            remedy = finding.remedy if repair else f"with --repair: {finding.remedy}"
            typer.echo(f"{finding.path}: {finding.problem}; {remedy}")
        for path in dict.fromkeys(path for finding in found for path in finding.lost):
            typer.echo(f"lost: {output.relative(path)}")
    if not found:
        output.note(f"{index}: nothing is wrong")
    elif not repair:
        raise typer.Exit(1)


def _open(index: Path) -> Collection:
    import xsearch

    return xsearch.open(index)


def _items(count: int) -> str:
    return f"{count:,} item{'s' * (count != 1)}"


def _ids_and_paths(given: list[str]) -> tuple[list[int], list[str]]:
    """Numbers are ids, unless a file is called so."""
    numbers = {text for text in given if text.isdecimal() and not Path(text).exists()}
    ids = [int(text) for text in numbers if len(text) < 19]  # longer ones do not fit into 64 bits: no item's
    return ids, [text for text in given if text not in numbers]
