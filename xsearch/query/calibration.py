"""Baseline cosines: what is to be expected of each pair of modalities, so that answers share one scale.

In a joint space two pictures are closer than a picture and the sound that belongs to it (the modality gap,
Liang et al., NeurIPS 2022, arXiv:2203.02053). `balanced = (cosine - centre) / spread`, with the median of
cosine(x, y) for x of the query's modality and y of the item's, and how far the high ones are above it, makes
them comparable. Answers are among the high ones, which the rest says little about: with the standard
deviation as the spread, queries of one modality are answered worse than by bare cosines, and with the median
absolute deviation all are (benchmarks/ranking.py, which also compares quotas and CSLS).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = ["UNKNOWN_SHARE", "Baseline", "Calibration", "Samples", "baselines", "calibrate", "pooled"]

SAMPLE = 256  # items per modality: the centre of a pair is then known to about a tenth of its spread
SEED = 0
UNKNOWN_SHARE = 0.7  # of a text's words: captions with more find their pictures no better than by chance
TAIL, NORMAL_TAIL = 0.95, 1.645  # a quantile, and how many standard deviations it is above a normal median


@dataclass(frozen=True, slots=True)
class Baseline:
    """Median of `count` cosines, and their standard deviation as estimated from the high ones."""

    centre: float
    spread: float
    count: int

    @classmethod
    def of(cls, cosines: np.ndarray) -> Baseline:
        """cosines: float32 [n], n > 0."""
        centre, spread, count = baselines(cosines[None])[:, 0].tolist()
        return cls(centre, spread, int(count))


def baselines(cosines: np.ndarray) -> np.ndarray:
    """Centre, spread and count of each row of cosines, float32 [N, n], n > 0: float64 [3, N]."""
    ordered = np.sort(cosines, axis=1)
    centres, highs = (_quantile(ordered, q) for q in (0.5, TAIL))
    return np.stack([centres, (highs - centres) / NORMAL_TAIL, np.full(len(ordered), cosines.shape[1])])


def pooled(centres: np.ndarray, spreads: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The baseline of all cosines along the last axis together, if those are normal: [3, ...]."""
    count = counts.sum(axis=-1)
    centre = (counts * centres).sum(axis=-1) / count
    square = (counts * (spreads**2 + (centres - centre[..., None]) ** 2)).sum(axis=-1) / count
    return np.stack([centre, np.sqrt(square), count])


def _quantile(ordered: np.ndarray, q: float) -> np.ndarray:
    """Of each sorted row, linearly interpolated; np.quantile takes ten times as long for short rows."""
    at = q * (ordered.shape[1] - 1)
    low, high = int(at), math.ceil(at)
    return np.asarray(ordered[:, low] + (at - low) * (ordered[:, high] - ordered[:, low]), np.float64)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The baseline of every pair of modalities in a collection."""

    pairs: Mapping[tuple[Modality, Modality], Baseline]
    next_id: int = 0  # of the collection when it was measured: later items have this id or a higher one

    def to_dict(self) -> dict[str, Any]:
        """For the manifest. A pair is named "image,audio" and has [centre, spread, count]."""
        pairs = {f"{a},{b}": [u.centre, u.spread, u.count] for (a, b), u in self.pairs.items()}
        return {"next_id": self.next_id, "pairs": pairs}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | None) -> Calibration:
        if stored is None:
            return cls({})
        kinds = {name: tuple(map(Modality, name.split(","))) for name in stored["pairs"]}
        pairs = {(a, b): Baseline(*stored["pairs"][name]) for name, (a, b) in kinds.items()}
        return cls(pairs, stored["next_id"])


class Samples:
    """At most SAMPLE items of each modality of a snapshot, always the same, read on first access."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._vectors: dict[Modality, np.ndarray] = {}
        self.kinds = list(snapshot.counts())

    def vectors(self, kind: Modality) -> np.ndarray:
        """float32 [n, dim], n <= SAMPLE."""
        if kind not in self._vectors:
            snapshot = self._snapshot
            ids = snapshot.select(modalities=[kind])
            known = ids[snapshot.unknown_shares[snapshot.rows(ids)] <= UNKNOWN_SHARE]
            ids = known if len(known) else ids
            if len(ids) > SAMPLE:
                ids = np.sort(np.random.default_rng(SEED).choice(ids, SAMPLE, replace=False))
            self._vectors[kind] = snapshot.vectors(ids)
        return self._vectors[kind]

    @cached_property
    def together(self) -> tuple[np.ndarray, list[int]]:
        """The vectors of all kinds, float32 [n, dim], and where those of each but the first begin."""
        vectors = [self.vectors(kind) for kind in self.kinds]
        return np.concatenate(vectors), np.cumsum([len(some) for some in vectors])[:-1].tolist()


def calibrate(snapshot: Snapshot) -> Calibration:
    """Measure all pairs on samples of the items. An item is not compared with itself."""
    samples = Samples(snapshot)
    pairs: dict[tuple[Modality, Modality], Baseline] = {}
    for a, b in combinations_with_replacement(samples.kinds, 2):
        cosines = samples.vectors(a) @ samples.vectors(b).T  # [A, B]
        if a == b:
            cosines = cosines[np.triu_indices(len(cosines), k=1)]
        if cosines.size:
            pairs[a, b] = pairs[b, a] = Baseline.of(cosines.ravel())
    return Calibration(pairs, snapshot.manifest.next_id)
