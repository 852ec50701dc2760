"""From queries to hits: by their words, by their vectors, or by both."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.query.embedding import embed
from xsearch.query.fusion import match_words, text_of
from xsearch.query.hits import Hits
from xsearch.query.options import Options
from xsearch.query.ranking import Ranked, Ranking
from xsearch.query.texts import knows, unknown_words
from xsearch.types import Match, Modality, Rank

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.query.embedding import Embedded
    from xsearch.query.expression import Query
    from xsearch.query.view import View
    from xsearch.store import Snapshot

__all__ = ["answer", "search", "search_many"]


def answer(view: View, queries: Sequence[Query], backend: Backend, options: Options) -> list[Hits]:
    """The hits of each query.

    A text of which the model has learned no word is answered by its words, if they are to be matched and
    some items have enough of them; else its hits are none, with the problem. backend: see `embed`.
    """
    if options.matching is Match.WORDS:
        return _by_words(view, queries, options)
    answers: dict[int, Hits] = {}  # by place among the queries
    texts = {at: text for at, query in enumerate(queries) if (text := text_of(query)) and not options.anyway}
    if unknown := [at for at, text in texts.items() if not knows(backend, text)]:
        answers = {at: Hits(problem=unknown_words(texts[at], backend)) for at in unknown}
        if options.matching is Match.BOTH and options.min_cosine is None:
            by_words = _by_words(view, [queries[at] for at in unknown], options, alone=False)
            answers |= {at: hits for at, hits in zip(unknown, by_words, strict=True) if hits}
    rest = [at for at in range(len(queries)) if at not in answers]
    kinds = options.modalities
    embedded = embed(
        [queries[at] for at in rest],
        backend,
        snapshot=view.snapshot,
        target=kinds[0] if kinds is not None and len(kinds) == 1 else None,
        anyway=options.anyway,
    )
    answers |= zip(rest, _by_vectors(view, embedded, options), strict=True)
    return [answers[at] for at in range(len(queries))]


def search(view: View, query: Embedded, **options: Any) -> Hits:
    """`search_many` with one query."""
    return search_many(view, [query], **options)[0]


def search_many(view: View, queries: Sequence[Embedded], **options: Any) -> list[Hits]:
    """For each query the items nearest to it, best first; options: see `Options`.

    Raises UsageError for impossible options, BadFilter for `where`.
    """
    chosen = Options(**options)
    if chosen.matching is Match.WORDS:
        return _by_words(view, [query.query for query in queries], chosen)
    return _by_vectors(view, queries, chosen)


def _by_vectors(view: View, queries: Sequence[Embedded], options: Options) -> list[Hits]:
    """Those that have the same items to choose from are answered together."""
    view = view.session()
    alike: dict[tuple[bool, bytes], list[int]] = {}
    for at, query in enumerate(queries):
        is_text = query.query.parts[0].modality is Modality.TEXT  # else a picture whose captions are unread
        anyway = options.anyway or (is_text and bool(view.is_unread(query.itself).any()))
        excluded = query.own.tobytes() if options.exclude_self else b""
        alike.setdefault((anyway, excluded), []).append(at)
    # each modality has a scale, or a bound, of its own
    apart = options.rank == Rank.BALANCED or options.max_expected is not None
    answers: dict[int, Hits] = {}
    for (anyway, excluded), rows in alike.items():
        groups = view.groups(options.where, options.modalities, apart=apart, anyway=anyway)
        ranking = Ranking.of(view, view.without(groups, np.frombuffer(excluded, np.int64)), options)
        some = [queries[at] for at in rows]
        ranked = ranking.answers(some)
        hits = _hits(view.snapshot, ranked, some, options, ranking.kinds, view.missing)
        answers |= zip(rows, hits, strict=True)
    return [answers[at] for at in range(len(queries))]


def _by_words(view: View, queries: Sequence[Query], options: Options, *, alone: bool = True) -> list[Hits]:
    """Items with all words of the query first, then by BM25. alone: see `match_words`."""
    for query in queries:
        if text_of(query) is None:
            raise UsageError(f"match: only a single text has words to match; search for {query!r} by meaning")
    groups = view.groups(options.where, options.modalities, apart=False)
    depth = len(view.snapshot) if options.unique else options.top
    ranked = []
    for query in queries:
        one = Ranked.by_words(match_words(view, groups, query, depth, alone=alone), view.snapshot)
        ranked.append(one.distinct(view.snapshot, options.top) if options.unique else one)
    return _hits(view.snapshot, ranked, [None for _ in queries], options)


def _hits(
    snapshot: Snapshot,
    ranked: Sequence[Ranked],
    queries: Sequence[Embedded | None],
    options: Options,
    kinds: int = 1,
    missing: Sequence[int] = (),
) -> list[Hits]:
    """Hits with their metadata, which is read once for all queries.

    kinds: how many modalities may answer. missing: shards that have not answered.
    """
    passing = [one.passing_only() for one in ranked]
    records = snapshot.records(np.concatenate([np.empty(0, np.int64), *(one.ids for one in passing)]))
    ends = accumulate(map(len, passing))
    hits = [
        Hits.of(
            one.ids,
            (one.scores, one.cosines, one.balanced, one.expected, one.bm25),
            partial(records, end - len(one), end),
            query,
            least if math.isfinite(least := float(np.fmin.reduce(near.nearest, initial=np.inf))) else None,
            kinds,
            missing,
        )
        for one, near, end, query in zip(passing, ranked, ends, queries, strict=True)
    ]
    return hits if options.sort is None else [each.by_date(options.sort) for each in hits]
