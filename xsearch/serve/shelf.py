"""The collections that are served, by name."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar
from urllib.parse import quote

import numpy as np

from xsearch.errors import ModelError, StoreError
from xsearch.query import Hits, View
from xsearch.serve.embedding import Models, SharedBackend
from xsearch.serve.problems import Refusal
from xsearch.types import Hit

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.collection import Collection
    from xsearch.store import Snapshot

__all__ = ["Held", "Shelf"]

LOG = logging.getLogger("xsearch")

T = TypeVar("T")


class Held:
    """A collection under its name. trust: whether what only an import names may be opened."""

    def __init__(
        self, name: str, collection: Collection, models: Models, *, is_first: bool, trust: bool
    ) -> None:
        self.name, self.collection, self.trust = name, collection, trust
        self._models = models
        self._suffix = "" if is_first else f"?collection={quote(name, safe='')}"

    def view(self) -> View:
        """The state of the last commit."""
        return self.collection.view()

    def backend(self, snapshot: Snapshot) -> SharedBackend:
        """The model of a snapshot, loaded when something has to be embedded."""

        def load() -> Backend:
            backend = self.collection.backend
            if backend.fingerprint != snapshot.fingerprint:  # it has been made anew meanwhile
                raise ModelError(f"{self.name} had another model when the server started; start it again")
            return backend

        return self._models.of(snapshot.fingerprint, load)

    def link(self, path: str) -> str:
        """The address of something of this collection, below /v1."""
        return f"/v1/{path}{self._suffix}"

    def items(self, snapshot: Snapshot, ids: np.ndarray) -> list[Hit]:
        """These items, which are live, as hits without figures."""
        records = snapshot.records(ids)(0, len(ids))
        hits = Hits.of(ids, [np.full(len(ids), np.nan)] * 5, lambda: records)
        return [self.trusted(hit) for hit in hits]

    def item(self, snapshot: Snapshot, id: int) -> Hit:
        """One item. Raises Refusal."""
        ids = np.array([id], np.int64)
        if not snapshot.contains(ids).all():
            no_item(id, self.name)
        return self.items(snapshot, ids)[0]

    def trusted(self, hit: Hit) -> Hit:
        """The same hit; its file may be opened if only an import names it, and such files are trusted."""
        return Hits([hit]).trusted()[0] if self.trust and hit.is_imported else hit


def no_item(id: int, name: str) -> NoReturn:
    raise Refusal(404, "no-item", "No such item", f"{name} has no item {id}; it may have been removed")


class Shelf:
    """Collections by name; the first is meant where none is named."""

    def __init__(self, collections: Sequence[Collection], *, trust: bool) -> None:
        self.models = Models()
        self._held: dict[str, Held] = {}
        for collection in collections:
            base = name = Path(collection.place).absolute().name or "collection"
            number = 1
            while name in self._held:
                number += 1
                name = f"{base}-{number}"
            self._held[name] = Held(name, collection, self.models, is_first=not self._held, trust=trust)

    def __iter__(self) -> Iterator[Held]:
        return iter(self._held.values())

    def each(self, function: Callable[[Held], T]) -> list[T]:
        """Return what a function says of each collection, without those that cannot be read any more."""
        results = []
        for held in self:
            try:
                results.append(function(held))
            except (StoreError, OSError) as problem:
                LOG.debug("%s: %s", held.name, problem)
        return results

    @property
    def first(self) -> Held:
        return next(iter(self))

    def get(self, name: str | None) -> Held:
        """The collection of this name, the first for None. Raises Refusal."""
        if name is None:
            return self.first
        if (held := self._held.get(name)) is None:
            names = ", ".join(self._held)
            raise Refusal(404, "no-collection", "No such collection", f"expected one of {names}")
        return held
