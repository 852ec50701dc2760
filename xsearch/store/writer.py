"""The writer: collects changes and commits them atomically."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xsearch.errors import Damaged, StoreError
from xsearch.store.generations import keep, still_read
from xsearch.store.manifest import (
    FOLDERS,
    FORMAT,
    PART,
    QUARANTINE,
    SEGMENT_FILES,
    Manifest,
    Mark,
    SegmentEntry,
    read_manifest,
    write_manifest,
)
from xsearch.store.merging import groups, joined
from xsearch.store.segments import KEY, MAPPED, conform, unify, write_segment, write_table
from xsearch.store.snapshot import SCHEMAS, Snapshot, unreadable
from xsearch.system.durable import digest
from xsearch.system.folder import Folder
from xsearch.types import Modality

__all__ = ["Compaction", "Writer"]

LOG = logging.getLogger("xsearch")

UNIT_TOLERANCE = 1e-3  # of a length: float16 rounds each component by at most 2**-11 of itself
REMOVED = "removed.parquet"  # in a segment that has been set aside
Rows = Callable[[], tuple[pa.Table, np.ndarray]]  # items, and their vectors (float16 [n, dim])
MOST_TABLES = 8  # of tombstones, and of skipped files, before they are merged into one


@dataclass(frozen=True, slots=True)
class Compaction:
    """Result of `Writer.compact`."""

    segments_before: int
    segments_after: int
    freed_bytes: int
    kept_bytes: int = 0  # of older generations, which are deleted once nobody reads them
    readers: tuple[int, ...] = ()  # process ids of those who do; 0: unknown


class Writer:
    """Collects changes and publishes them atomically with `commit()`. Obtained from `Store.writer`.

    `add` assigns ids. They are permanent: the id of a removed item is never reused.
    """

    def __init__(self, folder: Folder, manifest: Manifest, mark: Mark) -> None:
        """mark: what has been committed before, if a manifest from a backup has taken its place."""
        self.path = folder.path
        self._folder, self._mark = folder, mark
        self._is_linked = True
        self._snapshot: Snapshot | None = None
        self._start(manifest)

    def _start(self, manifest: Manifest) -> None:
        """Start from `manifest` with no pending changes."""
        self.manifest = manifest
        self._first_id = self.next_id = max(manifest.next_id, self._mark.next_id)
        self._items: list[pa.Table] = []
        self._vectors: list[np.ndarray] = []
        self._removed: set[int] = set()
        self._skips: dict[str, dict[str, str | None]] = {}
        self._unskipped: set[str] = set()
        self._index = manifest.index
        self._words = manifest.words
        self._calibration = manifest.calibration

    @property
    def snapshot(self) -> Snapshot:
        """Snapshot of the last commit. Raises StoreError if a file is missing or damaged."""
        if self._snapshot is None or self._snapshot.manifest is not self.manifest:
            try:
                self._snapshot = Snapshot(self.path, self.manifest, self._snapshot)
            except (OSError, MemoryError, pa.ArrowException) as error:
                raise unreadable(self.path, error) from error
        return self._snapshot

    def add(self, items: pa.Table, vectors: np.ndarray) -> np.ndarray:
        """Add items and return their ids, int64 [n].

        items: `path`, `modality`, optionally other ITEM_COLUMNS except `id`, and any user columns.
        vectors: float16 or float32 [n, dim], finite rows of length 1; stored as float16.
        Raises StoreError for invalid items or vectors.
        """
        vectors = np.asarray(vectors)
        n, dim = len(items), self.manifest.fingerprint.dim
        if vectors.shape != (n, dim) or vectors.dtype not in (np.float16, np.float32):
            raise StoreError(
                f"vectors are {vectors.dtype} {list(vectors.shape)}; expected float16 or float32 [{n}, {dim}]"
            )
        lengths = np.linalg.norm(vectors.astype(np.float32, copy=False), axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))  # NaN fails
        if len(bad):
            raise StoreError(
                f"vector {bad[0]} has length {lengths[bad[0]]:.4g}; expected finite vectors of length 1"
            )
        items = self._checked(items)
        ids = np.arange(self.next_id, self.next_id + n, dtype=np.int64)
        if n:
            self._items.append(items.add_column(0, "id", pa.array(ids)))
            self._vectors.append(vectors.astype(np.float16))
            self.next_id += n
        return ids

    def _checked(self, items: pa.Table) -> pa.Table:
        names = [name.lower() for name in items.column_names]
        if duplicates := sorted({name for name in names if names.count(name) > 1}):
            raise StoreError(f"duplicate columns, ignoring case: {', '.join(duplicates)}; rename them")
        if not {"path", "modality"} <= set(names) or "id" in names:
            raise StoreError(f"items have columns {', '.join(names)}; expected path and modality, and no id")
        try:
            items = conform(items, unify([items.schema])).drop_columns("id")
        except pa.ArrowInvalid as error:
            raise StoreError(f"an item has a value of the wrong type: {error}") from error
        unknown = set(items["modality"].unique().to_pylist()) - set(Modality)
        if items["path"].null_count or unknown:
            raise StoreError(
                f"items need a path and a modality of {', '.join(Modality)}; found {unknown or None}"
            )
        return items

    def remove(self, ids: Iterable[int] | np.ndarray) -> int:
        """Remove items and return how many were removed; ids that are not live are ignored."""
        requested = np.unique(np.fromiter(ids, np.int64))
        pending = (requested >= self._first_id) & (requested < self.next_id)
        new = set(requested[self.snapshot.contains(requested) | pending].tolist()) - self._removed
        self._removed |= new
        return len(new)

    def skip(self, rows: Iterable[Mapping[str, str | None]]) -> None:
        """Record files that could not be read: columns as of `Snapshot.skipped`; `when` is now by default."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        for row in rows:
            self._skips[str(row["path"])] = {"when": now, **row}

    def forget_skips(self, paths: Iterable[str]) -> None:
        """Drop these paths from the skipped files; unknown paths are ignored."""
        for path in paths:
            self._skips.pop(path, None)
            self._unskipped.add(path)

    def new_index_folder(self) -> Path:
        """Create a folder to save an index into, for `set_index`."""
        with self._writing():
            return self._open("index").make(uuid4().hex).path

    def scratch_folder(self) -> Path:
        """Return a folder for files that are moved into place: what is left of them is tidied."""
        with self._writing():
            return self._open("parts").path

    def set_index(self, folder: Path | None) -> None:
        """Use the complete index in `folder`, from `new_index_folder`; None removes the index."""
        if folder is None:
            self._index = None
            return
        try:
            parent = self._open("index")
            saved = parent.open(folder.name)
            for name in saved.names():
                saved.fsync(name)
            saved.fsync()
            parent.fsync()
        except OSError as error:
            raise StoreError(f"cannot use the index in {folder}: {error}; build it again") from error
        self._index = folder.name

    def new_words_file(self) -> Path:
        """Return a path to write a full-text index to, for `set_words`."""
        with self._writing():
            return self._open("words").path / f"{uuid4().hex}.sqlite"

    def set_words(self, path: Path | None) -> None:
        """Use the complete full-text index at `path`, from `new_words_file`; None removes it."""
        if path is None:
            self._words = None
            return
        try:
            folder = self._open("words")
            folder.fsync(path.name)
            folder.fsync()
        except OSError as error:
            raise StoreError(f"cannot use the words in {path}: {error}") from error
        self._words = path.stem

    def set_calibration(self, calibration: Mapping[str, Any] | None) -> None:
        """Store the result of `query.calibration`; JSON types only."""
        self._calibration = calibration

    def commit(self) -> Manifest:
        """Publish all changes since the last commit atomically.

        Raises StoreError if the disk is full or fails; the collection is unchanged, retrying is safe.
        """
        with self._writing():
            segments = tuple(self._add_items())
            manifest = replace(
                self.manifest,
                next_id=self.next_id,
                segments=segments,
                tombstones=self._write_tombstones(segments),
                skipped=self._write_skips(),
                index=self._index,
                words=self._words,
                calibration=self._calibration,
            )
            if manifest != self.manifest:
                self._publish(manifest)
        return self.manifest

    def compact(self) -> Compaction:
        """Commit, merge small segments, drop removed items and delete unreferenced files.

        Files of older generations are kept only while other processes read them.
        """
        self.commit()
        before = self.manifest
        with self._writing():
            merged = replace(
                before,
                segments=tuple(self._merge()),
                tombstones=(),
                skipped=self._write_skips(merge=True),
            )
            if merged != before:
                self._publish(merged)
        freed, kept, readers = self.tidy(keep_previous=not self._is_linked)
        return Compaction(len(before.segments), len(merged.segments), freed, kept, readers)

    def repair(
        self,
        moves: Mapping[str, str],
        rebuilt: Mapping[str, Rows],
        aside: Mapping[str, str],
        removed: np.ndarray,
    ) -> None:
        """Put misplaced files right, replace damaged segments, set damaged files aside, and commit.

        moves: path of a file -> path where it is. rebuilt: folder of a segment -> function that returns its
        items and vectors, called when the files are in place. aside: folder of a segment or path of a table
        -> path to move it to; the manifest keeps only those that are rebuilt. removed: ids, int64, which are
        noted in segments that are set aside, so that an import leaves them out.
        After a failure everything is where it was; an interrupted repair is completed by the next one.
        """
        old, new = self.manifest, dict[str, SegmentEntry]()
        with self._writing(), ExitStack() as undo:

            def move(source: str, target: str) -> None:
                undo.callback(_unless_it_fails, self._move, target, source)
                self._move(source, target)

            here = {
                path: f"{QUARANTINE}/misplaced/{uuid4().hex}/{path}" for path in moves if self._exists(path)
            }
            for path, place in here.items():  # first, since files may be swapped
                move(path, place)
            for path, source in moves.items():
                move(here.get(source, source), path)
            for folder, rows in rebuilt.items():
                items, vectors = rows()
                new[folder] = self._write_segment([items], [vectors])
                remove = self._open("segments").remove
                undo.callback(_unless_it_fails, remove, new[folder].uuid, SEGMENT_FILES)
            for path, place in aside.items():
                if self._exists(path):
                    move(path, place)
                    if path.startswith("segments") and len(removed):
                        note = self._parents(f"{place}/{REMOVED}")[0][-1]
                        undo.callback(_unless_it_fails, note.remove, REMOVED)
                        if not note.exists(REMOVED):
                            write_table(pa.table({"id": removed}), note, REMOVED)
                            note.fsync()
            gone = aside.keys() - new.keys()
            manifest = replace(
                old,
                segments=tuple(
                    new.get(each.folder, each) for each in old.segments if each.folder not in gone
                ),
                tombstones=tuple(uuid for uuid in old.tombstones if f"tombstones/{uuid}.parquet" not in gone),
                skipped=tuple(uuid for uuid in old.skipped if f"skipped/{uuid}.parquet" not in gone),
                index=self._index,
                words=None if aside else self._words,  # removed items may be back
                calibration=None if aside else self._calibration,
            )
            try:
                self._publish(manifest)
            finally:
                with suppress(StoreError):
                    if read_manifest(self.path).generation > old.generation:
                        undo.pop_all()
        for path in (*moves.values(), *here.values()):
            _unless_it_fails(self._remove_empty, path)

    def _exists(self, path: str) -> bool:
        return os.path.lexists(self.path / path)

    def _move(self, source: str, target: str) -> None:
        """Move a file or folder of the collection; the folders above `target` are created."""
        start, name = self._parents(source)
        end, new_name = self._parents(target)
        start[-1].move(name, end[-1], new_name)

    def _remove_empty(self, path: str) -> None:
        """Remove the folders above `path` that are empty, but not those directly in the collection."""
        parents, _ = self._parents(path)
        while len(parents) > 2 and not parents[-1].names():
            emptied = parents.pop()
            parents[-1].remove(emptied.path.name)

    def _parents(self, path: str) -> tuple[list[Folder], str]:
        """Return the folders above `path`, created if missing, topmost first, and the last name of `path`."""
        *parents, name = path.split("/")
        folders = [self._folder]
        for parent in parents:
            folders.append(folders[-1].open(parent, create=True))
        return folders, name

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            remedy = "make room" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "check the disk"
            raise StoreError(
                f"cannot write to {self.path}: {error}; the collection is as it was, {remedy} and run again"
            ) from error

    def _publish(self, manifest: Manifest) -> None:
        generation = self.manifest.generation + 1
        manifest = replace(
            manifest,
            format=FORMAT,
            generation=self._mark.generation + 1 if self._mark.is_beyond(self.manifest) else generation,
            previous=tuple(sorted(self.manifest.files() - manifest.files())),
            digests=self._digests(manifest),
        )
        self._is_linked = keep(self._folder, self.manifest.generation)
        write_manifest(self._folder, manifest)
        self._start(manifest)

    def _digests(self, manifest: Manifest) -> dict[str, str]:
        """Return path -> sha256 of each file that `manifest` references outside segments."""
        known, names = self.manifest.digests, manifest.tables()
        names += filter(None, [manifest.words_file])
        if manifest.index:
            folder = f"index/{manifest.index}/"
            indexed = [name for name in known if name.startswith(folder)]
            names += indexed or [folder + path.name for path in (self.path / folder).glob("*")]
        return {name: known.get(name) or digest(self.path / name) for name in names}

    def _add_items(self) -> Iterator[SegmentEntry]:
        """Yield the segments with the pending items, small ones merged; see `merging.groups`."""
        entries = self.manifest.segments
        sizes = [*(entry.rows for entry in entries), *filter(None, [sum(map(len, self._items))])]
        for group in groups(sizes) if self._items else [[i] for i in range(len(entries))]:
            old = [entries[i] for i in group if i < len(entries)]
            if len(group) == 1 and old:
                yield old[0]
                continue
            ids = self._live(old)
            try:
                tables, vectors = self._read(old, ids)
            except Damaged as damage:
                LOG.warning("%s; segments are not merged", damage)
                yield from old
                tables, vectors = [], []
            if group[-1] == len(entries):
                tables, vectors = tables + self._items, vectors + self._vectors
            if tables:
                yield self._write_segment(tables, vectors)

    def _live(self, entries: Sequence[SegmentEntry]) -> np.ndarray:
        """Return the ids of adjacent segments that are not removed: int64, ascending."""
        ids = self.snapshot.ids
        if not entries:
            return ids[:0]
        live = ids[slice(*np.searchsorted(ids, [entries[0].first_id, entries[-1].last_id + 1]))]
        return live[~np.isin(live, list(self._removed))] if self._removed else live

    def _read(
        self, entries: Sequence[SegmentEntry], ids: np.ndarray
    ) -> tuple[list[pa.Table], list[np.ndarray]]:
        """Return these items of adjacent segments and their vectors, both in parts. Raises Damaged."""
        for entry in entries:  # copied damage would get valid checksums
            for name, sha256 in entry.sha256.items():
                if digest(self.path / entry.folder / name) != sha256:
                    raise Damaged(self.path, f"{entry.folder}/{name}", "a wrong sha256")
        if not len(ids):
            return [], []
        return [self.snapshot.items(ids)], [block for _, block in self.snapshot.blocks(ids)]

    def _write_segment(self, tables: Sequence[pa.Table], vectors: Sequence[np.ndarray]) -> SegmentEntry:
        schema = unify([table.schema for table in tables])
        items = pa.concat_tables(conform(table, schema) for table in tables)
        stated = {
            "model": asdict(self.manifest.fingerprint),
            "source": self.manifest.source,
            "generation": self.manifest.generation + 1,
        }
        items = items.replace_schema_metadata({KEY: json.dumps(stated)})  # for reading without a manifest
        return write_segment(self._open("segments"), items, np.concatenate(vectors))

    def _write_tombstones(self, segments: Collection[SegmentEntry]) -> tuple[str, ...]:
        """Return the tables of removed items after this commit, which has these segments."""
        uuids, ids = self.manifest.tombstones, np.array(sorted(self._removed), np.int64)
        if not len(ids):
            return uuids
        if len(uuids) >= MOST_TABLES:
            uuids, ids = (), self.snapshot.removed(segments, ids)
        table = pa.table({"id": ids}, schema=SCHEMAS["tombstones"])
        return (*uuids, self._write("tombstones", table)) if len(ids) else uuids

    def _write_skips(self, *, merge: bool = False) -> tuple[str, ...]:
        """Return the tables of skipped files after this commit; `merge` them into one."""
        new = pa.Table.from_pylist(list(self._skips.values()), SCHEMAS["skipped"])
        uuids = self.manifest.skipped
        old = self.snapshot.skipped(everything=True) if uuids else SCHEMAS["skipped"].empty_table()
        kept = old.filter(pc.invert(pc.is_in(old["path"], pa.array(sorted(self._unskipped), pa.string()))))
        merge = merge or (len(new) > 0 and len(uuids) >= MOST_TABLES)
        if len(kept) < len(old) or (merge and len(uuids) > 1):
            uuids, new = (), pa.concat_tables([kept, new])
        return (*uuids, self._write("skipped", new)) if len(new) else uuids

    def _write(self, kind: str, table: pa.Table) -> str:
        uuid, folder = uuid4().hex, self._open(kind)
        write_table(table, folder, f"{uuid}.parquet")
        folder.fsync()
        return uuid

    def _open(self, kind: str) -> Folder:
        return self._folder.open(kind, create=True)

    def _merge(self) -> Iterator[SegmentEntry]:
        """Yield the segments without removed items, adjacent ones merged up to SEGMENT_ROWS rows."""
        entries = self.manifest.segments
        sizes = [len(self._live([entry])) for entry in entries]
        for group in joined(sizes, range(len(entries))):
            old = [entries[i] for i in group]
            ids = self._live(old)
            if len(old) == 1 and old[0].rows == len(ids) and MAPPED in old[0].sha256:
                yield old[0]
            elif len(ids):
                yield self._write_segment(*self._read(old, ids))

    def tidy(self, *, keep_previous: bool = True) -> tuple[int, int, tuple[int, ...]]:
        """Delete what writers have written and neither this generation nor one that is read references.

        keep_previous: nor the previous one, for readers that are just opening it.
        Returns the bytes freed, and those kept for readers of old generations, with their process ids.
        """
        with self._writing():
            current = self.manifest.files()
            reading = list(still_read(self._folder))
            keep = current.union(self.manifest.previous if keep_previous else ())
            needed = {name for each in reading for name in each.manifest.files()} - current
            freed = kept = 0
            for kind, (pattern, files) in FOLDERS.items():
                folder = self._open(kind)
                for name in folder.names():
                    path = f"{kind}/{name}"
                    if path in needed:
                        kept += folder.size(name)
                    elif path not in keep and re.fullmatch(pattern, name):
                        freed += folder.remove(name, files)
            for name in filter(PART.fullmatch, self._folder.names()):
                freed += self._folder.remove(name)
        return freed, kept, tuple(sorted({pid for each in reading for pid in each.readers}))


def _unless_it_fails(function: Callable[..., object], *arguments: object) -> None:
    with suppress(OSError):
        function(*arguments)
