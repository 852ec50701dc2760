"""What is computed from the items and follows them: the calibration, and the index where it is worth one."""

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
    """Bring both up to date, and commit; merge segments where there are more than MOST_SEGMENTS."""
    snapshot = writer.snapshot
    before = None
    with suppress(StoreError):  # built again
        before = load_index(snapshot)
    index = update(before, snapshot)
    if index is None or index is not before:
        keep_index(writer, index)
    if Calibration.from_dict(snapshot.manifest.calibration).next_id != snapshot.manifest.next_id:
        writer.set_calibration(calibrate(snapshot).to_dict())  # items have come since
    writer.commit()
    if len(writer.manifest.segments) > MOST_SEGMENTS:
        writer.compact()


def keep_index(writer: Writer, index: Index | None) -> None:
    """Make it that of the next commit; None: everything is scanned."""
    folder = None
    if index is not None:
        folder = writer.new_index_folder()
        index.save(folder)
    writer.set_index(folder)


def load_index(snapshot: Snapshot) -> Index | None:
    """The index of a snapshot; None where it has none. Raises StoreError where it cannot be read."""
    if snapshot.index_path is None:
        return None
    return Index.load(snapshot.index_path, snapshot.manifest.index_digests)
