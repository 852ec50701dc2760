"""Baseline cosines of pairs of modalities: centre, spread and deviation.

In a joint space two pictures are closer than a picture and the sound that belongs to it (the modality gap,
Liang et al., NeurIPS 2022, arXiv:2203.02053). `balanced = (cosine - centre) / spread` makes them comparable.
The centre is the median of cosine(x, y) for x of the query's modality and y of the item's; the spread is the
standard deviation of a normal distribution with this median and the same 95th percentile, because answers are
in the upper tail. With the sample's standard deviation, queries of one modality are answered worse than by
bare cosines, and with the median absolute deviation all are (benchmarks/ranking.py, which also compares
quotas and CSLS).

`expected` says whether there is an answer: how many of N unrelated items would be as near, as BLAST's E-value
(Karlin and Altschul, PNAS 87, 1990). Under the null model, Fisher's z of the fraction of the way from the
centre to 1, arctanh((cosine - centre) / (1 - centre)), is normal for unrelated x and y. Its deviation is read
off the 84th percentile, one standard deviation above a normal median: some of the sampled pairs *are*
related, so that higher quantiles would hide the answers, and lower ones say little about the tail. Without
the transform, even copies of an item look like chance in a modality whose items are alike, since cosines end
at 1 (benchmarks/none.py).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields
from functools import cached_property
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from xsearch.system.threads import without_blas_threads
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = [
    "Baseline",
    "Calibration",
    "Samples",
    "baselines",
    "calibrate",
    "pooled",
]

LOG = logging.getLogger("xsearch")

SAMPLE = 256  # items per modality: the centre of a pair is then known to about a tenth of its spread
SEED = 0
TAIL, NORMAL_TAIL = 0.95, 1.645  # a quantile, and how many standard deviations it is above a normal median
ONE_ABOVE = 0.8413  # the quantile that is one above it


@dataclass(frozen=True, slots=True)
class Baseline:
    """The median of a pair's cosines, and their standard deviation by two quantiles."""

    centre: float
    spread: float  # by TAIL
    deviation: float  # of unrelated items: by ONE_ABOVE
    count: int  # of items, in the modality that has fewer

    @classmethod
    def of(cls, cosines: np.ndarray, count: int) -> Baseline:
        """cosines: float32 [n], n > 0."""
        centre, spread, deviation = baselines(cosines[None])[:, 0].tolist()
        return cls(centre, spread, deviation, count)


def baselines(cosines: np.ndarray) -> np.ndarray:
    """Centre, spread and deviation of each row of cosines, float32 [N, n], n > 0: float64 [3, N]."""
    ordered = np.sort(cosines, axis=1)
    centres, highs, ones = (_quantile(ordered, q) for q in (0.5, TAIL, ONE_ABOVE))
    return np.stack([centres, (highs - centres) / NORMAL_TAIL, ones - centres])


def pooled(figures: np.ndarray) -> np.ndarray:
    """Baselines pooled along the last axis, as means and variances of normals: [4, ..., n] -> [4, ...]."""
    centres, *spreads, counts = figures
    count = counts.sum(axis=-1)
    centre = (counts * centres).sum(axis=-1) / count
    between = (centres - centre[..., None]) ** 2
    squares = [(counts * (some**2 + between)).sum(axis=-1) / count for some in spreads]
    return np.stack([centre, *np.sqrt(squares), count])


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
        """For the manifest. A pair is named "image,audio" and has [centre, spread, deviation, count]."""
        pairs = {f"{a},{b}": list(astuple(pair)) for (a, b), pair in self.pairs.items()}
        return {"next_id": self.next_id, "pairs": pairs}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | None) -> Calibration:
        """The stored calibration; without pairs if there is none, or one of an earlier release.

        Raises ValueError if it is anything else.
        """
        if stored is None:
            return cls({})
        pairs, next_id = stored.get("pairs"), stored.get("next_id")
        if not isinstance(pairs, dict) or not _is_count(next_id):
            raise ValueError("not pairs of modalities and an id")
        if not all(isinstance(figures, list) and all(map(_is_figure, figures)) for figures in pairs.values()):
            raise ValueError("not finite")
        if any(len(figures) < len(fields(Baseline)) for figures in pairs.values()):
            return cls({})
        known: dict[tuple[Modality, Modality], Baseline] = {}
        for name, (centre, spread, deviation, count) in pairs.items():
            a, b = map(Modality, name.split(","))
            if not (-2 <= centre <= 2 and 0 <= spread <= 2 and 0 <= deviation <= 2 and _is_count(count)):
                raise ValueError(f"{name}: no cosines")
            known[a, b] = Baseline(centre, spread, deviation, count)
        return cls(known, next_id)

    @classmethod
    def stored(cls, snapshot: Snapshot) -> Calibration:
        """That of a snapshot, without pairs if `verify` would report it: it is measured again."""
        try:
            return cls.from_dict(snapshot.manifest.calibration)
        except ValueError as problem:
            LOG.warning("invalid calibration in %s: %s; it is measured again", snapshot.path, problem)
            return cls({})


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_figure(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf


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
            known = ids[~snapshot.unread[snapshot.rows(ids)]]
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


def calibrate(snapshot: Snapshot, samples: Samples | None = None) -> Calibration:
    """Measure all pairs on samples of the items. An item is not compared with itself."""
    samples = samples or Samples(snapshot)
    pairs: dict[tuple[Modality, Modality], Baseline] = {}
    for a, b in combinations_with_replacement(samples.kinds, 2):
        rows, columns = samples.vectors(a), samples.vectors(b)
        with without_blas_threads:  # whose number would change the last bits
            cosines = rows @ columns.T  # [A, B]
        count = min(cosines.shape)
        if a == b:
            cosines = cosines[np.triu_indices(count, k=1)]
        if cosines.size:
            pairs[a, b] = pairs[b, a] = Baseline.of(cosines.ravel(), count)
    return Calibration(pairs, snapshot.manifest.next_id)
