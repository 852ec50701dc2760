"""`where`: one SQL expression of a user, run where it can neither write, read files nor reach the network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xsearch.errors import BadFilter

if TYPE_CHECKING:
    import duckdb

__all__ = ["evaluate"]

SANDBOX: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",  # no files, no network, no extensions
    "python_enable_replacements": "false",  # variables of the program are not tables
    "memory_limit": "1GB",  # beside the items: repeat('x', 1e12) fails here, not the process
}
REFUSED = {"SUBQUERY": "subqueries", "STAR": "*", "WINDOW": "window functions", "PARAMETER": "parameters"}
MOST_BRACKETS = 200  # DuckDB 2.0 parses 200 that are left open in 0.3 s, 5,000 in minutes (measured)


def evaluate(where: str, columns: Sequence[str], read: Callable[[Sequence[str]], pa.Table]) -> np.ndarray:
    """Ids of the items for which `where` is true, int64, ascending.

    columns: all that the items have. read: gives a table of the named ones.
    The text is parsed first, and anything but one expression over columns is refused before any data is read.

    Raises BadFilter.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config=SANDBOX)
    try:
        connection.execute("SET lock_configuration = true")
        used = _columns_used(connection, where, columns)
        connection.register("items", read(["id", *sorted(used - {"id"})]))
        found = connection.execute(f"SELECT id FROM items WHERE (\n{where}\n)").fetchnumpy()["id"]
        return np.sort(found).astype(np.int64, copy=False)
    except (ValueError, duckdb.Error) as error:
        first_line = str(error).strip().split("\n")[0]
        raise BadFilter(
            f"where {where!r}: {first_line}; give one SQL expression over the columns {', '.join(columns)}"
        ) from None
    finally:
        connection.close()


def _columns_used(connection: duckdb.DuckDBPyConnection, where: str, columns: Sequence[str]) -> set[str]:
    """Parse `where` and name the columns it mentions; ValueError unless it is one plain expression."""
    if sum(map(where.count, "([{")) > MOST_BRACKETS:
        raise ValueError(f"more than {MOST_BRACKETS} brackets")
    _parse(connection, where)  # without brackets, so that `1) OR (1` does not parse,
    known = {name.lower(): name for name in columns}
    used: set[str] = set()
    for node in _nodes(_parse(connection, f"(\n{where}\n)")):  # and with them, so that `1 LIMIT 1` does not
        if node.get("class") in REFUSED:
            raise ValueError(f"{REFUSED[node['class']]} are not allowed")
        used.update(known[name.lower()] for name in node.get("column_names", ()) if name.lower() in known)
    return used


def _parse(connection: duckdb.DuckDBPyConnection, where: str) -> dict[str, Any]:
    """The syntax tree of `where` from DuckDB's own parser, as json_serialize_sql draws it."""
    query = f"SELECT id FROM items WHERE {where}"
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    tree = json.loads(answer)
    if tree["error"]:
        raise ValueError(tree["error_message"].split("\n")[0])
    node = tree["statements"][0]["node"]
    extras = [
        key for key in ("modifiers", "group_expressions", "having", "sample", "qualify") if node.get(key)
    ]
    if len(tree["statements"]) != 1 or node["type"] != "SELECT_NODE" or extras:
        raise ValueError("this is more than one expression")
    condition: dict[str, Any] = node["where_clause"]
    return condition


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    if isinstance(tree, dict):
        yield tree
        tree = tree.values()
    elif not isinstance(tree, list):
        return
    for child in tree:
        yield from _nodes(child)
