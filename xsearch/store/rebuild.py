"""Rebuild a manifest that is lost from the files of its collection."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from xsearch.errors import StoreError
from xsearch.store.manifest import FOLDERS, MAX_DIM, MAX_ID, Manifest, Mark, SegmentEntry
from xsearch.store.pages import WORD, checksums, map_file
from xsearch.store.salvage import UNREADABLE
from xsearch.store.segments import CHECKSUMS, ITEMS, KEY, MAPPED, MAPPED_SUMS, VECTORS, read_table
from xsearch.store.snapshot import SCHEMAS
from xsearch.system.durable import digest
from xsearch.types import Fingerprint

__all__ = ["rebuild"]

DAMAGED = 64 * "0"  # sha256 of a file that does not have its page checksums
# Generation, modification time, segment, its model and where that is
Found = tuple[int, int, SegmentEntry, Fingerprint, str | None]


def rebuild(collection: Path, mark: Mark) -> tuple[Manifest, list[str]] | None:
    """Return a manifest of what is in the folder of a collection, without indexes; None if it does not tell.

    Also return the folders of segments that cannot be read.

    Segments state their model and generation. Where two have the same ids, the later is taken: merged
    segments replace older ones. All tables apply. Files that differ from their page checksums are damaged.
    """
    found, unread = list[Found](), list[str]()
    for name in _names(collection, "segments"):
        try:
            found.append(_segment(collection / "segments" / name))
        except (*UNREADABLE, TypeError, RecursionError):
            unread.append(f"segments/{name}")
    chosen: list[SegmentEntry] = []
    for *_, entry, _, _ in sorted(found, key=lambda each: each[:2], reverse=True):
        if all(entry.last_id < other.first_id or other.last_id < entry.first_id for other in chosen):
            chosen.append(entry)
    if len({model for *_, model, _ in found}) != 1:
        return None
    tables = {kind: list(_tables(collection, kind)) for kind in SCHEMAS}
    dead = [read_table(collection, path, SCHEMAS["tombstones"], None) for path, _ in tables["tombstones"]]
    removed = [id + 1 for table in dead for id in table["id"].to_pylist() if 0 <= id < MAX_ID]
    manifest = Manifest(
        fingerprint=found[0][3],
        generation=mark.generation,
        next_id=max(mark.next_id, *removed, *(entry.last_id + 1 for entry in chosen)),
        segments=tuple(sorted(chosen, key=lambda entry: entry.first_id)),
        tombstones=tuple(Path(path).stem for path, _ in tables["tombstones"]),
        skipped=tuple(Path(path).stem for path, _ in tables["skipped"]),
        source=found[0][4],
        digests=dict(pair for pairs in tables.values() for pair in pairs),
    )
    return manifest, unread


def _names(collection: Path, kind: str) -> list[str]:
    folder, (pattern, _) = collection / kind, FOLDERS[kind]
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(each.name for each in folder.iterdir() if re.fullmatch(pattern, each.name))


def _tables(collection: Path, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the paths of the readable tables, oldest first, and their sha256."""
    paths = [f"{kind}/{name}" for name in _names(collection, kind)]
    for path in sorted(paths, key=lambda path: (collection / path).lstat().st_mtime_ns):
        with suppress(StoreError, OSError):
            read_table(collection, path, SCHEMAS[kind], None)
            yield path, digest(collection / path)


def _segment(folder: Path) -> Found:
    """Read what a segment states, and the sha256 of its files. Raises UNREADABLE."""
    try:
        table = _mapped(folder / MAPPED)
    except UNREADABLE:
        table = pq.ParquetFile(pa.BufferReader(map_file(folder / ITEMS))).read(["id"], use_threads=False)
    ids = table["id"].to_numpy()
    if not len(ids) or (np.diff(ids) <= 0).any() or not 0 <= ids[0] <= ids[-1] < MAX_ID:
        raise ValueError("no ascending ids")
    header: dict[str, Any] = json.loads((table.schema.metadata or {})[KEY.encode()])
    model = Fingerprint(**header["model"])
    texts = (model.name, model.digest, model.preprocessing, header["source"] or "")
    if not all(isinstance(text, str) for text in texts) or not 0 < int(model.dim) <= MAX_DIM:
        raise ValueError("no model")
    entry = SegmentEntry(folder.name, len(ids), int(ids[0]), int(ids[-1]), _digests(folder))
    return int(header["generation"]), folder.stat().st_mtime_ns, entry, model, header["source"]


def _mapped(file: Path) -> pa.Table:
    batch = pa.ipc.open_file(map_file(file)).get_batch(0)
    batch.validate(full=True)
    return pa.Table.from_batches([batch])


def _digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of the files of a segment, DAMAGED for those that differ from their checksums."""
    sha256 = {}
    for name, files in ((CHECKSUMS, (ITEMS, VECTORS)), (MAPPED_SUMS, (MAPPED,))):
        sums = {file: checksums(_content(folder / file)) for file in files}
        stored = _content(folder / name)
        stored = stored[: len(stored) // WORD.itemsize * WORD.itemsize].view(WORD)
        first, last = files[0], files[-1]
        same = {last: _same(sums[last][::-1], stored[::-1]), first: _same(sums[first], stored)}
        useful = any(matches.any() for matches in same.values())
        sha256[name] = digest(folder / name) if useful else DAMAGED
        for file, matches in same.items():
            right = len(matches) and (matches.all() or not useful)
            sha256[file] = digest(folder / file) if right else DAMAGED
    return sha256


def _same(sums: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """Whether each page has its checksum, after which there may be others: bool, of the length of `sums`."""
    same = np.zeros(len(sums), bool)
    same[: len(stored)] = sums[: len(stored)] == stored[: len(sums)]
    return same


def _content(file: Path) -> np.ndarray:
    """The content of a regular file, empty if there is none: uint8."""
    with suppress(*UNREADABLE):
        return np.frombuffer(map_file(file), np.uint8)
    return np.empty(0, np.uint8)
