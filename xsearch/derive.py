"""Derived data of a collection: the calibration and, above a certain size, the index."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from xsearch.errors import StoreError
from xsearch.index import Index, update
from xsearch.query.calibration import Calibration, calibrate

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["derive", "keep_index", "load_index"]


MOST_SEGMENTS = 64  # a search visits all that hold candidates: some 3 us each (measured)


def derive(writer: Writer) -> None:
    """Update index and calibration to the current items, and commit; compact above MOST_SEGMENTS segments."""
    snapshot = writer.snapshot
    previous = None
    with suppress(StoreError):  # rebuilt
        previous = load_index(snapshot)
    index = update(previous, snapshot)
    if index is None or index is not previous:
        keep_index(writer, index)
    if Calibration.from_dict(snapshot.manifest.calibration).next_id != snapshot.manifest.next_id:
        writer.set_calibration(calibrate(snapshot).to_dict())  # items were added since
    writer.commit()
    if len(writer.manifest.segments) > MOST_SEGMENTS:
        writer.compact()


def keep_index(writer: Writer, index: Index | None) -> None:
    """Save `index` and use it from the next commit on; None removes the index."""
    folder = None
    if index is not None:
        folder = writer.new_index_folder()
        index.save(folder)
    writer.set_index(folder)


def load_index(snapshot: Snapshot) -> Index | None:
    """Return the index of a snapshot, None without one. Raises StoreError if it cannot be read."""
    if snapshot.index_path is None:
        return None
    return Index.load(snapshot.index_path, snapshot.manifest.index_digests)
