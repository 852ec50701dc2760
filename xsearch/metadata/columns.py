"""Item columns of the fields of a sidecar or of a row of a table."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

from xsearch.media import facts, nfc
from xsearch.media.facts import values
from xsearch.store import ITEM_COLUMNS

__all__ = ["MAX_VALUE", "columns", "typed", "user_column"]

MAX_VALUE = 4096  # bytes; an IPTC caption has at most 2,000, the smallest picture in base64 about 10,000


def columns(fields: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return fields as item columns, and the names of those left out: over MAX_VALUE bytes.

    Scalars stay as they are, lists and objects become JSON, dates ISO 8601. Fields without a name are left
    out as well. Names that differ only in case get a number: `year`, `year_2`. A value that is not of the
    type of the fact of its name gets an underscore, so that the fact keeps its type: `track_`. A `taken_at`
    is wall time; its offset, if it has one, becomes `taken_zone`.
    """
    row: dict[str, Any] = {}
    omitted, zones = [], dict[str, Any]()
    for name, field in fields.items():
        if not name.strip():
            continue
        try:
            value = _stored(field)
        except RecursionError:  # nested nearly as deep as JSON may be
            value = name * MAX_VALUE
        if _is_long(name) or _is_long(value):
            omitted.append(name)
            continue
        base, value, zone = _as_fact(user_column(name), value)
        column = base
        count = 1
        while column in row:
            count += 1
            column = f"{base}_{count}"
        row[column] = value
        if zone:
            zones = {"taken_zone": zone}
    return zones | row, omitted


@lru_cache(maxsize=1000)
def user_column(name: str) -> str:
    """Return the item column name of a user column."""
    name = nfc(name.strip().lower())
    name = name.encode(errors="backslashreplace").decode()  # JSON may hold lone surrogates
    return f"{name}_" if name in ITEM_COLUMNS else name


def _as_fact(column: str, value: Any) -> tuple[str, Any, str | None]:
    """Return the name and the value of a column, and the zone of a date.

    >>> _as_fact("track", "A song"), _as_fact("taken_at", "2024:06:01T12:00+02:00"), _as_fact("year", "x")
    (('track_', 'A song', None), ('taken_at', '2024-06-01 12:00:00', '+02:00'), ('year', 'x', None))
    """
    kind = facts.COLUMNS.get(column)
    if value is None or kind in (None, str):
        return column, value, None
    if kind is datetime:
        when = values.taken(value)
        return (column, str(when[column]), when["taken_zone"]) if when else (f"{column}_", value, None)
    try:
        is_fit = not isinstance(value, str) or kind(value) is not None
    except ValueError:
        is_fit = False
    return column if is_fit else f"{column}_", value, None


def _is_long(value: Any) -> bool:
    return isinstance(value, str) and len(value.encode(errors="surrogatepass")) > MAX_VALUE


def _stored(value: Any) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case list() | dict():
            return json.dumps(value, default=_stored, ensure_ascii=False)
        case bytes():
            try:
                return value.decode()
            except UnicodeDecodeError:
                return value.hex()
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case Decimal():
            return float(value)
    return str(value)


def typed(cells: Sequence[str | None], *, decimal_comma: bool = False) -> Sequence[Any]:
    """Convert the cells of a column to int, float or bool if every one can be; None stays None.

    decimal_comma: whether `3,5` may be a number.

    >>> typed(["1", None, "-2"]), typed(["1", "0.5"]), typed(["1", "007"]), typed(["true", "False"])
    ([1, None, -2], [1.0, 0.5], ['1', '007'], [True, False])
    >>> typed(["3,5", "-1"], decimal_comma=True), typed(["3,5", "1.5"], decimal_comma=True)
    ([3.5, -1.0], ['3,5', '1.5'])
    """
    for convert in (_int, _float, *[_comma_float] * decimal_comma, _bool):
        try:
            return [None if cell is None else convert(cell) for cell in cells]
        except (ValueError, KeyError):
            continue
    return cells


def _int(text: str) -> int:
    number = int(text)
    if str(number) != text or number.bit_length() > 63:
        raise ValueError(text)
    return number


def _float(text: str) -> float:
    """Parse a float; 007, 1_000 and integers over 64 bits are treated as text."""
    if re.fullmatch(r".*_.*|-?0\d+|-?\d{19,}", text):
        raise ValueError(text)
    return float(text)


def _comma_float(text: str) -> float:
    if "." in text:
        raise ValueError(text)
    return _float(text.replace(",", "."))


def _bool(text: str) -> bool:
    return {"true": True, "false": False}[text.lower()]
