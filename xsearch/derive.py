"""Derived data of a collection: calibration, full-text index and, above a certain size, the FAISS index."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from xsearch.errors import StoreError
from xsearch.index import Index, update
from xsearch.query.calibration import Calibration, calibrate
from xsearch.words import WordIndex, load

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["derive", "keep_index", "load_index"]

LOG = logging.getLogger("xsearch")


def derive(writer: Writer) -> None:
    """Update all derived data to the current items, commit, and delete what nobody reads."""
    snapshot = writer.snapshot
    previous = None
    with suppress(StoreError):  # rebuilt
        previous = load_index(snapshot)
    index = update(previous, snapshot)
    if index is None or index is not previous:
        keep_index(writer, index)
    _update_words(writer)
    if Calibration.from_dict(snapshot.manifest.calibration).next_id != snapshot.manifest.next_id:
        writer.set_calibration(calibrate(snapshot).to_dict())  # items were added since
    writer.commit()
    writer.tidy()


def _update_words(writer: Writer) -> None:
    """Index the words of new items; after a failure, texts are searched by meaning alone."""
    snapshot = writer.snapshot
    words = None
    with suppress(StoreError):  # rebuilt
        stored = load(snapshot)
        words = stored.verify() if stored and not stored.is_stale(snapshot) else None
    if not len(snapshot):
        writer.set_words(None)
    elif words is None or words.missing(snapshot):
        path = writer.new_words_file()
        try:
            WordIndex.write(path, snapshot, words)
            writer.set_words(path)
        except StoreError as problem:
            LOG.warning("%s; texts are searched by meaning alone", problem)
            writer.set_words(None)


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
