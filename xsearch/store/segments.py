"""A segment: an immutable pair of files, `items.parquet` and `vectors.arrow`, joined by their ids."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.errors import StoreError
from xsearch.store.manifest import SegmentEntry
from xsearch.store.publish import fsync

__all__ = [
    "ITEM_COLUMNS",
    "Segment",
    "conform",
    "map_file",
    "read_table",
    "unify",
    "write_segment",
    "write_table",
]

ITEMS, VECTORS = "items.parquet", "vectors.arrow"

ITEM_SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("modality", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("end_s", pa.float64()),
        pa.field("bytes", pa.int64()),
        pa.field("mtime_ns", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("mime", pa.string()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("duration_s", pa.float64()),
        pa.field("text", pa.string()),
    ]
)
ITEM_COLUMNS: tuple[str, ...] = tuple(ITEM_SCHEMA.names)

ROWS_PER_GROUP = 8192  # of items.parquet: 10 scattered rows of a million take 20 ms, 1,000 100 ms (measured)


def map_file(path: Path) -> pa.Buffer:
    """The bytes of a file, memory-mapped. They outlive the file's removal and hold no descriptor."""
    with pa.memory_map(str(path)) as mapped:
        return mapped.read_buffer()


def write_table(table: pa.Table, path: Path) -> None:
    """Write Parquet and force it onto the disk."""
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="zstd")
    fsync(path)


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file through a memory map."""
    return pq.read_table(pa.BufferReader(map_file(path)))


def unify(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """One schema for all, columns by name: the fixed ones first, then the others as they come.

    Names that differ only in case are one column, as in SQL, spelt as they were first. Where the types of a
    user's column disagree, the wider one is taken if Arrow knows one, else text.
    """
    found: dict[str, list[pa.Field]] = {}
    for field in (field for schema in schemas for field in schema):
        found.setdefault(field.name.lower(), []).append(field)
    for name in ITEM_COLUMNS:
        found.pop(name, None)
    fields = list(ITEM_SCHEMA)
    for same in found.values():
        try:
            types = [pa.schema([same[0].with_type(field.type)]) for field in same]
            fields.append(pa.unify_schemas(types, promote_options="permissive").field(0))
        except pa.ArrowTypeError:
            fields.append(same[0].with_type(pa.string()))
    return pa.schema(fields)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The columns of `schema`, null where the table lacks one."""
    present = {name.lower(): name for name in table.column_names}
    columns = []
    for field in schema:
        name = present.get(field.name.lower())
        column = pa.chunked_array([pa.nulls(len(table), field.type)]) if name is None else table[name]
        if pa.types.is_nested(column.type) and pa.types.is_string(field.type):
            column = pa.chunked_array(
                [[value if value is None else str(value) for value in column.to_pylist()]]
            )
        columns.append(column.cast(field.type, safe=False))
    return pa.table(columns, schema=schema)


class Segment:
    """A segment on the disk, both files mapped at once so that it outlives its removal by `compact`.

    ids: int64 [n], ascending. vectors: float16 [n, dim], rows of length 1. Both are views of the map.
    """

    def __init__(self, folder: Path, entry: SegmentEntry, dim: int) -> None:
        self._path = folder / ITEMS
        self._items = map_file(folder / ITEMS)
        try:
            batches = pa.ipc.open_file(map_file(folder / VECTORS))
            batch = batches.get_batch(0)
            column = batch.column("vector")
            self.ids: np.ndarray = batch.column("id").to_numpy()
            self.vectors: np.ndarray = column.values.to_numpy().reshape(len(column), column.type.list_size)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise StoreError(f"damaged file {folder / VECTORS}: {error}; restore it from a backup") from error
        if self.vectors.shape != (entry.rows, dim) or batches.num_record_batches != 1:
            raise StoreError(
                f"damaged file {folder / VECTORS}: vectors {list(self.vectors.shape)}, the manifest says "
                f"[{entry.rows}, {dim}]; restore it from a backup"
            )

    @cached_property
    def parquet(self) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(pa.BufferReader(self._items))
        except (OSError, pa.ArrowException) as error:
            raise StoreError(f"damaged file {self._path}: {error}; restore it from a backup") from error

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Row numbers, int64 [n], of ids that are all in this segment."""
        return np.searchsorted(self.ids, ids)

    def columns(self, schema: pa.Schema) -> pa.Table:
        """All rows, in the columns of `schema`."""
        return conform(self.parquet.read(columns=self._present(schema)), schema)

    def items(self, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
        """The items of `ids` (int64 [n], ascending, in this segment); only their row groups are read."""
        parquet = self.parquet
        starts = [
            parquet.metadata.row_group(i).column(0).statistics.min for i in range(parquet.num_row_groups)
        ]
        groups = np.unique(np.searchsorted(starts, ids, side="right") - 1)  # column 0 is the id
        table = parquet.read_row_groups(groups.tolist(), columns=["id", *self._present(schema)])
        return conform(table.take(np.searchsorted(table["id"].to_numpy(), ids)), schema)

    def _present(self, schema: pa.Schema) -> list[str]:
        wanted = {name.lower() for name in schema.names}
        return [name for name in self.parquet.schema_arrow.names if name.lower() in wanted]


def write_segment(
    parent: Path, items: pa.Table, vectors: np.ndarray, step: Callable[[str], None]
) -> SegmentEntry:
    """Write items (with `id`, ascending) and their vectors (float16 [n, dim]) and force them onto the disk.

    The segment belongs to the collection once a manifest names it.
    """
    uuid = uuid4().hex
    folder = parent / uuid
    folder.mkdir()
    ids = items["id"].to_numpy()
    try:
        step("items")
        write_table(items, folder / ITEMS)
        step("vectors")
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        batch = pa.record_batch({"id": pa.array(ids), "vector": column})
        with pa.OSFile(str(folder / VECTORS), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
            writer.write_batch(batch)
        fsync(folder / VECTORS)
        fsync(folder)
        fsync(parent)
        sha256 = {name: _digest(folder / name) for name in (ITEMS, VECTORS)}
    except BaseException:  # Ctrl-C too
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return SegmentEntry(uuid, len(ids), int(ids[0]), int(ids[-1]), sha256)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
