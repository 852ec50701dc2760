"""From the vectors of a query to what a decoder of pictures draws well: across the modality gap."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from xsearch.generate.config import Crossing
from xsearch.query import Embedded, search, vector
from xsearch.types import Modality, Rank

if TYPE_CHECKING:
    from xsearch.query import View

__all__ = ["NEIGHBOURS", "Nearest", "cross", "crossed", "nearest_in"]

NEIGHBOURS = 4  # pictures of the collection that a prior is the mean of
KINDS = list(Modality)

Nearest = Callable[[np.ndarray], np.ndarray]  # unit vector [D] -> unit vectors [n, D] of the nearest pictures


def nearest_in(view: View) -> Nearest:
    """The pictures of a collection as a prior."""

    def nearest(direction: np.ndarray) -> np.ndarray:
        query = Embedded(vector(direction, Modality.IMAGE), direction, direction[None], 1.0)
        hits = search(view, query, top=NEIGHBOURS, modality=Modality.IMAGE, rank=Rank.COSINE)
        return view.snapshot.vectors(np.array([hit.id for hit in hits], np.int64))

    return nearest


def crossed(
    query: Embedded, means: np.ndarray, crossings: Mapping[Modality, Crossing], nearest: Nearest | None = None
) -> tuple[np.ndarray, float]:
    """The vector of a query as `cross` makes it."""
    kinds = [part.modality or Modality.IMAGE for part in query.query.parts]  # an embedded part has one
    weights = np.array([part.weight for part in query.query.parts], np.float32)
    return cross(query.parts, kinds, weights, means, crossings, nearest)


def cross(
    parts: np.ndarray,
    kinds: list[Modality],
    weights: np.ndarray,
    means: np.ndarray,
    crossings: Mapping[Modality, Crossing],
    nearest: Nearest | None = None,
) -> tuple[np.ndarray, float]:
    """A unit vector float32 [D], and the level of noise that it is drawn with.

    parts: [P, D], unit rows of these kinds. means: [kinds, D], in order of Modality. Every part is shifted
    as its kind is; noise and prior are those of the kinds by absolute weight. nearest: None: no prior.
    """
    chosen = [crossings.get(kind, Crossing()) for kind in kinds]
    pictures = means[KINDS.index(Modality.IMAGE)]
    parts = np.stack(
        [
            _unit(part + pictures - means[KINDS.index(kind)]) if crossing.shift else part
            for part, kind, crossing in zip(parts, kinds, chosen, strict=True)
        ]
    )
    shares = np.abs(weights) / np.abs(weights).sum()
    noise = float(shares @ [crossing.noise for crossing in chosen])
    prior = float(shares @ [crossing.prior for crossing in chosen])
    vector = _unit(weights @ parts)
    if prior and nearest is not None and len(near := nearest(vector)):
        vector = _unit((1 - prior) * vector + prior * _unit(near.mean(axis=0)))
    return vector, noise


def _unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / max(float(np.linalg.norm(x)), 1e-9), np.float32)
