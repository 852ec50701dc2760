"""Snapshots: read-only views of one generation of a collection."""

from __future__ import annotations

import errno
import weakref
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import cache, cached_property, partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xsearch.errors import Reason, StoreError
from xsearch.store.filters import SharedColumns, evaluate
from xsearch.store.manifest import Manifest, SegmentEntry
from xsearch.store.mapped import array, view
from xsearch.store.pages import check_all
from xsearch.store.segments import STORED, Bring, Segment, fetch_records, read_table, unify
from xsearch.system.float16 import to_float32
from xsearch.system.lookup import is_in, nearest_rows
from xsearch.system.memory import prefetch, total_memory
from xsearch.types import UNKNOWN_SHARE, Fingerprint, Modality

__all__ = ["SCHEMAS", "Snapshot", "unreadable"]

SCHEMAS = {
    "tombstones": pa.schema({"id": pa.int64()}),
    "skipped": pa.schema(dict.fromkeys(("path", "reason", "error", "when", "state"), pa.string())),
}

# Errors of the system, rather than of a file
PASSING = (errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EPERM, errno.EIO)
BLOCK_ROWS = 16_384  # rows per block: 8 MB of float16 at 256 dimensions
PART_BYTES = 1 << 22  # for a few threads to share (measured)
KINDS = tuple(Modality)
SCATTERED = 4096  # vectors up to which each is read ahead for itself
FEW = 16  # records per segment up to which reading them one by one is faster (measured)


def unreadable(folder: Path, error: Exception) -> StoreError:
    """The error to raise if a file of a collection cannot be opened."""
    remedy = f"run `xsearch verify --repair -c {folder}`"
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in PASSING:
        remedy = "the collection may be as it should: close other programs, check the disk and permissions"
    return StoreError(f"cannot read {folder}: {error}; {remedy}")


class Snapshot:
    """The live items of one generation, unaffected by later commits and by `compact`.

    Files are memory-mapped up front and decoded on access. An item's row is its position in `ids`.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        previous: Snapshot | None = None,
        lease: BufferedReader | None = None,
        bring: Bring | None = None,
    ) -> None:
        """previous: an earlier snapshot of the same collection, to reuse its open segments.

        lease: the locked file of the manifest, see `open_manifest`; open as long as the snapshot is used.
        bring: fetches files of the collection that are not here yet, by path; None if all are.
        """
        self.path = folder
        self.manifest = manifest
        self._bring = bring
        old: dict[str, Segment] = {} if previous is None else previous._open
        self._open: dict[str, Segment] = {
            entry.folder: old[entry.folder].moved(folder, bring)
            if entry.folder in old
            else Segment(folder, entry, self.fingerprint.dim, bring)
            for entry in manifest.segments
        }
        self._segments = list(self._open.values())
        self._first = np.array([entry.first_id for entry in manifest.segments], np.int64)
        spans = [entry.last_id - entry.first_id + 1 - entry.rows for entry in manifest.segments]
        self._gaps = np.array(spans, np.int64) > 0  # segments whose ids have gaps
        self.bring(manifest.tables())
        dead = [view(chunk, np.int64) for chunk in self._tables("tombstones")["id"].chunks]
        self._dead: np.ndarray = np.unique(np.concatenate([np.empty(0, np.int64), *dead]))
        self._skipped = self._tables("skipped")
        self._shared = SharedColumns()
        if lease is not None:
            weakref.finalize(self, lease.close)

    def _tables(self, kind: str) -> pa.Table:
        """Concatenate the tables of `kind`: tombstones or skipped files."""
        names = [name for name in self.manifest.tables() if name.startswith(kind)]
        schema, digests = SCHEMAS[kind], self.manifest.digests
        tables = [read_table(self.path, name, schema, digests.get(name)) for name in names]
        return pa.concat_tables(tables) if tables else pa.Table.from_batches([], schema)

    def bring(self, paths: Iterable[str]) -> None:
        """Make sure that these files are here, before they are opened. Raises StoreError."""
        if self._bring is not None:
            self._bring(paths)

    def index_at(self, folder: Path) -> Path:
        """Return the folder of an index of this collection, here; `folder` is that of another machine.

        Raises StoreError if a later generation at the same URL has another one.
        """
        if self._bring is None:
            return folder
        if folder.name != self.manifest.index or self.index_path is None:
            raise StoreError(f"{self.path} has no index {folder.name}: another one was pushed since")
        return self.index_path

    def bring_index(self, *names: str) -> None:
        """`bring` these files of the index, by default all."""
        self.bring(f"index/{self.manifest.index}/{name}" for name in names or self.manifest.index_digests)

    def _bring_vectors(self, segments: Iterable[int]) -> None:
        """`bring` the vectors of segments at the same time, by number."""
        if self._bring is not None:
            entries = [self.manifest.segments[number] for number in segments]
            self._bring(f"{each.folder}/{name}" for each in entries for name in each.sha256 if name in STORED)

    @property
    def fingerprint(self) -> Fingerprint:
        """The model that produced the vectors."""
        return self.manifest.fingerprint

    @property
    def index_path(self) -> Path | None:
        """Folder of the FAISS index of this generation, None without one."""
        return self.path / "index" / self.manifest.index if self.manifest.index else None

    @property
    def words_path(self) -> Path | None:
        """File of the full-text index of this generation, None without one."""
        return self.path / self.manifest.words_file if self.manifest.words_file else None

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the live items, int64 [N], ascending."""
        return self._live([np.empty(0, np.int64), *(segment.ids for segment in self._segments)])

    @cached_property
    def kinds(self) -> np.ndarray:
        """The modality of each live item as its position in `Modality`: int8 [N] in the order of `ids`."""
        return self._live([np.empty(0, np.int8), *(segment.kinds for segment in self._segments)])

    @cached_property
    def unread(self) -> np.ndarray:
        """Whether each live item is a text of words that the model has not learned: bool [N], as `ids`."""
        unread = (segment.unknown_shares > UNKNOWN_SHARE for segment in self._segments)
        return self._live([np.empty(0, bool), *unread])

    def _live(self, parts: Sequence[np.ndarray]) -> np.ndarray:
        """Concatenate a value per row of each segment, without removed items."""
        values = np.concatenate(parts)
        return values[self._alive] if len(self._dead) else values

    @cached_property
    def _alive(self) -> np.ndarray:
        """Whether each row of the segments has not been removed: bool."""
        ids = [np.empty(0, np.int64), *(segment.ids for segment in self._segments)]
        return ~is_in(np.concatenate(ids), self._dead)

    def removed(self, entries: Collection[SegmentEntry], ids: np.ndarray) -> np.ndarray:
        """Return the removed ids, with those in `ids`, that rows of these of its segments have: int64."""
        kept = [self._open[entry.folder].ids for entry in entries if entry.folder in self._open]
        dead = np.union1d(self._dead, ids)
        return dead[is_in(dead, np.concatenate([np.empty(0, np.int64), *kept]))]

    @property
    def modalities(self) -> np.ndarray:
        """The name of the modality of each live item, str [N] in the order of `ids`."""
        return np.array([str(modality) for modality in KINDS])[self.kinds]

    @cached_property
    def _checked(self) -> np.ndarray:
        """Whether the stored vector of each live item has been verified: bool [N]."""
        return np.zeros(len(self), bool)

    @property
    def is_near(self) -> bool:
        """Whether vectors are read from memory: most are in files here that fit into it."""
        return self._bring is None and not self._exceeds_memory

    @cached_property
    def _exceeds_memory(self) -> bool:
        """Whether vectors that have been read may have been evicted since."""
        rows = sum(entry.rows for entry in self.manifest.segments)
        return rows * self.fingerprint.dim * np.dtype(np.float16).itemsize > total_memory() // 2

    @cached_property
    def _starts(self) -> np.ndarray:
        """First row of each segment: int64 [segments]."""
        return np.searchsorted(self.ids, self._first)

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns and types of the items: the fixed ones, then the user's."""
        return unify([segment.schema for segment in self._segments])

    def __len__(self) -> int:
        return len(self.ids)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Return which of `ids` are live: bool, of the shape of `ids`."""
        return is_in(ids, self.ids)

    def rows(self, ids: np.ndarray) -> np.ndarray:
        """Return the rows of these items: int64 [n]. Raises StoreError for an id that is not live."""
        ids = np.asarray(ids, np.int64)
        if not len(ids):
            return ids
        rows = nearest_rows(ids, self.ids) if len(self) else np.zeros_like(ids)
        if not len(self) or (self.ids[rows] != ids).any():
            missing = ids[~self.contains(ids)]
            raise StoreError(f"no live item with id {missing[:5].tolist()} in {self.path}")
        return rows

    def kinds_of(self, ids: np.ndarray) -> np.ndarray:
        """Return `kinds` of these items: int8, of the shape of `ids`; arbitrary for ids that are not live."""
        return self.kinds[nearest_rows(ids, self.ids)]

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of these items: float32 [n, dim], in the order of `ids`, which may repeat.

        Raises StoreError for an id that is not live.
        """
        return to_float32(self.stored(ids))

    def stored(self, ids: np.ndarray) -> np.ndarray:
        """Return `vectors` as they are stored: float16 [n, dim]."""
        return self._stored(self.rows(ids))

    def _stored(self, rows: np.ndarray) -> np.ndarray:
        """Return a copy of the stored vectors: float16 [n, dim], in the order of `rows`, which may repeat."""
        vectors = stored = np.empty((len(rows), self.fingerprint.dim), np.float16)
        owners = self._starts.searchsorted(rows, "right") - 1  # empty segments share their start
        order = None if (owners[:-1] <= owners[1:]).all() else np.argsort(owners, kind="stable")
        if order is not None:
            rows, owners = rows[order], owners[order]
        ids = self.ids[rows]
        local = ids - self._first[owners]  # rows within the segments
        ends = [*((owners[1:] != owners[:-1]).nonzero()[0] + 1).tolist(), len(rows)]
        parts = []
        start = 0
        for end in ends if len(rows) else ():
            owner = owners[start]
            if self._gaps[owner]:
                local[start:end] = self._segments[owner].rows(ids[start:end])
            parts.append((self._segments[owner], start, end))
            start = end
        if self._bring is not None:
            self._bring_vectors(np.unique(owners).tolist())
        is_checked = self._checked[rows]
        if not is_checked.all() or self._exceeds_memory:
            located = [segment.locate(local[start:end]) for segment, start, end in parts]
            if located and len(rows) <= SCATTERED:
                addresses = np.concatenate([file.buffer.address + offsets for file, offsets, _ in located])
                prefetch(addresses if self._exceeds_memory else addresses[~is_checked], located[0][2])
            if not is_checked.all():
                check_all(located)
                self._checked[rows] = True
        for segment, start, end in parts:
            # mode="raise" would buffer; all rows are in bounds
            segment.stored.take(local[start:end], axis=0, out=stored[start:end], mode="clip")
        if order is not None:
            vectors = np.empty_like(stored)
            vectors[order] = stored
        return vectors

    def blocks(
        self, ids: np.ndarray | None = None, *, rows: int = BLOCK_ROWS
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (ids int64 [b], vectors float16 [b, dim]) with b <= rows, ids ascending.

        ids: int64, ascending; None streams all live items, contiguous ones as views of the memory map.
        Raises StoreError for an id that is not live.
        """
        for of_part, read in self.parts(ids, rows=rows):
            yield of_part, read()

    def parts(
        self, ids: np.ndarray | None = None, *, rows: int | None = None
    ) -> Iterator[tuple[np.ndarray, Callable[[], np.ndarray]]]:
        """`blocks` with functions that read the vectors, each in the thread that calls it.

        rows: None for as many as take PART_BYTES.
        """
        rows = rows or max(PART_BYTES // (2 * self.fingerprint.dim), 1)
        if ids is not None:
            for start in range(0, len(ids), rows):
                some = ids[start : start + rows]
                yield some, partial(self.stored, some)
            return
        self._bring_vectors(range(len(self._segments)))
        for segment, part in self._by_segment(self.ids):
            live = self.ids[part]
            local = segment.rows(live)
            for start in range(0, len(live), rows):
                some, at = live[start : start + rows], local[start : start + rows]
                dense = at[-1] - at[0] + 1 == len(at)
                read = partial(segment.block, at[0], at[-1] + 1) if dense else partial(self.stored, some)
                yield some, read

    def items(self, ids: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the items of `ids`, in that order; ids may repeat.

        columns: names, in output order; None for all of `self.schema`.
        Raises StoreError for an id that is not live or a column that does not exist.
        """
        schema = self._select_schema(columns)
        ids = self.ids[self.rows(ids)]
        unique, inverse = np.unique(ids, return_inverse=True)
        parts = [segment.items(unique[part], schema) for segment, part in self._by_segment(unique)]
        return pa.concat_tables([pa.Table.from_batches([], schema), *parts]).take(array(inverse))

    def records(self, ids: np.ndarray) -> Callable[[int, int], list[dict[str, Any]]]:
        """Read the items of `ids` and return a function that converts a range (start, stop) to dictionaries.

        These are new ones, and have the columns of `schema` that are not null, as Python values.
        """
        rows = self.rows(ids)
        if len(rows) > FEW * max(len(self._segments), 1):
            table = self.items(ids)
            rows_of = cache(lambda: _rows(table))  # one by one the columns take as long for ten rows

            def some(start: int, stop: int) -> list[dict[str, Any]]:
                names, values = rows_of()
                return [_known(names, row) for row in values[start:stop]]

            return some
        places = []
        for id, row in zip(self.ids[rows].tolist(), rows.tolist(), strict=True):
            owner = bisect_right(self._row_starts, row) - 1
            segment = self._segments[owner]
            local = segment.row(id) if self._gaps[owner] else id - segment.first_id
            places.append((id, segment, local, self._plain[owner]))
        if self._exceeds_memory:
            fetch_records((segment, local) for _, segment, local, is_plain in places if is_plain)
        records: list[dict[str, Any]] = []
        for id, segment, local, is_plain in places:
            if is_plain:
                records.append(segment.record(local))
            else:
                names, values = _rows(self.items(np.array([id])))
                records += [_known(names, row) for row in values]
        return lambda start, stop: [dict(record) for record in records[start:stop]]

    @cached_property
    def _row_starts(self) -> list[int]:
        starts: list[int] = self._starts.tolist()
        return starts

    @cached_property
    def _plain(self) -> list[bool]:
        """Per segment: whether its items have the types of `schema`."""
        return [segment.is_plain(self.schema) for segment in self._segments]

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all live items in the order of `ids`; `columns` as for `items`."""
        table = self._with_removed(columns)
        return table.filter(pa.array(self._alive)) if len(self._dead) else table

    def _with_removed(self, columns: Sequence[str] | None) -> pa.Table:
        """Return `table` with the removed items."""
        schema = self._select_schema(columns)
        parts = (segment.columns(schema) for segment in self._segments)
        return pa.concat_tables([pa.Table.from_batches([], schema), *parts])

    def select(self, where: str | None = None, modalities: Sequence[Modality] | None = None) -> np.ndarray:
        """Return the ids of the live items that pass both filters: int64, ascending.

        where: SQL boolean expression over the columns of `self.schema`. modalities: modalities to keep.
        Raises BadFilter for anything but a single read-only expression.
        """
        parts = [] if where is None else [self.passing(where)]
        if modalities is not None:
            parts.append(np.array([kind in modalities for kind in KINDS])[self.kinds])
        return self.ids[np.flatnonzero(np.logical_and.reduce(parts))] if parts else self.ids

    def passing(self, where: str) -> np.ndarray:
        """Return which live items satisfy `where`: bool [N] in the order of `ids`. Raises as `select`."""
        alive = self._alive if len(self._dead) else None
        return evaluate(where, self.schema.names, self._with_removed, self._shared, alive)

    def files(self) -> pa.Table:
        """One row per file: path, sha256, bytes, mtime_ns, ids (list of int64), by path."""
        table = self.table(["path", "sha256", "bytes", "mtime_ns", "id"])
        keys = ["path", "sha256", "bytes", "mtime_ns"]
        grouped = table.group_by(keys).aggregate([("id", "list")])
        return grouped.rename_columns([*keys, "ids"]).sort_by("path")

    def of_file(self, path: str, size: int | None, mtime_ns: int | None) -> np.ndarray:
        """Return the ids of the items of a file in this state, None for unknown: int64, ascending."""
        size, mtime_ns = (-1 if value is None else value for value in (size, mtime_ns))
        return self._equal(
            "path", lambda: path, lambda segment: (segment.sizes == size) & (segment.mtimes_ns == mtime_ns)
        )

    def of_content(self, size: int, sha256: Callable[[], str]) -> np.ndarray:
        """Return the ids of the items of all files with this content: int64, ascending.

        sha256: called only if there are items of files of this size.
        """
        return self._equal("sha256", cache(sha256), lambda segment: segment.sizes == size)

    def _equal(
        self, name: str, value: Callable[[], str], candidates: Callable[[Segment], np.ndarray]
    ) -> np.ndarray:
        """Return the ids of live items that have `value` in a string column, of the candidates (bool [n])."""
        found = [np.empty(0, np.int64)]
        for segment in self._segments:
            rows = np.flatnonzero(candidates(segment))
            found.append(segment.ids[segment.equal(rows, name, value()) if len(rows) else rows])
        ids = np.concatenate(found)
        return ids[~is_in(ids, self._dead)]

    def skipped(self, *, everything: bool = False) -> pa.Table:
        """One row per skipped file: path, reason, error (its class), when (ISO 8601), state, oldest first.

        everything: also files that are not media, excluded, or removed for good; see `Reason.is_failure`.
        """
        table = self._skipped
        last = {path: row for row, path in enumerate(table["path"].to_pylist())}
        rows = table.take(pa.array(sorted(last.values()), pa.int64()))
        failures = [everything or Reason(error).is_failure for error in rows["error"].to_pylist()]
        return rows.filter(pa.array(failures, pa.bool_()))

    def counts(self) -> dict[Modality, int]:
        """Return the number of live items per modality, without empty modalities."""
        counts = np.bincount(self.kinds, minlength=len(KINDS)).tolist()
        return {modality: count for modality, count in zip(KINDS, counts, strict=True) if count}

    def _select_schema(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.schema
        if unknown := sorted(set(columns) - set(self.schema.names)):
            raise StoreError(f"no column {', '.join(unknown)}; columns are {', '.join(self.schema.names)}")
        return pa.schema([self.schema.field(name) for name in columns])

    def _by_segment(self, ids: np.ndarray) -> Iterator[tuple[Segment, slice]]:
        """Yield the slice of `ids` (ascending, live) that falls into each segment."""
        ends = [*np.searchsorted(ids, self._first[1:]).tolist(), len(ids)]
        for segment, start, end in zip(self._segments, [0, *ends], ends, strict=False):
            if start < end:
                yield segment, slice(start, end)


def _rows(table: pa.Table) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Names of the columns that are not all null, and their values by row, several times as fast as Arrow."""
    columns = zip(table.column_names, table.columns, strict=True)
    filled = [(name, _values(column)) for name, column in columns if column.null_count < len(column)]
    return [name for name, _ in filled], list(zip(*(values for _, values in filled), strict=True))


def _known(names: Iterable[str], values: Iterable[Any]) -> dict[str, Any]:
    """Without nulls."""
    return {name: value for name, value in zip(names, values, strict=True) if value is not None}


def _values(column: pa.ChunkedArray) -> list[Any]:
    kind = column.type
    number = pa.types.is_primitive(kind) and not pa.types.is_temporal(kind)
    if pa.types.is_string(kind) or (number and not column.null_count):
        values: list[Any] = column.to_numpy().tolist()
        return values
    return column.to_pylist()
