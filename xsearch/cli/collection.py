"""`info`, `ls`, `rm`, `skipped`, `compact`, `verify`: inspect a collection and tidy it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xsearch.cli import hits, options, output
from xsearch.cli.table import print_table, relative, relative_paths, seconds
from xsearch.errors import SkipKind, UsageError
from xsearch.sheet import write_csv
from xsearch.types import DEFAULT_COLLECTION

if TYPE_CHECKING:
    from xsearch.collection import Collection

__all__ = ["compact", "info", "list_items", "remove", "skipped", "verify"]

ITEM_COLUMNS = ("id", "modality", "path", "start_s", "end_s", "text")


def info(json: options.JsonObject = False, folder: options.Collection = options.NEAREST) -> None:
    """Print counts by kind, model, index and size."""
    stats = _open(folder).stats()
    if json:
        output.print_json(stats)
        return
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in stats.pop("modalities").items() if count)
    stats["columns"] = ", ".join(stats["columns"]) or None
    stats["items"] = f"{stats['items']:,}" + (f" ({kinds})" if kinds else "")
    output.print_fields(stats)


def list_items(
    modality: options.Modalities = None,
    where: options.Where = None,
    sort: options.SortBy = None,
    top: Annotated[
        int | None, typer.Option("--top", "-n", min=1, metavar="N", help="Number of items, at most.")
    ] = None,
    duplicates: Annotated[
        bool, typer.Option("--duplicates", help="List files with the same content, in groups.")
    ] = False,
    json: options.Json = False,
    folder: options.Collection = options.NEAREST,
) -> None:
    """List the items of a collection, by id or by date."""
    collection = _open(folder)
    if duplicates:
        _list_duplicates(collection.duplicates(modality=modality, where=where)[:top].to_pylist(), json)
        return
    columns = None if json or sort else ITEM_COLUMNS
    items = collection.items(
        modality=modality, where=where, sort=sort, limit=top, columns=columns
    ).to_pylist()
    if json:
        output.print_json(items)
        return
    rows = [
        (
            str(item["id"]),
            item["modality"],
            relative(item["path"]),
            seconds(item["start_s"]),
            seconds(item["end_s"]),
            item["text"] or "",
            str(item.get("taken_at") or "") if sort else "",
        )
        for item in items
    ]
    print_table((*ITEM_COLUMNS, "taken_at"), rows)
    if not rows:
        output.note("no items match")


def _list_duplicates(groups: list[dict[str, Any]], json: bool) -> None:
    if json:
        output.print_json(groups)
        return
    rows = [
        (str(number), str(group["bytes"]), relative(path))
        for number, group in enumerate(groups, start=1)
        for path in group["paths"]
    ]
    print_table(("group", "bytes", "path"), rows)
    if not rows:
        output.note("no two files have the same content")


def remove(
    what: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="WHAT",
            help="Ids, files, folders, or quoted globs: 'media/*.jpg'; ** crosses folders.",
        ),
    ] = None,
    where: options.Where = None,
    ignore: Annotated[
        bool, typer.Option("--ignore", help="Keep these files out, unless ingest names the file itself.")
    ] = False,
    dry_run: options.DryRun = False,
    yes: options.Yes = False,
    folder: options.Folder = DEFAULT_COLLECTION,
) -> None:
    """Remove items from a collection. The media files themselves are not touched."""
    from xsearch.media import is_url  # and with it numpy

    if not what and where is None:
        raise UsageError("rm: expected ids, paths or --where; to remove everything delete the folder")
    collection = _open(folder)
    ids, paths = _ids_and_paths(what) if what else (None, None)
    if ids and (missing := set(ids).difference(collection.snapshot().ids.tolist())):
        there, unknown = len(ids) - len(missing), ", ".join(map(str, sorted(missing)))
        output.note(f"{there} of {len(ids)} ids are in the collection, not {unknown}")
    count = collection.remove(ids, paths=paths, where=where, dry_run=True)
    emptied = collection.emptied(ids, paths=paths, where=where)
    items, files = output.plural(count, "item"), output.plural(len(emptied), "file")
    keep_out = f", keep {files} out" if ignore and emptied else ""
    if not count and not keep_out:
        typer.echo("no items match, nothing was removed")
        return
    back = [name for name in emptied if is_url(name) or os.path.lexists(name)]
    if back and not ignore:
        files = output.plural(len(back), "file")
        output.note(f"the next ingest of its folder brings back {files}; --ignore keeps such files out")
    if dry_run:
        typer.echo(f"would remove {items}{keep_out}")
        return
    if not yes:
        typer.confirm(f"Remove {items} from {folder}{keep_out}?", abort=True, err=True)
    removed = collection.remove(ids, paths=paths, where=where, ignore=ignore)
    typer.echo(f"removed {output.plural(removed, 'item')}" + (f", kept {files} out" if keep_out else ""))


def skipped(
    everything: Annotated[
        bool, typer.Option("--all", help="Also files that are not media, excluded, or removed with --ignore.")
    ] = False,
    json: options.Json = False,
    csv: options.Csv = False,
    keep_formulas: options.KeepFormulas = False,
    folder: options.Collection = options.NEAREST,
) -> None:
    """List the files that could not be read, and why.

    Kinds: damaged, unsupported, too large, and passing, which the next ingest tries again: lack of
    memory or permission, an error of a disk or network, a decoder that was killed or late.
    """
    form = hits.choose_form(json=json, csv=csv, paths=False)
    collection = _open(folder)
    table = collection.skipped(everything=everything)
    rows = table.to_pylist()
    if form is hits.Form.JSON:
        output.print_json(rows)
        return
    if form is hits.Form.CSV:
        lines = (list(row.values()) for row in rows)
        write_csv(sys.stdout, table.column_names, lines, keep_formulas=keep_formulas)
        return
    cells = [(row["kind"] or "", relative(row["path"]), relative_paths(row["reason"])) for row in rows]
    print_table(("kind", "path", "reason"), cells)
    if not rows:
        output.note("nothing was skipped")
    if again := sum(row["kind"] == SkipKind.PASSING for row in rows):
        output.note(f"the next ingest tries {output.plural(again, 'file')} again")
    if not everything and (others := len(collection.skipped(everything=True)) - len(rows)):
        output.note(f"--all lists {others:,} more that are not media, excluded or removed")


def compact(folder: options.Folder = DEFAULT_COLLECTION) -> None:
    """Merge small files and delete what nothing refers to."""
    done = _open(folder).compact()
    segments = f"segments {done.segments_before} -> {done.segments_after}"
    typer.echo(f"{folder}: {segments}, {done.freed_bytes:,} bytes freed")
    if done.kept_bytes:
        who = ", ".join(f"process {pid}" if pid else "another process" for pid in done.readers)
        output.note(f"{done.kept_bytes:,} bytes more once {who} no longer reads them: run it again then")


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Rebuild or set aside what is damaged.")] = False,
    json: options.Json = False,
    folder: options.Collection = options.NEAREST,
) -> None:
    """Check every byte of a collection.

    Exits with 1 if something is wrong. --repair rebuilds files from others that have the
    same, and keeps every intact item. Files that lost some move to the folder `quarantine`
    of the collection; the next ingest embeds what they had, or `xsearch import` reads it.
    """
    from xsearch.integrity import verify

    findings = verify(folder, repair=repair)
    if json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            remedy = finding.remedy if repair else f"with --repair: {finding.remedy}"
            output.say(f"{finding.path}: {finding.problem}; {remedy}")
        for path in dict.fromkeys(path for finding in findings for path in finding.lost):
            output.say(f"lost: {relative(path)}")
    if not findings:
        output.note(f"{folder}: nothing is wrong")
    elif not repair:
        raise typer.Exit(1)


def _open(folder: str | Path) -> Collection:
    import xsearch

    return xsearch.open(folder)


def _ids_and_paths(names: list[str]) -> tuple[list[int], list[str]]:
    """Numbers are ids, unless there is a file of that name."""
    numbers = {name for name in names if name.isdecimal() and not Path(name).exists()}
    ids = [int(name) for name in numbers if len(name) < 19]  # no id has more digits: 64 bits
    return ids, [name for name in names if name not in numbers]
