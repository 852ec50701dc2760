"""What is a usual cosine? It depends on the two kinds, so answers of different kinds need a common scale.

In a joint space two pictures are closer than a picture and the sound that belongs to it (the modality gap,
Liang et al., NeurIPS 2022, arXiv:2203.02053). `balanced = (cosine - centre) / spread`, with the median of
cosine(x, y) for x of the query's kind and y of the item's kind, and how far the high ones are above it, makes
them comparable. Answers are among the high ones, which the rest tells little about: with the standard
deviation as the spread, queries of one kind are answered worse than by bare cosines, and with the median
absolute deviation all are (benchmarks/ranking.py, which also compares quotas and CSLS).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.query.expression import Embedded
    from xsearch.store import Snapshot

__all__ = ["Calibration", "Usual", "calibrate"]

SAMPLE = 256  # items per kind: the centre of a pair is then known to about a tenth of its spread
SEED = 0
PRIOR = 8  # cosines that the pooled figure counts for; it leads while a kind has only a few items
TAIL, NORMAL_TAIL = 0.95, 1.645  # a quantile, and how many standard deviations it is above a normal median
SPREAD_FLOOR = 1e-3  # two rounding steps of a float16 near 1: less is not a difference


@dataclass(frozen=True, slots=True)
class Usual:
    """Median of `count` cosines, and their standard deviation as far as the high ones tell it."""

    centre: float
    spread: float
    count: int

    @classmethod
    def of(cls, cosines: np.ndarray) -> Usual:
        if not cosines.size:
            return NOTHING
        centre, high = np.quantile(cosines, (0.5, TAIL))
        return cls(float(centre), float(high - centre) / NORMAL_TAIL, cosines.size)

    @classmethod
    def pooled(cls, parts: list[Usual]) -> Usual:
        """The figures of all the cosines together, were they normal."""
        count = sum(part.count for part in parts)
        if not count:
            return NOTHING
        centre = sum(part.count * part.centre for part in parts) / count
        square = sum(part.count * (part.spread**2 + (part.centre - centre) ** 2) for part in parts) / count
        return cls(centre, square**0.5, count)


NOTHING = Usual(0.0, 1.0, 0)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The usual cosine of every pair of kinds in a collection."""

    pairs: Mapping[tuple[Modality, Modality], Usual]
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
        pairs = {(a, b): Usual(*stored["pairs"][name]) for name, (a, b) in kinds.items()}
        return cls(pairs, stored["next_id"])

    def usual(self, query: Embedded, snapshot: Snapshot) -> dict[Modality, Usual]:
        """For every kind in the collection: the usual cosine of this query with its items.

        With parts q_i of unit length, weights w_i and n = |sum w_i q_i|, the query is v = sum (w_i / n) q_i
        and cos(v, x) = sum (w_i / n) cos(q_i, x). Over the items x of one kind, and over the queries that
        might have stood in place of q_i, therefore

            centre = sum (w_i / n) centre_i     and     spread^2 = sum (w_i / n)^2 spread_i^2

        where centre_i and spread_i belong to (kind of q_i, kind of x) and the parts are taken to be
        independent: no worse than to compare the sum itself with a sample (benchmarks/ranking.py). A part
        whose kind the collection does not hold (words, in a folder of pictures) is compared with a sample of
        the items itself. Kinds with few items lean on the pooled figure.
        """
        samples = _Samples(snapshot)
        weights = np.array([part.weight for part in query.query.parts]) / query.norm  # [P]
        per_part = [
            self._of_part(part.modality, vector, samples)
            for part, vector in zip(query.query.parts, query.parts, strict=True)
        ]
        usual = {}
        for kind in samples.kinds:
            of_kind = [known[kind] for known in per_part]
            centre = sum(w * u.centre for w, u in zip(weights, of_kind, strict=True))
            variance = sum((w * u.spread) ** 2 for w, u in zip(weights, of_kind, strict=True))
            usual[kind] = Usual(float(centre), max(float(variance) ** 0.5, SPREAD_FLOOR), of_kind[0].count)
        return usual

    def _of_part(self, q: Modality, vector: np.ndarray, samples: _Samples) -> dict[Modality, Usual]:
        known = {m: self.pairs[q, m] for m in samples.kinds if (q, m) in self.pairs}
        for m in samples.kinds:
            if m not in known:
                known[m] = Usual.of(samples.vectors(m) @ vector)
        pooled = Usual.pooled(list(known.values()))
        if pooled.count:
            prior = Usual(pooled.centre, pooled.spread, PRIOR)
            known = {m: Usual.pooled([own, prior]) for m, own in known.items()}
        return known


def calibrate(snapshot: Snapshot) -> Calibration:
    """Measure the pairs on at most SAMPLE items of each kind. An item is not compared with itself."""
    samples = _Samples(snapshot)
    pairs: dict[tuple[Modality, Modality], Usual] = {}
    for a, b in combinations_with_replacement(samples.kinds, 2):
        cosines = samples.vectors(a) @ samples.vectors(b).T  # [A, B]
        if a == b:
            cosines = cosines[np.triu_indices(len(cosines), k=1)]
        pairs[a, b] = pairs[b, a] = Usual.of(cosines)
    measured = {pair: usual for pair, usual in pairs.items() if usual.count}
    return Calibration(measured, snapshot.manifest.next_id)


class _Samples:
    """The same few items of each kind for the same snapshot, read when first needed."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._read: dict[Modality, np.ndarray] = {}
        self.kinds = list(snapshot.counts())

    def vectors(self, kind: Modality) -> np.ndarray:
        """float32 [n, dim], n <= SAMPLE."""
        if kind not in self._read:
            ids = self._snapshot.select(modalities=[kind])
            if len(ids) > SAMPLE:
                ids = np.sort(np.random.default_rng(SEED).choice(ids, SAMPLE, replace=False))
            self._read[kind] = self._snapshot.vectors(ids)
        return self._read[kind]
