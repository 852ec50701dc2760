"""Positions in ascending ids, and in flattened arrays."""

from __future__ import annotations

import numpy as np

__all__ = ["flat_places", "is_in", "nearest_rows"]


def nearest_rows(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the positions of `ids` in `among`, int64, ascending; arbitrary for ids not in it.

    `among` may be empty only if `ids` is.
    """
    if not ids.size:
        return np.empty(ids.shape, np.int64)
    first, last = among[0], among[-1]
    if last - first == len(among) - 1:  # no gaps: positions are offsets
        return np.minimum(np.maximum(ids, first), last) - first  # `clip` takes twice as long for a few
    return np.minimum(np.searchsorted(among, ids), len(among) - 1)


def is_in(ids: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return which of `ids` occur in `among`, int64, ascending: bool, of the shape of `ids`."""
    return among[nearest_rows(ids, among)] == ids if len(among) else np.zeros(ids.shape, bool)


def flat_places(columns: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return where these columns of each row, int [rows, n] or [n], are in a flattened array of `shape`.

    int64 [rows, n], for `take`, which is faster than two indices.
    """
    return columns + shape[1] * np.arange(shape[0])[:, None]
