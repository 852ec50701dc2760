"""Near duplicates in an answer, folded under the best of them, with a count.

The server's `unique` leaves them out; the page also says how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from xsearch.query.ranking import SAME
from xsearch.serve.contract import Hit, Item
from xsearch.store import Snapshot

__all__ = ["Fold", "folded"]


@dataclass(frozen=True, slots=True)
class Fold:
    """A hit, and those below it that look or sound the same."""

    hit: Hit | Item
    count: int  # of the others


def folded(hits: Sequence[Hit], snapshot: Snapshot) -> list[Fold]:
    """Return the best of every group of near duplicates, in the order of `hits`: see `Ranked.distinct`."""
    if not hits:
        return []
    vectors = snapshot.vectors(np.array([hit.id for hit in hits], np.int64))  # [n, dim]
    kept: list[int] = []
    counts: dict[int, int] = {}
    by_content: dict[tuple[str, str], int] = {}
    for row in sorted(range(len(hits)), key=lambda row: hits[row].rank):
        hit = hits[row]
        alike = [other for other in kept if hits[other].modality == hit.modality]
        near = vectors[alike] @ vectors[row]
        content = str(hit.modality), str(hit.extra.get("sha256") or hit.id)
        first = by_content.get(content)
        if first is None and len(near) and near.max() > SAME:
            first = alike[int(near.argmax())]
        if first is not None:
            counts[first] += 1
            continue
        by_content[content] = row
        counts[row] = 0
        kept.append(row)
    return [Fold(hits[row], counts[row]) for row in sorted(kept)]
