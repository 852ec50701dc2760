"""Derived data of a collection: calibration, full-text index and, above a certain size, the FAISS index."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from xsearch.errors import StoreError
from xsearch.index import Index, update
from xsearch.query.calibration import Calibration, calibrate
from xsearch.store.manifest import read_manifest
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
    with _all_or_nothing(writer):
        index = update(previous, snapshot) if len(snapshot) else None
        if index is None or index is not previous:
            _save(writer, index)
        _update_words(writer)
        if Calibration.stored(snapshot).next_id != snapshot.manifest.next_id:
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
        try:
            path = writer.new_words_file()
            WordIndex.write(path, snapshot, words)
            writer.set_words(path)
        except StoreError as problem:
            LOG.warning("%s; texts are searched by meaning alone", problem)
            writer.set_words(None)


def keep_index(writer: Writer, index: Index | None) -> None:
    """Save `index` and commit; None removes the index."""
    with _all_or_nothing(writer):
        _save(writer, index)
        writer.commit()


def _save(writer: Writer, index: Index | None) -> None:
    folder = None
    if index is not None:
        try:
            folder = writer.new_index_folder()
            index.save(folder)
        except OSError as error:
            raise StoreError(
                f"cannot write the index to {folder or writer.path}: {error.strerror or error}; the items "
                f"are safe: make room, then xsearch index build --collection {writer.path}"
            ) from error
    writer.set_index(folder)


@contextmanager
def _all_or_nothing(writer: Writer) -> Iterator[None]:
    """Delete what the block has written to `index/` and `words/` if it fails before it is committed."""
    try:
        yield
    except BaseException:  # Ctrl-C too
        with suppress(OSError, StoreError):
            if read_manifest(writer.path).generation == writer.manifest.generation:  # else it was committed
                writer.tidy()
        raise


def load_index(snapshot: Snapshot) -> Index | None:
    """Return the index of a snapshot, None without one. Raises StoreError if it cannot be read."""
    if snapshot.index_path is None:
        return None
    return Index.load(snapshot.index_path, snapshot.manifest.index_digests)
