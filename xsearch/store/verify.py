"""Verification: every file of a collection against its checksum, then its content; and what a repair does."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count, takewhile
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.nearest import NAME
from xsearch.store.manifest import (
    COPY,
    FOLDERS,
    MARK,
    QUARANTINE,
    SEGMENT_FILES,
    Manifest,
    Mark,
    SegmentEntry,
    read_manifest,
    read_mark,
)
from xsearch.store.pages import map_file
from xsearch.store.rebuild import rebuild
from xsearch.store.salvage import salvage
from xsearch.store.segments import ITEMS, LARGEST, MAPPED, VECTORS, Segment, read_table, unify
from xsearch.store.snapshot import BLOCK_ROWS, SCHEMAS
from xsearch.store.writer import UNIT_TOLERANCE, Rows
from xsearch.system.durable import digest
from xsearch.system.lookup import is_in
from xsearch.types import Modality

__all__ = ["Diagnosis", "Finding", "diagnose", "largest", "recover_manifest"]

STATE = ("bytes", "mtime_ns", "sha256")  # columns by which an ingest recognises an unchanged file
LARGEST_ITEM = 1 << 20  # bytes of one in any file of a collection, on average
UNREAD = "set aside: its items, if it was part of the collection, are gone until the next ingest"
REMEDIES = {
    "tombstones": "set aside: removed items may be back, remove them again",
    "skipped": "set aside: the next ingest retries the files it listed",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem of a collection."""

    path: str  # relative to the collection
    problem: str
    remedy: str  # action of a repair and its consequence
    lost: tuple[str, ...] = ()  # media files of which items are lost, if their paths are readable


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What is wrong with a collection, and the arguments of `Writer.repair`."""

    findings: list[Finding]
    moves: dict[str, str]
    rebuilt: dict[str, Rows]
    aside: dict[str, str]
    removed: np.ndarray


def recover_manifest(collection: Path) -> tuple[Manifest, list[Finding]]:
    """Read the manifest, or its copy if that is newer or the manifest damaged; also return their problems.

    If neither can be read, the manifest is rebuilt from the segments.
    Raises NoCollection if there is nothing of that, StoreError if the segments are of earlier releases.
    """
    read, problems, mark = {}, {}, Mark()
    try:
        mark = read_mark(collection)
    except Damaged as error:
        problems[MARK] = error.problem
    for name in (COPY, NAME):  # a writer publishes the mark first, then the manifest, then its copy
        try:
            read[name] = read_manifest(collection, name)
        except Damaged as error:
            problems[name] = error.problem
        except NoCollection:
            problems[name] = "missing"
    remedy, unread = "rewritten from generation {0.generation}", list[str]()
    if not read:
        if rebuilt := rebuild(collection, mark):
            read[""], unread = rebuilt
            remedy = "rebuilt from the segments that can be read"
        elif problems[NAME] == problems[COPY] == "missing":
            read_manifest(collection)  # raises NoCollection
        else:
            reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
            raise StoreError(f"cannot read {collection}: {reasons}; restore one of them from a backup")
    manifest = max(reversed(read.values()), key=lambda each: each.generation)
    if manifest.format == 1:  # has no copy
        problems.clear()
    if NAME in read and read[NAME].generation < manifest.generation:
        problems[NAME] = f"generation {read[NAME].generation}, older than its copy"
    findings = [Finding(name, problem, remedy.format(manifest)) for name, problem in problems.items()]
    findings += [
        Finding(path, "cannot be read, and no manifest tells what it was", UNREAD) for path in unread
    ]
    if mark.is_beyond(manifest):
        problem = f"generation {manifest.generation}, but {mark.generation} has been committed: a backup?"
        findings.append(Finding(NAME, problem, "kept; items added since are gone, their ids are not reused"))
    return manifest, findings


def largest(manifest: Manifest) -> int:
    """Return how many bytes a file of this collection may have; a sparse file would be read for hours."""
    return LARGEST + LARGEST_ITEM * sum(entry.rows for entry in manifest.segments)


def diagnose(
    collection: Path, manifest: Manifest, before: Sequence[Finding] = (), after: Sequence[Finding] = ()
) -> Diagnosis:
    """Read every file that `manifest` references, except indexes that are right, and plan the repair.

    before, after: findings about the manifest and about the indexes; the others are listed between them.
    """
    check = _Check(collection, manifest, {finding.path for finding in before}, after)
    segments = [finding for entry in manifest.segments for finding in check.segment(entry)]
    tables = [finding for name in manifest.tables() for finding in check.table(name)]
    indexes = [each for finding in after for each in check.index(finding)]
    findings = [*before, *segments, *tables, *indexes]
    return Diagnosis(findings, check.moves, check.rebuilt, check.aside, check.removed)


class _Check:
    """The files of a collection that differ from what its manifest says, and what a repair does with them.

    Files are looked for by their sha256 wherever they may have been moved to; what an interrupted repair has
    set aside is where it was, as far as the repair is concerned.
    """

    def __init__(
        self, collection: Path, manifest: Manifest, unread: Set[str], indexes: Sequence[Finding]
    ) -> None:
        """unread: paths of manifests, and without these also of segments, that cannot be used."""
        self.collection, self.manifest = collection, manifest
        self.moves: dict[str, str] = {}
        self.rebuilt: dict[str, Rows] = {}
        self.aside: dict[str, str] = {}
        self._next_id = 0  # ids of later segments start here
        self._most = largest(manifest)
        for entry in manifest.segments:
            if not os.path.lexists(collection / entry.folder):
                for place, _ in takewhile(itemgetter(1), _places(collection, entry.folder)):
                    self.moves[entry.folder] = place  # the last
        self._sha256 = manifest.contents()
        for path in unread:
            if path.startswith("segments/") or (collection / path).is_dir():
                self.aside[path] = self._free(path)
        damaged = tuple(finding.path for finding in indexes)
        checked = [
            path
            for path in self._sha256
            if not path.startswith(("index/", "words/")) or path.startswith(damaged)
        ]
        problems = {path: self._differs(path) for path in checked}
        self.problems = {path: problem for path, problem in problems.items() if problem}
        if self.problems:
            self._find(unread)
        tables = (self._read(name) for name in manifest.tables() if name.startswith("tombstones"))
        dead = (table["id"].to_numpy() for table in tables if isinstance(table, pa.Table))
        self.removed: np.ndarray = np.unique(np.concatenate([np.empty(0, np.int64), *dead]))

    def segment(self, entry: SegmentEntry) -> Iterator[Finding]:
        """Yield the findings about a segment."""
        folder = entry.folder
        if folder in self.moves:
            yield self._misplaced(folder, "No such file or directory")
        names = {name: f"{folder}/{name}" for name in sorted(SEGMENT_FILES)}
        wrong = [path for path in names.values() if path in self.problems]
        damaged = {path: self.problems[path] for path in wrong if path not in self.moves}
        yield from (self._misplaced(path, self.problems[path]) for path in wrong if path in self.moves)
        content = dict[str, str]()
        if not wrong and folder not in self.moves:
            try:
                _examine(self.collection, entry, self.manifest.fingerprint.dim)
            except Damaged as error:
                content[error.name] = error.problem
            except OSError as error:  # a compaction has deleted it meanwhile
                content[folder] = _reason(error)
        if entry.first_id < self._next_id or entry.last_id >= self.manifest.next_id:
            content[folder] = f"ids from {entry.first_id} to {entry.last_id} are out of range"
        self._next_id = max(self._next_id, entry.last_id + 1)
        if damaged or content:
            useless = {name for name in SEGMENT_FILES if names[name] in damaged or name not in entry.sha256}
            remedy, lost = self._salvage(entry, SEGMENT_FILES if content else useless)
            problems = damaged | content
            yield from (Finding(path, problem, remedy, lost) for path, problem in problems.items())

    def _salvage(self, entry: SegmentEntry, damaged: Collection[str]) -> tuple[str, tuple[str, ...]]:
        """Plan what becomes of a damaged segment; return the remedy and the media files that lose items.

        damaged: names of the files that are not to be used, except for pages that match checksums.
        """
        folder, dim = entry.folder, self.manifest.fingerprint.dim
        files = {name: self.collection / self._at(f"{folder}/{name}") for name in sorted(SEGMENT_FILES)}
        intact = salvage(files, damaged, entry.rows, dim)
        readable = salvage(files, SEGMENT_FILES, entry.rows, dim, trust=True)
        kept, ids = intact.items["id"].to_numpy(), np.union1d(intact.ids, readable.ids)
        if entry.last_id - entry.first_id + 1 == entry.rows:  # no gaps
            ids = self.removed[(self.removed >= entry.first_id) & (self.removed <= entry.last_id)]
        live = entry.rows - int(np.count_nonzero(is_in(ids, self.removed)))
        lost = live - int(np.count_nonzero(~is_in(kept, self.removed)))
        if len(kept) and lost <= 0:
            self.rebuilt[folder] = partial(_rows, self.collection, entry, damaged, dim, ())
            return "rebuilt from the other files of its segment, no item is lost", ()
        place = self.aside[folder] = self.moves.get(folder) or self._free(folder)
        tables = [table for each in (intact, readable) for table in (each.items, each.others)]
        if sum(map(len, tables[:2])) < entry.rows:
            tables += _named(files[ITEMS])
        losers = [table.filter(pa.array(self._is_lost(table, kept))) for table in tables]
        paths = tuple(dict.fromkeys(path for table in losers for path in table["path"].to_pylist()))
        if len(kept):
            self.rebuilt[folder] = partial(_rows, self.collection, entry, damaged, dim, paths)
        many = f"{lost:,} items are" if lost == live else f"{lost:,} of {live:,} items are"
        remedy = f"set aside with its segment: {many} gone until the next ingest"
        if others := int(np.count_nonzero(self._is_lost(readable.items, kept))):
            command = f"xsearch import {self.collection / place} --collection {self.collection}"
            remedy += f"; `{command}` takes {others:,} that can be read"
        return remedy, paths

    def _is_lost(self, items: pa.Table, kept: np.ndarray) -> np.ndarray:
        """Whether each item is neither kept nor removed: bool [n]."""
        ids = items["id"].to_numpy()
        return ~(is_in(ids, kept) | is_in(ids, self.removed))

    def table(self, name: str) -> Iterator[Finding]:
        """Yield the finding about a table of tombstones or skipped files, if any."""
        if name in self.moves:
            yield self._misplaced(name, self.problems[name])
        elif not isinstance(problem := self._read(name), pa.Table):
            self.aside[name] = self._free(name)
            yield Finding(name, problem, REMEDIES[name.split("/")[0]])

    def index(self, finding: Finding) -> Iterator[Finding]:
        """Yield `finding`, unless all files that it is about are found elsewhere."""
        paths = [path for path in self.problems if path.startswith(finding.path)]
        if paths and all(path in self.moves for path in paths):
            yield from (self._misplaced(path, self.problems[path]) for path in paths)
        else:
            for path in paths:
                self.moves.pop(path, None)
            yield finding

    def _free(self, path: str) -> str:
        """Return where to set `path` aside."""
        return next(place for place, exists in _places(self.collection, path) if not exists)

    def _misplaced(self, path: str, problem: str) -> Finding:
        return Finding(path, problem, f"moved back from {self.moves[path]}")

    def _read(self, name: str) -> pa.Table | str:
        """Read a table, or return why that is impossible."""
        if name in self.problems and name not in self.moves:
            return self.problems[name]
        schema = SCHEMAS[name.split("/")[0]]
        try:
            return read_table(self.collection, self._at(name), schema, self.manifest.digests.get(name))
        except Damaged as error:
            return error.problem
        except OSError as error:
            return _reason(error)

    def _at(self, path: str) -> str:
        """Return where the file that belongs to `path` is."""
        folder, _, name = path.rpartition("/")
        return self.moves.get(path) or f"{self.moves.get(folder, folder)}/{name}"

    def _differs(self, path: str) -> str | None:
        """Return why a file does not have its sha256, None if it does."""
        try:
            file = self.collection / self._at(path)
            if file.stat().st_size > self._most:
                return f"larger than {self._most:,} bytes"
            return None if digest(file) == self._sha256[path] else "a wrong sha256"
        except OSError as error:
            return _reason(error)

    def _find(self, unread: Set[str]) -> None:
        """Look for the content of the files that differ, in those and in files without a reference."""
        wanted: dict[str, list[str]] = {}
        for path in self.problems:
            wanted.setdefault(self._sha256[path], []).append(path)
        right = {self._at(path) for path in self._sha256.keys() - self.problems.keys()}
        for path in (*_files(self.collection), *sorted(unread)):
            file = self.collection / path
            with suppress(OSError):
                known = path in right or file.is_symlink() or file.stat().st_size > self._most
                if paths := [] if known else wanted.get(digest(file)):
                    self.moves[paths.pop()] = path


def _files(collection: Path) -> Iterator[str]:
    """Yield the files of a collection, without those directly in it, as paths relative to it."""
    for kind in (*FOLDERS, QUARANTINE):
        if not (collection / kind).is_symlink():
            for folder, _, names in os.walk(collection / kind):
                yield from (str(Path(folder, name).relative_to(collection)) for name in sorted(names))


def _places(collection: Path, path: str) -> Iterator[tuple[str, bool]]:
    """Yield the paths to which `path` may be set aside, in that order, and whether they exist."""
    for number in count():
        place = f"{QUARANTINE}/{path}" + f".{number}" * (number > 0)
        yield place, os.path.lexists(collection / place)


def _named(file: Path) -> list[pa.Table]:
    """Return ids and paths of damaged `items.parquet`, if these columns are readable."""
    with suppress(OSError, ValueError, LookupError, pa.ArrowException):
        return [pq.ParquetFile(pa.BufferReader(map_file(file))).read(["id", "path"], use_threads=False)]
    return []


def _rows(
    collection: Path, entry: SegmentEntry, damaged: Collection[str], dim: int, incomplete: Sequence[str]
) -> tuple[pa.Table, np.ndarray]:
    """Return the intact items of a segment and their vectors.

    incomplete: media files that have lost items; their state is dropped, so that the next ingest reads them.
    """
    files = {name: collection / entry.folder / name for name in sorted(SEGMENT_FILES)}
    intact = salvage(files, damaged, entry.rows, dim)
    items = intact.items
    affected = pc.is_in(items["path"], pa.array(incomplete, pa.string()))
    for number, field in enumerate(items.schema if incomplete else ()):
        if field.name in STATE:
            column = pc.if_else(affected, pa.scalar(None, field.type), items[field.name])
            items = items.set_column(number, field, column)
    return items, intact.vectors


def _reason(error: OSError) -> str:
    """Return why a file cannot be read; re-raises PermissionError, which is no damage."""
    if isinstance(error, PermissionError):
        raise error
    return error.strerror or str(error)


def _examine(collection: Path, entry: SegmentEntry, dim: int) -> None:
    """Check the content of a segment against what the writer accepts. Raises Damaged."""
    segment = Segment(collection, entry, dim)
    vectors = f"{entry.folder}/{VECTORS}"
    if (np.diff(segment.ids) <= 0).any():
        raise Damaged(collection, vectors, "ids are not ascending")
    for start in range(0, entry.rows, BLOCK_ROWS):
        block = segment.block(start, min(start + BLOCK_ROWS, entry.rows)).astype(np.float32)
        lengths = np.linalg.norm(block, axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) <= 2 * UNIT_TOLERANCE))  # float16 doubles it; NaN fails
        if len(bad):
            row = start + bad[0]
            raise Damaged(
                collection, vectors, f"the vector of id {segment.ids[row]} has length {lengths[bad[0]]:.4g}"
            )
    schema = unify([segment.schema])
    for name, table in ((ITEMS, segment.decoded(schema)), (MAPPED, segment.columns(schema))):
        if not np.array_equal(table["id"].to_numpy(), segment.ids):
            raise Damaged(collection, f"{entry.folder}/{name}", f"ids differ from those of {VECTORS}")
        if table["path"].null_count or set(table["modality"].unique().to_pylist()) - set(Modality):
            raise Damaged(collection, f"{entry.folder}/{name}", "an item lacks a path or a valid modality")
