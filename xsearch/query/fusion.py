"""Words and meaning together: one order from that of a full-text index and that of the vectors.

Reciprocal rank fusion (Cormack et al., SIGIR 2009): the score of an item is the sum of 1 / (60 + rank) over
the orders that contain it. BM25 and cosines have no common scale; ranks need none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xsearch.system.lookup import is_in
from xsearch.words import NOTHING, Matches

if TYPE_CHECKING:
    from xsearch.query.expression import Query
    from xsearch.query.view import Group, View

__all__ = ["DEPTH", "fuse", "match_words", "text_of"]

K = 60  # Cormack et al., section 2
DEPTH = 50  # of both orders that are fused, if no more hits are requested
# "a photo of a dog" names the medium and not what it shows
_MEDIUM = re.compile(
    r"^\s*(an?|the)?\s*(photo(graph)?|picture|image|drawing|video|clip|film|sound|noise|recording)s?\s+of\s+",
    re.IGNORECASE,
)
ENOUGH = 1 / 3  # share of a query's words, by weight, above which an item enters if none has all


def text_of(query: Query) -> str | None:
    """The words of a query that is one text, else None: of a sum, they say only a part of what is meant."""
    match query.parts:
        case [part] if part.weight > 0 and isinstance(part.source, str):
            return part.source
    return None


def match_words(
    view: View, groups: Sequence[Group], query: Query, depth: int, *, alone: bool = False
) -> Matches:
    """The items of `groups` that match the words of a query, best first, at most `depth`.

    They have all content words or, where none has, more than ENOUGH of them.
    alone: there is no other order. Then items may have fewer of the words, and words that are not indexed
        yet are read however long that takes.
    """
    text = text_of(query)
    words = view.words(required=alone) if groups and text else None
    if words is None or text is None:
        return NOTHING

    def passing(ids: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce([is_in(ids, group.ids) for group in groups])

    if alone:
        return words.search(text, passing, depth)[:depth]
    matches = words.search(_MEDIUM.sub("", text, count=1), passing, 1)
    complete = matches.shares == 1
    return matches[complete if complete.any() else matches.shares > ENOUGH][:depth]


def fuse(orders: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """One order of ids from several, best first: ids, int64, and their scores, float32.

    Of two with the same score, the one of the earlier order comes first.

    >>> ids, scores = fuse([np.array([7, 8]), np.array([9, 7])])
    >>> ids.tolist(), [f"{61 * score:.3f}" for score in scores]
    ([7, 9, 8], ['1.984', '1.000', '0.984'])
    """
    ids, first, at = np.unique(np.concatenate(orders), return_index=True, return_inverse=True)
    scores = np.bincount(at, np.concatenate([1 / (K + 1 + np.arange(len(order))) for order in orders]))
    best = np.lexsort((first, -scores))
    return ids[best], scores[best].astype(np.float32)
