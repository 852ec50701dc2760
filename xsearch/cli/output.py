"""How results are printed: a table for people, JSON, CSV or paths for programs."""

from __future__ import annotations

import csv
import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from xsearch.errors import UsageError
from xsearch.types import HIT_COLUMNS, Hit, Modality

if TYPE_CHECKING:
    from xsearch.query import Embedded

__all__ = [
    "Form",
    "choose_form",
    "counts",
    "finite",
    "note",
    "print_hits",
    "print_json",
    "print_parts",
    "print_table",
    "relative",
    "window",
]


class Form(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PATHS = "paths"


def choose_form(*, json: bool, csv: bool, paths: bool) -> Form:
    """The one that was asked for, else the table."""
    asked = [form for form, yes in ((Form.JSON, json), (Form.CSV, csv), (Form.PATHS, paths)) if yes]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]} exclude each other; keep one")
    return asked[0] if asked else Form.TABLE


def counts(by_kind: Mapping[Modality, int], noun: str) -> str:
    """How many, and of which kinds.

    >>> counts({Modality.IMAGE: 4, Modality.TEXT: 1_000}, "item")
    '1,004 items (4 image, 1,000 text)'
    """
    total = sum(by_kind.values())
    kinds = ", ".join(f"{by_kind[kind]:,} {kind}" for kind in Modality if by_kind.get(kind))
    return f"{total:,} {noun}{'s' * (total != 1)}" + (f" ({kinds})" if kinds else "")


def note(text: str) -> None:
    """Something worth knowing that is not a result: to stderr, on one line."""
    typer.echo(_printable(text), err=True)


def print_hits(hits: Sequence[Hit], form: Form = Form.TABLE) -> None:
    if form is Form.PATHS:
        for path in dict.fromkeys(hit.path for hit in hits):
            typer.echo(path)
    elif form is Form.JSON:
        print_json([{name: getattr(hit, name) for name in HIT_COLUMNS} for hit in hits])
    elif form is Form.CSV:
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(HIT_COLUMNS)
        lines.writerows([getattr(hit, name) for name in HIT_COLUMNS] for hit in hits)
    else:
        rows = [
            (
                str(hit.rank),
                f"{hit.cosine:.3f}",
                "-" if hit.balanced is None else f"{hit.balanced:+.2f}",
                hit.modality,
                relative(hit.path),
                window(hit.start_s, hit.end_s),
                hit.text or "",
            )
            for hit in hits
        ]
        print_table(("#", "cosine", "balanced", "kind", "path", "seconds", "text"), rows, numbers=3)


def print_parts(embedded: Embedded | None) -> None:
    """How a sum came out: to stderr, because it is about the query and not a result."""
    if embedded is None:
        return
    count = len(embedded.parts)
    length = f"the weighted sum of {count} part{'s' * (count != 1)} has length {embedded.norm:.3f}"
    note(f"{length} before it is normalised; each part's norm in it, and cosine with it:")
    for part, cosine in zip(embedded.query.parts, embedded.cosines, strict=True):
        norm = abs(part.weight)  # of a unit vector times its weight
        note(f"  norm {norm:.3f}  cosine {cosine:+.3f}  {part.weight:+g} * {part.modality} {part.label}")


def print_json(value: object) -> None:
    """Numbers that JSON does not have, NaN and the infinities, become null."""
    typer.echo(json.dumps(finite(value), indent=2, ensure_ascii=False, allow_nan=False, default=str))


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: int = 0) -> None:
    """Aligned columns, the first `numbers` of them to the right.

    In a terminal it fits the width: "path" is shortened in the middle, "text" or "reason" at its end.
    Empty columns are left out; elsewhere (a pipe, a file) nothing is shortened. No rows print nothing.
    """
    if not rows:
        return
    keep = [i for i in range(len(header)) if any(row[i] for row in rows)]
    numbers = sum(i < numbers for i in keep)
    names = [header[i] for i in keep]
    cells = [names] + [[_printable(row[i]) for i in keep] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    if sys.stdout.isatty():
        widths = _fit(names, widths, shutil.get_terminal_size().columns)
    for row in cells:
        line = [
            _shorten(cell, width, middle=name == "path")
            for name, cell, width in zip(names, row, widths, strict=True)
        ]
        aligned = [
            cell.rjust(width) if i < numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        typer.echo("  ".join(aligned).rstrip())


def relative(path: str) -> str:
    """Below the current directory without it, else as it is."""
    cwd = Path.cwd()
    return str(Path(path).relative_to(cwd)) if Path(path).is_relative_to(cwd) else path


def window(start_s: float | None, end_s: float | None) -> str:
    """A time window for the eye.

    >>> window(0, 10), window(9.5, 12.25), window(None, None)
    ('0-10', '9.5-12.2', '')
    """
    if start_s is None or end_s is None:
        return ""
    return "-".join(f"{seconds:.1f}".removesuffix(".0") for seconds in (start_s, end_s))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def finite(value: object) -> object:
    """With null for the numbers that JSON does not have."""
    match value:
        case dict():
            return {name: finite(inner) for name, inner in value.items()}
        case list() | tuple():
            return [finite(inner) for inner in value]
        case float():
            return value if math.isfinite(value) else None
    return value


def _fit(names: list[str], widths: list[int], columns: int) -> list[int]:
    """Take from the text first, then from the path, until the line has at most `columns` characters."""
    widths = list(widths)
    for name, least in (("text", 16), ("reason", 16), ("path", 12), ("text", 4), ("reason", 4)):
        too_much = sum(widths) + 2 * (len(widths) - 1) - columns
        if name in names and too_much > 0:
            i = names.index(name)
            widths[i] = max(min(widths[i], least), widths[i] - too_much)
    return widths


def _shorten(text: str, width: int, *, middle: bool) -> str:
    if len(text) <= width:
        return text
    tail = (width - 1) * 2 // 3 if middle else 0  # the file's name says more than its folder
    return text[: width - 1 - tail] + "…" + text[len(text) - tail :]
