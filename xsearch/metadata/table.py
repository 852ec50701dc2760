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

from xsearch.errors import UsageError
from xsearch.media import text
from xsearch.media.delimited import Layout, layout
from xsearch.metadata.columns import MAX_FIELDS, typed

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Table", "naming", "read_table"]

MAX_BYTES = 256 << 20  # 2.5 million rows of 100 bytes; as Python strings, four times as much
MAX_ROWS = 10_000_000  # with MAX_BYTES, guards against decompression bombs

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
            is_small = os.fstat(file.fileno()).st_size <= MAX_BYTES
            data = file.read(MAX_BYTES + 1) if is_small else b""  # a pipe has no size
    except OSError as problem:
        raise UsageError(f"{path}: cannot be opened: {problem.strerror}") from None
    if not is_small or len(data) > MAX_BYTES:
        raise UsageError(f"{path}: over {MAX_BYTES >> 20} MB; split it")
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


def _check(path: Path, names: Sequence[str]) -> None:
    if len(names) > MAX_FIELDS:
        raise UsageError(f"{path}: over {MAX_FIELDS:,} columns; keep those that describe the files")
    if not any(naming(names)):
        has = ", ".join(names)[:100] or "no columns"
        raise UsageError(f"{path}: no column names files (path or file_name); it has {has}")


def _lines(data: bytes, encoding: str) -> Iterator[str]:
    return iter(io.TextIOWrapper(io.BytesIO(data), encoding, errors="replace", newline=""))


def _delimited(path: Path, data: bytes, encoding: str) -> Table:
    lines = _whole(_lines(data, encoding))
    form = layout(lines, lambda names, is_comment: not is_comment or any(naming(names)))
    _check(path, form.names)
    limit = csv.field_size_limit(MAX_BYTES)
    try:
        rows = [row for row in _rows(data, encoding, form) if any(row)]
    finally:
        csv.field_size_limit(limit)
    width = len(form.names)
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


def _rows(data: bytes, encoding: str, form: Layout) -> list[list[str]]:
    """Return the rows after the header.

    A quote that is never closed is a character like any other, as in the tables of Common Voice.
    """
    end = "\0"  # becomes a row unless a quote is open
    rows = [[end]]
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_NONE):
        lines = chain(islice(_lines(data, encoding), form.lines, None), [end])
        blanks = form.delimiter != "\t"
        rows = [*csv.reader(lines, delimiter=form.delimiter, quoting=quoting, skipinitialspace=blanks)]
        if rows[-1] == [end]:
            break
    return rows[:-1]


def _objects(path: Path, data: bytes, encoding: str) -> Table:
    rows = list(_parsed(path, data, encoding))
    names = list(dict.fromkeys(name for row in rows for name in row))
    _check(path, names)
    columns = [[row.get(name) for row in rows] for name in names]
    return Table(*_distinct([name.strip() for name in names], columns), len(rows))


def _parsed(path: Path, data: bytes, encoding: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of JSON lines or of a JSON list."""
    lines = _lines(data, encoding)
    first = next(lines, "")
    parts = [first + "".join(lines)] if first.lstrip().startswith("[") else chain([first], lines)
    for number, part in enumerate(parts, start=1):
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
        file = parquet.ParquetFile(pa.BufferReader(data))
        names = [name.strip() for name in file.schema_arrow.names]
        _check(path, names)
        size = sum(file.metadata.row_group(at).total_byte_size for at in range(file.num_row_groups))
        if file.metadata.num_rows > MAX_ROWS or size > 4 * MAX_BYTES:
            raise UsageError(f"{path}: over {MAX_ROWS:,} rows or {4 * MAX_BYTES >> 30} GB; split it")
        columns = [_Column(column) for column in file.read().columns]
    except (pa.ArrowException, OSError, ValueError) as problem:
        reason = (str(problem) or "damaged").splitlines()[0]
        raise UsageError(f"{path}: cannot be read as Parquet: {reason}") from None
    return Table(*_distinct(names, columns), file.metadata.num_rows)


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
