"""Plain filters: comparisons of columns with constants, joined by AND, OR and NOT, evaluated by Arrow.

Most filters are plain. They take a pass over a column per comparison, so they need no filter process. Arrow
answers as DuckDB would: NULL is neither true nor false, NaN the largest number, texts compare by their bytes.
What might differ is not plain: other types, conversions, patterns other than a part of a text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xsearch.store.mapped import bits_of

__all__ = ["OTHER", "Token", "passing", "tokens"]

MAX_COST = 20  # comparisons with a constant, 0.1 s for a million texts
IN_COST, PART_COST = 4, 5  # of IN, and of LIKE '%part%' (measured); DuckDB takes more threads
SPACE, TEXT, NAME, NUMBER, MARK, OTHER = range(1, 7)
Token = tuple[int, str]
TOKEN = re.compile(
    r"""([ \t\r\n\f\v]++|--[^\r\n]*+)
    |('[^']*+(?:''[^']*+)*+')
    |((?!e')[^\W\d]\w*+|"[^"]++")
    |([0-9]++(?:\.[0-9]++)?+(?![\w.]))
    |(<=|>=|<>|!=(?!-)|[=<>(),-])
    |(e'(?:[^'\\]++|\\.|'')*+'?|'.*+|/\*(?:[^*]++|\*(?!/))*+(?:\*/)?|[0-9][\w.]*+|.)""",
    re.X | re.S | re.I,
)  # takes linear time: what begins is never read again
# `duckdb_keywords()` that are not unreserved: names of columns only in quotes, or not everywhere
_KEYWORDS = """
    all analyse analyze and anti any array as asc asof asymmetric at authorization between bigint binary
    bit boolean both by case cast char character check coalesce collate collation column columns
    concurrently constraint create cross dec decimal default deferrable desc describe distinct do else end
    except exists extract false fetch float for foreign freeze from full generated glob group grouping
    grouping_id having ilike in initially inner inout int integer intersect interval into is isnull join
    lambda lateral leading left like limit map national natural nchar none not notnull null nullif numeric
    offset on only or order out outer overlaps overlay pivot pivot_longer pivot_wider placing position
    positional precision primary qualify real references returning right row select semi setof show
    similar smallint some struct substring summarize symmetric table tablesample then time timestamp to
    trailing treat trim true try_cast tuple union unique unpack unpivot using values varchar variadic
    verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest xmlnamespaces
    xmlparse xmlpi xmlroot xmlserialize xmltable
"""
KEYWORDS = frozenset(_KEYWORDS.split())
# Kernel, and whether its negation is meant: NaN is not less than a number, so it is greater
COMPARISONS = {
    "=": ("equal", False),
    "<>": ("equal", True),
    "!=": ("equal", True),
    "<": ("less", False),
    ">=": ("less", True),
    "<=": ("less_equal", False),
    ">": ("less_equal", True),
}
DIGITS, DECIMALS = 18, 15  # of whole numbers that an int64 holds, of others that a double does
TOGETHER = 4096  # texts that are searched for a part at a time, so that they stay in the cache
NONE = np.empty(0, np.int64)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d:\d\d)?")

Constant = str | int | float
Mask = Callable[[pa.Table], pa.ChunkedArray]


class _NotPlainError(Exception):
    """This filter needs DuckDB."""


def tokens(where: str) -> Iterator[Token]:
    """Yield the tokens of a condition as DuckDB separates them, without spaces and comments to line ends."""
    return (
        (match.lastindex or OTHER, match[0]) for match in TOKEN.finditer(where) if match.lastindex != SPACE
    )


def passing(
    tokens: Sequence[Token], columns: Sequence[str], read: Callable[[Sequence[str]], pa.Table]
) -> np.ndarray | None:
    """Return which items pass: bool, in the order of the table. None if the filter is not plain.

    columns: names of all item columns. read: returns a table of the named columns.
    """
    try:
        condition = _Condition(tokens, columns)
        mask = condition.mask(read(sorted(condition.used)))
    except _NotPlainError:
        return None
    return np.concatenate([np.empty(0, bool), *map(_flags, mask.chunks)])


def _flags(mask: pa.BooleanArray) -> np.ndarray:
    """Return a mask as bool, false for null."""
    return np.logical_and.reduce([bits_of(buffer, mask) for buffer in mask.buffers() if buffer])


class _Condition:
    """A parser of plain conditions, by recursive descent; the caller limits how deep brackets are nested.

    mask: returns which rows of a table of the columns `used` pass, null for unknown. Raises _NotPlainError.
    """

    def __init__(self, tokens: Sequence[Token], columns: Sequence[str]) -> None:
        self._tokens = list(reversed(tokens))  # the next is the last
        self._known = {name.lower(): name for name in columns}
        self._budget = MAX_COST
        self.used: set[str] = set()
        self.mask = self._either()
        if self._tokens:
            raise _NotPlainError

    def _next(self) -> Token:
        if not self._tokens:
            raise _NotPlainError
        return self._tokens.pop()

    def _takes(self, *words: str) -> bool:
        """Whether the next tokens are these, which are consumed if so."""
        following = [text.lower() for _, text in self._tokens[-len(words) :]]
        if is_next := following == [*reversed(words)]:
            del self._tokens[-len(words) :]
        return is_next

    def _expect(self, word: str) -> None:
        if not self._takes(word):
            raise _NotPlainError

    def _either(self) -> Mask:
        return self._joined("or", pc.or_kleene, self._all)

    def _all(self) -> Mask:
        return self._joined("and", pc.and_kleene, self._negatable)

    def _joined(self, word: str, kernel: Callable[..., Any], term: Callable[[], Mask]) -> Mask:
        masks = [term()]
        while self._takes(word):
            masks.append(term())
        return lambda table: reduce(kernel, (mask(table) for mask in masks))

    def _negatable(self) -> Mask:
        is_negated = False
        while self._takes("not"):
            is_negated = not is_negated
        if self._takes("("):
            mask = self._either()
            self._expect(")")
        else:
            mask = self._comparison()
        return (lambda table: pc.invert(mask(table))) if is_negated else mask

    def _comparison(self) -> Mask:
        self._spend(1)
        name = self._column()
        if self._takes("is", "null"):
            return lambda table: table[name].is_null()
        if self._takes("is", "not", "null"):
            return lambda table: table[name].is_valid()
        is_negated = self._takes("not")
        if self._takes("in"):
            self._spend(IN_COST)
            test = partial(_is_in, constants=self._list())
        elif self._takes("between"):
            low = self._constant()
            self._expect("and")
            test = partial(_is_between, low=low, high=self._constant())
        elif self._takes("like"):
            if not isinstance(pattern := self._constant(), str):
                raise _NotPlainError
            self._spend(PART_COST if pattern[:1] == "%" == pattern[-1:] else 0)
            test = partial(_is_like, pattern=pattern)
        elif is_negated or (operator := self._next()[1]) not in COMPARISONS:
            raise _NotPlainError
        else:
            test = partial(_compared, operator=operator, constant=self._constant())
        return (
            (lambda table: pc.invert(test(table[name]))) if is_negated else (lambda table: test(table[name]))
        )

    def _spend(self, cost: int) -> None:
        self._budget -= cost
        if self._budget < 0:
            raise _NotPlainError

    def _column(self) -> str:
        kind, text = self._next()
        name = self._known.get(text.strip('"').lower())
        if kind != NAME or text.lower() in KEYWORDS or name is None or not text.isascii():
            raise _NotPlainError
        self.used.add(name)
        return name

    def _constant(self) -> Constant:
        is_negative = self._takes("-")
        kind, text = self._next()
        if kind == TEXT and not is_negative:
            return text[1:-1].replace("''", "'")
        is_whole = "." not in text
        if kind != NUMBER or len(text) > (DIGITS if is_whole else DECIMALS + 1):
            raise _NotPlainError
        number = int(text) if is_whole else float(text)
        return -number if is_negative else number

    def _list(self) -> list[Constant]:
        self._expect("(")
        constants = [self._constant()]
        while self._takes(","):
            constants.append(self._constant())
        self._expect(")")
        return constants


def _compared(column: pa.ChunkedArray, operator: str, constant: Constant) -> pa.ChunkedArray:
    kernel, is_inverted = COMPARISONS[operator]
    column, constants = _operands(column, [constant])
    mask = pc.call_function(kernel, [column, constants[0]])
    return pc.invert(mask) if is_inverted else mask


def _is_between(column: pa.ChunkedArray, low: Constant, high: Constant) -> pa.ChunkedArray:
    return pc.and_kleene(_compared(column, ">=", low), _compared(column, "<=", high))


def _is_in(column: pa.ChunkedArray, constants: Sequence[Constant]) -> pa.ChunkedArray:
    column, values = _operands(column, constants)
    if pa.types.is_floating(column.type):
        raise _NotPlainError  # -0.0 equals 0.0, but has another hash
    sizes = pc.binary_length(column) if pa.types.is_string(column.type) else column
    return pc.or_(pc.is_in(column, value_set=values), pc.less(sizes, sizes))  # null for null, else false


def _is_like(column: pa.ChunkedArray, pattern: str) -> pa.ChunkedArray:
    part = pattern.strip("%")
    if "%" in part or "_" in part or not pa.types.is_string(column.type):
        raise _NotPlainError
    if "%" not in pattern:
        return _compared(column, "=", pattern)
    if part and pattern.startswith("%") and pattern.endswith("%"):
        chunks = [_contains(chunk, part.encode()) for chunk in column.chunks]
        return pa.chunked_array(chunks, pa.bool_())
    return (pc.ends_with if part and pattern.startswith("%") else pc.starts_with)(column, part)


def _contains(texts: pa.StringArray, part: bytes) -> pa.BooleanArray:
    """Return which texts contain `part`, null for null.

    `pc.match_substring` takes 3 to 5 times as long, unless most texts contain it (measured). A part of valid
    UTF-8 begins and ends where characters do, so that bytes may be compared.
    """
    validity, offsets, content = texts.buffers()
    bounds = np.frombuffer(offsets, np.int32)[texts.offset :][: len(texts) + 1]
    text = np.frombuffer(content or b"", np.uint8)
    found, rest = np.zeros(len(texts), bool), len(part) - 1
    for start in range(0, len(texts), TOGETHER):
        stops = bounds[start : start + TOGETHER + 1]
        window = text[stops[0] : stops[-1]]
        ends = len(window) - rest
        hits = np.flatnonzero((window[:ends] == part[0]) & (window[rest:] == part[-1])) if ends > 0 else NONE
        for at in range(1, rest):
            hits = hits[window[hits + at] == part[at]]
        if len(hits):
            first = np.searchsorted(hits, stops[:-1] - stops[0])  # of those in a text or after it
            end = hits[np.minimum(first, len(hits) - 1)] + len(part)
            found[start : start + TOGETHER] = (first < len(hits)) & (end <= stops[1:] - stops[0])
    offset = texts.offset % 8  # of a bit
    bits = pa.py_buffer(np.packbits(np.pad(found, (offset, 0)), bitorder="little"))
    buffers = [validity and validity.slice(texts.offset // 8), bits]
    return pa.Array.from_buffers(pa.bool_(), len(texts), buffers, offset=offset)


def _operands(column: pa.ChunkedArray, constants: Sequence[Constant]) -> tuple[pa.ChunkedArray, pa.Array]:
    """Return both in one type. Raises _NotPlainError where DuckDB would have to convert."""
    kind = column.type
    kinds = {type(constant) for constant in constants}
    if pa.types.is_string(kind) and kinds == {str}:
        contents = [text.encode() for text in constants]  # type: ignore[union-attr]
        ends = np.cumsum([0, *map(len, contents)], dtype=np.int32)
        return column, _array(kind, ends, b"".join(contents))
    if pa.types.is_signed_integer(kind) and kinds == {int}:
        return column.cast(pa.int64()), _array(pa.int64(), np.array(constants, np.int64))
    if pa.types.is_float64(kind) and kinds <= {int, float}:
        if any(abs(constant) >= 10**DECIMALS for constant in constants):  # type: ignore[arg-type]
            raise _NotPlainError
        return column, _array(kind, np.array(constants, np.float64))
    if kind == pa.timestamp("us") and kinds == {str}:
        return column, _array(kind, np.array([_moment(text) for text in constants], "M8[us]"))  # type: ignore[arg-type]
    raise _NotPlainError


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text if MOMENT.fullmatch(text) else "")
    except ValueError:
        raise _NotPlainError from None


def _array(kind: pa.DataType, *buffers: Any) -> pa.Array:
    """An array without nulls. `pa.array` would import pandas."""
    size = len(buffers[0]) - (1 if len(buffers) > 1 else 0)
    return pa.Array.from_buffers(kind, size, [None, *map(pa.py_buffer, buffers)])
