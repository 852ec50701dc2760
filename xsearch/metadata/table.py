"""Metadata tables: delimited text in any dialect, JSON lines, Parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.errors import TooLarge, UsageError
from xsearch.media import text
from xsearch.media.delimited import Layout, cells_of_any_size, layout
from xsearch.media.limits import MAX_CELLS, MAX_COLUMNS, MAX_SIDECAR_MB, MAX_TABLE_MB, Limit
from xsearch.media.parquet import check
from xsearch.metadata.columns import typed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "naming", "read_table"]

UNPACKED = 4  # times the limit of a file: what Arrow holds of a Parquet file
LISTED = 4  # a part of it: what a JSON list may have, which is parsed as a whole, to 20 times as much

# Columns that name files, without case and separators, by precedence: ours, ExifTool's, Hugging Face's
_FILES = ("path", "sourcefile", "filename")
_LIKE_FILES = re.compile(
    r".*(path|file|filename)|image|img|picture|photo|audio|sound|wav|video|clip|media|url|uri"
)
_CONTROL = re.compile(rb"[\x01-\x08\x0e-\x19\x1c-\x1f]")
_MAX_NAMES = 20  # lines that the names of the columns may take


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """The columns of a table, in order."""

    names: Sequence[str]  # stripped; not empty, and none occurs twice
    columns: Sequence[Sequence[Any]]  # a value for each row, None if missing
    rows: int
    form: Layout | None = None  # of delimited text, whose values are all strings
    ragged: int = 0  # rows with more cells than the header

    def without(self, column: int) -> Table:
        """Return the other columns, numbers in text as numbers."""
        names = [*self.names[:column], *self.names[column + 1 :]]
        columns = [*self.columns[:column], *self.columns[column + 1 :]]
        if self.form:
            columns = [typed(each, decimal_comma=self.form.delimiter != ",") for each in columns]
        return Table(names, columns, self.rows)


def read_table(path: Path) -> Table:
    """Read a table. Raises UsageError if it is damaged, too large, or no column may name files."""
    try:
        with path.open("rb") as file:
            _check(path, os.fstat(file.fileno()).st_size, MAX_TABLE_MB)
            data = file.read(MAX_TABLE_MB.bytes + 1)  # a pipe has no size
    except OSError as problem:
        raise UsageError(f"{path}: cannot be opened: {problem.strerror}") from None
    _check(path, len(data), MAX_TABLE_MB)
    if data.startswith(b"PAR1"):
        return _parquet(path, data)
    try:
        try:
            encoding = text.encoding(data)
        except ValueError:
            data = data.rstrip(b"\0")  # a crash may leave them at the end, and a few elsewhere
            if data.count(0) > len(data) / 10 or _CONTROL.search(data):
                raise
            data = data.replace(b"\0", b" ")
            encoding = text.encoding(data)
    except ValueError:
        raise UsageError(
            f"{path}: binary data or text in an unknown encoding; save it as CSV in UTF-8"
        ) from None
    read = _objects if path.suffix.lower() in (".jsonl", ".ndjson", ".json") else _delimited
    return read(path, data, encoding)


def naming(names: Iterable[str]) -> tuple[list[int], list[int]]:
    """Return the columns that name files, by precedence, and those that may.

    >>> naming(["label", "File Name", "image", "path"]), naming(["title", "year"])
    (([3, 1], [2]), ([], []))
    """
    plain = [re.sub(r"[^a-z0-9]", "", name.lower()) for name in names]
    known = [at for name in _FILES for at, each in enumerate(plain) if each == name]
    return known, [at for at, name in enumerate(plain) if at not in known and _LIKE_FILES.fullmatch(name)]


def _check(path: Path, amount: int, limit: Limit) -> None:
    """Raise UsageError if a table exceeds a limit."""
    try:
        limit.check(path, amount)
    except TooLarge as problem:
        raise UsageError(str(problem)) from None


def _check_names(path: Path, names: Sequence[str]) -> None:
    _check(path, len(names), MAX_COLUMNS)
    if not any(naming(names)):
        has = ", ".join(names)[:100] or "no columns"
        raise UsageError(f"{path}: no column names files (path or file_name); it has {has}")


def _lines(data: bytes, encoding: str) -> Iterator[str]:
    return iter(io.TextIOWrapper(io.BytesIO(data), encoding, errors="replace", newline=""))


def _delimited(path: Path, data: bytes, encoding: str) -> Table:
    lines = _whole(_lines(data, encoding))
    form = layout(lines, lambda names, is_comment: not is_comment or any(naming(names)))
    _check_names(path, form.names)
    rows = [row for row in _rows(path, data, encoding, form) if any(row)]
    width = len(form.names)
    _check(path, len(rows) * width, MAX_CELLS)
    columns = [[row[at] or None if at < len(row) else None for row in rows] for at in range(width)]
    ragged = sum(any(row[width:]) for row in rows)
    return Table(*_distinct(form.names, columns), len(rows), form, ragged)


def _whole(lines: Iterator[str]) -> Iterator[str]:
    """Yield lines; the lines of names with line breaks as one."""
    for line in lines:
        parts = [line]
        while _is_open(parts) and len(parts) < _MAX_NAMES and (more := next(lines, "")):
            parts.append(more)
        yield from parts if _is_open(parts) else ["".join(parts)]


def _is_open(parts: Iterable[str]) -> bool:
    return sum(part.count('"') for part in parts) % 2 == 1


def _rows(path: Path, data: bytes, encoding: str, form: Layout) -> list[list[str]]:
    """Return the rows after the header.

    A quote that is never closed is a character like any other, as in the tables of Common Voice.
    """
    end = "\0"  # becomes a row unless a quote is open
    rows = [[end]]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        lines = chain(islice(_bounded(path, data, encoding, form), form.lines, None), [end])
        blanks = form.delimiter != "\t"
        rows, cells = [], 0
        with cells_of_any_size():
            for row in csv.reader(lines, delimiter=form.delimiter, quoting=quoting, skipinitialspace=blanks):
                rows.append(row)
                cells += len(row)
                _check(path, cells, MAX_CELLS)
        if rows[-1] == [end]:
            break
    return rows[:-1]


def _bounded(path: Path, data: bytes, encoding: str, form: Layout) -> Iterator[str]:
    """Yield lines. Raises UsageError if one has too many cells."""
    for line in _lines(data, encoding):
        _check(path, line.count(form.delimiter), MAX_CELLS)
        yield line


def _objects(path: Path, data: bytes, encoding: str) -> Table:
    rows, cells = list[dict[str, Any]](), 0
    for row in _parsed(path, data, encoding):
        rows.append(row)
        cells += max(len(row), 1)
        _check(path, cells, MAX_CELLS)
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check_names(path, names)
    _check(path, len(rows) * len(names), MAX_CELLS)
    columns = [[row.get(name) for row in rows] for name in names]
    return Table(*_distinct([name.strip() for name in names], columns), len(rows))


def _parsed(path: Path, data: bytes, encoding: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines or of a JSON list."""
    lines = _lines(data, encoding)
    first = next(lines, "")
    is_list = first.lstrip().startswith("[")
    if is_list:
        _check(path, LISTED * len(data), MAX_TABLE_MB)
    parts = [first + "".join(lines)] if is_list else chain([first], lines)
    for number, part in enumerate(parts, start=1):
        if not is_list:
            _check(path, len(part), MAX_SIDECAR_MB)
        if part.strip():
            try:
                value = json.loads(part)
            except (ValueError, RecursionError) as problem:
                reason = getattr(problem, "msg", problem)
                raise UsageError(f"{path}: line {number} cannot be read as JSON: {reason}") from None
            for row in value if isinstance(value, list) else [value]:
                if not isinstance(row, dict):
                    kind = type(row).__name__
                    raise UsageError(f"{path}: line {number}: expected a JSON object, got {kind}")
                yield row


def _parquet(path: Path, data: bytes) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        source = io.BytesIO(data)
        check(source, path, MAX_TABLE_MB, share=UNPACKED)
        names = parquet.read_schema(source).names
        _check_names(path, [name.strip() for name in names])
        source.seek(0)
        table = parquet.read_table(source, read_dictionary=names)  # texts that repeat are stored once
        columns = [_Column(column) for column in table.columns]
    except TooLarge as problem:
        raise UsageError(str(problem)) from None
    except (pa.ArrowException, OSError, ValueError) as problem:
        reason = (str(problem) or "damaged").splitlines()[0]
        raise UsageError(f"{path}: cannot be read as Parquet: {reason}") from None
    return Table(*_distinct([name.strip() for name in names], columns), table.num_rows)


class _Column(Sequence[Any]):
    """The values of an Arrow column, converted when they are read, as few rows may be."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        import pyarrow as pa
        from pyarrow import types

        kind = column.type
        if types.is_timestamp(kind):  # Python has no nanoseconds
            column = column.cast(pa.timestamp("us", kind.tz), safe=False)
        elif types.is_time64(kind) or types.is_duration(kind):
            column = column.cast(pa.time64("us") if types.is_time64(kind) else pa.duration("us"), safe=False)
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, row: Any) -> Any:
        return self._column[row].as_py()


def _distinct(
    names: Iterable[str], columns: Iterable[Sequence[Any]]
) -> tuple[list[str], list[Sequence[Any]]]:
    """Return the columns that have a name, repeated names with a number: `note`, `Note_2`."""
    kept: dict[str, tuple[str, Sequence[Any]]] = {}  # by name without case
    for name, column in zip(names, columns, strict=True):
        if name:
            numbered = (f"{name}_{count}" for count in range(2, len(kept) + 3))
            name = next(each for each in chain([name], numbered) if each.lower() not in kept)
            kept[name.lower()] = name, column
    return [name for name, _ in kept.values()], [column for _, column in kept.values()]
