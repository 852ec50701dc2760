"""The layout of delimited text: which delimiter, which line names the columns, how numbers are written."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

__all__ = ["Layout", "layout"]

DELIMITERS = ",;\t|"
FIRST_ROWS = 100  # rows that show how numbers are written
PREAMBLE = 100  # lines above the header
_COMMENT = re.compile(r"\s*(?:#|//|%)+\s*")
_DECIMAL_COMMA = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a table start, and how they are written."""

    names: tuple[str, ...] = ()  # of the columns, stripped; "" for a column without a name
    lines: int = 0  # before the first row, the header included
    delimiter: str = ","  # " " stands for any white space
    decimal_point: str = "."
    preamble: str = ""  # text above the header
    rows: tuple[tuple[str, ...], ...] = ()  # the first rows


def layout(lines: Iterable[str], is_header: Callable[[Sequence[str]], bool] | None = None) -> Layout:
    """Return the layout of a table from its first lines; no names if there is no header.

    The header is the first line that is neither blank nor a comment; with `is_header`, the first whose names
    it accepts, also behind a comment mark (#, //, %), and columns that it does not name get the name "": at
    the end if they are empty, else in front, where R writes the index. Excel's `sep=;` names the delimiter.
    """
    each, delimiters, preamble = iter(lines), DELIMITERS, ""
    for count, line in enumerate(each, start=1):
        if separator := re.fullmatch(r"\"?sep=(.)\"?\s*", line, re.IGNORECASE | re.DOTALL):
            delimiters = separator[1]
        elif line.strip() and (is_header or not line.startswith("#")):
            if is_header:
                line = _COMMENT.sub("", line, count=1) if _COMMENT.match(line) else line
            delimiter = max(delimiters, key=line.count)
            delimiter = delimiter if delimiter in line or not is_header else " "
            names = tuple(name.strip() for name in _fields(line, delimiter))
            if is_header is None:
                has_comma = delimiter == ";" and "," in next(each, "")
                return Layout(names, count, delimiter, "," if has_comma else ".", preamble)
            if is_header(names):
                ahead = (row for row in islice(each, FIRST_ROWS) if row.strip())
                rows = tuple(tuple(_fields(row, delimiter)) for row in ahead)
                has_comma = any(map(_DECIMAL_COMMA.fullmatch, (field for row in rows for field in row)))
                decimal_point = "," if has_comma else "."
                return Layout(_as_wide(names, rows), count, delimiter, decimal_point, preamble, rows)
        preamble += line
        if is_header and count > PREAMBLE:
            break
    return Layout()


def _fields(line: str, delimiter: str) -> list[str]:
    return line.split() if delimiter == " " else next(csv.reader([line], delimiter=delimiter), [])


def _as_wide(names: tuple[str, ...], rows: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return as many names as the first row has fields."""
    if not rows or not (more := len(rows[0]) - len(names)):
        return names
    if more < 0:
        return names[:more] if not any(names[more:]) else names
    unnamed = ("",) * more
    return unnamed + names if all(rows[0][-more:]) else names + unnamed
