"""The result of an evaluation, and the sections that all share: the matrix of modalities, their gaps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from xsearch.evaluate.metrics import Relevant, modality_gap, nearest
from xsearch.types import Modality

__all__ = ["Evaluation", "gaps", "matrix", "relation"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Figures by section, fit for JSON: retrieval, zero_shot, words, matrix, composition, gap and others.

    vectors: float32 [N, dim] of each modality, for the chart.
    """

    figures: dict[str, Any]
    vectors: Mapping[Modality, np.ndarray] = field(default_factory=dict)


def relation(a: Modality, b: Modality) -> str:
    """ "trained" if ImageBind's recipe trains this pair, "same" if both share a tower, else "emergent"."""
    visual = [modality in (Modality.IMAGE, Modality.VIDEO) for modality in (a, b)]
    if a == b or all(visual):
        return "same"
    return "trained" if any(visual) else "emergent"


def matrix(
    vectors: Mapping[Modality, np.ndarray],
    relevant: Callable[[Modality, Modality], Relevant],
    *,
    queries: int | None = None,
) -> list[dict[str, Any]]:
    """The figures of `nearest` for each ordered pair of modalities; a query is not its own answer.

    relevant: the relevance of items of the second modality to queries of the first, as in `metrics`.
    queries: use only this many of each modality as queries, but all as items.
    """
    return [
        {"query": str(a), "answer": str(b), "relation": relation(a, b)}
        | nearest(vectors[a][:queries], vectors[b], relevant(a, b), skip_self=a == b)
        for a in vectors
        for b in vectors
    ]


def gaps(vectors: Mapping[Modality, np.ndarray]) -> list[dict[str, Any]]:
    """The modality gap of every two modalities."""
    return [
        {"a": str(a), "b": str(b), "distance": modality_gap(vectors[a], vectors[b])}
        for a, b in combinations(vectors, 2)
    ]
