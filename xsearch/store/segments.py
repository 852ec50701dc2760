"""Segments: immutable pairs of `items.parquet` and `vectors.arrow`, joined by id.

`items.arrow` duplicates the items in memory layout: Parquet decodes a whole row group to read one row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xsearch.errors import Damaged
from xsearch.store.manifest import SEGMENT_FILES, SegmentEntry
from xsearch.store.mapped import MappedTable, bits_of, fetch, scalar, view
from xsearch.store.pages import PAGE, CheckedFile, checksums, map_file
from xsearch.system.durable import digest, read_file
from xsearch.system.folder import Folder
from xsearch.system.lookup import is_in
from xsearch.types import Modality

__all__ = [
    "CHECKSUMS",
    "ITEMS",
    "ITEM_COLUMNS",
    "ITEM_SCHEMA",
    "KEY",
    "LARGEST",
    "MAPPED",
    "MAPPED_SUMS",
    "STORED",
    "VECTORS",
    "Bring",
    "Segment",
    "conform",
    "fetch_records",
    "read_table",
    "unify",
    "vector_batch",
    "write_segment",
    "write_table",
]

# MAPPED_SUMS is a file of its own: older releases expect the checksums of exactly two files in CHECKSUMS
ITEMS, VECTORS, CHECKSUMS, MAPPED, MAPPED_SUMS = SEGMENT_FILES
STORED = (ITEMS, VECTORS, CHECKSUMS)  # what is opened together

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
        pa.field("unknown_share", pa.float32()),
        pa.field("imported_from", pa.string()),
    ]
)
ITEM_COLUMNS: tuple[str, ...] = tuple(ITEM_SCHEMA.names)

KEY = "xsearch"  # in the schema metadata of items: the model of their vectors
LARGEST = 1 << 30  # bytes of a file that is read at once
OPTIONAL = "state"  # of skipped files; earlier releases did not write it
SCATTERED = 1024  # rows up to which reading them is faster than comparing a whole column
ROWS_PER_GROUP = 8192  # of items.parquet: reading 10 scattered rows of a million decodes 10 MB


def write_table(table: pa.Table, folder: Folder, name: str) -> None:
    """Write a Parquet file and fsync it."""
    with folder.create(name) as file:
        pq.write_table(table, file, row_group_size=ROWS_PER_GROUP, compression="zstd")
    folder.fsync(name)


def read_table(collection: Path, name: str, schema: pa.Schema, sha256: str | None) -> pa.Table:
    """Read the Parquet file `name` of a collection as `schema`, verifying `sha256` unless it is None.

    Raises Damaged if the digest or the columns differ. (Single-threaded: an Arrow thread that still holds
    the file's content when the interpreter exits aborts the process.)
    """
    content = read_file(collection / name, LARGEST)
    if sha256 and sha256 != hashlib.sha256(content).hexdigest():
        raise Damaged(collection, name, "a wrong sha256")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(schema.names, use_threads=False)
        if OPTIONAL in schema.names and OPTIONAL not in table.column_names:
            table = table.append_column(OPTIONAL, pa.nulls(len(table), pa.string()))
        return table.cast(schema)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise Damaged(collection, name, error) from error


def unify(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Merge schemas by column name: the fixed columns first, then user columns in order of appearance.

    Names are case-insensitive, as in SQL; the first spelling is kept. Conflicting types of a user column are
    promoted to a common type if Arrow has one, else to string.
    """
    columns: dict[str, list[pa.Field]] = {}
    for field in (field for schema in schemas for field in schema):
        columns.setdefault(field.name.lower(), []).append(field)
    for name in ITEM_COLUMNS:
        columns.pop(name, None)
    fields = list(ITEM_SCHEMA)
    for same in columns.values():
        try:
            types = [pa.schema([same[0].with_type(field.type)]) for field in same]
            fields.append(pa.unify_schemas(types, promote_options="permissive").field(0))
        except pa.ArrowTypeError:
            fields.append(same[0].with_type(pa.string()))
    return pa.schema(fields)


def conform(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Cast `table` to `schema`; columns it lacks are null."""
    if table.schema.equals(schema):
        return table
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


Bring = Callable[[Iterable[str]], None]  # fetches files of a collection that are not here yet, by path


class _Vectors(NamedTuple):
    """The open vector file of a segment, and `items.parquet`, which has its checksums with it."""

    items: CheckedFile
    file: CheckedFile
    ids: np.ndarray
    stored: np.ndarray
    start: int  # of the vectors, in the file


class Segment:
    """An open segment.

    All reads are verified, except those of `stored`. Segments of format 1 have no checksums and no
    `items.arrow`.
    """

    def __init__(self, collection: Path, entry: SegmentEntry, dim: int, bring: Bring | None = None) -> None:
        """bring: fetches a file before it is first used. None: all files are here, and mapped up front, so
        that the segment stays readable after `compact` deletes them.
        """
        self._collection, self._entry, self._dim = collection, entry, dim
        self.bring = bring
        if bring is None:
            _ = self._vectors, self._mapped

    def moved(self, collection: Path, bring: Bring | None) -> Segment:
        """Return this segment; what it has not opened yet is in this folder from now on."""
        self._collection, self.bring = collection, bring
        return self

    def _file(self, name: str) -> CheckedFile:
        return CheckedFile(self._collection, f"{self._entry.folder}/{name}")

    def _bring(self, *names: str) -> None:
        if self.bring is not None:
            self.bring(f"{self._entry.folder}/{name}" for name in names if name in self._entry.sha256)

    @cached_property
    def _vectors(self) -> _Vectors:
        entry = self._entry
        self._bring(*STORED)
        items, file = self._file(ITEMS), self._file(VECTORS)
        if CHECKSUMS in entry.sha256:
            _expect(self._collection, entry, CHECKSUMS, [items, file])
        # Arrow's header and footer take less than 1 kB each (measured); the ids come first
        file.check(0, PAGE + 8 * entry.rows)
        file.check(file.buffer.size - PAGE, file.buffer.size)
        try:
            batches = pa.ipc.open_file(file.buffer)
            batch = batches.get_batch(0)
            batch.validate()
            column, values = batch.column("id"), batch.column("vector").values
            file.check_view(column.buffers()[1])
            ids = view(column, np.int64)
            stored = view(values, np.float16).reshape(len(ids), self._dim)
            actual = [batches.num_record_batches, len(ids), *ids[[0, -1]]]
        except (pa.ArrowException, LookupError, ValueError) as error:
            raise file.damaged(error) from error
        if actual != [1, entry.rows, entry.first_id, entry.last_id]:
            raise file.damaged(f"expected {entry.rows} rows with ids {entry.first_id} to {entry.last_id}")
        return _Vectors(items, file, ids, stored, values.buffers()[1].address - file.buffer.address)

    @cached_property
    def _mapped(self) -> MappedTable | None:
        if MAPPED not in self._entry.sha256:
            return None
        self._bring(MAPPED, MAPPED_SUMS)
        items = self._file(MAPPED)
        _expect(self._collection, self._entry, MAPPED_SUMS, [items])
        return MappedTable(items)

    @cached_property
    def ids(self) -> np.ndarray:
        """The ids: int64 [n], ascending, not to be written to."""
        first, last = self._entry.first_id, self._entry.last_id
        if self.bring is not None and last - first < self._entry.rows:  # no gaps
            return np.arange(first, last + 1)
        if self.bring is not None and self._mapped is not None:
            return self._mapped.ids
        return self._vectors.ids

    @cached_property
    def stored(self) -> np.ndarray:
        """The vectors: float16 [n, dim], an unverified view of the map."""
        return self._vectors.stored

    @cached_property
    def parquet(self) -> pq.ParquetFile:
        """The items as Parquet; only the footer is verified."""
        file = self._vectors.items
        end = file.buffer.size - 8  # footer length and magic; the footer precedes them
        file.check(end, file.buffer.size)
        file.check(end - int.from_bytes(file.buffer[end : end + 4], "little"), end)
        try:
            return pq.ParquetFile(pa.BufferReader(file.buffer))
        except (OSError, pa.ArrowException) as error:
            raise file.damaged(error) from error

    @property
    def schema(self) -> pa.Schema:
        """Columns and types of the items."""
        return self.parquet.schema_arrow if self._mapped is None else self._mapped.schema

    def block(self, start: int, stop: int) -> np.ndarray:
        """Return the vectors of rows `start` to `stop`: float16 [n, dim], a view of the map."""
        size = self.stored.strides[0]
        _, file, _, _, first = self._vectors
        file.check(first + start * size, first + stop * size)
        return self.stored[start:stop]

    def locate(self, rows: np.ndarray) -> tuple[CheckedFile, np.ndarray, int]:
        """Return the vector file, the byte offsets of `rows` (int64 [n]) in it, and the bytes per row."""
        size = self.stored.strides[0]
        return self._vectors.file, self._vectors.start + rows * size, size

    @cached_property
    def kinds(self) -> np.ndarray:
        """The modality of each row as its position in `Modality`: int8 [n]."""
        column = self.columns(pa.schema([ITEM_SCHEMA.field("modality")]))["modality"]
        encoded = column.combine_chunks().dictionary_encode()
        names = [str(modality) for modality in Modality]
        codes = np.array([names.index(name) for name in encoded.dictionary.to_pylist()], np.int8)
        return codes[view(encoded.indices, np.int32)]

    @cached_property
    def unknown_shares(self) -> np.ndarray:
        """The `unknown_share` of each row, 0 for null: float32 [n]."""
        return self._numbers("unknown_share", np.float32, 0)

    @cached_property
    def sizes(self) -> np.ndarray:
        """The `bytes` of each row, -1 for null: int64 [n]."""
        return self._numbers("bytes", np.int64, -1)

    @cached_property
    def mtimes_ns(self) -> np.ndarray:
        """The `mtime_ns` of each row, -1 for null: int64 [n]."""
        return self._numbers("mtime_ns", np.int64, -1)

    def _numbers(self, name: str, dtype: type, null: int) -> np.ndarray:
        column = self.columns(pa.schema([ITEM_SCHEMA.field(name)]))[name].combine_chunks()
        values, validity = view(column, dtype), column.buffers()[0]
        if not column.null_count:
            return values
        return np.where(bits_of(validity, column), values, dtype(null))  # `fill_null` imports pandas

    def equal(self, rows: np.ndarray, name: str, value: str) -> np.ndarray:
        """Return those of `rows` (int64, ascending) that have `value` in a string column."""
        schema = pa.schema([ITEM_SCHEMA.field(name)])
        if len(rows) <= SCATTERED:
            return rows[[found == value for found in self.items(self.ids[rows], schema)[name].to_pylist()]]
        matches = pc.indices_nonzero(pc.equal(self.columns(schema)[name], scalar(value)))
        return rows[is_in(rows, view(matches, np.uint64).astype(np.int64))]

    def is_plain(self, schema: pa.Schema) -> bool:
        """Whether `record` returns values of `schema` without conversion."""
        fields = set(schema)
        return self._mapped is not None and all(field in fields for field in self._mapped.schema)

    def record(self, row: int) -> dict[str, Any]:
        """Return one row as a dictionary."""
        assert self._mapped is not None
        return self._mapped.record(row)

    @property
    def first_id(self) -> int:
        return self._entry.first_id

    def row(self, id: int) -> int:
        """Return the row of an id of this segment."""
        return int(np.searchsorted(self.ids, id))

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows, int64 [n], of ids that are all in this segment."""
        return np.searchsorted(self.ids, ids)

    def columns(self, schema: pa.Schema) -> pa.Table:
        """Return all rows in the columns of `schema`."""
        if self._mapped is None:
            return self.decoded(schema)
        return conform(self._mapped.columns(self._present(schema.names)), schema)

    def decoded(self, schema: pa.Schema) -> pa.Table:
        """`columns`, decoded from Parquet."""
        groups = range(self.parquet.num_row_groups)
        return conform(self._read(groups, self._present(schema.names)), schema)

    def items(self, ids: np.ndarray, schema: pa.Schema) -> pa.Table:
        """Return the items of `ids`: int64 [n], ascending, all in this segment."""
        if self._mapped is not None:
            return conform(self._mapped.take(ids, self._present(schema.names)), schema)
        metadata = self.parquet.metadata
        starts = [metadata.row_group(i).column(0).statistics.min for i in range(metadata.num_row_groups)]
        groups = np.unique(np.searchsorted(starts, ids, side="right") - 1)  # column 0 is the id
        table = self._read(groups.tolist(), self._present(["id", *schema.names]))
        return conform(table.take(np.searchsorted(table["id"].to_numpy(), ids)), schema)

    def _present(self, names: Sequence[str]) -> list[str]:
        """Return the columns of this segment that match `names` case-insensitively."""
        requested = {name.lower() for name in names}
        return [name for name in self.schema.names if name.lower() in requested]

    def _read(self, groups: Sequence[int], columns: Sequence[str]) -> pa.Table:
        for start, stop in self._ranges(groups, columns):
            self._vectors.items.check(start, stop)
        try:
            return self.parquet.read_row_groups(groups, columns=columns, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise self._vectors.items.damaged(error) from error

    def _ranges(self, groups: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yield the byte ranges of these columns, adjacent ones merged."""
        start = stop = 0
        for group in map(self.parquet.metadata.row_group, groups):
            for chunk in map(group.column, range(group.num_columns)):
                path = chunk.path_in_schema  # lists: "column.list.element"
                if path in columns or any(path.startswith(f"{name}.") for name in columns):
                    first = chunk.dictionary_page_offset or chunk.data_page_offset
                    if first != stop:
                        yield start, stop
                        start = first
                    stop = first + chunk.total_compressed_size
        yield start, stop


def fetch_records(rows: Iterable[tuple[Segment, int]]) -> None:
    """Read what `record` returns of these rows of segments, all at the same time."""
    tables = ((segment._mapped, row) for segment, row in rows)
    fetch([(table, row) for table, row in tables if table is not None])


def _expect(collection: Path, entry: SegmentEntry, name: str, files: Sequence[CheckedFile]) -> None:
    """Load the checksums of `files`, concatenated in file `name` of the segment."""
    content = read_file(collection / entry.folder / name, LARGEST)
    if hashlib.sha256(content).hexdigest() != entry.sha256[name]:
        raise Damaged(collection, f"{entry.folder}/{name}", "a wrong sha256")
    sums, ends = np.frombuffer(content, "<u8"), np.cumsum([file.pages for file in files])
    if len(sums) != ends[-1]:
        raise Damaged(collection, entry.folder, "the length of a file differs from when it was written")
    for file, part in zip(files, np.split(sums, ends[:-1]), strict=True):
        file.expect(part)


def write_segment(parent: Folder, items: pa.Table, vectors: np.ndarray) -> SegmentEntry:
    """Write and fsync items (sorted by `id`) and their vectors (float16 [n, dim]).

    The segment becomes part of the collection once a manifest references it.
    """
    uuid = uuid4().hex
    folder = parent.make(uuid)
    ids = items["id"].to_numpy()
    try:
        write_table(items, folder, ITEMS)
        with pq.ParquetFile(folder.path / ITEMS) as written:
            batches = written.read().combine_chunks().to_batches()  # with the types that Parquet returns
        files: dict[str, tuple[str, ...]] = {CHECKSUMS: (ITEMS, VECTORS)}
        if len(batches) == 1:  # more if a string column exceeds the 2 GB of an Arrow array
            files[MAPPED_SUMS] = (MAPPED,)
            _write_batch(batches[0], folder, MAPPED)
        _write_batch(vector_batch(pa.array(ids), vectors), folder, VECTORS)
        for name, summed in files.items():
            contents = [np.frombuffer(map_file(folder.path / file), np.uint8) for file in summed]
            with folder.create(name) as sums:
                sums.write(np.concatenate([checksums(data) for data in contents]).tobytes())
            folder.fsync(name)
        folder.fsync()
        parent.fsync()
        sha256 = {name: digest(folder.path / name) for name in folder.names()}
    except BaseException:  # Ctrl-C too
        with suppress(OSError):
            parent.remove(uuid, SEGMENT_FILES)
        raise
    return SegmentEntry(uuid, len(ids), int(ids[0]), int(ids[-1]), sha256)


def vector_batch(ids: pa.Array, vectors: np.ndarray) -> pa.RecordBatch:
    """Return ids and vectors (float16 [n, dim]) as in `vectors.arrow`."""
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    return pa.record_batch({"id": ids, "vector": column})


def _write_batch(batch: pa.RecordBatch, folder: Folder, name: str) -> None:
    """Write an uncompressed Arrow IPC file and fsync it."""
    with folder.create(name) as file, pa.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    folder.fsync(name)
