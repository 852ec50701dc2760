"""Code selection from the spectrum of a sample: how many dimensions to keep, at how many bits each.

A code keeps the leading principal components, rotated to equal variance, and quantises them. Its mean
squared error is the variance of the dropped components plus the quantisation error of the kept ones.
Relative to the squared distance between neighbours, it determines how many candidates a re-rank needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

__all__ = ["GOOD", "Code", "Spectrum", "best_code", "codes"]

# Relative error of a product quantiser by bits per dimension (measured on Gaussian data with
# 16 centroids for 1, 2, 4 and 8 dimensions; 256 for 1)
DISTORTION = {8: 0.0004, 4: 0.014, 2: 0.11, 1: 0.35, 0.5: 0.61}
WITHIN = 0.6  # fraction of the variance within IVF lists (measured: 0.45 to 0.73)
GOOD = 0.1  # `Spectrum.error` below which re-ranking k x 4 candidates has recall 0.97 (measured)
NEIGHBOUR = 10
ROWS, QUERIES = 10_000, 256  # limits on the sample rows that are used


@dataclass(frozen=True, slots=True)
class Code:
    """A rotation followed by a product quantiser."""

    kept: int  # dimensions after the rotation
    sub: int  # sub-quantisers
    bits: int  # per sub-quantiser

    @property
    def bytes(self) -> int:
        return -(-self.sub * self.bits // 8)

    @property
    def rate(self) -> float:
        """Bits per dimension."""
        return self.bits * self.sub / self.kept


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Variances and neighbour distance of a sample."""

    variance: np.ndarray  # float64 [D], of the principal components, descending
    near: float  # median squared distance to the 10th neighbour

    @classmethod
    def of(cls, sample: np.ndarray) -> Spectrum:
        """Estimate the spectrum of `sample`: float32 [s, D], unit rows, s >= 1."""
        rows = sample[:: -(-len(sample) // ROWS)].astype(np.float64)
        queries = rows[:: -(-len(rows) // QUERIES)]
        centred = rows - rows.mean(axis=0)
        variance = np.linalg.eigvalsh(centred.T @ centred / len(rows))[::-1].clip(0)
        nearest = np.sort(2 - 2 * queries @ rows.T, axis=1)[:, : NEIGHBOUR + 1]  # the first is the query
        return cls(variance, max(float(np.median(nearest[:, -1])), 1e-6))

    def share(self, kept: int) -> float:
        """Return the fraction of the variance in the first `kept` components."""
        return float(self.variance[:kept].sum() / max(self.variance.sum(), 1e-12))

    def error(self, code: Code) -> float:
        """Return the predicted mean squared error of `code`, relative to the squared neighbour distance."""
        share = self.share(code.kept)
        return float(self.variance.sum()) * (1 - share + share * WITHIN * DISTORTION[code.rate]) / self.near


def codes(dim: int, bits: int, subs: Iterable[int]) -> list[Code]:
    """Return the codes for `dim` dimensions with 1, 2, 4, 8 or 16 dimensions per sub-quantiser."""
    candidates = [Code(sub * each, sub, bits) for sub in subs for each in (1, 2, 4, 8, 16)]
    return [code for code in candidates if code.kept <= dim and code.rate in DISTORTION]


def best_code(choices: list[Code], spectrum: Spectrum, max_bytes: int) -> Code:
    """Return the shortest code that is GOOD, else the best within `max_bytes`, else the shortest."""
    least = min(code.bytes for code in choices)
    fitting = [code for code in choices if code.bytes <= max(max_bytes, least)]
    good = [code for code in fitting if spectrum.error(code) <= GOOD]
    return min(good or fitting, key=lambda code: (code.bytes if good else 0, spectrum.error(code), code.kept))
