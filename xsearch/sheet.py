"""CSV for spreadsheets, which run cells that begin like a formula."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from unicodedata import normalize

__all__ = ["write_csv"]

_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?([eE][+-]?\d+)?")  # of which a formula is made that is itself
_BLANK = re.compile(r"[\s\x00-\x20\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]*")


class Text(Protocol):
    def write(self, text: str, /) -> object: ...


def write_csv(
    out: Text, names: Sequence[str], rows: Iterable[Iterable[Any]], *, keep_formulas: bool = False
) -> None:
    """Write a header and rows; lists and objects as JSON.

    Texts that begin with = + - @, their fullwidth forms, a tab or a line end get a leading apostrophe, as
    OWASP's page on CSV injection recommends, unless `keep_formulas`; numbers stay as they are.
    """
    escaped = (lambda text: text) if keep_formulas else _escaped
    lines = csv.writer(_Lines(out))  # which quotes cells with the characters of its line ends, CR and LF
    lines.writerow(map(escaped, names))
    for row in rows:
        lines.writerow(escaped(value) if isinstance(value, str) else _cell(value) for value in row)


class _Lines:
    """Writes lines that end with LF alone."""

    def __init__(self, out: Text) -> None:
        self._out = out

    def write(self, line: str) -> None:
        self._out.write(line.removesuffix("\r\n") + "\n")


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False, default=str) if isinstance(value, list | dict) else value


def _escaped(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula.

    >>> _escaped("=1+1"), _escaped(" \\uff1d1"), _escaped("-1.5"), _escaped("a=1")
    ("'=1+1", "' \\uff1d1", '-1.5', 'a=1')
    """
    first = normalize("NFKC", _BLANK.sub("", text, count=1)[:1])
    is_formula = text[:1] in ("\t", "\r", "\n") or first in ("=", "+", "-", "@")
    return f"'{text}" if is_formula and not _NUMBER.fullmatch(text) else text
