"""A collection that is embedded for and searched by deployments on other machines."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any

from xsearch.collection import Collection
from xsearch.derive import remedy
from xsearch.errors import StoreError, XsearchError

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.cluster.serving import Serving
    from xsearch.cluster.spread import Spread
    from xsearch.index import Index
    from xsearch.store import Snapshot

__all__ = ["Distributed"]

LOG = logging.getLogger("xsearch")

AGAIN_S = 30.0  # before searchers of a new index are started again that did not start


class Distributed(Collection):
    """A collection whose index is in searchers, and whose queries are embedded by replicas.

    A new index is searched once its searchers are ready; until then the old one is, which finds new items
    too, as they are scanned. Where the first index is damaged, or the one that is searched becomes so,
    everything is scanned, as in any collection.
    """

    def __init__(self, store: Any, serving: Serving, **options: Any) -> None:
        super().__init__(store, **options)
        self._serving = serving
        self._starting = Lock()
        self._replicas: Backend | None = None
        self._searched: tuple[Spread, Snapshot] | None = None  # which keeps the files
        self._latest: Snapshot | None = None
        self._settled: Path | None = None  # the last index that is searched, or found to be damaged
        self._is_moving = False

    @property
    def backend(self) -> Backend:
        with self._starting:  # searches go on meanwhile
            if self._replicas is None:
                self._replicas = self._serving.backend(super().backend, self._options["device"])
            return self._replicas

    def _load_index(self, snapshot: Snapshot) -> Index | None:
        is_first, self._latest = self._latest is None, snapshot
        if snapshot.index_path is None:
            self._searched = self._settled = None
        elif is_first:
            try:
                self._search(self._serving.spread(snapshot), snapshot)
            except StoreError:
                self._settled = snapshot.index_path
                raise
            except BaseException:
                self._latest = None
                raise
        elif self._settled != snapshot.index_path and not self._is_moving:
            self._is_moving = True
            Thread(target=self._move, name="move", daemon=True).start()
        return self._searched and self._searched[0]

    def _search(self, spread: Spread, snapshot: Snapshot) -> None:
        """Search this index from now on."""
        self._searched, self._settled = (spread, snapshot), snapshot.index_path
        spread.on_damage = partial(self._scan, snapshot)
        self._view, self._index = None, (snapshot.index_path, spread)

    def _scan(self, snapshot: Snapshot, problem: StoreError) -> None:
        """Scan everything from now on, as a searcher that was started again has found this index damaged."""
        with self._lock:
            if self._searched is not None and self._searched[1] is snapshot:
                LOG.warning("%s with %s; until then everything is scanned", problem, remedy(snapshot))
                self._searched = None
                self._view, self._index = None, (self._index[0], None)

    def _move(self) -> None:
        """Move to the latest index, and to those that come meanwhile, until it is searched."""
        while (snapshot := self._next()) is not None:
            if not self._is_settled(snapshot):
                self._serving.over.wait(AGAIN_S)

    def _is_settled(self, snapshot: Snapshot) -> bool:
        """Start the searchers of an index, and search it; whether that need not be tried again."""
        try:
            spread = self._serving.spread(snapshot)
            with self._lock:
                if self._latest is not None and self._latest.index_path is not None:
                    self._search(spread, snapshot)
        except StoreError as problem:
            LOG.warning("%s with %s; until then the old index is searched", problem, remedy(snapshot))
            self._settled = snapshot.index_path
        except Exception as problem:  # whatever Ray raises
            if not self._serving.over.is_set():
                trace = None if isinstance(problem, XsearchError) else problem
                text = "%s; the old index is searched, and the new one tried again"
                LOG.warning(text, problem, exc_info=trace)
            return False
        return True

    def _next(self) -> Snapshot | None:
        """The snapshot whose index is to be moved to; None if there is none, or this has ended."""
        with self._lock:
            latest = self._latest
            is_over = self._serving.over.is_set()
            if is_over or latest is None or latest.index_path in (None, self._settled):
                self._is_moving = False
                return None
            return latest
