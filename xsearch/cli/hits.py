"""An answer on stdout: a table for people, JSON, CSV or paths for programs."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING

import typer

from xsearch.cli import output, table
from xsearch.errors import UsageError
from xsearch.sheet import write_csv
from xsearch.types import HIT_COLUMNS

if TYPE_CHECKING:
    from xsearch import Hits
    from xsearch.query import Embedded
    from xsearch.query.wire import Understood

__all__ = ["Form", "choose_form", "print_hits", "print_parts", "print_query"]


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"


def choose_form(*, json: bool, csv: bool, paths: bool) -> Form:
    """The requested one, else the table."""
    requested = [form for form, yes in ((Form.JSON, json), (Form.CSV, csv), (Form.PATHS, paths)) if yes]
    if len(requested) > 1:
        raise UsageError(f"--{requested[0]} and --{requested[1]} exclude each other; keep one")
    return requested[0] if requested else Form.TABLE


def print_hits(
    hits: Hits, form: Form = Form.TABLE, *, dated: bool = False, keep_formulas: bool = False
) -> None:
    """dated: whether a table shows when the items were taken. keep_formulas: in CSV, see `write_csv`."""
    if form is Form.PATHS:
        for path in dict.fromkeys(hit.path for hit in hits):
            _print_path(path)
    elif form is Form.JSON:
        parts = hits.query.query.parts if hits.query else ()
        kinds = " + ".join(dict.fromkeys(str(part.modality) for part in parts)) or "text"
        output.print_json([{**row, "query": row.get("query", kinds)} for row in hits.to_dicts()])
    elif form is Form.CSV:
        rows = hits.to_dicts()
        columns = dict.fromkeys([*HIT_COLUMNS, *(name for row in rows for name in row)])
        lines = ([row.get(name) for name in columns] for row in rows)
        write_csv(sys.stdout, list(columns), lines, keep_formulas=keep_formulas)
    else:
        _print_table(hits, dated=dated)


def _print_path(path: str) -> None:
    """Print a path: its very bytes for a program at the other end of a pipe, escaped for a terminal."""
    if sys.stdout.isatty() or not hasattr(sys.stdout, "buffer"):
        output.say(path)
    else:
        typer.echo(path.encode(errors="surrogateescape"))


def _print_table(hits: Hits, *, dated: bool) -> None:
    """The score comes from the figures beside it; the id and the metadata are for programs."""
    figures = ("rank", "cosine", "balanced", "expected", "bm25")
    header = (*figures, "boxes", "taken_at", "modality", "path", "start_s", "end_s", "text")
    rows = [
        (
            str(hit.rank),
            _figure(hit.cosine, ".3f"),
            _figure(hit.balanced, "+.2f"),
            hit.times,
            _figure(hit.bm25, ".2f"),
            "" if hit.boxes is None else str(len(hit.boxes)),
            str(hit.extra.get("taken_at", "")) if dated else "",
            hit.modality,
            table.relative(hit.path),
            table.seconds(hit.start_s),
            table.seconds(hit.end_s),
            f"[unknown words] {hit.text}" if hit.is_unread else hit.text or "",
        )
        for hit in hits
    ]
    table.print_table(header, rows)


def _figure(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def print_query(embedded: Embedded | Understood | None) -> None:
    """Print as what a query of one part was taken, unless it is a literal text: to stderr."""
    if embedded is None or isinstance(embedded.query.parts[0].source, str):
        return
    (part,) = embedded.query.parts
    of = f"{len(embedded.own)} items" if len(embedded.own) != 1 else f"item {embedded.own[0]}"
    stored = f", in the collection as {of}" if len(embedded.own) and not isinstance(part.source, int) else ""
    output.note(f"query: {part.modality} {part.label}{stored}")


def print_parts(embedded: Embedded | Understood | None) -> None:
    """Print how a sum came out: to stderr, because it is about the query and not a result."""
    if embedded is None:
        return
    count = len(embedded.query.parts)
    length = f"the weighted sum of {count} part{'s' * (count != 1)} has length {embedded.norm:.3f}"
    output.note(f"{length} before it is normalised; each part's norm in it, and cosine with it:")
    for part, cosine in zip(embedded.query.parts, embedded.cosines, strict=True):
        norm = f"norm {abs(part.weight):.3f}"  # of a unit vector times its weight
        output.note(f"  {norm}  cosine {cosine:+.3f}  {part.weight:+g} * {part.modality} {part.label}")
