"""Columns of other programs and of strangers, as a collection stores them: of types that all readers know."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from xsearch.media.facts import COLUMNS

__all__ = ["stored"]

DAY_US = 24 * 60 * 60 * 10**6
FIRST, LAST = -719_162, 2_932_896  # days from 1970 to the years 1 and 9999: the range of Python's dates
PER_DAY = {"s": 24 * 60 * 60, "ms": DAY_US // 1000, "us": DAY_US, "ns": DAY_US * 1000}
WINDOW = {"start_s", "end_s", "duration_s"}
FACTS = {str: pa.string(), int: pa.int64(), float: pa.float64(), datetime: pa.timestamp("us")}


def stored(items: pa.Table) -> pa.Table:
    """Return the columns with plain types; those without a name are left out.

    Numbers, texts, dates, and lists of numbers and texts are kept; durations become numbers, times of day
    texts, all other types JSON. Dates outside of the years 1 to 9999, and times of windows that are no
    numbers, become null. A column that is called like a fact and has another type gets an underscore.
    Raises ArrowInvalid for damaged columns.
    """
    columns = list(_columns(items))
    return pa.table([column for _, column in columns], names=[name for name, _ in columns])


def _columns(items: pa.Table) -> Iterator[tuple[str, pa.ChunkedArray]]:
    for name, column in zip(items.column_names, items.columns, strict=True):
        if not name.strip():
            continue
        plain = _plain(column)
        fact = COLUMNS.get(name.lower())
        if fact is not None and plain.type != FACTS[fact]:
            try:
                plain = plain.cast(FACTS[fact])
            except pa.ArrowException:
                name = f"{name}_"
        if name.lower() in WINDOW:
            with suppress(pa.ArrowException):  # reported by whoever converts it
                plain = plain.cast(pa.float64())
                plain = pc.if_else(pc.is_finite(plain), plain, None)
        yield name, plain


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    column.validate(full=True)  # texts in UTF-8
    kind = column.type
    if types.is_dictionary(kind):
        return _plain(column.cast(kind.value_type))
    if isinstance(kind, pa.BaseExtensionType):
        return _plain(pa.chunked_array([chunk.storage for chunk in column.chunks], kind.storage_type))
    if types.is_timestamp(kind):
        numbers = column.cast(pa.timestamp(kind.unit)).cast(pa.int64())
        return _within(column, numbers, PER_DAY[kind.unit]).cast(
            pa.timestamp("us", kind.tz and "UTC"), safe=False
        )
    if types.is_date(kind):
        is_days = types.is_date32(kind)
        numbers = column.cast(pa.int32() if is_days else pa.int64())
        return _within(column, numbers, 1 if is_days else PER_DAY["ms"]).cast(pa.date32())
    if types.is_uint64(kind):  # which JSON lines could not bring back
        is_large = pc.any(pc.greater(column, pa.scalar(2**63 - 1, pa.uint64()))).as_py()
        return column.cast(pa.float64() if is_large else pa.int64(), safe=False)
    if types.is_duration(kind):
        return column.cast(pa.int64())
    if types.is_time(kind):
        return column.cast(pa.string())
    lists = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    if _is_scalar(kind) or (lists and _is_scalar(kind.value_type)):
        return column
    return pa.chunked_array([pa.array(map(_as_json, column.to_pylist()), pa.string())])


def _within(column: pa.ChunkedArray, numbers: pa.ChunkedArray, per_day: int) -> pa.ChunkedArray:
    """Return dates with null for those that Python cannot hold."""
    first, last = FIRST * per_day, (LAST + 1) * per_day - 1
    least, most = -(2**63), 2**63 - 1
    is_valid = pc.and_(pc.greater_equal(numbers, max(first, least)), pc.less_equal(numbers, min(last, most)))
    return pc.if_else(is_valid, column, None)


def _is_scalar(kind: pa.DataType) -> bool:
    """Whether values are texts or numbers."""
    is_text = types.is_string(kind) or types.is_large_string(kind)
    is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return is_text or is_number or types.is_boolean(kind) or types.is_null(kind)


def _as_json(value: object) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, default=str).encode(errors="backslashreplace").decode()
