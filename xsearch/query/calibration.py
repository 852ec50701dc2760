"""The null model: cosines of unrelated items, for each pair of modalities.

In a joint space two pictures are closer than a picture and the sound that belongs to it (the modality gap,
Liang et al., NeurIPS 2022, arXiv:2203.02053), so that a cosine alone says little. Fisher's z, the arctanh of
the cosine of x of the query's modality and y of the item's, is taken to be normal for unrelated x and y. Its
median and its upper standard deviation, up to the quantile that is one above the median of a normal
distribution, give `balanced`, which makes modalities comparable, and `expected`: how many of N unrelated
items would be as near, as BLAST's E-value (Karlin and Altschul, PNAS 87, 1990).

Some of the sampled items *are* related. A higher quantile is among them and hides the answers; a lower one
says little about the tail. With plain cosines, which end at 1, even copies of an item look like chance in a
modality whose items are alike (benchmarks/none.py).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot

__all__ = [
    "UNKNOWN_SHARE",
    "Baseline",
    "Calibration",
    "Samples",
    "Scales",
    "baselines",
    "calibrate",
    "fisher",
    "pooled",
]

SAMPLE = 256  # items per modality: the centre of a pair is then known to about a tenth of its spread
SEED = 0
UNKNOWN_SHARE = 0.5  # of the words of a text: above it its vector says nothing about it
ONE_ABOVE = 0.8413  # quantile of a normal distribution, one standard deviation above its median
LARGEST = 0.9995  # cosine: the same item, but for a float16's rounding
SCALE = "arctanh"  # of stored figures; earlier ones were cosines


def fisher(cosines: np.ndarray) -> np.ndarray:
    """Fisher's z-transform, arctanh, of cosines limited to LARGEST."""
    return np.arctanh(np.clip(cosines, -LARGEST, LARGEST))


def upper_tail(deviations: np.ndarray) -> np.ndarray:
    """The probability that a normal figure is as many standard deviations above its median: float64."""
    halves = [math.erfc(x) for x in (deviations.ravel() / math.sqrt(2)).tolist()]
    return np.array(halves, np.float64).reshape(deviations.shape) / 2


@dataclass(frozen=True, slots=True)
class Baseline:
    """Median of Fisher's z and its standard deviation upwards. `count`: items of the modality with fewer."""

    centre: float
    spread: float
    count: int


def baselines(cosines: np.ndarray) -> np.ndarray:
    """Centre and spread of each row of cosines, float32 [N, n], n > 0: float64 [2, N]."""
    ordered = np.sort(cosines, axis=1)
    centres, above = (fisher(_quantile(ordered, q)) for q in (0.5, ONE_ABOVE))
    return np.stack([centres, above - centres])


def pooled(centres: np.ndarray, spreads: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The baseline of all figures along the last axis together, if those are normal: [3, ...]."""
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
class Scales:
    """What cosines of queries with items are compared with: float32 [Q, modalities] each, of Fisher's z."""

    centres: np.ndarray
    spreads: np.ndarray  # of unrelated items
    units: np.ndarray  # of `balanced`

    def __getitem__(self, rows: slice) -> Scales:
        return Scales(self.centres[rows], self.spreads[rows], self.units[rows])

    def balanced(self, cosines: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """(z - centre) / unit. cosines: [Q, c]; kinds: their items' modalities, int [Q, c]."""
        centres, units = (np.take_along_axis(some, kinds, axis=1) for some in (self.centres, self.units))
        return (fisher(cosines) - centres) / units

    def chances(self, cosines: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """The probability of each cosine or a higher one with an unrelated item: float64 [Q, c]."""
        centres, spreads = (np.take_along_axis(some, kinds, axis=1) for some in (self.centres, self.spreads))
        return upper_tail((fisher(cosines) - centres) / spreads)

    def least(self, chances: np.ndarray) -> np.ndarray:
        """The cosine that has a probability of `chances`, [modalities]: float32 [Q, modalities].

        -inf for 1 and more; inf where not even LARGEST is as improbable.
        """
        normal = NormalDist()
        above = [
            -math.inf if chance >= 1 else -normal.inv_cdf(chance) if chance > 0 else math.inf
            for chance in chances.tolist()
        ]
        z = self.centres + self.spreads * np.array(above, np.float32)
        return np.where(np.abs(z) > math.atanh(LARGEST), np.copysign(np.inf, z), np.tanh(z))


@dataclass(frozen=True, slots=True)
class Calibration:
    """The baseline of every pair of modalities in a collection."""

    pairs: Mapping[tuple[Modality, Modality], Baseline]
    next_id: int = 0  # of the collection when it was measured: later items have this id or a higher one

    def to_dict(self) -> dict[str, Any]:
        """For the manifest. A pair is named "image,audio" and has [centre, spread, count]."""
        pairs = {f"{a},{b}": [u.centre, u.spread, u.count] for (a, b), u in self.pairs.items()}
        return {"next_id": self.next_id, "scale": SCALE, "pairs": pairs}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any] | None) -> Calibration:
        """Without pairs if none is stored, or of another scale. Raises ValueError for impossible figures."""
        if stored is None:
            return cls({})
        kinds = {name: tuple(map(Modality, name.split(","))) for name in stored["pairs"]}
        pairs = {(a, b): Baseline(*stored["pairs"][name]) for name, (a, b) in kinds.items()}
        if not np.isfinite([astuple(pair) for pair in pairs.values()]).all():
            raise ValueError("not finite")
        return cls(pairs, stored["next_id"]) if stored.get("scale") == SCALE else cls({})


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


def calibrate(snapshot: Snapshot, samples: Samples | None = None) -> Calibration:
    """Measure all pairs on samples of the items. An item is not compared with itself."""
    samples = samples or Samples(snapshot)
    pairs: dict[tuple[Modality, Modality], Baseline] = {}
    for a, b in combinations_with_replacement(samples.kinds, 2):
        cosines = samples.vectors(a) @ samples.vectors(b).T  # [A, B]
        count = min(cosines.shape)
        if a == b:
            cosines = cosines[np.triu_indices(count, k=1)]
        if cosines.size:
            centre, spread = baselines(cosines.reshape(1, -1))[:, 0].tolist()
            pairs[a, b] = pairs[b, a] = Baseline(centre, spread, count)
    return Calibration(pairs, snapshot.manifest.next_id)
