"""A collection that is embedded for and searched by deployments on other machines."""

from __future__ import annotations

import logging
from threading import Thread
from typing import TYPE_CHECKING, Any

from xsearch.collection import Collection
from xsearch.errors import XsearchError

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.cluster.serving import Serving
    from xsearch.cluster.spread import Spread
    from xsearch.index import Index
    from xsearch.store import Snapshot

__all__ = ["Distributed"]

LOG = logging.getLogger("xsearch")


class Distributed(Collection):
    """A collection whose index is in searchers, and whose queries are embedded by replicas.

    A new index is searched once its searchers are ready; until then the old one is, which finds new items
    too, as they are scanned.
    """

    def __init__(self, store: Any, serving: Serving, **options: Any) -> None:
        super().__init__(store, **options)
        self._serving = serving
        self._replicas: Backend | None = None
        self._searched: tuple[Spread, Snapshot] | None = None  # which keeps the files
        self._is_moving = False

    @property
    def backend(self) -> Backend:
        with self._lock:
            if self._replicas is None:
                self._replicas = self._serving.backend(super().backend)
            return self._replicas

    def _load_index(self, snapshot: Snapshot) -> Index | None:
        if snapshot.index_path is None:
            if self._searched is not None:
                self._serving.retire(self._searched[0])
                self._searched = None
            return None
        if self._searched is None:
            self._searched = self._serving.spread(snapshot), snapshot
        elif self._searched[1].index_path != snapshot.index_path and not self._is_moving:
            self._is_moving = True
            Thread(target=self._move, args=[snapshot], name="move", daemon=True).start()
        return self._searched[0]

    def _move(self, snapshot: Snapshot) -> None:
        """Start the searchers of a new index, and search it from then on."""
        try:
            spread = self._serving.spread(snapshot)
        except XsearchError as problem:
            LOG.warning("%s; the old index is searched until the next one", problem)
            self._is_moving = False
            return
        with self._lock:
            old, self._searched = self._searched, (spread, snapshot)
            self._is_moving = False
            self._view, self._index = None, (None, None)
        if old is not None:
            self._serving.retire(old[0])
