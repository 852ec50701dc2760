"""Counts of items by their columns, each with the filter that selects them."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from os.path import commonpath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xsearch.errors import UsageError
from xsearch.query import as_modalities
from xsearch.serve.contract import Choice, Facet, Facets
from xsearch.serve.shelf import Held
from xsearch.store import ITEM_COLUMNS
from xsearch.store.plain import KEYWORDS
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["between", "counted", "default_columns", "facets", "ranges"]

FEW = 100  # different values of a column that is a facet without being asked for
FEW_NUMBERS = 20  # of a column of numbers; more are chosen by a range
UNIQUE = 8  # different values, above which a column that has another one for each file is no facet
MOST_COLUMNS = 16
IDENTIFIER = re.compile(r"[0-9a-f-]{16,}|.*[/\\].*\.\w{1,5}", re.IGNORECASE | re.DOTALL)  # a hash, a path
STORAGE = {"orientation"}  # how a file is stored, which nobody looks for
NO_FACETS = {"path", "sha256", "text", "id", "start_s", "end_s", "bytes", "mtime_ns"}


def facets(
    held: Held,
    columns: Sequence[str],
    *,
    modality: Sequence[Modality] | None = None,
    where: str | None = None,
    values: int = 50,
) -> Facets:
    """Count the items that pass the filters by `kind`, `month`, `folder` or columns."""
    snapshot = held.view().snapshot
    ids = snapshot.select(where, as_modalities(modality or None))
    return Facets(
        collection=held.name,
        generation=snapshot.manifest.generation,
        count=len(ids),
        facets=[counted(snapshot, ids, column, values) for column in columns],
    )


def default_columns(snapshot: Snapshot) -> list[str]:
    """Return the columns by which items are counted without being asked: few different values each."""
    columns = ["kind", "month", "folder"]
    others = [name for name, values in _facets(snapshot) if len(values) <= _few(values.type)]
    return (columns + sorted(others, key=lambda name: name != "camera"))[:MOST_COLUMNS]


def ranges(snapshot: Snapshot) -> dict[str, tuple[float, float]]:
    """Return the columns of many different numbers, with the least and the greatest of them."""
    columns = dict(_facets(snapshot))
    many = {
        name: pc.min_max(values).as_py()
        for name, values in columns.items()
        if _is_number(values.type) and len(values) > FEW_NUMBERS
    }
    return {name: (ends["min"], ends["max"]) for name, ends in many.items()}


def between(snapshot: Snapshot, column: str, written: str) -> str | None:
    """Return the expression for the numbers of a range such as `100..800`, `100..`; None if it is none."""
    if column not in snapshot.schema.names or not _is_number(snapshot.schema.field(column).type):
        return None
    ends = written.split("..")
    try:
        low, high = (float(end) if end else None for end in ends)
    except ValueError:
        return None
    bounds = {">=": low, "<=": high}
    if not all(math.isfinite(bound) for bound in bounds.values() if bound is not None):
        return None
    return (
        " AND ".join(f"{_named(column)} {sign} {b!r}" for sign, b in bounds.items() if b is not None) or None
    )


def _facets(snapshot: Snapshot) -> Iterator[tuple[str, pa.Array]]:
    """Yield the columns of users and files that are worth choosing by, with their different values."""
    for field in snapshot.schema:
        kind = field.type.value_type if pa.types.is_list(field.type) else field.type
        is_simple = pa.types.is_string(kind) or pa.types.is_boolean(kind) or _is_number(field.type)
        if field.name in ITEM_COLUMNS or field.name in STORAGE or not is_simple:
            continue
        values = _flat(snapshot.table([field.name])[field.name]).unique().drop_null()
        if len(values) and (_is_number(kind) or not _are_identifiers(snapshot, field.name, values)):
            yield field.name, values


def _are_identifiers(snapshot: Snapshot, column: str, values: pa.Array) -> bool:
    """Whether the values of a column are hashes or paths, or those of each file are others."""
    if pa.types.is_string(values.type) and all(map(IDENTIFIER.fullmatch, values[:FEW].to_pylist())):
        return True
    if not UNIQUE < len(values) <= FEW:
        return False
    table = snapshot.table([column, "path"])
    return len(values) == len(table.filter(table[column].is_valid())["path"].unique())


def _few(kind: pa.DataType) -> int:
    return FEW_NUMBERS if _is_number(kind) else FEW


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def counted(snapshot: Snapshot, ids: np.ndarray, column: str, most: int) -> Facet:
    """Count items by a column. Raises UsageError for one that does not exist or cannot be counted."""
    names = snapshot.schema.names
    if column in names and column not in NO_FACETS:
        kind = snapshot.schema.field(column).type
        if pa.types.is_timestamp(kind):
            return _by_month(snapshot, ids, column, column, most)
        return _by_value(snapshot, ids, column, most)
    if column == "kind":
        return _by_kind(snapshot, ids)
    if column == "month":
        has_dates = "taken_at" in names and pa.types.is_timestamp(snapshot.schema.field("taken_at").type)
        if not has_dates:
            return Facet(column=column, values=[], others=0, missing=len(ids))
        return _by_month(snapshot, ids, "taken_at", column, most)
    if column == "folder":
        return _by_folder(snapshot, ids, most)
    raise UsageError(
        f"facet: no column {column!r} to count by; expected kind, month, folder or one of GET /v1/info"
    )


def _by_kind(snapshot: Snapshot, ids: np.ndarray) -> Facet:
    codes, counts = np.unique(snapshot.kinds_of(ids), return_counts=True)
    kinds = list(Modality)
    counter = Counter({str(kinds[code]): int(n) for code, n in zip(codes, counts, strict=True)})
    return _facet("kind", counter, len(kinds), lambda value: f"modality = {_quoted(value)}", missing=0)


def _by_value(snapshot: Snapshot, ids: np.ndarray, column: str, most: int) -> Facet:
    """By the values of a column; of lists by their elements."""
    values = snapshot.items(ids, [column])[column]
    missing = values.null_count
    name, is_list = _named(column), pa.types.is_list(values.type)
    if (elements := _elements(values)) is not None:

        def contains(value: str) -> str:
            return f"json_contains({name}, {_quoted(json.dumps(value, ensure_ascii=False))})"

        return _facet(column, elements, most, contains, missing=missing)
    kind = values.type.value_type if is_list else values.type
    if pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise UsageError(f"facet: {column} has no values to count")
    pairs = _flat(values).value_counts().to_pylist()
    counter = Counter({pair["values"]: pair["counts"] for pair in pairs if pair["values"] is not None})

    def where(value: Any) -> str:
        return f"list_contains({name}, {_constant(value)})" if is_list else f"{name} = {_constant(value)}"

    return _facet(column, counter, most, where, missing=missing)


def _named(column: str) -> str:
    """The name of a column in SQL."""
    is_plain = re.fullmatch(r"[a-z_][a-z0-9_]*", column) and column not in KEYWORDS
    return column if is_plain else '"' + column.replace('"', '""') + '"'


def _by_month(snapshot: Snapshot, ids: np.ndarray, column: str, name: str, most: int) -> Facet:
    times = snapshot.items(ids, [column])[column]
    months = pc.strftime(times, "%Y-%m").drop_null().value_counts().to_pylist()
    counts = {pair["values"]: pair["counts"] for pair in months}

    def where(month: str) -> str:
        year, number = map(int, month.split("-"))
        after = f"{year + number // 12:04}-{number % 12 + 1:02}"
        return f"{_named(column)} >= '{month}-01' AND {_named(column)} < '{after}-01'"

    newest = sorted(counts, reverse=True)
    values = [Choice(value=month, count=counts[month], where=where(month)) for month in newest[:most]]
    return Facet(column=name, values=values, others=len(newest[most:]), missing=times.null_count)


def _by_folder(snapshot: Snapshot, ids: np.ndarray, most: int) -> Facet:
    """By folders, with what is below them: those with items, and those above them that several share."""
    pairs = snapshot.items(ids, ["path"])["path"].value_counts().to_pylist()
    direct: Counter[str] = Counter()
    for pair in pairs:
        direct[_parent(pair["values"])] += pair["counts"]
    local = [folder for folder in direct if folder.startswith("/")]
    root = commonpath(local) if local else ""
    counts = Counter(direct)
    for folder, count in direct.items():
        while folder.startswith("/") and folder != root and len(folder) > 1:
            folder = _parent(folder)
            counts[folder] += count

    def where(folder: str) -> str:
        below = folder.rstrip("/") + "/"
        if "%" in below or "_" in below:
            return f"starts_with(path, {_quoted(below)})"
        return f"path LIKE {_quoted(below + '%')}"

    return _facet("folder", counts, most, where, missing=0)


def _parent(path: str) -> str:
    """The folder of a path or URL."""
    return path.rpartition("/")[0] or "/"


def _elements(values: pa.ChunkedArray) -> Counter[str] | None:
    """Count the elements of lists of texts as sidecars have them, in JSON; None if a column has others."""
    counts: Counter[str] = Counter()
    for pair in values.drop_null().value_counts().to_pylist() if pa.types.is_string(values.type) else ():
        try:
            elements = json.loads(pair["values"])
        except (ValueError, RecursionError):
            return None
        if not isinstance(elements, list) or not all(isinstance(each, str) for each in elements):
            return None
        counts.update(dict.fromkeys(elements, pair["counts"]))
    return counts or None


def _facet(
    column: str, counts: Counter[Any], most: int, where: Callable[[Any], str], *, missing: int
) -> Facet:
    first = sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))
    values = [Choice(value=_shown(value), count=count, where=where(value)) for value, count in first[:most]]
    return Facet(column=column, values=values, others=len(first[most:]), missing=missing)


def _flat(values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.list_flatten(values) if pa.types.is_list(values.type) else values


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _constant(value: Any) -> str:
    return _shown(value) if isinstance(value, bool | int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
