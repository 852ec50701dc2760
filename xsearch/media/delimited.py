"""The layout of delimited text: which delimiter, and which line names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Layout", "layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a table start, and how they are written."""

    names: tuple[str, ...] = ()  # of the columns, stripped
    lines: int = 0  # before the first row, the header included
    delimiter: str = ","
    decimal_point: str = "."


def layout(lines: Iterable[str]) -> Layout:
    """Return the layout of a table from its first lines; no names if there is no header.

    Leading blank lines and # lines belong to the header, as does Excel's `sep=;`, which names the delimiter.
    """
    each, delimiters = iter(lines), ",;\t"
    for count, line in enumerate(each, start=1):
        if line.lower().startswith("sep=") and len(line.rstrip("\r\n")) == 5:
            delimiters = line[4]
        elif line.strip() and not line.startswith("#"):
            delimiter = max(delimiters, key=line.count)
            names = tuple(name.strip() for name in next(csv.reader([line], delimiter=delimiter)))
            has_comma = delimiter == ";" and "," in next(each, "")
            return Layout(names, count, delimiter, "," if has_comma else ".")
    return Layout()
