"""Verification: every file of a collection against its checksum, then its content."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.store.manifest import (
    COPY,
    MARK,
    QUARANTINE,
    Manifest,
    Mark,
    SegmentEntry,
    read_manifest,
    read_mark,
)
from xsearch.store.nearest import NAME
from xsearch.store.segments import ITEMS, MAPPED, VECTORS, Segment, read_table, unify
from xsearch.store.snapshot import BLOCK_ROWS, SCHEMAS
from xsearch.store.writer import UNIT_TOLERANCE
from xsearch.system.durable import digest
from xsearch.types import Modality

__all__ = ["Finding", "recover_manifest", "verify_files"]

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
    lost: tuple[str, ...] = ()  # media files whose items are lost, if their paths are readable


def recover_manifest(collection: Path) -> tuple[Manifest, list[Finding]]:
    """Read the manifest, or its copy if that is newer or the manifest damaged; also return their problems.

    Raises NoCollection if there is none, StoreError if neither can be read.
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
            if name == NAME:
                raise
            problems[name] = "missing"
    if not read:
        reasons = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise StoreError(f"cannot read {collection}: {reasons}; restore one of them from a backup")
    manifest = max(reversed(read.values()), key=lambda each: each.generation)
    if manifest.format == 1:  # has no copy
        problems.clear()
    if NAME in read and read[NAME].generation < manifest.generation:
        problems[NAME] = f"generation {read[NAME].generation}, older than its copy"
    remedy = f"rewritten from generation {manifest.generation}"
    findings = [Finding(name, problem, remedy) for name, problem in problems.items()]
    if mark.is_beyond(manifest):
        problem = f"generation {manifest.generation}, but {mark.generation} has been committed: a backup?"
        findings.append(Finding(NAME, problem, "kept; items added since are gone, their ids are not reused"))
    return manifest, findings


def verify_files(collection: Path, manifest: Manifest) -> Iterator[Finding]:
    """Read every file that `manifest` references, except derived ones, and yield the problems."""
    next_id = 0  # ids of later segments start here
    for entry in manifest.segments:
        problems = list(_segment(collection, entry, manifest.fingerprint.dim))
        if entry.first_id < next_id or entry.last_id >= manifest.next_id:
            problems.append((entry.folder, f"ids from {entry.first_id} to {entry.last_id} are out of range"))
        next_id = max(next_id, entry.last_id + 1)
        remedy = f"set aside with its segment: {entry.rows:,} items are gone until the next ingest"
        for name, problem in problems:
            yield Finding(name, problem, remedy, _paths(collection, entry))
    for name in manifest.tables():
        kind = name.split("/")[0]
        try:
            read_table(collection, name, SCHEMAS[kind], manifest.digests.get(name))
        except Damaged as error:
            yield Finding(name, error.problem, REMEDIES[kind])
        except OSError as error:
            yield Finding(name, _reason(error), REMEDIES[kind])


def _segment(collection: Path, entry: SegmentEntry, dim: int) -> Iterator[tuple[str, str]]:
    """Yield (path, problem) of the damaged files of a segment."""
    intact = True
    for name, sha256 in entry.sha256.items():
        if problem := _differs(collection / entry.folder / name, sha256):
            intact = False
            yield f"{entry.folder}/{name}", problem
    if intact:
        try:
            _examine(collection, entry, dim)
        except Damaged as error:
            yield error.name, error.problem
        except OSError as error:  # a compaction has deleted it meanwhile
            yield entry.folder, _reason(error)


def _differs(path: Path, sha256: str) -> str | None:
    """Return why a file does not have this sha256, None if it does."""
    try:
        return None if digest(path) == sha256 else "a wrong sha256"
    except OSError as error:
        return _reason(error)


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


def _paths(collection: Path, entry: SegmentEntry) -> tuple[str, ...]:
    """Return the media files of a segment, which an interrupted repair may have quarantined already."""
    for folder in (collection, collection / QUARANTINE):
        try:
            table = pq.read_table(folder / entry.folder / ITEMS, columns=["path"])
            return tuple(dict.fromkeys(table["path"].to_pylist()))
        except (OSError, ValueError, pa.ArrowException, KeyError):
            continue
    return ()
