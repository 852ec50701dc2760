"""One scale for the cosines of a query with the items of all modalities.

Each part of a query has a baseline in each modality of items (`calibration`): of the pair of modalities, or,
if the collection lacks the part's modality (words, in a folder of pictures), of the part itself with samples
of the items. Baselines of few items are shrunk towards those of all items, and those of the parts add up to
that of the query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from xsearch.query.calibration import Calibration, Samples, baselines, pooled
from xsearch.system.lookup import flat_places
from xsearch.system.threads import without_blas_threads
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.query.embedding import Embedded

__all__ = ["CODES", "Scales", "Scaling"]

LARGEST = 0.9995  # cosine: the same item, but for a float16's rounding
# Shrinkage, for collections of a few items, whose cosines say little
PRIOR = 2  # items that the baseline of all modalities counts for; it leads while a modality has one or two
GENERAL = np.array([0, 0.25, 0.25, 8])[:, None, None]  # pooled with all: of 8 items in random directions
SPREAD_FLOOR = 0.02  # a model that tells nothing apart by less
WIDTH_FLOOR = 0.14  # the same, of vectors
FEW_ALIKE = 4  # unrelated items that are added to each modality
CODES = {kind: code for code, kind in enumerate(Modality)}  # as `Snapshot.kinds` has them


@dataclass(frozen=True, slots=True)
class Scales:
    """What the cosines of queries with items are compared with: float32 [Q, modalities] each."""

    centres: np.ndarray
    units: np.ndarray  # of `balanced`
    deviations: np.ndarray  # of Fisher's z of the cosines of unrelated items

    def __getitem__(self, rows: slice | np.ndarray) -> Scales:
        return Scales(self.centres[rows], self.units[rows], self.deviations[rows])

    def balanced(self, cosines: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """Units above the centre. cosines: [Q, c]; kinds: modalities of their items, int [c] or [Q, c]."""
        at = flat_places(kinds, self.centres.shape)
        return (cosines - self.centres.take(at)) / self.units.take(at)

    def chances(self, cosines: np.ndarray, kinds: np.ndarray) -> np.ndarray:
        """The probability that an unrelated item is as near: float64 [Q, c]."""
        at = flat_places(kinds, self.centres.shape)
        z = _fisher(cosines, self.centres.take(at)) / self.deviations.take(at)
        halves = [math.erfc(x) for x in (z.ravel() / math.sqrt(2)).tolist()]
        return np.array(halves, np.float64).reshape(z.shape) / 2


def _fisher(cosines: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Fisher's z of cosines, as far as they are above their centres on the way to 1."""
    above = (cosines - centres) / (1 - centres)
    return np.arctanh(np.minimum(np.maximum(above, -LARGEST), LARGEST))  # `clip` takes twice as long


def _bounded(baselines: np.ndarray) -> np.ndarray:
    """Centre, spread and deviation, [3, ...], within what cosines can have."""
    centres, spreads = np.clip(baselines[:1], -LARGEST, LARGEST), np.maximum(baselines[1:], SPREAD_FLOOR)
    return np.concatenate([centres, spreads])


def _single(query: Embedded) -> int:
    """The modality of a query of one part that counts in full, as its code; -1 for others."""
    match query.query.parts:
        case [part] if part.weight == query.norm:
            return CODES[Modality(str(part.modality))]
    return -1


class Scaling:
    """Queries -> `Scales`, by the calibration of a collection and samples of its items."""

    def __init__(self, samples: Samples, calibration: Calibration) -> None:
        self._samples = samples
        self._calibration = calibration

    def of(self, queries: Sequence[Embedded]) -> Scales:
        """The scales of each query.

        `balanced` has the unit spread^b width^(1 - b), where `width` is the distance of the items from the
        mean of their modality and b = (2 - share) / 3 with the share of the heaviest part in the weights: 1/3
        for one part. Where answers are far above the rest the spread of a pair is wide, and dividing by it
        alone would set them back. A sum needs more of it: else items of one part's modality would answer for
        that part only. (benchmarks/ranking.py and answers.py compare other ways.)
        """
        codes = [_single(query) for query in queries]
        if self._calibrated.issuperset(codes):
            return self._of_singles[np.array(codes)]
        weights = [np.abs([part.weight for part in query.query.parts]) for query in queries]
        shares = np.array([[some.max() / some.sum()] for some in weights], np.float32)
        return self._scaled(self.baselines(queries), shares)

    @cached_property
    def _calibrated(self) -> frozenset[int]:
        """The modalities, as their codes, whose pairs are all known."""
        return frozenset(np.flatnonzero(~np.isnan(self._of_modalities[0]).any(axis=1)).tolist())

    @cached_property
    def _of_singles(self) -> Scales:
        """The scales of a query of one part, by its modality, with NaN if pairs lack."""
        return self._scaled(_bounded(self._of_modalities), np.ones((len(Modality), 1), np.float32))

    def _scaled(self, baselines: np.ndarray, shares: np.ndarray) -> Scales:
        """baselines: float32 [3, Q, modalities]. shares: of the heaviest part, float32 [Q, 1]."""
        centres, spreads, deviations = baselines
        power = (2 - shares) / 3
        units = spreads**power * self._widths ** (1 - power)
        return Scales(centres, units, _fisher(centres + deviations, centres))

    def baselines(self, queries: Sequence[Embedded]) -> np.ndarray:
        """Centre, spread and deviation of each query's cosines: float32 [3, Q, modalities].

        With parts q_i of unit length, weights w_i and n = |sum w_i q_i|, the query is v = sum (w_i / n) q_i
        and cos(v, x) = sum (w_i / n) cos(q_i, x). Over the items x of one modality, and over the queries that
        might have stood in place of q_i, therefore

            centre = sum (w_i / n) centre_i     and     spread^2 = sum (w_i / n)^2 spread_i^2

        where centre_i and spread_i are the baseline of q_i, and the parts are taken to be independent: no
        worse than to compare the sum itself with a sample (benchmarks/ranking.py). They are not where they
        agree, or one is subtracted from the other. But v is as long as each of them, and its cosines with
        unrelated items deviate as theirs do: by the root mean square, weighted by w_i^2 (benchmarks/none.py).
        """
        counts = [len(query.query.parts) for query in queries]
        firsts = np.cumsum([0, *counts[:-1]])
        weights = [part.weight / query.norm for query in queries for part in query.query.parts]
        shares = np.array(weights, np.float32)[:, None]  # [P, 1]
        parts = shares * self._of_parts(queries)  # [3, P, modalities]
        parts[1:] **= 2
        sums = np.add.reduceat(parts, firsts, axis=1)  # [3, Q, modalities]
        sums[2] /= np.add.reduceat(shares**2, firsts)
        sums[1:] = np.sqrt(sums[1:])
        return _bounded(sums)

    def _of_parts(self, queries: Sequence[Embedded]) -> np.ndarray:
        """Baselines of all parts of all queries: float32 [3, P, modalities]."""
        codes = [CODES[Modality(str(part.modality))] for query in queries for part in query.query.parts]
        parts = self._of_modalities[:, codes]
        lacking = np.isnan(parts[0]).any(axis=1)
        if lacking.any():
            measured = self._measured(np.concatenate([query.parts for query in queries])[lacking])
            stored = self._pairs[:, np.array(codes)[lacking]]  # [4, U, present]
            parts[:, lacking] = self._shrunk(np.where(np.isnan(stored), measured, stored))
        return parts

    @cached_property
    def _of_modalities(self) -> np.ndarray:
        """Baselines of parts by modality: float32 [3, modalities, modalities], with NaN if pairs lack."""
        return self._shrunk(self._pairs)

    @cached_property
    def _pairs(self) -> np.ndarray:
        """The calibration: float64 [4, modalities, present modalities], NaN for pairs that it lacks."""
        table = np.full((4, len(Modality), len(self._samples.kinds)), np.nan)
        for at, kind in enumerate(self._samples.kinds):
            for other, code in CODES.items():
                if pair := self._calibration.pairs.get((other, kind)):
                    table[:, code, at] = astuple(pair)
        return table

    def _shrunk(self, figures: np.ndarray) -> np.ndarray:
        """Centre, spread and deviation in all modalities, shrunk towards their pooled baseline.

        figures: float64 [4, n, present], with counts. Returns float32 [3, n, modalities]; 0, 1 and 1 for
        modalities that the collection lacks.
        """
        general = np.broadcast_to(GENERAL, (*figures.shape[:2], 1))
        overall = pooled(np.concatenate([figures, general], axis=2))[..., None]  # [4, n, 1]
        overall[3] = PRIOR
        both = np.stack([figures, np.broadcast_to(overall, figures.shape)], axis=-1)
        shrunk = np.zeros((3, figures.shape[1], len(Modality)), np.float32)
        shrunk[1:] = 1
        shrunk[:, :, [CODES[kind] for kind in self._samples.kinds]] = pooled(both)[:3]
        return shrunk

    def _measured(self, vectors: np.ndarray) -> np.ndarray:
        """Centre, spread, deviation and count of the cosines of `vectors` with each present modality.

        vectors: float32 [U, dim], of modalities that the collection lacks. How far the cosines of one vector
        deviate depends on what it shows; their deviation is averaged with that of the item's modality in
        other pairs (benchmarks/none.py). Returns float64 [4, U, present].
        """
        samples, starts = self._samples.together
        with without_blas_threads:
            cosines = vectors @ samples.T
        measured = np.empty((4, len(vectors), len(self._samples.kinds)))
        for at, part in enumerate(np.split(cosines, starts, axis=1)):  # [U, n] of each present modality
            measured[:3, :, at], measured[3, :, at] = baselines(part), part.shape[1]
        squares = measured[2] ** 2
        measured[2] = np.sqrt(np.where(np.isnan(self._squares), squares, (squares + self._squares) / 2))
        return measured

    @cached_property
    def _squares(self) -> np.ndarray:
        """Mean square deviation of each present modality in its calibrated pairs, NaN for none: float64."""
        squares = [column[~np.isnan(column)] ** 2 for column in self._pairs[2].T]
        return np.array([some.mean() if len(some) else np.nan for some in squares])

    @cached_property
    def _widths(self) -> np.ndarray:
        """How far the items of each modality are from their mean, at least WIDTH_FLOOR: float32 [modalities].

        Of unit vectors with a mean cosine c it is sqrt(1 - c); a few items are taken to be less alike.
        """
        widths = np.ones(len(Modality), np.float32)
        for kind in self._samples.kinds:
            vectors = self._samples.vectors(kind)
            n, square = len(vectors), float((vectors.sum(axis=0) ** 2).sum())
            if n > 1:
                alike = (square - n) / (n * (n - 1)) * n / (n + FEW_ALIKE)
                widths[CODES[kind]] = math.sqrt(max(1 - alike, WIDTH_FLOOR**2))
        return widths
