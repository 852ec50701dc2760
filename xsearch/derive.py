"""Derived data of a collection: calibration, full-text index and, above a certain size, the FAISS index."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xsearch.errors import StoreError
from xsearch.index import STALE, Index, Listing, Plan, Run, Shards, check_shards, new_trained, update
from xsearch.query.calibration import Calibration, calibrate
from xsearch.store import Store
from xsearch.store.manifest import read_manifest
from xsearch.system.lookup import is_in
from xsearch.words import WordIndex, load

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["build_shards", "derive", "keep_index", "load_index", "remedy"]

LOG = logging.getLogger("xsearch")


def derive(writer: Writer) -> None:
    """Update all derived data to the current items, commit, and delete what nobody reads.

    An index of several files stays as it is.
    """
    snapshot = writer.snapshot
    with _all_or_nothing(writer):
        if not _has_shards(snapshot):
            previous = None
            with suppress(StoreError):  # rebuilt
                previous = load_index(snapshot)
            index = update(previous, snapshot) if len(snapshot) else None
            if index is None or index is not previous:
                _save(writer, index)
        _update_words(writer)
        if Calibration.stored(snapshot).next_id != snapshot.manifest.next_id:
            writer.set_calibration(calibrate(snapshot).to_dict())  # items were added since
        writer.commit()
    writer.tidy()


def _has_shards(snapshot: Snapshot) -> bool:
    """Whether the items have an index of several files, which may not fit the memory of this machine."""
    listing = _listing(snapshot)
    if listing is None or not listing.shards or not len(snapshot):
        return False
    missing = len(snapshot) - int(is_in(snapshot.ids, listing.ids).sum())
    if missing > STALE * len(snapshot):
        LOG.warning(
            "the index lacks %s of %s items, which are scanned; xsearch index build --shards %d adds them",
            f"{missing:,}",
            f"{len(snapshot):,}",
            listing.shards,
        )
    return True


def _listing(snapshot: Snapshot) -> Listing | None:
    """What the index of a snapshot lists, None without one, or if it cannot be read."""
    with suppress(StoreError):
        return Listing.read(snapshot.index_path) if snapshot.index_path else None
    return None


def remedy(snapshot: Snapshot) -> str:
    """Return what builds a damaged index again; no ingest does so with one of several files."""
    listing = _listing(snapshot)
    if listing is None or not listing.shards:
        return "the next ingest"
    return f"xsearch index build --shards {listing.shards}"


def build_shards(writer: Writer, shards: int, run: Run, *, merge: bool, **options: Any) -> Plan | None:
    """Build and commit an index of so many files, and return its plan; None if a scan is preferable.

    run: calls what writes a shard. merge: into one file. options: see `new_index`.
    Raises UsageError for a wrong number, before anything is trained.
    """
    snapshot = writer.snapshot
    if len(snapshot):
        check_shards(shards, len(snapshot))
    trained = new_trained(snapshot, **options)
    if trained is None:
        keep_index(writer, None)
        return None
    with _all_or_nothing(writer):
        folder = writer.new_index_folder()
        items = partial(_snapshot, writer.path.absolute(), snapshot.manifest.generation)
        with _room_for(folder):
            tasks = Shards.of(trained, items, folder.absolute(), writer.scratch_folder().absolute(), shards)
            run(tasks, shards)
            tasks.finish(merge=merge)
        writer.set_index(folder)
        writer.commit()
    return trained.plan


def _snapshot(path: Path, generation: int) -> Snapshot:
    """Return the snapshot of a collection that is being written to elsewhere. Raises StoreError."""
    snapshot = Store.open(path).snapshot()
    if snapshot.manifest.generation != generation:
        raise StoreError(f"{path} has generation {snapshot.manifest.generation}, expected {generation}")
    return snapshot


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
        folder = writer.new_index_folder()
        with _room_for(folder):
            index.save(folder)
    writer.set_index(folder)


@contextmanager
def _room_for(folder: Path) -> Iterator[None]:
    """Raise StoreError for an OSError of the block, which writes an index."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot write the index to {folder}: {error.strerror or error}; the items "
            f"are safe: make room, then xsearch index build --collection {folder.parent.parent}"
        ) from error


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
    snapshot.bring_index()
    return Index.load(snapshot.index_path, snapshot.manifest.index_digests)
