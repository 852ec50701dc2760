"""The spectrum of a sample: how many dimensions, and how many bits for each, a code needs.

A code keeps the first principal directions, rotated so that all have the same variance, and quantises them.
Its mean squared error is what it leaves out, and what the quantiser leaves of the rest. How that compares
with the squared distance between neighbours decides how many candidates it takes to find the true ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["GOOD", "Code", "Spectrum", "best_code", "codes"]

# Share of the variance that a product quantiser leaves, by bits per dimension (measured on Gaussian data with
# 16 centroids for 1, 2, 4 and 8 dimensions; 256 for 1)
LEFT = {8: 0.0004, 4: 0.014, 2: 0.11, 1: 0.35, 0.5: 0.61}
IN_LISTS = 0.6  # of the variance is within the lists of an IVF (measured: 0.45 to 0.73)
GOOD = 0.1  # error relative to the neighbours: below, a re-rank of k x 4 finds 0.97 of the best (measured)
NEIGHBOUR = 10
ROWS, QUERIES = 10_000, 256  # of the sample that are looked at


@dataclass(frozen=True, slots=True)
class Code:
    """A product quantiser behind a rotation."""

    kept: int  # dimensions after the rotation
    sub: int  # quantisers
    bits: int  # of each

    @property
    def bytes(self) -> int:
        return -(-self.sub * self.bits // 8)

    @property
    def rate(self) -> float:
        """Bits per dimension."""
        return self.bits * self.sub / self.kept


@dataclass(frozen=True, slots=True)
class Spectrum:
    """How the vectors of a sample are spread."""

    variance: np.ndarray  # float64 [D], of the principal directions, descending
    near: float  # median squared distance to the 10th neighbour

    @classmethod
    def of(cls, sample: np.ndarray) -> Spectrum:
        """sample: float32 [s, D], unit rows, s >= 1."""
        some = sample[:: -(-len(sample) // ROWS)].astype(np.float64)
        few = some[:: -(-len(some) // QUERIES)]
        centred = some - some.mean(axis=0)
        variance = np.linalg.eigvalsh(centred.T @ centred / len(some))[::-1].clip(0)
        nearest = np.sort(2 - 2 * few @ some.T, axis=1)[:, : NEIGHBOUR + 1]  # the first is itself
        return cls(variance, max(float(np.median(nearest[:, -1])), 1e-6))

    def share(self, kept: int) -> float:
        """Of the variance that the first `kept` directions have."""
        return float(self.variance[:kept].sum() / max(self.variance.sum(), 1e-12))

    def error(self, code: Code) -> float:
        """Predicted mean squared error of `code` / squared distance between neighbours."""
        share = self.share(code.kept)
        return float(self.variance.sum()) * (1 - share + share * IN_LISTS * LEFT[code.rate]) / self.near


def codes(dim: int, bits: int, subs: Iterable[int]) -> list[Code]:
    """What there is to choose from for `dim` dimensions: 1, 2, 4, 8 or 16 of them for each quantiser."""
    found = [Code(sub * each, sub, bits) for sub in subs for each in (1, 2, 4, 8, 16)]
    return [code for code in found if code.kept <= dim and code.rate in LEFT]


def best_code(choices: list[Code], spectrum: Spectrum, most_bytes: int) -> Code:
    """The shortest whose error is GOOD, else the best of at most `most_bytes`, else the shortest of all."""
    least = min(code.bytes for code in choices)
    fitting = [code for code in choices if code.bytes <= max(most_bytes, least)]
    good = [code for code in fitting if spectrum.error(code) <= GOOD]
    return min(good or fitting, key=lambda code: (code.bytes if good else 0, spectrum.error(code), code.kept))
