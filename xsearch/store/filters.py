"""`where`: one SQL expression of a user, run where it can neither write, read files nor reach the network.

What the text may be is decided on DuckDB's own syntax tree, before any data is read: columns, constants,
operators and the functions below. None of these makes much out of little, so that the time is bounded by the
length of the text and the number of items: DuckDB looks for an interrupt only between batches of rows, and
its memory limit does not hold for lists (measured: `range(10000000)` took 26 s and 3 GB).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from math import log
from threading import Timer
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
    "allow_persistent_secrets": "false",
    "temp_directory": "",  # what does not fit into memory fails
    "memory_limit": "1GB",  # beside the items
}
MOST_SECONDS = 10.0
SHOWN = 200  # characters of an expression in a message
MOST_CHARACTERS = 100_000  # some 10,000 ids in a list
MOST_BRACKETS = 200  # DuckDB 2.0 parses 200 that are left open in 0.3 s, 5,000 in minutes (measured)
MOST_COPIES = 100  # of the operand of CASE x WHEN, which the parser writes out for each WHEN
REFUSED = {
    "DEFAULT": "DEFAULT",
    "LAMBDA": "lambda functions and ->",
    "PARAMETER": "parameters",
    "STAR": "*",
    "SUBQUERY": "subqueries",
    "WINDOW": "window functions",
}
ALLOWED = """
    + - * / // % ** ^ @ & | << >> ~ || ~~ !~~ ~~* !~~* ~~~ ^@ @> <@ && ->>
    like_escape not_like_escape ilike_escape not_ilike_escape
    regexp_full_match regexp_matches regexp_extract
    length len strlen lower lcase upper ucase trim ltrim rtrim left right substring substr contains prefix
    suffix starts_with ends_with position strpos instr reverse ascii unicode chr concat strip_accents
    nfc_normalize string_split str_split split md5 sha1 sha256 hash typeof
    abs ceil ceiling floor round trunc sign sqrt cbrt ln log log2 log10 exp pow power mod fmod pi greatest
    least isnan isinf isfinite even xor if
    now today current_date get_current_timestamp age epoch epoch_ms epoch_us epoch_ns
    make_date make_time make_timestamp make_timestamp_ms make_timestamp_ns to_timestamp
    date_part datepart date_trunc datetrunc date_diff datediff date_sub datesub date_add
    year quarter month week day hour minute second millisecond microsecond century decade dayname monthname
    dayofweek isodow weekday dayofyear dayofmonth weekofyear yearweek isoyear last_day strftime strptime
    try_strptime timezone
    to_years to_months to_weeks to_days to_hours to_minutes to_seconds to_milliseconds to_microseconds
    list_value list_extract array_extract list_element element_at list_contains list_has array_contains
    list_position list_has_any list_has_all list_sum list_avg list_min list_max list_count list_sort
    list_distinct list_unique array_length cardinality struct_pack row struct_extract map_extract map_keys
    map_values map_contains
    json json_valid json_type json_keys json_exists json_contains json_extract json_extract_string
    json_array_length
"""  # functions, and operators as the parser names them
FUNCTIONS = frozenset(ALLOWED.split())


def evaluate(where: str, columns: Sequence[str], read: Callable[[Sequence[str]], pa.Table]) -> np.ndarray:
    """Ids of the items for which `where` is true, int64, ascending.

    columns: all that the items have. read: gives a table of the named ones.
    The text is parsed first, and anything but one expression over columns is refused before any data is read.

    Raises BadFilter.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config=SANDBOX)
    timer = Timer(MOST_SECONDS, connection.interrupt)
    try:
        connection.execute("SET lock_configuration = true")
        used = _columns_used(connection, where, columns)
        connection.register("items", read(["id", *sorted(used - {"id"})]))
        timer.start()
        found = connection.execute(f"SELECT id FROM items WHERE (\n{where}\n)").fetchnumpy()["id"]
        return np.sort(found).astype(np.int64, copy=False)
    except (ValueError, RecursionError, duckdb.Error) as error:
        problem = str(error).strip().split("\n")[0]
        if isinstance(error, RecursionError):
            problem = "it is nested too deeply"
        if isinstance(error, duckdb.InterruptException):
            problem = f"it takes more than {MOST_SECONDS:g} s"
        shown = where if len(where) <= SHOWN else f"{where[:SHOWN]}..."
        raise BadFilter(
            f"where {shown!r}: {problem}; give one SQL expression over the columns {', '.join(columns)}"
        ) from None
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        connection.close()


def _columns_used(connection: duckdb.DuckDBPyConnection, where: str, columns: Sequence[str]) -> set[str]:
    """Parse `where` and name the columns it mentions; ValueError unless it is one plain expression."""
    if len(where) > MOST_CHARACTERS:
        raise ValueError(f"more than {MOST_CHARACTERS:,} characters")
    if sum(map(where.count, "([{")) > MOST_BRACKETS:
        raise ValueError(f"more than {MOST_BRACKETS} brackets")
    whens, cases = (len(re.findall(pattern, where, re.I)) for pattern in (r"when", r"case(?!\s+when)"))
    if cases * log(max(whens, 1)) > log(MOST_COPIES):
        raise ValueError("too many CASE x WHEN; write CASE WHEN x =")
    _parse(connection, where)  # without brackets, so that `1) OR (1` does not parse,
    known = {name.lower(): name for name in columns}
    used: set[str] = set()
    for node, inside in _nodes(
        _parse(connection, f"(\n{where}\n)")
    ):  # and with, so that `1 LIMIT 1` does not
        name = node.get("function_name", "").lower()
        if node.get("class") in REFUSED:
            raise ValueError(f"{REFUSED[node['class']]} are not allowed")
        if node.get("class") == "FUNCTION" and name not in FUNCTIONS:
            raise ValueError(f"the function {name} is not allowed")
        if inside and node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN"):
            raise ValueError(
                "IN inside of IN is not allowed"
            )  # DuckDB writes the left side out for each value
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


def _nodes(tree: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """All objects in a syntax tree, each with whether it is inside of an IN."""
    waiting = [(tree, False)]
    while waiting:
        node, inside = waiting.pop()
        if isinstance(node, dict):
            yield node, inside
            inside = inside or node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN")
            node = list(node.values())
        if isinstance(node, list):
            waiting += [(child, inside) for child in node]
