"""A snapshot: the items of one generation, read-only, for as long as one likes."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.lib.stride_tricks import as_strided

from xsearch.errors import StoreError
from xsearch.store.filters import evaluate
from xsearch.store.manifest import Manifest
from xsearch.store.segments import Segment, read_table, unify
from xsearch.system.float16 import to_float32
from xsearch.types import Fingerprint, Modality

__all__ = ["SCHEMAS", "Snapshot"]

SCHEMAS = {
    "tombstones": pa.schema({"id": pa.int64()}),
    "skipped": pa.schema(dict.fromkeys(("path", "reason", "error", "when"), pa.string())),
}

BLOCK_ROWS = 16_384  # of a block: 8 MB of float16 at 256 dimensions


class Snapshot:
    """The live items of one generation: a read-only view that later commits and `compact` leave as it is.

    Every file is memory-mapped at once and decoded when asked for.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.path = folder
        self.manifest = manifest
        self._segments = [Segment(folder, entry, self.fingerprint.dim) for entry in manifest.segments]
        self._first = np.array([entry.first_id for entry in manifest.segments], np.int64)
        spans = [entry.last_id - entry.first_id + 1 - entry.rows for entry in manifest.segments]
        self._gaps = np.array(spans, np.int64) > 0  # segments whose ids are not all there
        self._dead: np.ndarray = np.unique(self._tables("tombstones")["id"].to_numpy())
        self._skipped = self._tables("skipped")

    def _tables(self, kind: str) -> pa.Table:
        """All tombstones or all skipped files."""
        names = [name for name in self.manifest.tables() if name.startswith(kind)]
        schema, digests = SCHEMAS[kind], self.manifest.digests
        tables = [read_table(self.path, name, schema, digests.get(name)) for name in names]
        return pa.concat_tables([schema.empty_table(), *tables])

    @property
    def fingerprint(self) -> Fingerprint:
        """The model that made the vectors."""
        return self.manifest.fingerprint

    @property
    def index_path(self) -> Path | None:
        """The folder of the FAISS index of this generation, if there is one."""
        return self.path / "index" / self.manifest.index if self.manifest.index else None

    @cached_property
    def ids(self) -> np.ndarray:
        """Ids of the live items, int64 [N], ascending."""
        ids = np.concatenate([np.empty(0, np.int64), *(segment.ids for segment in self._segments)])
        return ids[~_is_in(ids, self._dead)]

    @cached_property
    def _maps(self) -> tuple[np.ndarray, np.ndarray]:
        """The memory of this process from the first to the last map of vectors, as if every float16 in it
        started a vector, [places, dim]; and the place, int64 [segments], of each segment's first one.

        So that one call of numpy gathers from all: a few rows from each of 61 segments took 2.6 ms segment by
        segment, of which all but 0.1 was Python (measured). Nothing between the maps is ever touched.
        """
        addresses = np.array([segment.stored.ctypes.data for segment in self._segments])
        sizes = np.array([segment.stored.nbytes for segment in self._segments])
        low, size = int(addresses.min()), int((addresses + sizes).max() - addresses.min())
        raw: Any = (ctypes.c_char * size).from_address(low)
        memory = np.frombuffer(raw, np.float16)
        shape = len(memory) - self.fingerprint.dim + 1, self.fingerprint.dim
        return as_strided(memory, shape, (2, 2), writeable=False), (addresses - low) // 2

    @cached_property
    def _read(self) -> np.ndarray:
        """Whether the vector of each live item has been checked here: bool [N]."""
        return np.zeros(len(self), bool)

    @cached_property
    def modalities(self) -> np.ndarray:
        """The name of the kind of each live item, str [N] in the order of `ids`."""
        names = pa.array([str(modality) for modality in Modality])
        codes = pc.index_in(self.table(["modality"])["modality"], value_set=names).to_numpy()
        return np.array(names.to_pylist())[codes]

    @cached_property
    def schema(self) -> pa.Schema:
        """Columns and types of the items: the fixed ones, then those of the users."""
        return unify([segment.schema for segment in self._segments])

    def __len__(self) -> int:
        return len(self.ids)

    def contains(self, ids: np.ndarray) -> np.ndarray:
        """Which of `ids` are live items: bool, of the shape of `ids`."""
        return _is_in(ids, self.ids)

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """The vectors of these items: float32 [n, dim], in the order of `ids`, which may repeat.

        Raises StoreError for an id that is not live.
        """
        return to_float32(self._halves(self._checked(ids)))

    def _halves(self, ids: np.ndarray) -> np.ndarray:
        """The same as they are stored, for ids that are live: float16 [n, dim], a copy."""
        if not len(ids):
            return np.empty((0, self.fingerprint.dim), np.float16)
        at = np.searchsorted(self.ids, ids)
        if len(unread := np.unique(ids[~self._read[at]])):
            for segment, part in self._by_segment(unread):
                segment.check(segment.rows(unread[part]))
            self._read[np.searchsorted(self.ids, unread)] = True
        owners = np.searchsorted(self._first, ids, side="right") - 1
        rows = ids - self._first[owners]
        for owner in np.flatnonzero(self._gaps[: owners.max() + 1]):
            rows[owners == owner] = self._segments[owner].rows(ids[owners == owner])
        view, starts = self._maps
        return view[starts[owners] + rows * self.fingerprint.dim]

    def blocks(
        self, ids: np.ndarray | None = None, *, rows: int = BLOCK_ROWS
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (ids int64 [b], vectors float16 [b, dim]) with b <= rows, ids ascending.

        ids: only these, int64 ascending; without them all live items, whose neighbours on the disk come as
        views of the memory map.
        Raises StoreError for an id that is not live.
        """
        if ids is not None:
            ids = self._checked(ids)
            for start in range(0, len(ids), rows):
                yield ids[start : start + rows], self._halves(ids[start : start + rows])
            return
        for segment, part in self._by_segment(self.ids):
            here = self.ids[part]
            at = segment.rows(here)
            for start in range(0, len(here), rows):
                few = at[start : start + rows]
                solid = few[-1] - few[0] + 1 == len(few)
                some = here[start : start + rows]
                yield some, segment.block(few[0], few[-1] + 1) if solid else self._halves(some)

    def items(self, ids: np.ndarray, columns: Sequence[str] | None = None) -> pa.Table:
        """The items of `ids`, in their order, which may repeat.

        columns: which, in this order; without them all of `self.schema`.
        Raises StoreError for an id that is not live or a column that does not exist.
        """
        schema = self._narrowed(columns)
        ids = self._checked(ids)
        unique, back = np.unique(ids, return_inverse=True)
        parts = [segment.items(unique[part], schema) for segment, part in self._by_segment(unique)]
        return pa.concat_tables([schema.empty_table(), *parts]).take(back)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All live items in the order of `ids`; `columns` as for `items`."""
        schema = self._narrowed(columns)
        with_id = schema if "id" in schema.names else schema.append(self.schema.field("id"))
        table = pa.concat_tables(
            [with_id.empty_table(), *(segment.columns(with_id) for segment in self._segments)]
        )
        if len(self._dead):
            table = table.filter(pa.array(~_is_in(table["id"].to_numpy(), self._dead)))
        return table.select(schema.names)

    def select(self, where: str | None = None, modalities: Sequence[Modality] | None = None) -> np.ndarray:
        """Ids of the live items that pass both filters: int64, ascending.

        where: one SQL boolean expression over the columns of `self.schema`. modalities: the kinds to keep.
        Raises BadFilter for anything but one read-only expression.
        """
        ids = self.ids if where is None else evaluate(where, self.schema.names, self.table)
        if modalities is None:
            return ids
        kept = np.zeros(len(self), bool)
        for modality in modalities:
            kept |= self.modalities == modality
        return ids[_is_in(ids, self.ids[kept])]

    def files(self) -> pa.Table:
        """One row per file: path, sha256, bytes, mtime_ns, ids (list of int64), by path."""
        table = self.table(["path", "sha256", "bytes", "mtime_ns", "id"])
        keys = ["path", "sha256", "bytes", "mtime_ns"]
        grouped = table.group_by(keys).aggregate([("id", "list")])
        return grouped.rename_columns([*keys, "ids"]).sort_by("path")

    def skipped(self) -> pa.Table:
        """One row per skipped file: path, reason, error (its class), when (ISO 8601), oldest first."""
        table = self._skipped
        last = {path: row for row, path in enumerate(table["path"].to_pylist())}
        return table.take(pa.array(sorted(last.values()), pa.int64()))

    def counts(self) -> dict[Modality, int]:
        """How many live items there are of each kind, leaving out kinds without any."""
        names, counts = np.unique(self.modalities, return_counts=True)
        found = dict(zip(names.tolist(), counts.tolist(), strict=True))
        return {modality: found[modality] for modality in Modality if modality in found}

    def _narrowed(self, columns: Sequence[str] | None) -> pa.Schema:
        if columns is None:
            return self.schema
        if unknown := sorted(set(columns) - set(self.schema.names)):
            raise StoreError(f"no column {', '.join(unknown)}; there are {', '.join(self.schema.names)}")
        return pa.schema([self.schema.field(name) for name in columns])

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        ids = np.asarray(ids, np.int64)
        if len(missing := ids[~self.contains(ids)]):
            raise StoreError(f"no live item with id {missing[:5].tolist()} in {self.path}")
        return ids

    def _by_segment(self, ids: np.ndarray) -> Iterator[tuple[Segment, slice]]:
        """Where in `ids` (ascending, live) each segment's are."""
        owners = np.searchsorted(self._first, ids, side="right") - 1
        for owner in np.unique(owners):
            start, end = np.searchsorted(owners, [owner, owner + 1])
            yield self._segments[owner], slice(start, end)


def _is_in(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Which of `ids` occur in `among` (both int64, `among` ascending): bool."""
    if not len(among):
        return np.zeros(ids.shape, bool)
    at = np.minimum(np.searchsorted(among, ids), len(among) - 1)
    return among[at] == ids
