"""The full-text index of a collection while it grows."""

from __future__ import annotations

import logging
from threading import Lock
from typing import TYPE_CHECKING

from xsearch.errors import StoreError
from xsearch.words.index import WordIndex

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["WordReader", "load"]

LOG = logging.getLogger("xsearch")

MOST_READ = 10_000  # items whose words are read for a query that can do without: about 0.3 s (measured)


def load(snapshot: Snapshot) -> WordIndex | None:
    """Open the stored index of a snapshot, None without one. Raises StoreError if it is missing."""
    if snapshot.words_path is None:
        return None
    name = str(snapshot.manifest.words_file)
    snapshot.bring([name])
    return WordIndex.open(snapshot.words_path, snapshot.manifest.digests.get(name, ""))


class WordReader:
    """One stored index, verified when it is first needed, and the items committed since it was written.

    Shared by threads, and by the views of all snapshots that name this index, each of which reads what was
    committed since the one before.
    """

    def __init__(self, stored: WordIndex | None = None) -> None:
        """stored: None if there is none, or its file is missing."""
        self._lock = Lock()
        self._stored = stored
        self._index: WordIndex | None = None

    def of(self, snapshot: Snapshot, *, required: bool) -> WordIndex | None:
        """Return an index of all items of `snapshot`; it may also have later ones.

        None, unless `required`, if the words of more than MOST_READ items would have to be read.
        """
        with self._lock:
            if self._index is None:
                self._index = self._verified()
            missing = self._index.missing(snapshot)
            if missing > MOST_READ and not required:
                LOG.info("%d items are searched by meaning alone until their words are indexed", missing)
                return None
            self._index = self._index.covering(snapshot)
            return self._index

    @property
    def has_stored(self) -> bool:
        """Whether there is a stored index, which was not damaged when it was read."""
        return self._stored is not None

    def _verified(self) -> WordIndex:
        try:
            if self._stored is not None:
                return self._stored.verify()
        except StoreError as problem:
            LOG.warning("%s with the next ingest", problem)
            self._stored = None
        return WordIndex.empty()
