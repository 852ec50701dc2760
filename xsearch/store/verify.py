"""Is a collection what its manifest says? Every file against its checksum, then what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.errors import Damaged, NoCollection, StoreError
from xsearch.store.manifest import COPY, NAME, QUARANTINE, Manifest, SegmentEntry, read_manifest
from xsearch.store.segments import ITEMS, MAPPED, VECTORS, Segment, read_table, unify
from xsearch.store.snapshot import BLOCK_ROWS, SCHEMAS
from xsearch.system.durable import digest
from xsearch.types import Modality

__all__ = ["Finding", "current", "verify_files"]

UNIT_TOLERANCE = 2e-3  # of a length: half was allowed to the writer, half is for rounding to float16
REMEDIES = {
    "tombstones": "set aside: removed items may be back, remove them again",
    "skipped": "set aside: the next ingest tries the files that it listed again",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a collection."""

    path: str  # of the file, inside the collection
    problem: str
    remedy: str  # what a repair does, and what follows from it
    lost: tuple[str, ...] = ()  # media files whose items go, as far as their names can be read


def current(collection: Path) -> tuple[Manifest, list[Finding]]:
    """The manifest or, where that is damaged, its copy; and what is wrong with the two.

    Raises NoCollection where there is none, StoreError where neither can be read.
    """
    read, problems = {}, {}
    for name in (NAME, COPY):
        try:
            read[name] = read_manifest(collection, name)
        except Damaged as error:
            problems[name] = error.problem
        except NoCollection:
            if name == NAME:
                raise
            problems[name] = "missing"
    if not read:
        both = "; ".join(f"{name}: {problem}" for name, problem in problems.items())
        raise StoreError(f"cannot read {collection}: {both}; restore one of them from a backup")
    (manifest, *_) = read.values()
    if manifest.format == 1:  # which had no copy
        problems.clear()
    remedy = f"written again, as of generation {manifest.generation}"
    return manifest, [Finding(name, problem, remedy) for name, problem in problems.items()]


def verify_files(collection: Path, manifest: Manifest) -> Iterator[Finding]:
    """What is wrong with the files that `manifest` names and that are not derived. All of them are read."""
    taken = 0  # so are the ids below it
    for entry in manifest.segments:
        problems = list(_segment(collection, entry, manifest.fingerprint.dim))
        if entry.first_id < taken or entry.last_id >= manifest.next_id:
            problems.append((entry.folder, f"its ids, from {entry.first_id} to {entry.last_id}, are taken"))
        taken = max(taken, entry.last_id + 1)
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
    """Files of a segment, each with what is wrong with it."""
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
    """What is wrong with a file that should have this sha256."""
    try:
        return None if digest(path) == sha256 else "a wrong sha256"
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    """Why a file cannot be read; it is not broken if it is only not allowed to."""
    if isinstance(error, PermissionError):
        raise error
    return error.strerror or str(error)


def _examine(collection: Path, entry: SegmentEntry, dim: int) -> None:
    """Raises Damaged where the content of a segment is not what the writer lets pass."""
    segment = Segment(collection, entry, dim)
    vectors = f"{entry.folder}/{VECTORS}"
    if (np.diff(segment.ids) <= 0).any():
        raise Damaged(collection, vectors, "ids do not ascend")
    for start in range(0, entry.rows, BLOCK_ROWS):
        block = segment.block(start, min(start + BLOCK_ROWS, entry.rows)).astype(np.float32)
        lengths = np.linalg.norm(block, axis=1)
        bad = np.flatnonzero(~(np.abs(lengths - 1) <= UNIT_TOLERANCE))  # NaN is bad too
        if len(bad):
            row = start + bad[0]
            raise Damaged(
                collection, vectors, f"the vector of id {segment.ids[row]} has length {lengths[bad[0]]:.4g}"
            )
    schema = unify([segment.schema])
    for name, table in ((ITEMS, segment.decoded(schema)), (MAPPED, segment.columns(schema))):
        if not np.array_equal(table["id"].to_numpy(), segment.ids):
            raise Damaged(collection, f"{entry.folder}/{name}", f"its ids are not those of {VECTORS}")
        if table["path"].null_count or set(table["modality"].unique().to_pylist()) - set(Modality):
            raise Damaged(
                collection, f"{entry.folder}/{name}", "an item without a path or of an unknown kind"
            )


def _paths(collection: Path, entry: SegmentEntry) -> tuple[str, ...]:
    """The media files of a segment, which a repair that was killed may have set aside."""
    for folder in (collection, collection / QUARANTINE):
        try:
            table = pq.read_table(folder / entry.folder / ITEMS, columns=["path"])
            return tuple(dict.fromkeys(table["path"].to_pylist()))
        except (OSError, ValueError, pa.ArrowException, KeyError):
            continue
    return ()
