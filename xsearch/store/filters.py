"""`where` filters: a user's SQL expression over the items, without access to files, network or writes.

Its length and nesting are limited before anything parses it. A plain one is evaluated in this process, see
`xsearch.store.plain`; all others in a process that is killed when it takes too long, see `filtering`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from itertools import pairwise
from math import log

import numpy as np
import pyarrow as pa

from xsearch.errors import BadFilter
from xsearch.store import filtering, plain
from xsearch.store.filtering import Refused, SharedColumns

__all__ = ["SharedColumns", "evaluate"]

MAX_SHOWN = 200  # characters of an expression, and of a problem, in an error message
MAX_CHARACTERS = 100_000  # about 10,000 ids in an IN list
# What DuckDB takes more than linear time for; at these limits, 0.2 s (measured, 2.0)
MAX_NESTED = 50  # brackets
MAX_DOTS = 500
MAX_COPIES = 100  # of the operand x of CASE x WHEN, which the parser duplicates for each WHEN


def evaluate(
    where: str,
    columns: Sequence[str],
    read: Callable[[Sequence[str]], pa.Table],
    shared: SharedColumns | None = None,
    alive: np.ndarray | None = None,
) -> np.ndarray:
    """Return which items satisfy `where`: bool, in the order of their ids.

    columns: names of all item columns. read: returns a table of the named columns, ascending by id.
    alive: which of its rows are items, bool; None: all. shared: for the columns of these, to hand them over
    once. The expression is validated before any data is read.

    Raises BadFilter for anything but a single expression over columns, and beyond the limits of time and
    memory, XSEARCH_WHERE_TIMEOUT_S and XSEARCH_WHERE_MEMORY.
    """
    shared = shared or SharedColumns()

    def items(names: Sequence[str]) -> pa.Table:
        return read(names) if alive is None else read(names).filter(pa.array(alive))

    try:
        tokens = _tokens(where)
        passing = plain.passing(tokens, columns, read)
        if passing is None:
            return filtering.passing(where, columns, lambda names: shared.take(names, items))
        return passing if alive is None else passing[alive]
    except Refused as refused:
        excerpt = where if len(where) <= MAX_SHOWN else f"{where[:MAX_SHOWN]}..."
        problem = _explained(str(refused), columns)
        raise BadFilter(
            f"where {excerpt!r}: {problem}; expected one SQL expression over the columns {', '.join(columns)}"
        ) from None


def _tokens(where: str) -> list[plain.Token]:
    """Return the tokens of `where`. Raises Refused if it is empty, too long or nested too deeply."""
    if not where.strip():
        raise Refused("empty")
    if len(where) > MAX_CHARACTERS:
        raise Refused(f"more than {MAX_CHARACTERS:,} characters")
    tokens = list(plain.tokens(where))
    depth = deepest = 0
    for _, text in tokens:
        depth += (text in ("(", "[", "{")) - (text in (")", "]", "}"))
        deepest = max(deepest, depth)
    if deepest > MAX_NESTED:
        raise Refused(f"more than {MAX_NESTED} nested brackets")
    others = [text for kind, text in tokens if kind == plain.OTHER]
    if sum(text.count(".") for text in others) > MAX_DOTS:
        raise Refused(f"more than {MAX_DOTS} dots")
    if "$" in others:
        raise Refused("$ is not allowed; a text needs single quotes")
    if any("/*" in text[2:] for text in others if text.startswith("/*")):
        raise Refused("nested comments are not allowed")
    words = [text.lower() for _, text in tokens]
    counts = Counter(words)
    cases = sum(pair[0] == "case" and pair[1] != "when" for pair in pairwise([*words, ""]))
    if cases * log(max(counts["when"], 1)) > log(MAX_COPIES):
        raise Refused("too many CASE x WHEN branches; use CASE WHEN x = ...")
    return tokens


def _explained(problem: str, columns: Sequence[str]) -> str:
    """Return a message of DuckDB without its class, and with the next step where a column is unknown."""
    problem = re.sub(r"^\w+ Error: ", "", problem)[:MAX_SHOWN]
    if "expression depth" in problem:
        return "nested too deeply"
    if unknown := re.match(r'Referenced column "(.+?)" not found', problem):
        near = get_close_matches(unknown[1], columns, n=1, cutoff=0.7)
        hint = f"did you mean {near[0]}?" if near else f"a text needs single quotes: '{unknown[1]}'"
        return f"no item has a column {unknown[1]}; {hint}"
    return problem
