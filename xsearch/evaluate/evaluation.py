"""What an evaluation finds, and what all of them measure: a matrix of modalities and their gaps."""

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

    vectors: float32 [N, dim] of each modality, for the picture.
    """

    figures: dict[str, Any]
    vectors: Mapping[Modality, np.ndarray] = field(default_factory=dict)


def relation(a: Modality, b: Modality) -> str:
    """Whether ImageBind's recipe trains a pair of modalities, or it emerges, or one tower serves both."""
    seen = [kind in (Modality.IMAGE, Modality.VIDEO) for kind in (a, b)]
    if a == b or all(seen):
        return "same"
    return "trained" if any(seen) else "emergent"


def matrix(
    vectors: Mapping[Modality, np.ndarray],
    relevant: Callable[[Modality, Modality], Relevant],
    *,
    queries: int | None = None,
) -> list[dict[str, Any]]:
    """A row for each ordered pair of modalities. Within one modality a query does not find itself.

    relevant: what is right for the queries of one modality among the items of another, as in `metrics`.
    queries: only the first so many of each modality ask; all of them answer.
    """
    return [
        {"query": str(a), "answer": str(b), "relation": relation(a, b)}
        | nearest(vectors[a][:queries], vectors[b], relevant(a, b), skip_self=a == b)
        for a in vectors
        for b in vectors
    ]


def gaps(vectors: Mapping[Modality, np.ndarray]) -> list[dict[str, Any]]:
    """The distance between the means of every two modalities."""
    return [
        {"a": str(a), "b": str(b), "distance": modality_gap(vectors[a], vectors[b])}
        for a, b in combinations(vectors, 2)
    ]
