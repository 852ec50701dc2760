"""An index whose shards are searched elsewhere, by a `Searcher` each, and answer as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from xsearch.cluster.searcher import Portion
from xsearch.errors import StoreError, Unavailable
from xsearch.index import Index, Listing, Subset, best_of, cosines
from xsearch.system.lookup import is_in, nearest_rows

__all__ = ["Call", "Spread"]


class Call(Protocol):
    """Calls a method of each searcher, at once; None for each that does not answer in time."""

    def __call__(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """arguments: of each shard; None: it is not called."""


@dataclass(frozen=True, slots=True)
class _Shared(Subset):
    """A subset of which each searcher has its part."""

    key: str
    parts: tuple[Any, ...]  # of each shard: see `Portion`
    bits: np.ndarray  # of `lists`


class Spread(Index):
    """An index in memory elsewhere. What a search finds is what the index finds that is loaded here.

    Candidates of all shards are merged by their approximate cosines, as many as one index has, and those are
    compared by the exact ones, which the searchers compute too. A shard that does not answer makes a search
    fail or, with `allow_partial`, is noted in `missing`: take a `session` for each search.
    """

    def __init__(
        self,
        listing: Listing,
        call: Call,
        *,
        share: Callable[[np.ndarray], Any] = lambda bits: bits,
        allow_partial: bool = False,
    ) -> None:
        """share: puts bits where searchers `fetch` them.

        Raises Unavailable unless all searchers answer, StoreError if one has a damaged shard. `on_damage` is
        called before a search raises that.
        """
        super().__init__(listing.plan, listing.ids, None)
        self.on_damage: Callable[[StoreError], None] = lambda problem: None
        self.folder = listing.folder
        self._parts = listing.parts
        self._ends = np.cumsum([len(part) for part in self._parts])
        self._call, self._share, self._allow_partial = call, share, False
        self.list_of = np.concatenate(self._asked("lists", [()] * len(self._parts)))
        self._sizes = np.bincount(self.list_of, minlength=self.plan.lists)
        self._allow_partial = allow_partial

    def session(self) -> Spread:
        other = copy(self)
        other.missing = frozenset()
        return other

    def restricted(self, ids: np.ndarray, lists: np.ndarray, share: float) -> Subset:
        starts = np.searchsorted(ids, [part[0] for part in self._parts])
        within = np.split(ids, starts[1:])
        parts = [
            self._share(np.packbits(is_in(part, some))) if len(some) else None
            for part, some in zip(self._parts, within, strict=True)
        ]
        bits = np.packbits(np.isin(np.arange(self.plan.lists), lists))
        key = hashlib.sha256(ids.tobytes()).hexdigest()
        return _Shared(ids, None, lists, None, share, self.lists_of, key, tuple(parts), bits)

    def visit(
        self, queries: np.ndarray, k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        queries = np.ascontiguousarray(queries, np.float32)
        arguments: list[tuple[Any, ...] | None] = []
        for shard in range(len(self._parts)):
            portions = [(_portion(subset, shard), nprobe) for subset, nprobe in subsets]
            is_there = any(portion is None or portion.ids is not None for portion, _ in portions)
            arguments.append((queries, k, portions) if is_there else None)
        answers = [answer for answer in self._asked("visit", arguments) if answer is not None]
        Q = len(queries)
        nothing = np.full((Q, k), -np.inf, np.float32), np.full((Q, k), -1, np.int64)
        merged = []
        for at in range(len(subsets)):
            found = [nothing, *(answer[at] for answer in answers if answer[at] is not None)]
            scores, ids = (np.concatenate(each, axis=1) for each in zip(*found, strict=True))
            merged.append(best_of(scores, ids, k))
        return merged

    def members(self, query: np.ndarray, subset: Subset, nprobe: int | None = None) -> np.ndarray:
        portions = [_portion(subset, shard) for shard in range(len(self._parts))]
        arguments = [
            None if portion is None or portion.ids is None else (query, portion, nprobe)
            for portion in portions
        ]
        answers = [answer for answer in self._asked("members", arguments) if answer is not None]
        return np.sort(np.concatenate([np.empty(0, np.int64), *answers]))

    def cosines(
        self, queries: np.ndarray, ids: np.ndarray, vectors: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """As `index.cosines`; those that no searcher knows are computed here, with `vectors`."""
        rows = nearest_rows(ids, self.ids)
        owners = np.where(self.ids[rows] == ids, np.searchsorted(self._ends, rows, side="right"), -1)
        figures = np.full(ids.shape, np.nan, np.float32)
        arguments = [
            (queries, np.where(owners == shard, ids, -1)) if (owners == shard).any() else None
            for shard in range(len(self._parts))
        ]
        for shard, answer in enumerate(self._call("cosines", self._without_missing(arguments))):
            if answer is not None:
                np.copyto(figures, answer, where=owners == shard)
        unknown = np.isnan(figures)
        if unknown.any():
            np.copyto(figures, cosines(queries, np.where(unknown, ids, -1), vectors), where=unknown)
        return figures

    def _asked(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        """The answers of the searchers. Raises Unavailable for one that is missing, unless allowed."""
        arguments = self._without_missing(arguments)
        try:
            answers = self._call(method, arguments)
        except StoreError as problem:
            self.on_damage(problem)
            raise
        lost = [
            shard
            for shard, (argument, answer) in enumerate(zip(arguments, answers, strict=True))
            if argument is not None and answer is None
        ]
        if lost and not self._allow_partial:
            raise Unavailable(
                f"shards {', '.join(map(str, lost))} of the index do not answer; try again, or accept "
                "answers without them: xsearch serve --allow-partial"
            )
        self.missing = self.missing | set(lost)
        return answers

    def _without_missing(self, arguments: Sequence[tuple[Any, ...] | None]) -> list[tuple[Any, ...] | None]:
        return [None if shard in self.missing else each for shard, each in enumerate(arguments)]


def _portion(subset: Subset | None, shard: int) -> Portion | None:
    if subset is None:
        return None
    assert isinstance(subset, _Shared)
    return Portion(subset.key, subset.parts[shard], subset.bits, subset.share)
