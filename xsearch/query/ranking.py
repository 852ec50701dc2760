"""From queries to hits: candidates, exact cosines, a common scale for all modalities, metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.index import cosines
from xsearch.query.fusion import DEPTH, as_match, fuse, match_words, text_of
from xsearch.query.hits import Hits
from xsearch.system.lookup import is_in
from xsearch.types import Match, Modality, Rank
from xsearch.words import NOTHING, Matches

if TYPE_CHECKING:
    from xsearch.query.calibration import Scales
    from xsearch.query.embedding import Embedded
    from xsearch.query.expression import Query
    from xsearch.query.view import Group, View
    from xsearch.store import Snapshot

__all__ = ["as_modalities", "search", "search_many", "search_words"]

ITSELF = 0.999  # cosine above which an item is what is searched for: bfloat16 and a batch move it by 0.0005
SAME = 0.995  # cosine above which two items of one modality look or sound the same
KEPT = 1.5  # candidates to re-rank, times those of one search
GROW = 4  # how much deeper to look when folding has left too few hits
KINDS = tuple(Modality)


@dataclass(frozen=True, slots=True)
class _Ranked:
    """The candidates of one query, best first: parallel arrays of length n."""

    ids: np.ndarray  # int64
    kinds: np.ndarray  # int8
    scores: np.ndarray  # float32: the figure that made the order
    cosines: np.ndarray  # float32
    balanced: np.ndarray  # float32
    expected: np.ndarray  # float64
    bm25: np.ndarray  # float32, NaN where words do not match
    passing: np.ndarray  # bool: false of those that are out of bounds, which come last

    def __getitem__(self, rows: np.ndarray | slice) -> _Ranked:
        return _Ranked(*(getattr(self, field.name)[rows] for field in fields(self)))

    def __add__(self, other: _Ranked) -> _Ranked:
        names = [field.name for field in fields(self)]
        return _Ranked(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))

    def sorted(self) -> _Ranked:
        """The same with those that are out of bounds after all others."""
        return self[np.argsort(~self.passing, kind="stable")]


def search(view: View, query: Embedded, **options: Any) -> Hits:
    """`search_many` with one query."""
    return search_many(view, [query], **options)[0]


def search_many(
    view: View,
    queries: Sequence[Embedded],
    *,
    top: int = 10,
    modality: Modality | str | Sequence[Modality | str] | None = None,
    where: str | None = None,
    rank: Rank | str = Rank.BALANCED,
    match: Match | str | None = None,
    min_cosine: float | None = None,
    max_expected: float | None = None,
    unique: bool = False,
    exclude_self: bool = False,
    anyway: bool = False,
) -> list[Hits]:
    """For each query the `top` items nearest to it, best first; fewer only if fewer match.

    modality, where: which items may answer; `where` is one SQL expression over the item columns.
    rank: "cosine", or "balanced": how many spreads above the baseline cosine of the two modalities, so that
        none crowds out the others. With one modality to choose from, both give the same order. In both an
        item with (nearly) the query's own vector comes first, and texts of words that the model has not
        learned come last, unless the query is one of them.
    match: for queries that are one text, "meaning": their vectors alone; "both": this order fused with that
        of the items with all content words, or most of them where none has all; "words": `search_words`.
        None: "both" if the rank is balanced. Other queries are answered by meaning.
    max_expected: leave out items if more of their modality would be as near by chance, unless their words
        match.
    unique: of items of one modality with the same bytes (windows of one file, copies) or a cosine above SAME
        to each other, keep the best.
    exclude_self: leave out the items of a query's own files and of their copies, `Embedded.own`.
    anyway: rank texts of words that the model has not learned as all others.

    Raises UsageError for impossible arguments, BadFilter for `where`.
    """
    if top < 1:
        raise UsageError(f"top: expected at least 1, got {top}")
    if rank not in tuple(Rank):
        raise UsageError(f"rank: expected {' or '.join(Rank)}, got {rank!r}")
    if min_cosine is not None and not -1 <= min_cosine <= 1:
        raise UsageError(f"min_cosine: expected -1 to 1, got {min_cosine}")
    match = as_match(match, rank, min_cosine)
    if match is Match.WORDS:
        asked = [query.query for query in queries]
        return search_words(view, asked, top=top, modality=modality, where=where, unique=unique)
    if max_expected is not None and not max_expected >= 0:
        raise UsageError(f"max_expected: expected 0 or more, got {max_expected}")
    kinds, bounds = as_modalities(modality), (-np.inf if min_cosine is None else min_cosine, max_expected)
    # as each modality has a scale, or a bound, of its own
    apart = rank == Rank.BALANCED or max_expected is not None
    alike: dict[tuple[bool, bytes], list[int]] = {}  # queries that are searched for among the same items
    for at, query in enumerate(queries):
        one = len(query.parts) == 1 and len(query.own) > 0
        is_unread = anyway or (one and bool(view.is_unread(query.own).any()))
        key = is_unread, query.own.tobytes() if exclude_self else b""
        alike.setdefault(key, []).append(at)
    answers: dict[int, Hits] = {}
    for (unread, own), rows in alike.items():
        groups = view.groups(where, kinds, apart=apart, anyway=unread)
        groups = view.without(groups, np.frombuffer(own, np.int64))
        ask = _Search(view, groups, top, Rank(rank), *bounds)
        some = [queries[at] for at in rows]
        answers |= zip(rows, _answers(ask, some, match, unique=unique), strict=True)
    return [answers[at] for at in range(len(queries))]


def _answers(ask: _Search, queries: Sequence[Embedded], match: Match, *, unique: bool) -> list[Hits]:
    """The hits of queries that are searched for among the same items."""
    view = ask.view
    if not ask.groups or not queries:
        return [Hits(query=query) for query in queries]
    vectors = np.stack([query.vector for query in queries])
    itself = np.array([[ask.itself(query)] for query in queries])
    counts = np.tile(np.sum([group.counts for group in ask.groups], axis=0), (len(queries), 1))
    batch = _Batch(vectors, view.scales(queries), itself, counts)
    depth, matched = max(ask.top, DEPTH), [NOTHING for _ in queries]
    if match is Match.BOTH:
        readable = [group for group in ask.groups if group.is_known]
        for at, query in enumerate(queries):
            groups = ask.groups if query.left_out else readable
            matched[at] = match_words(view, groups, [query.query], depth=depth)[0]
    if not any(map(len, matched)):
        return _hits(view.snapshot, ask.answers(batch, unique=unique), queries, batch.kinds)
    found = replace(ask, top=depth).answers(batch, unique=unique)
    each = zip(batch, found, matched, strict=True)
    fused = [ask.fused(one, near, matches, unique=unique) for one, near, matches in each]
    return _hits(view.snapshot, fused, queries, batch.kinds)


def search_words(
    view: View,
    queries: Sequence[Query],
    *,
    top: int = 10,
    modality: Modality | str | Sequence[Modality | str] | None = None,
    where: str | None = None,
    unique: bool = False,
    sure: bool = False,
) -> list[Hits]:
    """For each query, one text, the `top` items that match its words: all of them first, then by BM25.

    Needs no model. sure: only those that would count beside their vectors. Other arguments as for
    `search_many`. Raises UsageError for a query that is not one text.
    """
    for query in queries:
        if text_of(query) is None:
            raise UsageError(f"match: only a single text has words to match; search for {query!r} by meaning")
    groups = view.groups(where, as_modalities(modality), apart=False)
    if not groups or not queries:
        return [Hits() for _ in queries]
    found = []
    depth = len(view.snapshot) if unique else top
    for matches in match_words(view, groups, queries, depth=depth, alone=not sure):
        unknown = np.full(len(matches), np.nan, np.float32)
        kinds = view.snapshot.kinds_of(matches.ids)
        every = np.ones(len(matches), bool)
        figures = (matches.bm25, unknown, unknown, unknown, matches.bm25)
        ranked = _Ranked(matches.ids, kinds, *figures, every)
        found.append(ranked[_representatives(view.snapshot, ranked, top)] if unique else ranked)
    return _hits(view.snapshot, found, [None for _ in queries])


def as_modalities(given: Modality | str | Sequence[Modality | str] | None) -> list[Modality] | None:
    """One modality, several or none, or None for all, as a list. Raises UsageError for an unknown name."""
    if given is None:
        return None
    names = [given] if isinstance(given, str) else list(given)
    if unknown := [name for name in names if name not in KINDS]:
        raise UsageError(f"modality: expected {', '.join(Modality)}; got {unknown[0]!r}")
    return [Modality(name) for name in names]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Queries, as arrays."""

    vectors: np.ndarray  # float32 [Q, dim]
    scales: Scales
    itself: np.ndarray  # int64 [Q, 1]: the item that is searched for, -1 for none
    counts: np.ndarray  # int64 [Q, modalities]: the items that may answer

    @property
    def kinds(self) -> int:
        """How many modalities may answer."""
        return int((self.counts[0] > 0).sum())

    def __iter__(self) -> Iterator[_Batch]:
        """Each query as a batch of one."""
        for row in range(len(self.vectors)):
            yield _Batch(*(getattr(self, field.name)[row : row + 1] for field in fields(self)))


@dataclass(frozen=True, slots=True)
class _Search:
    """What all queries of one call have in common."""

    view: View
    groups: list[Group]
    top: int
    rank: Rank
    min_cosine: float
    max_expected: float | None

    def itself(self, query: Embedded) -> int:
        """The best of the query's own items that may answer, -1 for none; a sum has none."""
        if len(query.parts) > 1 or not len(query.own):
            return -1
        own = query.own[np.any([is_in(query.own, group.ids) for group in self.groups], axis=0)]
        return int(own[(self.view.snapshot.vectors(own) @ query.vector).argmax()]) if len(own) else -1

    def answers(self, batch: _Batch, *, unique: bool) -> list[_Ranked]:
        """The `top` best of each query, texts that the model cannot read after all others.

        Where not as many are in bounds, others follow them.
        """
        parts = [[group for group in self.groups if group.is_known is known] for known in (True, False)]
        first, *rest = [replace(self, groups=groups) for groups in parts if groups]
        found = first._all(batch, unique=unique)
        if rest and min(int(one.passing.sum()) for one in found) < self.top:
            both = zip(found, rest[0]._all(batch, unique=unique), strict=True)
            joined = [one + other[~is_in(other.ids, np.sort(one.ids))] for one, other in both]
            found = [one.sorted()[: self.top] for one in joined]
        return found

    def _all(self, batch: _Batch, *, unique: bool) -> list[_Ranked]:
        return [self.distinct(one) for one in batch] if unique else self.best(batch)

    def best(self, batch: _Batch) -> list[_Ranked]:
        """The `top` best of each query."""
        parts = self.view.nearest(batch.vectors, self.groups, self.top)
        scores = np.concatenate([part.scores for part in parts], axis=1)
        ids = np.concatenate([part.ids for part in parts], axis=1)
        if len(parts) > 1 and self.view.index is not None:
            ids = self._promising(scores, ids, [part.ids.shape[1] for part in parts], batch)
        return self._ranked(batch, ids, self.top)

    def _promising(self, scores: np.ndarray, ids: np.ndarray, widths: list[int], batch: _Batch) -> np.ndarray:
        """The most promising candidates by approximate cosines, KEPT times as many as one group has.

        At least some of each group: the codes of one modality may be off by more than those of another. That
        loses 0.002 of recall against a re-rank of all (measured).
        """
        assert self.view.index is not None
        least = -(-self.top // 2)
        keep = max(int(KEPT * self.view.index.candidates(self.top)), least * len(widths))
        if keep >= ids.shape[1]:
            return ids
        codes = np.repeat([group.kind for group in self.groups], widths)
        balanced = batch.scales.balanced(scores, codes)
        for part in np.split(balanced, np.cumsum(widths)[:-1], axis=1):  # views
            np.put_along_axis(part, np.argsort(-part, axis=1)[:, :least], np.inf, axis=1)
        return np.take_along_axis(ids, np.argpartition(-balanced, keep - 1, axis=1)[:, :keep], axis=1)

    def _ranked(self, batch: _Batch, ids: np.ndarray, most: int | None = None) -> list[_Ranked]:
        """Candidates, int64 [Q, c], -1 for none, by their exact figures: the `most` best first, ties by id.

        What is searched for comes first, among them or not, and what is out of bounds last. Figures are
        computed one query at a time, so that they do not depend on what shares the batch.
        """
        absent = (ids != batch.itself).all(axis=1, keepdims=True)
        if (absent & (batch.itself >= 0)).any():
            ids = np.concatenate([ids, np.where(absent, batch.itself, -1)], axis=1)
        exact = cosines(batch.vectors, ids, self.view.snapshot.vectors)  # [Q, c]
        kinds = self.view.snapshot.kinds_of(ids)
        balanced = batch.scales.balanced(exact, kinds)
        scores = balanced if self.rank is Rank.BALANCED else exact
        itself = (exact >= ITSELF) | ((ids == batch.itself) & (ids >= 0))
        failing = exact < self.min_cosine
        if self.max_expected is not None:
            failing |= self._expected(batch, ids, kinds, exact) > self.max_expected
        order = np.lexsort((ids, -scores, ~itself, failing), axis=1)[:, :most]
        ids, kinds, scores, exact, balanced, failing = (
            np.take_along_axis(some, order, axis=1) for some in (ids, kinds, scores, exact, balanced, failing)
        )
        expected = self._expected(batch, ids, kinds, exact)
        bm25 = np.full(ids.shape, np.nan, np.float32)
        columns = (ids, kinds, scores, exact, balanced, expected, bm25, ~failing)
        counts = (ids >= 0).sum(axis=1).tolist()
        return [_Ranked(*(column[q, :n] for column in columns)) for q, n in enumerate(counts)]

    def _expected(self, batch: _Batch, ids: np.ndarray, kinds: np.ndarray, exact: np.ndarray) -> np.ndarray:
        """How many of the items that may answer would be as near by chance: float64 [Q, c]."""
        chances = np.where(exact < ITSELF, batch.scales.chances(exact, kinds), 0)
        if not all(group.is_known for group in self.groups):  # where such a text is, it is by chance
            chances[self.view.is_unread(ids) & (ids != batch.itself)] = 1
        return np.take_along_axis(batch.counts, kinds, axis=1) * chances

    def fused(self, query: _Batch, nearest: _Ranked, matches: Matches, *, unique: bool) -> _Ranked:
        """The `top` best of the order of one query's nearest items fused with that of its words' matches.

        Of the first of both orders, the one with the words is the surer. What is searched for comes before,
        but not whatever else the model cannot tell from it: it has the words too.
        """
        if not len(matches):
            return nearest[: self.top]
        ids, scores = fuse([matches.ids, nearest.ids])
        (ranked,) = self._ranked(query, ids[None])
        bm25 = np.full(len(ids), np.nan, np.float32)
        bm25[_positions(matches.ids, ids)] = matches.bm25
        ranked = replace(ranked[_positions(ids, ranked.ids)], scores=scores, bm25=bm25)
        passing = ranked.passing | (~np.isnan(bm25) & (ranked.cosines >= self.min_cosine))
        order = np.argsort(np.isnan(bm25) | (ranked.cosines < ITSELF), kind="stable")
        return self._first(replace(ranked, passing=passing)[order].sorted(), unique=unique)

    def _first(self, ranked: _Ranked, *, unique: bool) -> _Ranked:
        """The `top` first; no duplicates and none out of bounds if they are to be unique, unless all are."""
        passing = ranked[: int(ranked.passing.sum())]
        if not unique or not len(passing.ids):
            return ranked[: self.top]
        return passing[_representatives(self.view.snapshot, passing, self.top)]

    def distinct(self, query: _Batch) -> _Ranked:
        """The `top` best of one query that are no near duplicates of each other."""
        near = [part.ids for part in self.view.nearest(query.vectors, self.groups, self.top)]
        depth, open_groups = self.top, list(range(len(self.groups)))  # that may have more to offer
        while True:
            (fetched,) = self._ranked(query, np.concatenate(near, axis=1))
            found = self._first(fetched, unique=True)
            bar = found.scores[-1] if found.passing.sum() >= self.top else -np.inf
            last = {
                at: fetched[np.flatnonzero(np.isin(fetched.ids, near[at]))[:depth][-1:]] for at in open_groups
            }
            open_groups = [
                at
                for at in open_groups
                if len(self.groups[at].ids) > depth
                and (last[at].scores > bar).all()
                and last[at].passing.all()
            ]
            if not open_groups:
                return found
            depth *= GROW
            for at in open_groups:
                near[at] = self.view.nearest(query.vectors, [self.groups[at]], depth)[0].ids


def _positions(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each of `ids` is in `among`, which contains them in any order."""
    order = np.argsort(among)
    return order[np.searchsorted(among, ids, sorter=order)]


def _representatives(snapshot: Snapshot, found: _Ranked, top: int) -> np.ndarray:
    """int64 rows, ascending: the best of every group of near duplicates, at most `top`."""
    digests = snapshot.items(found.ids, columns=["sha256"])["sha256"].to_pylist()
    vectors = snapshot.vectors(found.ids)
    kept: list[int] = []
    visited: set[tuple[int, str]] = set()
    for row, (kind, digest) in enumerate(zip(found.kinds.tolist(), digests, strict=True)):
        same_kind = [other for other in kept if found.kinds[other] == kind]
        if (kind, digest) in visited or (vectors[same_kind] @ vectors[row] > SAME).any():
            continue
        if digest:  # else unknown, which equals nothing
            visited.add((kind, digest))
        kept.append(row)
        if len(kept) == top:
            break
    return np.array(kept, np.int64)


def _hits(
    snapshot: Snapshot, found: list[_Ranked], queries: Sequence[Embedded | None], kinds: int = 1
) -> list[Hits]:
    """With the metadata, which is read once for all queries. kinds: modalities that may answer.

    Each modality has its chance to hold something as near, whence the factor.
    """
    passing = [one[: int(one.passing.sum())] for one in found]
    records = snapshot.records(np.concatenate([one.ids for one in passing]))
    ends = np.cumsum([len(one.ids) for one in passing]).tolist()
    return [
        Hits.of(
            (one.scores, one.cosines, one.balanced, one.expected, one.bm25),
            partial(records, end - len(one.ids), end),
            query,
            min((kinds * near.expected[~np.isnan(near.expected)]).tolist(), default=None),
        )
        for one, near, end, query in zip(passing, found, ends, queries, strict=True)
    ]
