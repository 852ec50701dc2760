"""Export: items and vectors as Parquet, JSON lines, CSV or NumPy."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.errors import UsageError
from xsearch.exchange.source import GROUP_ROWS, Progress
from xsearch.sheet import write_csv
from xsearch.store.segments import KEY
from xsearch.system.durable import fsync, publish

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["export"]

FILE_ROWS = 16 * GROUP_ROWS  # per file of a folder: 512 MB


def export(
    snapshot: Snapshot,
    path: Path,
    ids: np.ndarray | None = None,
    *,
    float32: bool = False,
    keep_formulas: bool = False,
    progress: Progress | None = None,
) -> int:
    """Write items to `path`, in the format of its suffix or to a folder of Parquet; return their number.

    ids: int64, ascending; None for all. float32: in Parquet, widen the stored float16 vectors.
    keep_formulas: in CSV, see `write_csv`.
    `path` is created atomically. Raises UsageError if it already exists, and for another suffix.
    """
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix and suffix not in _WRITERS:
        raise UsageError(
            f"{path}: expected a name that ends in {', '.join(_WRITERS)}, or a folder, which has no suffix"
        )
    items = path.with_suffix(".parquet") if suffix == ".npy" else path
    for taken in {path, items}:
        if taken.is_file() or (taken.is_dir() and any(taken.iterdir())):
            raise UsageError(f"{taken} already exists; choose another name, or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    ids = snapshot.ids if ids is None else ids
    schema, done = _schema(snapshot, np.float32 if float32 or suffix == ".jsonl" else np.float16), 0
    if suffix in (".npy", ".csv"):
        schema = schema.remove(len(schema) - 1)

    def tables(some: np.ndarray) -> Iterator[pa.Table]:
        nonlocal done
        for start in range(0, len(some), GROUP_ROWS):
            group = some[start : start + GROUP_ROWS]
            yield _table(snapshot, group, schema)
            done += len(group)
            if progress:
                progress(done, len(ids))

    with publish(items.absolute()) as part:
        if not suffix:
            part.mkdir()
            for first in range(0, max(len(ids), 1), FILE_ROWS):
                file = part / f"part-{first // FILE_ROWS:05}.parquet"
                _write_parquet(file, tables(ids[first : first + FILE_ROWS]), schema)
        elif suffix == ".npy":
            with publish(path.absolute()) as array:
                _write_array(array, snapshot, ids)
                _write_parquet(part, tables(ids), schema)
        elif suffix == ".csv":
            _write_csv(part, tables(ids), schema, keep_formulas=keep_formulas)
        else:
            _WRITERS[suffix](part, tables(ids), schema)
    return len(ids)


def _schema(snapshot: Snapshot, dtype: type[np.floating]) -> pa.Schema:
    """Return the item columns plus `vector`; a user column of that name becomes `vector_`."""
    kind = pa.list_(pa.field("element", pa.from_numpy_dtype(dtype), nullable=False), snapshot.fingerprint.dim)
    fields = [
        field.with_name("vector_") if field.name.lower() == "vector" else field for field in snapshot.schema
    ]
    header = {"model": asdict(snapshot.fingerprint), "source": snapshot.manifest.source}
    return pa.schema([*fields, pa.field("vector", kind, nullable=False)], {KEY: json.dumps(header)})


def _table(snapshot: Snapshot, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
    columns = snapshot.items(ids).columns
    if len(columns) < len(schema):
        kind = schema.field("vector").type
        vectors = np.concatenate([block for _, block in snapshot.blocks(ids)])  # [n, dim]
        values = pa.array(vectors.astype(kind.value_type.to_pandas_dtype(), copy=False).reshape(-1))
        columns = [*columns, pa.FixedSizeListArray.from_arrays(values, type=kind)]
    return pa.table(columns, schema=schema)


def _write_parquet(file: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    names = [name for name in schema.names if name != "vector"]
    zstd = dict.fromkeys(names, "zstd")  # vectors do not compress
    with pq.ParquetWriter(
        file, schema, compression=zstd, use_dictionary=names, write_page_checksum=True
    ) as writer:
        for table in tables:
            writer.write_table(table, row_group_size=GROUP_ROWS)
    fsync(file)


def _write_csv(
    file: Path, tables: Iterator[pa.Table], schema: pa.Schema, *, keep_formulas: bool = False
) -> None:
    rows = (row.values() for table in tables for row in table.to_pylist())
    with file.open("w", encoding="utf-8", newline="") as out:
        write_csv(out, schema.names, rows, keep_formulas=keep_formulas)


def _write_json_lines(file: Path, tables: Iterator[pa.Table], schema: pa.Schema) -> None:
    with file.open("w", encoding="utf-8") as out:
        for table in tables:
            for row in table.to_pylist():
                numbers = {name: value for name, value in row.items() if isinstance(value, float)}
                row |= {name: None for name, value in numbers.items() if not math.isfinite(value)}
                out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")


def _write_array(file: Path, snapshot: Snapshot, ids: np.ndarray) -> None:
    shape = (len(ids), snapshot.fingerprint.dim)
    with file.open("wb") as out:
        header = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        for _, block in snapshot.blocks(ids):
            out.write(block.astype("<f4").tobytes())


_WRITERS: dict[str, Callable[[Path, Iterator[pa.Table], pa.Schema], None]] = {
    ".parquet": _write_parquet,
    ".csv": _write_csv,
    ".jsonl": _write_json_lines,
    ".npy": _write_parquet,  # of its items
}
