"""Colour maps: Inferno for heat and loudness, Turbo for depth."""

from __future__ import annotations

import numpy as np

__all__ = ["INFERNO", "TURBO", "colour", "depth_legend", "heat_legend", "of_depth", "of_heat"]


STOPS = 9  # of a legend


def _table(colours: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(colours), np.uint8).reshape(-1, 3)


# matplotlib's Inferno (CC0), sampled at 9 points.
INFERNO = _table("000004 1f0c48 550f6d 88226a ba3655 e35933 f98c0a f9c932 fcffa4")
# Google's Turbo, R. Du's polynomial approximation (Apache-2.0), sampled at 17 points.
TURBO = _table(
    "23171b 493eaf 446aee 3295f7 26bde1 29ddbb 40f392 66fd6d 96fa50 "
    "c6eb3b eed02d ffab24 ff801d ee5415 c92d0c a11202 900d00"
)


def colour(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Map float [...] in 0..1 to uint8 [..., 3] by linear interpolation.

    >>> colour(np.array([0.0, 1.0]), INFERNO).tolist()
    [[0, 0, 4], [252, 255, 164]]
    """
    at = np.linspace(0, 1, len(table))
    return np.stack([np.interp(values, at, channel) for channel in table.T], axis=-1).round().astype(np.uint8)


def of_heat(values: np.ndarray) -> np.ndarray:
    """Colour a thermal image: float [H, W] -> uint8 [H, W, 3]."""
    return colour(_rescaled(values), INFERNO)


def of_depth(metres: np.ndarray) -> np.ndarray:
    """Colour a depth map: float [H, W], 0 unknown -> uint8 [H, W, 3]; near red, far blue, unknown grey."""
    rgb = np.full((*metres.shape, 3), 128, np.uint8)
    if (known := metres > 0).any():
        near = 1 / metres[known]
        rgb[known] = colour(0.1 + 0.8 * _rescaled(near), TURBO)  # the ends of the map are too dark
    return rgb


def heat_legend(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return values that `of_heat` shows, float [STOPS], rising, and their colours: uint8 [STOPS, 3]."""
    at = np.linspace(0, 1, STOPS)
    low, high = _range(values)
    return low + at * (high - low), colour(at, INFERNO)


def depth_legend(metres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances that `of_depth` shows, float [STOPS], falling, and their colours: uint8 [STOPS, 3].

    Both are empty if nothing is known.
    """
    if not (known := metres > 0).any():
        return np.empty(0), np.empty((0, 3), np.uint8)
    at = np.linspace(0, 1, STOPS)
    low, high = _range(1 / metres[known])
    return 1 / (low + at * (high - low)), colour(0.1 + 0.8 * at, TURBO)


def _rescaled(values: np.ndarray) -> np.ndarray:
    """Rescale so that the ends of `_range` map to 0 and 1, and clip."""
    low, high = _range(values)
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _range(values: np.ndarray) -> np.ndarray:
    """Return the 2nd and 98th percentile."""
    return np.percentile(values, [2, 98])
