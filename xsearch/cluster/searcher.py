"""A searcher: one file of an index, with the stored vectors beside, for a `Spread`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from xsearch.errors import StoreError
from xsearch.index import Index, Listing, Subset, cosines
from xsearch.store import open_store

__all__ = ["Portion", "Searcher"]

SUBSETS = 32  # that are remembered


class Portion(NamedTuple):
    """A subset of an index, as one of its shards needs it."""

    key: str
    ids: Any  # bits of the shard's ids, uint8, or what `fetch` makes these of; None: none of them
    lists: np.ndarray  # bits of the lists in which the whole subset is: uint8
    share: float


class Searcher:
    """Answers about one shard, from any number of threads. A method that is called again answers the same.

    Its methods report a damaged shard, which starting it again would not mend.
    """

    def __init__(self, collection: str, index: str, digests: Mapping[str, str], shard: int) -> None:
        """collection: its folder, or a URL, of which this machine has its own copies.

        Raises StoreError without the collection, or this index of it.
        """
        self._store = open_store(collection)
        version, snapshot = self._store.version(), self._store.snapshot()
        self._state = version, snapshot
        folder = snapshot.index_at(Path(index))
        snapshot.bring_index(Listing.read(folder).files[shard].name)
        self._loaded: Index | StoreError
        try:
            self._loaded = Index.load(folder, digests, shard)
        except StoreError as problem:
            self._loaded = problem
        self._subsets: dict[str, Subset] = {}

    @property
    def _index(self) -> Index:
        """Raises StoreError."""
        if isinstance(self._loaded, StoreError):
            raise self._loaded
        return self._loaded

    def ready(self) -> bool:
        return True

    def lists(self) -> np.ndarray:
        """The inverted list of each id of the shard: int32. Raises StoreError if it is damaged."""
        return self._index.list_of

    def visit(
        self, queries: np.ndarray, k: int, portions: Sequence[tuple[Portion | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray] | None]:
        """`Index.visit`; None for portions without ids. Raises StoreError if the shard is damaged."""
        subsets = {
            row: (portion and self._subset(portion), nprobe)
            for row, (portion, nprobe) in enumerate(portions)
            if portion is None or portion.ids is not None
        }
        found = dict(zip(subsets, self._index.visit(queries, k, list(subsets.values())), strict=True))
        return [found.get(row) for row in range(len(portions))]

    def members(self, query: np.ndarray, portion: Portion, nprobe: int | None) -> np.ndarray:
        """`Index.members`. Raises StoreError if the shard is damaged."""
        return self._index.members(query, self._subset(portion), nprobe)

    def cosines(self, queries: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """`index.cosines` with the stored vectors; NaN for ids of items that have been removed."""
        version, snapshot = self._state
        if (newer := self._store.version()) != version:
            snapshot = self._store.snapshot(snapshot)
            self._state = newer, snapshot
        live = snapshot.contains(ids)
        figures = cosines(queries, np.where(live, ids, -1), snapshot.stored)
        figures[(ids >= 0) & ~live] = np.nan
        return figures

    def _subset(self, portion: Portion) -> Subset:
        if (known := self._subsets.get(portion.key)) is not None:
            return known
        index = self._index
        inside = np.unpackbits(self.fetch(portion.ids), count=len(index.ids)).astype(bool)
        lists = np.flatnonzero(np.unpackbits(portion.lists, count=index.plan.lists))
        subset = index.restricted(index.ids[inside], lists, portion.share)
        for old in list(self._subsets)[: 1 - SUBSETS]:
            self._subsets.pop(old, None)  # another thread may have done it
        self._subsets[portion.key] = subset
        return subset

    def fetch(self, bits: Any) -> np.ndarray:
        """The bits that `Spread` shares."""
        return np.asarray(bits)
