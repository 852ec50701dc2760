"""The layout of delimited text: which line names the columns, and by which delimiter."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

__all__ = ["Layout", "fields", "layout"]

DELIMITERS = ",;\t|"
PREAMBLE = 100  # lines that the header is among
_LINE_END = re.compile(r"\r\n?|\n")
_COMMENT = re.compile(r"\A\s*(?:#|//|%)+\s*")


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows of a table start, and how they are delimited."""

    names: tuple[str, ...] = ()  # of the columns, stripped; "" for a column without a name
    lines: int = 0  # before the first row, the header included
    delimiter: str = ","  # " " stands for any white space
    preamble: str = ""  # text above the header


def layout(
    lines: Iterable[str], is_header: Callable[[Sequence[str], bool], bool], *, single: str = ","
) -> Layout:
    """Return the layout of a table from its first lines, or several at once; no names without a header.

    The header is the first line that `is_header(names, is_comment)` accepts; a comment without its mark: #,
    // or %. Excel's `sep=;` names the delimiter. single: the delimiter of a line that has none.
    """
    delimiters, preamble, count = DELIMITERS, "", 0
    for line in islice(lines, PREAMBLE):
        count += max(1, len(_LINE_END.findall(line)))
        if separator := re.fullmatch(r"\"?sep=(.)\"?\s*", line, re.IGNORECASE | re.DOTALL):
            delimiters = single = separator[1]
        elif (bare := _COMMENT.sub("", line)).strip():
            delimiter = max(delimiters, key=bare.count)
            delimiter = delimiter if delimiter in bare else single
            names = tuple(name.strip() for name in fields(bare, delimiter))
            if is_header(names, bare != line):
                return Layout(names, count, delimiter, preamble)
        preamble += line
    return Layout()


def fields(line: str, delimiter: str) -> list[str]:
    """Return the fields of a line."""
    if delimiter == " ":
        return line.split()
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a line break between quotes that are none
        return line.split(delimiter)
