"""From a query to hits: candidates, filter, exact re-rank, a common scale for all kinds, metadata.

Nothing that is shared changes while searching: parameters travel with the call.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from xsearch.errors import UsageError
from xsearch.index import SCAN, exact
from xsearch.query.calibrate import Calibration, Usual
from xsearch.types import Hit, Modality, Rank

if TYPE_CHECKING:
    from xsearch.index import Index, Subset
    from xsearch.query.expression import Embedded
    from xsearch.store import Snapshot

__all__ = ["as_modalities", "search", "search_many"]

SAME = 0.995  # cosine above which two items of one kind look or sound the same
FILTERS = 8  # whose items are remembered
CLOCK = re.compile(
    r"\b(now|today|age|(get_)?current_\w+)\b", re.I
)  # a filter with these passes other items later
GROW = 4  # how much deeper to look when folding has left too few hits


@dataclass(frozen=True, slots=True)
class _Group:
    """Items that compete with each other, and where they are."""

    ids: np.ndarray  # int64, ascending
    outside: np.ndarray  # those of them that the index does not hold
    inside: int  # how many it holds
    subset: Subset | None  # which these are, where it holds others too

    @classmethod
    def of(cls, index: Index | None, ids: np.ndarray) -> _Group:
        if index is None or len(ids) <= SCAN:
            return cls(ids, ids, 0, None)
        covered = index.covers(ids)
        inside = int(covered.sum())
        subset = index.subset(ids[covered]) if 0 < inside < len(index.ids) else None
        return cls(ids, ids[~covered], inside, subset)


class _Layout:
    """The live items by kind and by filter, and what of them an index holds: made once for a snapshot."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._ids = snapshot.ids
        kinds, self._codes = np.unique(snapshot.modalities, return_inverse=True)  # [N]
        self._kinds: list[str] = kinds.tolist()
        self._known: tuple[Index | None, dict[Any, list[_Group]]] = None, {}

    def groups(
        self,
        snapshot: Snapshot,
        index: Index | None,
        where: str | None,
        kinds: list[Modality] | None,
        *,
        apart: bool,
    ) -> list[_Group]:
        """The items that may answer, each kind for itself if they are to be kept `apart`; none is empty.

        snapshot: the one that this was made for. The last FILTERS answers are kept, but for those of CLOCK.
        """
        wanted = [kind for kind in self._kinds if kinds is None or kind in kinds]
        parts = [[kind] for kind in wanted] if apart else [wanted]
        if self._known[0] is not index:
            self._known = index, {}
        known, key = self._known[1], (where, apart, *wanted)
        if (groups := known.get(key)) is None:
            ids, codes = self._ids, self._codes
            if where is not None:
                ids = snapshot.select(where)
                codes = codes[np.searchsorted(self._ids, ids)]
            groups = [_Group.of(index, ids[np.isin(self._kinds, part)[codes]]) for part in parts]
            groups = [group for group in groups if len(group.ids)]
            if not CLOCK.search(where or ""):
                for old in list(known)[: 1 - FILTERS]:
                    known.pop(old, None)  # another thread may have done it
                known[key] = groups
        return groups


LAYOUTS: WeakKeyDictionary[Snapshot, _Layout] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class _Found:
    """Candidates, best first: parallel arrays of length n."""

    ids: np.ndarray  # int64
    kinds: np.ndarray  # str
    cosines: np.ndarray  # float32
    balanced: np.ndarray  # float32
    vectors: np.ndarray  # float32 [n, dim]

    def __getitem__(self, rows: np.ndarray) -> _Found:
        return _Found(
            self.ids[rows], self.kinds[rows], self.cosines[rows], self.balanced[rows], self.vectors[rows]
        )

    def by(self, rank: Rank) -> np.ndarray:
        """The figures that make the order."""
        return self.balanced if rank == "balanced" else self.cosines


def search(snapshot: Snapshot, index: Index | None, query: Embedded, **how: Any) -> list[Hit]:
    """`search_many` with one query."""
    return search_many(snapshot, index, [query], **how)[0]


def search_many(
    snapshot: Snapshot,
    index: Index | None,
    queries: Sequence[Embedded],
    *,
    top: int = 10,
    modality: Modality | str | Sequence[Modality | str] | None = None,
    where: str | None = None,
    rank: Rank | str = Rank.BALANCED,
    min_cosine: float | None = None,
    unique: bool = False,
) -> list[list[Hit]]:
    """For each query the `top` items nearest to it, best first; fewer only if fewer match.

    index: None, or one that covers some of the items; the rest is scanned.
    modality, where: which items may answer; `where` is one SQL expression over the item columns.
    rank: "cosine", or "balanced": how many spreads above the usual cosine of these two kinds, so that no
        kind crowds out the others. With one kind to choose from, both give the same order.
    min_cosine: the least cosine.
    unique: of items of one kind with the same bytes (windows of one file, copies) or a cosine above SAME
        to each other, keep the best.

    Raises UsageError for impossible arguments, BadFilter for `where`.
    """
    if top < 1:
        raise UsageError(f"top: expected at least 1, got {top}")
    if rank not in tuple(Rank):
        raise UsageError(f"rank: expected {' or '.join(Rank)}, got {rank!r}")
    rank = Rank(rank)
    kinds = as_modalities(modality)
    layout = LAYOUTS.get(snapshot) or LAYOUTS.setdefault(snapshot, _Layout(snapshot))
    groups = layout.groups(snapshot, index, where, kinds, apart=rank == "balanced")
    if not groups or not queries:
        return [[] for _ in queries]
    calibration = Calibration.from_dict(snapshot.manifest.calibration)
    vectors = np.stack([query.vector for query in queries])
    near = [_nearest(snapshot, index, vectors, group, top) for group in groups]
    found = []
    for row, query in enumerate(queries):
        usual = calibration.usual(query, snapshot)
        of_query = [ids[row] for ids in near]
        if unique:
            best = _unlike(snapshot, index, query, groups, of_query, top, usual, rank, min_cosine)
        else:
            best = _least(_ranked(snapshot, query, np.concatenate(of_query), usual, rank), min_cosine)
        found.append(best[np.arange(min(top, len(best.ids)))])
    return _hits(snapshot, found, rank)


def _unlike(
    snapshot: Snapshot,
    index: Index | None,
    query: Embedded,
    groups: list[_Group],
    near: list[np.ndarray],
    top: int,
    usual: dict[Modality, Usual],
    rank: Rank,
    min_cosine: float | None,
) -> _Found:
    """The best of all groups that are no near duplicates; looks deeper where too few are left.

    near: ids that contain the `top` nearest of each group.
    """
    depth, unfinished = top, list(range(len(groups)))  # groups that may have more to say
    while True:
        fetched = _ranked(snapshot, query, np.concatenate(near), usual, rank)
        found = _least(fetched, min_cosine)
        found = found[_representatives(snapshot, found, top)]
        bar = found.by(rank)[top - 1] if len(found.ids) >= top else -np.inf
        worst = {
            at: fetched[np.flatnonzero(np.isin(fetched.ids, near[at]))[:depth][-1:]] for at in unfinished
        }
        unfinished = [
            at
            for at in unfinished
            if len(groups[at].ids) > depth
            and (worst[at].by(rank) > bar).all()
            and (min_cosine is None or (worst[at].cosines >= min_cosine).all())
        ]
        if not unfinished:
            return found
        depth *= GROW
        for at in unfinished:
            near[at] = _nearest(snapshot, index, query.vector[None], groups[at], depth)[0]


def _least(found: _Found, min_cosine: float | None) -> _Found:
    return found if min_cosine is None else found[np.flatnonzero(found.cosines >= min_cosine)]


def as_modalities(given: Modality | str | Sequence[Modality | str] | None) -> list[Modality] | None:
    """One kind, several or none, or None for all, as a list. Raises UsageError for a name that is no kind."""
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    unknown = [name for name in names if name not in list(Modality)]
    if unknown:
        raise UsageError(f"modality: expected {', '.join(Modality)}; got {unknown[0]!r}")
    return [Modality(name) for name in names]


def _nearest(
    snapshot: Snapshot, index: Index | None, vectors: np.ndarray, group: _Group, k: int
) -> list[np.ndarray]:
    """For each row of vectors, ids that contain its k nearest of the group: few are scanned, many are asked
    of the index."""
    scanned, asked = group.ids, 0
    if index is not None and group.inside:
        candidates = index.candidates(k)
        if group.inside > SCAN + candidates:  # which the re-rank has to read too
            scanned, asked = group.outside, candidates
    found = [np.empty((len(vectors), 0), np.int64)]
    if len(scanned):
        found.append(exact(vectors, snapshot.blocks(scanned), min(k, len(scanned)))[1])
    if index is not None and asked:
        found.append(index.search(vectors, asked, allowed=group.subset)[1])
    return [ids[ids >= 0] for ids in np.concatenate(found, axis=1)]


def _ranked(
    snapshot: Snapshot, query: Embedded, ids: np.ndarray, usual: dict[Modality, Usual], rank: Rank
) -> _Found:
    """Exact cosines with the stored vectors, balanced scores, best first; ties by id."""
    vectors = snapshot.vectors(ids)  # [n, dim]
    kinds = snapshot.modalities[np.searchsorted(snapshot.ids, ids)]
    cosines = vectors @ query.vector  # [n]
    centre = np.array([usual[Modality(kind)].centre for kind in kinds], np.float32)
    spread = np.array([usual[Modality(kind)].spread for kind in kinds], np.float32)
    balanced = (cosines - centre) / spread
    order = np.lexsort((ids, -(balanced if rank == "balanced" else cosines)))
    return _Found(ids, kinds, cosines, balanced, vectors)[order]


def _representatives(snapshot: Snapshot, found: _Found, top: int) -> np.ndarray:
    """int64 rows, ascending: the best of every group of near duplicates, at most `top`."""
    digests = snapshot.items(found.ids, columns=["sha256"])["sha256"].to_pylist()
    kept: list[int] = []
    seen: set[tuple[str, str]] = set()
    for row, key in enumerate(zip(found.kinds, digests, strict=True)):
        same_kind = [other for other in kept if found.kinds[other] == found.kinds[row]]
        if key in seen or (found.vectors[same_kind] @ found.vectors[row] > SAME).any():
            continue
        seen.add(key)
        kept.append(row)
        if len(kept) == top:
            break
    return np.array(kept, np.int64)


def _hits(snapshot: Snapshot, found: list[_Found], rank: Rank) -> list[list[Hit]]:
    """With the metadata, which is read once for all queries."""
    rows = iter(snapshot.items(np.concatenate([one.ids for one in found])).to_pylist())
    return [[_hit(next(rows), one, at, rank) for at in range(len(one.ids))] for one in found]


def _hit(row: dict[str, Any], found: _Found, at: int, rank: Rank) -> Hit:
    own = {name: row.pop(name) for name in ("id", "path", "start_s", "end_s", "text")}
    kind = Modality(row.pop("modality"))
    extra = {name: value for name, value in row.items() if value is not None}
    score = float(found.by(rank)[at])
    cosine, balanced = float(found.cosines[at]), float(found.balanced[at])
    return Hit(at + 1, score, cosine, balanced, modality=kind, extra=extra, **own)
