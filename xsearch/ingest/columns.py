"""Columns as stored: of one type each; mixed values become text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any

import pyarrow as pa

from xsearch.media import facts

__all__ = ["as_text", "is_stored", "table"]

_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us")}
_FACTS = {name: _TYPES[kind] for name, kind in facts.COLUMNS.items()}  # whatever the values of a commit are
_UNFIT = (pa.ArrowException, OverflowError, UnicodeEncodeError)


def as_text(value: object) -> str:
    """Return a value as stored in a column of mixed types: a string."""
    return str(value).encode(errors="backslashreplace").decode()


def is_stored(value: Any, stored: Any, kind: pa.DataType) -> bool:
    """Whether `stored` equals `value` cast to a column of type `kind`; NaN equals NaN."""
    if stored is None:
        return False
    expected = {as_text(value)}
    with suppress(*_UNFIT):  # stored as text
        expected.add(pa.scalar(value).cast(kind, safe=False).as_py())
    return stored in expected or (stored != stored and value != value)


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Convert rows to a table. A column of mixed types, or unlike the fact of its name, becomes text."""
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows], _FACTS.get(name)) for name in names})


def _column(values: list[Any], kind: pa.DataType | None) -> pa.Array:
    """kind: of the column; None: that of the values."""
    try:
        column = pa.array(values)
    except _UNFIT:
        column = pa.array([None if value is None else as_text(value) for value in values], pa.string())
    if kind is not None and column.type != kind:
        with suppress(*_UNFIT):
            is_year = pa.types.is_integer(column.type)  # and not microseconds since 1970
            return (column.cast(pa.string()) if is_year else column).cast(kind)
    return column
