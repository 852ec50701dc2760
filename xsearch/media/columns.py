"""The columns of CSV, Parquet and npz tables: their names, then their values."""

from __future__ import annotations

import codecs
import io
import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import Unreadable
from xsearch.media import text
from xsearch.media.delimited import Layout, layout

__all__ = ["Header", "header", "load", "numbers_of"]

MAX_BYTES = 1 << 30  # uncompressed, a day at 200 Hz; guards against decompression bombs
START = 1 << 16  # bytes that show the encoding
_NUMBER = re.compile(r"\s*[+-]?\.?\d")
_FLOAT = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$"
_MISSING = ("", "na", "n/a", "nan", "NAN", "Nan", "null", "none", "None", "NONE", "-", "--", "?")
_TRIPLES = {  # keys of npz arrays that stand for columns
    "accel": re.compile(r"acc|accl|accel|accelerometer|acceleration", re.IGNORECASE),
    "gyro": re.compile(r"gyr|gyro|gyroscope|angular_?velocity|rotation_?rate", re.IGNORECASE),
}


@dataclass(frozen=True, slots=True)
class Header:
    """What a table has."""

    path: Path
    format: str  # "csv", "npz" or "parquet"
    names: tuple[str, ...] = ()  # of the columns; of a CSV with the units of a row beneath, as "acc_x [g]"
    layout: Layout = field(default_factory=Layout)  # of a CSV
    encoding: str = "utf-8"


def header(path: Path, is_header: Callable[[Sequence[str]], bool]) -> Header:
    """Return the header of a table: of a CSV the first line that `is_header` accepts, no names without one.

    A 2-D npz array of a sensor stands for three columns, one called `imu` for six.
    """
    with path.open("rb") as file:
        start = file.read(START)
    if start.startswith(b"PAR1"):
        import pyarrow.parquet

        return Header(path, "parquet", tuple(pyarrow.parquet.read_schema(path).names))
    if start.startswith(b"PK\x03\x04"):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return Header(path, "npz", tuple(name for key in archive for name in _triple(key)))
    encoding = text.bom_encoding(start) or _encoding(start)
    with path.open(encoding=encoding, errors="replace", newline="") as lines:
        found = layout(iter(lambda: lines.readline(65_536), ""), is_header)
    # any byte is valid latin-1, and numbers are ASCII
    rows = "latin-1" if encoding in ("utf-8-sig", "cp1252") else encoding
    units, first = (*found.rows[:2], (), ())[:2]
    is_missing = {unit.strip().lower() for unit in units} <= {value.lower() for value in _MISSING}
    if any(map(_NUMBER.match, first)) and not any(map(_NUMBER.match, units)) and not is_missing:
        named = zip(found.names, (*units, *[""] * len(found.names)), strict=False)
        names = tuple(f"{name} [{unit.strip()}]" if unit.strip() else name for name, unit in named)
        found = replace(found, names=names, lines=found.lines + 1, rows=found.rows[1:])
    return Header(path, "csv", found.names, found, rows)


def load(of: Header, numbers: Collection[int], others: Collection[int] = ()) -> dict[int, Any]:
    """Read columns: numbers as float64 [N], missing ones as NaN; others as they are, a CSV's as text."""
    if of.format == "npz":
        return _npz(of, {*numbers, *others})
    import pyarrow
    from pyarrow import compute, parquet

    columns = [*dict.fromkeys([*numbers, *others])]
    if of.format == "parquet":
        _check_size(of.path, parquet.read_metadata(of.path).num_rows * len(columns) * 8)
        names = [of.names[column] for column in columns]
        table = parquet.read_table(of.path, columns=names).select(names)
    else:
        table = _csv(of, columns, others)
    loaded: dict[int, Any] = {}
    for column, chunks in zip(columns, table.columns, strict=True):
        values, name = chunks.combine_chunks(), of.names[column]
        if pyarrow.types.is_large_string(values.type):
            values = values.cast(pyarrow.string())
        if pyarrow.types.is_string(values.type):  # tables that were joined repeat the header
            repeated = compute.is_in(values, pyarrow.array([name, re.sub(r" \[[^\]]*\]$", "", name)]))
            values = compute.if_else(repeated, pyarrow.scalar(None, pyarrow.string()), values)
        loaded[column] = values if column in others else numbers_of(values, of.layout.decimal_point)
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
    try:
        return np.asarray(column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False))
    except pyarrow.ArrowException:
        return None


def _csv(of: Header, columns: Sequence[int], others: Collection[int]) -> Any:
    import pyarrow
    from pyarrow import csv

    size = of.path.stat().st_size
    _check_size(of.path, size)
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
            decimal_point=of.layout.decimal_point,
            null_values=[*csv.ConvertOptions().null_values, *_MISSING],
            strings_can_be_null=True,
        ),
    )


def _npz(of: Header, columns: Collection[int]) -> dict[int, Any]:
    loaded: dict[int, Any] = {}
    with of.path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        _check_size(of.path, sum(member.file_size for member in archive.zip.infolist()))
        first = 0
        for key in archive:
            count = len(_triple(key))
            span = range(first, first + count)
            first += count
            if columns.isdisjoint(span):  # type: ignore[attr-defined]
                continue
            array = np.atleast_1d(archive[key])
            rows = array if array.shape[0] == count else array.T
            if array.dtype.kind not in "biufM" or array.ndim > 2 or len(rows) != count > 1:
                actual = f"{array.dtype}{list(array.shape)}"
                raise Unreadable(f"{of.path}: {key} is {actual}; expected numbers [N, {count}]")
            rows = rows.astype(np.float64)
            loaded.update(zip(span, rows if count > 1 else [rows], strict=True))
    return loaded


def _triple(key: str) -> list[str]:
    if key.lower() == "imu":
        return [f"{sensor}_{axis}" for sensor in _TRIPLES for axis in "xyz"]
    if any(pattern.fullmatch(key) for pattern in _TRIPLES.values()):
        return [f"{key}_{axis}" for axis in "xyz"]
    return [key]


def _encoding(start: bytes) -> str:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise Unreadable(f"{path}: over 1 GB of numbers; split it")
