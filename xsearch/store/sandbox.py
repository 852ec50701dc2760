"""The program of a filter process: evaluates SQL conditions in DuckDB under a limit of memory.

It runs as a script and imports nothing of the package, which halves the time it takes to start. Its parent
hands it conditions and columns through a socket, see `Process`, and kills it when time is up.

A condition is validated against DuckDB's syntax tree before it is bound to data. Only columns, constants,
operators and the functions below are allowed: no files, network or writes, and nothing that generates rows.
What remains can take any time and any memory (measured: DuckDB polls for interrupts only between batches of
rows, and its memory limit does not cover lists and texts), which is why it runs in a process of its own.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import duckdb
    import numpy as np
    import pyarrow

__all__ = ["FUNCTIONS", "receive", "send"]

SANDBOX: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",  # no files, no network, no extensions
    "python_enable_replacements": "false",  # no scans of Python variables
    "allow_persistent_secrets": "false",
    "temp_directory": "",  # no spilling: out of memory is an error
}
THREADS = 4
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


def send(to: socket.socket, message: dict[str, Any], body: bytes = b"") -> None:
    """Send a message, which `receive` returns on the other side."""
    content = json.dumps(message).encode()
    to.sendall(struct.pack("<QQ", len(content), len(body)) + content + body)


def receive(source: socket.socket, until: float = float("inf")) -> tuple[dict[str, Any], bytearray]:
    """Return the next message and its body. Raises EOFError at the end, TimeoutError after `until`.

    until: of `time.monotonic`.
    """
    sizes = struct.unpack("<QQ", _exactly(source, 16, until))
    content, body = (_exactly(source, size, until) for size in sizes)
    return json.loads(content), body


def _exactly(source: socket.socket, size: int, until: float) -> bytearray:
    content = bytearray(size)
    rest = memoryview(content)
    while rest:
        seconds = until - time.monotonic()
        source.settimeout(max(seconds, 1e-3) if seconds < float("inf") else None)
        if not (count := source.recv_into(rest)):
            raise EOFError
        rest = rest[count:]
    return content


def main(parent: socket.socket, memory: int) -> None:
    """Answer the conditions that `parent` sends. memory: bytes a condition may take beside its columns.

    A message is {"where": condition, "columns": names of all columns}. The answer is {"columns": those that
    the condition uses}; the parent then sends the descriptor of an Arrow stream in memory for each of them,
    and the answer is {"rows": their number} with a bit of each row: whether the condition holds; or
    {"problem": text}, with "memory": true if that was lacking. "last": true announces that the process ends.
    """
    import duckdb
    import pyarrow  # noqa: F401  before memory is limited

    options = SANDBOX | {"memory_limit": f"{memory}B", "threads": str(min(os.cpu_count() or 1, THREADS))}
    database = duckdb.connect(":memory:", config=options)
    database.execute("SET GLOBAL max_expression_depth = 250")
    database.execute("SET lock_configuration = true")
    list(_nodes(_parse(database, "id = 1")))  # loads what every condition needs
    baseline = _address_space()
    send(parent, {})
    with suppress(EOFError, OSError):
        last = False
        while not last:
            message, body = _answer(parent, database, receive(parent)[0], baseline + memory)
            last = (
                _address_space() > baseline + memory // 2
            )  # what is not given back would be missing next time
            send(parent, message | {"last": last}, body)


def _answer(
    parent: socket.socket, database: duckdb.DuckDBPyConnection, request: dict[str, Any], limit: int
) -> tuple[dict[str, Any], bytes]:
    """limit: bytes of address space, beside the columns."""
    import duckdb

    connection = database.cursor()
    try:
        _limit_memory(limit)
        where: str = request["where"]
        names = ["id", *sorted(_columns_used(connection, where, request["columns"]) - {"id"})]
        send(parent, {"columns": names})
        descriptors = [socket.recv_fds(parent, 1, 1)[1][0] for _ in names]
        _limit_memory(limit + sum(os.fstat(descriptor).st_size for descriptor in descriptors))
        items = _table(names, descriptors)
        connection.register("items", items)
        passing = connection.sql(f"SELECT id FROM items WHERE (\n{where}\n)").to_arrow_table()
        return {"rows": len(items)}, _bits(items["id"], passing["id"])
    except (MemoryError, duckdb.OutOfMemoryException):
        return {"problem": "", "memory": True}, b""
    except RecursionError:
        return {"problem": "nested too deeply"}, b""
    except (ValueError, duckdb.Error) as error:
        problem = str(error).strip().split("\n")[0]
        is_memory = "bad_alloc" in problem or "bad allocation" in problem
        return {"problem": problem[:1000], "memory": is_memory}, b""
    finally:
        connection.close()
        _limit_memory(-1)


def _table(names: Sequence[str], descriptors: Sequence[int]) -> Any:
    """Map the columns. `pa.table` would import pandas."""
    import pyarrow as pa

    columns = []
    for descriptor in descriptors:
        buffer = pa.py_buffer(mmap.mmap(descriptor, 0, prot=mmap.PROT_READ))
        os.close(descriptor)
        columns.append(pa.ipc.open_stream(buffer).read_all().column(0))
    return pa.Table.from_arrays(columns, names=list(names))


def _bits(ids: pyarrow.ChunkedArray, passing: pyarrow.ChunkedArray) -> bytes:
    """Return a bit for each of `ids`, ascending: whether it is one of `passing`, in any order."""
    import numpy as np

    rows, found = _views(ids), _views(passing)
    if not found:
        return bytes(-(-len(ids) // 8))
    first, last = rows[0][0], rows[-1][-1]
    flags = np.zeros(last - first + 1, bool)
    for chunk in found:
        flags[chunk - first] = True
    if len(flags) > len(ids):
        flags = flags[np.concatenate(rows) - first]
    return np.packbits(flags).tobytes()


def _views(column: pyarrow.ChunkedArray) -> list[np.ndarray]:
    """Return the chunks of an int64 column without nulls, none empty. `to_numpy` would import pandas."""
    import numpy as np

    chunks = [chunk for chunk in column.chunks if len(chunk)]
    return [np.frombuffer(chunk.buffers()[1], np.int64, len(chunk), 8 * chunk.offset) for chunk in chunks]


def _columns_used(connection: duckdb.DuckDBPyConnection, where: str, columns: Sequence[str]) -> set[str]:
    """Return the columns that `where` references. Raises ValueError unless it is one allowed expression."""
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


def _end_with_parent(pipe: int) -> None:
    """Have the kernel end this process, busy or not, when the other end of `pipe` closes.

    SIGIO terminates by default. PR_SET_PDEATHSIG would act when the *thread* ends that started this process.
    """
    import fcntl
    import select

    signal.signal(signal.SIGIO, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGIO])
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:
        sys.exit()  # it closed before


def _limit_memory(size: int) -> None:
    """Limit the address space to `size` bytes; -1 removes the limit."""
    import resource

    with suppress(ValueError, OSError):  # not every system has it
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        is_within = size >= 0 and (size < hard or hard == resource.RLIM_INFINITY)
        resource.setrlimit(resource.RLIMIT_AS, (size if is_within else hard, hard))


def _address_space() -> int:
    with suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[0]) * mmap.PAGESIZE
    return 0


if __name__ == "__main__":
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with_parent(sys.stdin.fileno())
    main(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
