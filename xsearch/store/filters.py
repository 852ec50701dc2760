"""`where` filters: a user's SQL expression, evaluated without access to files, network or writes.

The expression is validated against DuckDB's syntax tree before any data is read. Only columns, constants,
operators and the functions below are allowed. None of these generates rows or large values, so run time is
bounded by the length of the expression and the number of items: DuckDB polls for interrupts only between
batches of rows and does not apply its memory limit to lists (measured: `range(10000000)` took 26 s and 3 GB).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
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
    "python_enable_replacements": "false",  # no scans of Python variables
    "allow_persistent_secrets": "false",
    "temp_directory": "",  # no spilling: out of memory is an error
    "memory_limit": "1GB",  # in addition to the items
}
TIMEOUT_S = 10.0
MAX_SHOWN = 200  # characters of an expression in an error message
MAX_CHARACTERS = 100_000  # about 10,000 ids in an IN list
MAX_BRACKETS = 200  # DuckDB 2.0 parses 200 unclosed ones in 0.3 s, 5,000 in minutes (measured)
MAX_COPIES = 100  # of the operand x of CASE x WHEN, which the parser duplicates for each WHEN
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
"""  # functions, and operators under the names the parser gives them
FUNCTIONS = frozenset(ALLOWED.split())


def evaluate(where: str, columns: Sequence[str], read: Callable[[Sequence[str]], pa.Table]) -> np.ndarray:
    """Return the ids of the items that satisfy `where`: int64, ascending.

    columns: names of all item columns. read: returns a table of the named columns.
    The expression is parsed and validated before any data is read.

    Raises BadFilter for anything but a single expression over columns.
    """
    import duckdb

    connection = duckdb.connect(":memory:", config=SANDBOX)
    timer = Timer(TIMEOUT_S, connection.interrupt)
    try:
        connection.execute("SET lock_configuration = true")
        used = _columns_used(connection, where, columns)
        connection.register("items", read(["id", *sorted(used - {"id"})]))
        timer.start()
        ids = connection.execute(f"SELECT id FROM items WHERE (\n{where}\n)").fetchnumpy()["id"]
        return np.sort(ids).astype(np.int64, copy=False)
    except (ValueError, RecursionError, duckdb.Error) as error:
        problem = re.sub(r"^\w+ Error: ", "", str(error).strip().split("\n")[0])
        if unknown := re.match(r'Referenced column "(.+?)" not found', problem):
            near = get_close_matches(unknown[1], columns, n=1, cutoff=0.7)
            hint = f"did you mean {near[0]}?" if near else f"a text needs single quotes: '{unknown[1]}'"
            problem = f"no item has a column {unknown[1]}; {hint}"
        if not where.strip():
            problem = "empty"
        if isinstance(error, RecursionError):
            problem = "nested too deeply"
        if isinstance(error, duckdb.InterruptException):
            problem = f"timed out after {TIMEOUT_S:g} s"
        excerpt = where if len(where) <= MAX_SHOWN else f"{where[:MAX_SHOWN]}..."
        raise BadFilter(
            f"where {excerpt!r}: {problem}; expected one SQL expression over the columns {', '.join(columns)}"
        ) from None
    finally:
        timer.cancel()
        if timer.is_alive():
            timer.join()
        connection.close()


def _columns_used(connection: duckdb.DuckDBPyConnection, where: str, columns: Sequence[str]) -> set[str]:
    """Return the columns that `where` references. Raises ValueError unless it is one allowed expression."""
    if len(where) > MAX_CHARACTERS:
        raise ValueError(f"more than {MAX_CHARACTERS:,} characters")
    if sum(map(where.count, "([{")) > MAX_BRACKETS:
        raise ValueError(f"more than {MAX_BRACKETS} brackets")
    whens, cases = (len(re.findall(pattern, where, re.I)) for pattern in (r"when", r"case(?!\s+when)"))
    if cases * log(max(whens, 1)) > log(MAX_COPIES):
        raise ValueError("too many CASE x WHEN branches; use CASE WHEN x = ...")
    _parse(connection, where)  # bare: rejects `1) OR (1`
    known = {name.lower(): name for name in columns}
    used: set[str] = set()
    for node, inside in _nodes(_parse(connection, f"(\n{where}\n)")):  # parenthesised: rejects `1 LIMIT 1`
        name = node.get("function_name", "").lower()
        if node.get("class") in REFUSED:
            raise ValueError(f"{REFUSED[node['class']]} are not allowed")
        if node.get("class") == "FUNCTION" and name not in FUNCTIONS:
            raise ValueError(f"function {name} is not allowed")
        if inside and node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN"):
            raise ValueError("nested IN is not allowed")  # DuckDB duplicates the left side for each value
        used.update(known[name.lower()] for name in node.get("column_names", ()) if name.lower() in known)
    return used


def _parse(connection: duckdb.DuckDBPyConnection, where: str) -> dict[str, Any]:
    """Return the syntax tree of `where` as DuckDB's json_serialize_sql prints it."""
    query = f"SELECT id FROM items WHERE {where}"
    ((answer,),) = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchall()
    tree = json.loads(answer)
    if tree["error"]:
        raise ValueError(tree["error_message"].split("\n")[0])
    node = tree["statements"][0]["node"]
    clauses = ("modifiers", "group_expressions", "having", "sample", "qualify")
    extras = [clause for clause in clauses if node.get(clause)]
    if len(tree["statements"]) != 1 or node["type"] != "SELECT_NODE" or extras:
        raise ValueError("more than one expression")
    condition: dict[str, Any] = node["where_clause"]
    return condition


def _nodes(tree: Any) -> Iterator[tuple[dict[str, Any], bool]]:
    """Yield each object of a syntax tree and whether it is inside an IN."""
    stack = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        if isinstance(node, dict):
            yield node, inside
            inside = inside or node.get("type") in ("COMPARE_IN", "COMPARE_NOT_IN")
            node = list(node.values())
        if isinstance(node, list):
            stack += [(child, inside) for child in node]
