"""The columns of CSV, Parquet and npz tables: their names, then their values."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import Unreadable, Unsupported
from xsearch.media import npy, parquet, text
from xsearch.media.delimited import Layout, fields, layout
from xsearch.media.faults import unless_passing
from xsearch.media.imu import layouts
from xsearch.media.limits import MAX_COLUMNS, MAX_MOTION_MB

__all__ = ["Header", "floats", "header", "load", "numbers_of"]

START = 1 << 16  # bytes that show the encoding
FIRST_ROWS = 100  # rows that show how numbers are written
LONGEST_LINE = 1 << 16  # letters
LETTERS = 1 << 17  # before the end of the header
END_OF_ZIP = 22 + (1 << 16)  # bytes from the end that have the record of the directory
LARGEST_DIRECTORY = 1 << 20  # bytes of the directory of an npz, about 60 for an array
_NUMBER = re.compile(r"\s*[+-]?\.?\d")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")
_FLOAT = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_MISSING = ("", "na", "n/a", "nan", "NAN", "Nan", "null", "none", "None", "NONE", "-", "--", "?")


@dataclass(frozen=True, slots=True)
class Header:
    """What a table has."""

    path: Path
    format: str  # "csv", "npz" or "parquet"
    names: tuple[str, ...] = ()  # of the columns; of a CSV with the units of a row beneath, as "acc_x [g]"
    layout: Layout = field(default_factory=Layout)  # of a CSV, and what follows too
    rows: Sequence[Sequence[str]] = ()  # the first ones
    decimal_point: str = "."
    encoding: str = ""  # of the rows


def header(path: Path, is_header: Callable[[Sequence[str]], bool]) -> Header:
    """Return the header of a table: of a CSV the first line that `is_header` accepts, no names without one.

    A 2-D npz array of a sensor stands for three columns, one called `imu` for six.
    """
    with path.open("rb") as file:
        start = file.read(START)
    if start.startswith(b"PAR1"):
        from pyarrow import parquet as arrow

        with path.open("rb") as file:
            parquet.check_footer(file, path)
            return Header(path, "parquet", tuple(arrow.read_schema(file).names[: MAX_COLUMNS.value]))
    if start.startswith(b"PK\x03\x04"):
        with _archive(path) as archive:
            of_arrays = (name for key in archive for name in _triple(key))
            return Header(path, "npz", tuple(islice(of_arrays, MAX_COLUMNS.value)))
    try:
        encoding = text.encoding(start)
    except ValueError:  # damaged, or in a script that no sensor is named in
        encoding = "utf-8"
    with path.open(encoding=encoding, errors="replace", newline="") as csv:
        lines = iter(lambda: csv.readline(LONGEST_LINE), "")
        found = layout(_limited(lines), lambda names, is_comment: is_header(names), single=" ")
        rows = [fields(line, found.delimiter) for line in islice(lines, FIRST_ROWS) if line.strip()]
    names = _as_wide(found.names, rows[0]) if rows else found.names
    units, first = (*rows[:2], (), ())[:2]
    is_missing = {unit.strip().lower() for unit in units} <= {value.lower() for value in _MISSING}
    if any(map(_NUMBER.match, first)) and not any(map(_NUMBER.match, units)) and not is_missing:
        named = zip(names, chain(map(str.strip, units), repeat("")), strict=False)
        names = tuple(f"{name} [{unit}]" if unit else name for name, unit in named)
        found, rows = replace(found, lines=found.lines + 1), rows[1:]
    decimal_point = "," if any(map(_DECIMAL_COMMA.fullmatch, chain(*rows))) else "."
    # any byte is valid latin-1, and numbers are ASCII
    encoding = encoding if encoding.startswith(("utf-16", "utf-32")) else "latin-1"
    return Header(path, "csv", names, found, rows, decimal_point, encoding)


def _limited(lines: Iterable[str]) -> Iterator[str]:
    """Yield the first lines, of about LETTERS letters."""
    letters = 0
    for line in lines:
        yield line
        letters += len(line)
        if letters > LETTERS:
            return


def load(of: Header, numbers: Collection[int], others: Collection[int] = ()) -> dict[int, Any]:
    """Read columns: numbers as float64 [N], missing ones as NaN; others as they are, a CSV's as text."""
    if of.format == "npz":
        return _npz(of, {*numbers, *others})
    import pyarrow
    from pyarrow import compute

    columns = [*dict.fromkeys([*numbers, *others])]
    table = _parquet(of, columns) if of.format == "parquet" else _csv(of, columns, others)
    loaded: dict[int, Any] = {}
    for column, chunks in zip(columns, table.columns, strict=True):
        values, name = _expanded(of.path, chunks.combine_chunks()), of.names[column]
        if pyarrow.types.is_large_string(values.type):
            values = values.cast(pyarrow.string())
        if pyarrow.types.is_string(values.type):  # tables that were joined repeat the header
            repeated = compute.is_in(values, pyarrow.array([name, re.sub(r" \[[^\]]*\]$", "", name)]))
            values = compute.if_else(repeated, pyarrow.scalar(None, pyarrow.string()), values)
        loaded[column] = values if column in others else numbers_of(values, of.decimal_point)
        if loaded[column] is None:
            value = next(
                (text for text in values.drop_null().to_pylist() if not re.match(_FLOAT, str(text))), ""
            )
            raise Unreadable(f"{of.path}: column {name} is not numeric: {value!r}; correct its values")
    return loaded


def numbers_of(column: Any, decimal_point: str = ".") -> np.ndarray | None:
    """Return an Arrow array as float64 [N], NaN where it is null; None if it has anything but numbers."""
    import pyarrow
    import pyarrow.compute as compute

    if pyarrow.types.is_string(column.type):
        column = compute.utf8_trim_whitespace(column)
        column = compute.replace_substring(column, ",", ".") if decimal_point == "," else column
    with unless_passing(pyarrow.ArrowException):
        return floats(column)
    return None


def floats(column: Any) -> np.ndarray:
    """Cast an Arrow array to float64 [N], NaN where it is null."""
    return np.asarray(column.cast("float64", safe=False).to_numpy(zero_copy_only=False))


def _csv(of: Header, columns: Sequence[int], others: Collection[int]) -> Any:
    import pyarrow
    from pyarrow import csv

    size = of.path.stat().st_size
    MAX_MOTION_MB.check(of.path, size * (2 if of.layout.delimiter == " " else 1))  # of which there is a copy
    source: Any = of.path
    if of.layout.delimiter == " ":
        single = re.sub(rb"[^\S\r\n]+", b" ", of.path.read_bytes())
        source = io.BytesIO(re.sub(rb"(?m)^ | (?=\r?$)", b"", single))
    names = [str(number) for number in range(len(of.names))]
    return csv.read_csv(
        source,
        csv.ReadOptions(
            column_names=names,
            skip_rows=of.layout.lines,
            block_size=size,  # one block: types are inferred from the first block
            encoding=of.encoding,
        ),
        csv.ParseOptions(delimiter=of.layout.delimiter, invalid_row_handler=lambda row: "skip"),
        csv.ConvertOptions(
            include_columns=[names[column] for column in columns],
            column_types={names[column]: pyarrow.string() for column in others},
            decimal_point=of.decimal_point,
            null_values=[*csv.ConvertOptions().null_values, *_MISSING],
            strings_can_be_null=True,
        ),
    )


def _parquet(of: Header, columns: Sequence[int]) -> Any:
    from pyarrow import parquet as arrow

    names = [of.names[column] for column in columns]
    with of.path.open("rb") as file:
        parquet.check(file, of.path, MAX_MOTION_MB, {*names})
        return arrow.read_table(file, columns=names, read_dictionary=names).select(names)


def _expanded(path: Path, column: Any) -> Any:
    """Return a column of texts that are stored once each as a column of as many texts as rows."""
    from pyarrow import compute, types

    if not types.is_dictionary(column.type):
        return column
    lengths = compute.binary_length(column.dictionary).take(column.indices)
    MAX_MOTION_MB.check(path, compute.sum(lengths).as_py() or 0)
    return column.cast(column.type.value_type)


@contextmanager
def _archive(path: Path) -> Iterator[Any]:
    """Open an npz file. Raises TooLarge if it has too many arrays."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - END_OF_ZIP, 0))
        end = file.read().rpartition(b"PK\5\6")[2]
        if int.from_bytes(end[8:12], "little") > LARGEST_DIRECTORY:
            raise MAX_COLUMNS.refusal(path)
        file.seek(0)
        with np.load(file, allow_pickle=False) as archive:
            yield archive


def _npz(of: Header, columns: Collection[int]) -> dict[int, Any]:
    loaded: dict[int, Any] = {}
    with _archive(of.path) as archive:
        MAX_MOTION_MB.check(of.path, sum(member.file_size for member in archive.zip.infolist()))
        first = 0
        for key in archive:
            count = len(_triple(key))
            span = range(first, first + count)
            first += count
            if columns.isdisjoint(span):  # type: ignore[attr-defined]
                continue
            array = np.atleast_1d(_array(archive, key))
            rows = array if array.shape[0] == count else array.T
            if array.dtype.kind not in "biufM" or array.ndim > 2 or len(rows) != count > 1:
                actual = f"{array.dtype}{list(array.shape)}"
                raise Unsupported(f"{of.path}: {key} is {actual}; expected numbers [N, {count}]")
            rows = rows.astype(np.float64)
            loaded.update(zip(span, rows if count > 1 else [rows], strict=True))
    return loaded


def _array(archive: Any, key: str) -> np.ndarray:
    """Return an array, of which the header may state any size. Raises ValueError if it has another one."""
    name = next(name for name in (key, f"{key}.npy") if name in archive.zip.NameToInfo)
    with archive.zip.open(name) as member:
        if npy.stated_bytes(member) > archive.zip.getinfo(name).file_size:
            raise ValueError(f"{key} is shorter than its header states")
    return np.asarray(archive[key])


def _triple(key: str) -> list[str]:
    """Return the names of the columns that an npz array stands for."""
    if key.lower() == "imu":
        return [f"{sensor}_{axis}" for sensor in layouts.SENSORS for axis in "xyz"]
    return [f"{key}_{axis}" for axis in "xyz"] if layouts.sensor_of(key) else [key]


def _as_wide(names: tuple[str, ...], row: Sequence[str]) -> tuple[str, ...]:
    """Return as many names as a row has fields: an empty one is at the end, R's of the index in front."""
    more = len(row) - len(names)
    if more > 0:
        unnamed = ("",) * more
        return unnamed + names if all(row[-more:]) else names + unnamed
    return names[:more] if more and not any(names[more:]) else names
