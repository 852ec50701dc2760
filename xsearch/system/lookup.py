"""Positions in ascending ids."""

from __future__ import annotations

import numpy as np

__all__ = ["is_in", "nearest_rows"]


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
