"""The layout of delimited text: which line names the columns, and by which delimiter."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from threading import Lock

__all__ = ["Layout", "cells_of_any_size", "fields", "layout"]

DELIMITERS = ",;\t|"
PREAMBLE = 100  # lines that the header is among
LONGEST_CELL = 2**31 - 1  # letters, the largest limit that any platform allows
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
        with cells_of_any_size():
            return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a line break between quotes that are none
        return line.split(delimiter)


class _Limit:
    """The module's limit on the size of a cell, which is one for the whole process."""

    def __init__(self) -> None:
        self._lock, self._users, self._before = Lock(), 0, 0

    def __enter__(self) -> None:
        with self._lock:
            if not self._users:
                self._before = csv.field_size_limit(LONGEST_CELL)
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._users -= 1
            if not self._users:
                csv.field_size_limit(self._before)


_LIMIT = _Limit()


def cells_of_any_size() -> AbstractContextManager[None]:
    """Let `csv` read cells of any size while a block lasts, in any thread."""
    return _LIMIT
