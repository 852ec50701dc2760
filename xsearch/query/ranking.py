"""From vectors to ranked items: candidates, exact cosines, and one scale for all modalities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from xsearch.index import promising
from xsearch.query.fusion import DEPTH, fuse, match_words
from xsearch.system.lookup import flat_places, is_in
from xsearch.types import Match, Modality, Rank
from xsearch.words import NOTHING, Matches

if TYPE_CHECKING:
    from xsearch.query.embedding import Embedded
    from xsearch.query.options import Options
    from xsearch.query.scales import Scales
    from xsearch.query.view import Group, View
    from xsearch.store import Snapshot

__all__ = ["Ranked", "Ranking"]

ITSELF = 0.999  # cosine of a query with the same item: bfloat16 and a batch move it by 0.0005
SAME = 0.995  # cosine above which two items of one modality look or sound the same
FEWEST = 10  # items of a modality for `Hits.found`: one item is near by chance in any collection of one
GROW = 4  # how much deeper to look when folding has left too few hits


@dataclass(frozen=True, slots=True)
class Ranked:
    """Items in the order of one query, best first: parallel arrays of length n, NaN for unknown figures."""

    ids: np.ndarray  # int64
    kinds: np.ndarray  # int8
    scores: np.ndarray  # float32: the figure that made the order
    cosines: np.ndarray  # float32
    balanced: np.ndarray  # float32
    expected: np.ndarray  # float64
    bm25: np.ndarray  # float32
    passing: np.ndarray  # bool: false of those that are out of bounds, which come last
    nearest: np.ndarray  # float64, the same for all: `Hits.nearest_expected`

    @classmethod
    def by_words(cls, matches: Matches, snapshot: Snapshot) -> Ranked:
        unknown = np.full(len(matches), np.nan, np.float32)
        kinds, passing = snapshot.kinds_of(matches.ids), np.ones(len(matches), bool)
        figures = unknown, unknown, unknown, matches.bm25
        return cls(matches.ids, kinds, matches.bm25, *figures, passing, unknown)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, rows: np.ndarray | slice) -> Ranked:
        return Ranked(*(column[rows] for column in _columns(self)))

    def __add__(self, other: Ranked) -> Ranked:
        return Ranked(*map(np.concatenate, zip(_columns(self), _columns(other), strict=True)))

    def passing_only(self) -> Ranked:
        """Without those that are out of bounds, which come last."""
        return self if self.passing.all() else self[: np.count_nonzero(self.passing)]

    def passing_first(self) -> Ranked:
        return self[np.argsort(~self.passing, kind="stable")]

    def distinct(self, snapshot: Snapshot, top: int) -> Ranked:
        """The best of every group of near duplicates, at most `top`."""
        digests = snapshot.items(self.ids, columns=["sha256"])["sha256"].to_pylist()
        vectors = snapshot.vectors(self.ids)
        kept: list[int] = []
        visited: set[tuple[int, str]] = set()
        for row, (kind, digest) in enumerate(zip(self.kinds.tolist(), digests, strict=True)):
            same_kind = [other for other in kept if self.kinds[other] == kind]
            if (kind, digest) in visited or (np.vecdot(vectors[same_kind], vectors[row]) > SAME).any():
                continue
            if digest:  # else unknown, which equals nothing
                visited.add((kind, digest))
            kept.append(row)
            if len(kept) == top:
                break
        return self[np.array(kept, np.int64)]


_columns: Callable[[Ranked], tuple[np.ndarray, ...]] = attrgetter(*(field.name for field in fields(Ranked)))


@dataclass(frozen=True, slots=True)
class _Batch:
    """Queries as arrays."""

    vectors: np.ndarray  # float32 [Q, dim]
    scales: Scales
    itself: np.ndarray  # int64 [Q, 1]: the query's own item, -1 for none
    queries: Sequence[Embedded]

    def __iter__(self) -> Iterator[_Batch]:
        """Each query as a batch of one."""
        for row in range(len(self.vectors)):
            one = slice(row, row + 1)
            yield _Batch(self.vectors[one], self.scales[one], self.itself[one], self.queries[one])


@dataclass(frozen=True, slots=True)
class Ranking:
    """Groups of items, and the options by which any number of queries rank them."""

    view: View
    groups: Sequence[Group]
    counts: np.ndarray  # int64 [modalities]: the items that may answer
    options: Options
    top: int

    @classmethod
    def of(cls, view: View, groups: Sequence[Group], options: Options) -> Ranking:
        counts = sum((group.counts for group in groups), np.zeros(len(Modality), np.int64))
        return cls(view, groups, counts, options, options.top)

    @property
    def kinds(self) -> int:
        """How many modalities may answer."""
        return int((self.counts > 0).sum())

    def answers(self, queries: Sequence[Embedded]) -> list[Ranked]:
        """The `top` best items of each query. Where fewer are in bounds, others follow them."""
        if not self.groups:
            return [Ranked.by_words(NOTHING, self.view.snapshot) for _ in queries]
        itself = np.array([[self._itself(query)] for query in queries])
        vectors = np.stack([query.vector for query in queries])
        batch = _Batch(vectors, self.view.scaling.of(queries), itself, queries)
        if self.options.matching is not Match.BOTH:
            return self._nearest(batch)
        depth = max(self.top, DEPTH)
        known = [group for group in self.groups if group.is_known]
        matched = [
            match_words(self.view, self.groups if query.left_out else known, query.query, depth)
            for query in queries
        ]
        if not any(map(len, matched)):
            return self._nearest(batch)
        nearest = replace(self, top=depth)._nearest(batch)
        return [self._fused(*each) for each in zip(batch, nearest, matched, strict=True)]

    def _itself(self, query: Embedded) -> int:
        """The query's own item, the best of several that may answer; -1 for none."""
        ids = query.itself
        if len(ids):
            ids = ids[np.any([is_in(ids, group.ids) for group in self.groups], axis=0)]
        return int(ids[np.vecdot(self.view.snapshot.vectors(ids), query.vector).argmax()]) if len(ids) else -1

    def _nearest(self, batch: _Batch) -> list[Ranked]:
        """By vectors alone: texts that the model cannot read only after all others."""
        parts = [[group for group in self.groups if group.is_known is known] for known in (True, False)]
        first, *rest = [
            self if len(groups) == len(self.groups) else replace(self, groups=groups)
            for groups in parts
            if groups
        ]
        ranked = first._among_all(batch)
        if rest and min(one.passing.sum() for one in ranked) < self.top:
            both = zip(ranked, rest[0]._among_all(batch), strict=True)
            joined = [one + other[~is_in(other.ids, np.sort(one.ids))] for one, other in both]
            ranked = [one.passing_first()[: self.top] for one in joined]
        return ranked

    def _among_all(self, batch: _Batch) -> list[Ranked]:
        """By vectors alone, with all groups on a par."""
        if self.options.unique:
            return [self._distinct(one) for one in batch]
        parts = self.view.nearest(batch.vectors, self.groups, self.top)
        if len(parts) == 1:
            return self._ranked(batch, parts[0].ids, self.top)
        scores = np.concatenate([part.scores for part in parts], axis=1)
        ids = np.concatenate([part.ids for part in parts], axis=1)
        if self.view.index is not None:
            ids = self._promising(scores, ids, [part.ids.shape[1] for part in parts], batch)
        return self._ranked(batch, ids, self.top)

    def _promising(self, scores: np.ndarray, ids: np.ndarray, widths: list[int], batch: _Batch) -> np.ndarray:
        """The most promising candidates of several groups, by approximate cosines; see `index.promising`."""
        assert self.view.index is not None
        kinds = np.repeat([group.kind for group in self.groups], widths)
        scaled = batch.scales.balanced(scores, kinds)
        places = promising(scaled, widths, self.top, self.view.index.candidates(self.top))
        return ids if places is None else ids.take(flat_places(places, ids.shape))

    def _ranked(self, batch: _Batch, ids: np.ndarray, most: int | None = None) -> list[Ranked]:
        """Candidates, int64 [Q, c], -1 for none, by their exact figures: the `most` best first, ties by id.

        The query's own item comes first, among them or not, and what is out of bounds last. Figures are
        computed one query at a time, so that they do not depend on what shares the batch.
        """
        if (batch.itself >= 0).any():
            absent = (ids != batch.itself).all(axis=1, keepdims=True)
            ids = np.concatenate([ids, np.where(absent, batch.itself, -1)], axis=1)
        ids = np.sort(ids, axis=1)  # as they are stored
        exact, is_item = self.view.cosines(batch.vectors, ids), ids >= 0  # [Q, c]
        np.minimum(exact, 1, out=exact)  # vectors are of length 1 only up to rounding
        np.maximum(exact, -1, out=exact, where=is_item)
        kinds = self.view.snapshot.kinds_of(ids)
        balanced = batch.scales.balanced(exact, kinds)
        scores = balanced if self.options.rank == Rank.BALANCED else exact
        own = (ids == batch.itself) & is_item
        itself = (exact >= ITSELF) | own
        chances = self._chances(batch, ids, kinds, exact)
        expected = self.counts.take(kinds) * chances
        fewest = np.where(is_item, np.maximum(self.counts, FEWEST).take(kinds) * chances, np.inf)
        failing = exact < self._min_cosine
        if self.options.max_expected is not None:
            failing |= expected > self.options.max_expected
        place = 4 * failing - 2 * itself - own
        order = np.lexsort((ids, -scores, place), axis=1)[:, :most]
        at = flat_places(order, ids.shape)
        columns = ids, kinds, scores, exact, balanced, expected, ~failing
        *figures, passing = (column.take(at) for column in columns)
        bm25 = np.full(order.shape, np.nan, np.float32)
        nearest = np.full(order.shape, self.kinds * fewest.min(axis=1, keepdims=True))
        counts = (figures[0] >= 0).sum(axis=1).tolist()
        ranked = [Ranked(*of_one) for of_one in zip(*figures, bm25, passing, nearest, strict=True)]
        return [one if len(one) == n else one[:n] for one, n in zip(ranked, counts, strict=True)]

    @property
    def _min_cosine(self) -> float:
        return -np.inf if self.options.min_cosine is None else self.options.min_cosine

    def _chances(self, batch: _Batch, ids: np.ndarray, kinds: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """The probability that an unrelated item is as near: float64 [Q, c].

        Of a query's own items 0. Where words are not known, everything is as near as by chance.
        """
        chances = np.where(exact < ITSELF, batch.scales.chances(exact, kinds), 0)
        if not all(group.is_known for group in self.groups):
            chances[self.view.is_unread(ids)] = 1
        for row, query in enumerate(batch.queries):
            if query.is_unread:
                chances[row] = 1
            elif len(query.itself):
                chances[row, is_in(ids[row], query.itself)] = 0
        return chances

    def _fused(self, query: _Batch, nearest: Ranked, matches: Matches) -> Ranked:
        """The `top` best of the order of one query's nearest items fused with that of its words' matches.

        Of the first of both orders, the one with the words is the surer; what is near by chance comes after
        all matches. The query's own item comes before, but not whatever else the model cannot tell from it:
        it has the words too.
        """
        if not len(matches):
            return nearest[: self.top]
        ids, scores = fuse([matches.ids, nearest.ids[nearest.expected <= 1]])
        others = nearest.ids[~is_in(nearest.ids, np.sort(ids))]
        ids, scores = np.concatenate([ids, others]), np.pad(scores, (0, len(others)))
        (ranked,) = self._ranked(query, ids[None])
        bm25 = np.full(len(ids), np.nan, np.float32)
        bm25[_positions(matches.ids, ids)] = matches.bm25
        ranked = replace(ranked[_positions(ids, ranked.ids)], scores=scores, bm25=bm25)
        passing = ranked.passing | (~np.isnan(bm25) & (ranked.cosines >= self._min_cosine))
        order = np.argsort(np.isnan(bm25) | (ranked.cosines < ITSELF), kind="stable")
        ranked = replace(ranked, passing=passing)[order].passing_first()
        return self._folded(ranked) if self.options.unique else ranked[: self.top]

    def _folded(self, ranked: Ranked) -> Ranked:
        """The `top` best without duplicates, and without what is out of bounds unless all are."""
        passing = ranked.passing_only()
        return passing.distinct(self.view.snapshot, self.top) if len(passing) else ranked[: self.top]

    def _distinct(self, query: _Batch) -> Ranked:
        """The `top` best of one query without near duplicates; looks deeper where these leave too few."""
        near = [part.ids for part in self.view.nearest(query.vectors, self.groups, self.top)]
        depth, unfinished = self.top, list(range(len(self.groups)))
        while True:
            (fetched,) = self._ranked(query, np.concatenate(near, axis=1))
            folded = self._folded(fetched)
            bar = folded.scores[-1] if folded.passing.sum() >= self.top else -np.inf
            last = {at: fetched[np.isin(fetched.ids, near[at])][:depth][-1:] for at in unfinished}
            unfinished = [
                at
                for at in unfinished
                if len(self.groups[at].ids) > depth
                and (last[at].scores > bar).all()
                and last[at].passing.all()
            ]
            if not unfinished:
                return folded
            depth *= GROW
            for at in unfinished:
                near[at] = self.view.nearest(query.vectors, [self.groups[at]], depth)[0].ids


def _positions(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each of `ids` is in `among`, which contains them in any order."""
    order = np.argsort(among)
    return order[np.searchsorted(among, ids, sorter=order)]
