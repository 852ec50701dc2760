"""What a collection has of a query's part: the items of its file and of copies, and their vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xsearch.errors import UsageError
from xsearch.types import Modality, kind_of_file

if TYPE_CHECKING:
    from xsearch.query.expression import Part
    from xsearch.store import Snapshot

__all__ = ["NONE", "Vector", "of_file", "of_item"]

KINDS = tuple(Modality)
NONE = np.empty(0, np.int64)
Vector = tuple[Modality, np.ndarray]  # what it is of, and float32 [dim]


def of_item(part: Part, id: int, snapshot: Snapshot | None) -> tuple[np.ndarray, Vector]:
    """The ids of all items of an item's file and of its copies, and the vector of the item."""
    if snapshot is None:
        raise UsageError(f"{part.label}: stored items are known to collections only")
    ids = np.array([min(id, np.iinfo(np.int64).max)])
    if not snapshot.contains(ids).all():
        raise UsageError(f"{part.label}: no such item in {snapshot.path}")
    return _copies(snapshot, id), (KINDS[snapshot.kinds_of(ids)[0]], snapshot.vectors(ids)[0])


def of_file(
    part: Part, snapshot: Snapshot, state: tuple[str, int, int], digest: Callable[[], str]
) -> tuple[np.ndarray, Vector | None]:
    """The ids of the items of a file and of its copies, and the mean of its vectors of the part's kind.

    state: name, size and mtime, by which ingest too takes a file for unchanged. digest: the sha256, computed
    only if these are not those of a stored file, and some stored file has that size.
    """
    name, size, _ = state
    same = snapshot.of_file(*state)
    copies = _copies(snapshot, same[0]) if len(same) else snapshot.of_content(size, digest)
    vector = _mean(part, snapshot, same if len(same) else copies)
    stateless = snapshot.of_file(name, None, None) if name else NONE  # imported
    return np.union1d(copies, stateless), vector


def _copies(snapshot: Snapshot, id: int) -> np.ndarray:
    """The ids of all items of the file of an item, and of its copies."""
    (item,) = snapshot.items(np.array([id]), ["path", "bytes", "mtime_ns", "sha256"]).to_pylist()
    same = snapshot.of_file(item["path"], item["bytes"], item["mtime_ns"])
    if not item["sha256"] or item["bytes"] is None:  # unknown, which equals nothing
        return same
    return np.union1d(same, snapshot.of_content(item["bytes"], lambda: item["sha256"]))


def _mean(part: Part, snapshot: Snapshot, ids: np.ndarray) -> Vector | None:
    """The mean of the vectors of the first file among these items, of the part's kind or else the file's."""
    if not len(ids):
        return None
    kinds = snapshot.kinds_of(ids)
    code = KINDS.index(part.modality or kind_of_file({KINDS[code] for code in kinds.tolist()}))
    ids = ids[kinds == code]
    if not len(ids):
        return None
    paths = snapshot.items(ids, ["path"])["path"].to_pylist()
    first = ids[[path == paths[0] for path in paths]]
    return KINDS[code], snapshot.vectors(first).mean(axis=0)
