"""Geometry of boxes, float [N, 4]: left, top, right, bottom, as shares of the picture's width and height."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

__all__ = ["contrasts", "cropped", "nested", "overlaps", "proposed", "squares", "suppressed"]

LEVELS = (0.3, 0.45, 0.6, 0.75, 0.9)  # thresholds of a heat map, between its median and its maximum
LEAST = 0.06  # side of a proposal: smaller peaks are noise


def overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of each pair: [N, 4] and [M, 4] -> [N, M].

    >>> overlaps(np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0.5, 1], [0, 0, 1, 1]])).tolist()
    [[0.5, 1.0]]
    """
    shared, areas, their_areas = _areas(boxes, others)
    return np.asarray(shared / np.maximum(areas[:, None] + their_areas - shared, 1e-12))


def nested(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much of the smaller one of each pair is in the larger one: [N, 4] and [M, 4] -> [N, M]."""
    shared, areas, their_areas = _areas(boxes, others)
    return np.asarray(shared / np.maximum(np.minimum(areas[:, None], their_areas), 1e-12))


def _areas(boxes: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each pair the intersection, [N, M]; of each box, [N], and of each other one, [M]."""
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    areas, their_areas = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (boxes, others))
    return np.clip(high - low, 0, None).prod(axis=2), areas, their_areas


def suppressed(
    boxes: np.ndarray,
    scores: np.ndarray,
    most: float,
    by: Callable[[np.ndarray, np.ndarray], np.ndarray] = overlaps,
) -> np.ndarray:
    """The indices of the boxes of which `by` is at most `most` with any better one, best first."""
    kept: list[int] = []
    for at in np.argsort(-scores, kind="stable"):
        if not kept or by(boxes[[at]], boxes[kept]).max() <= most:
            kept.append(int(at))
    return np.array(kept, np.int64)


def proposed(heat: np.ndarray) -> np.ndarray:
    """Boxes around the connected regions of a heat map [h, w] above each of LEVELS: float [N, 4]."""
    from scipy import ndimage

    h, w = heat.shape
    base, top = float(np.median(heat)), float(heat.max())
    boxes = [
        (columns.start / w, rows.start / h, columns.stop / w, rows.stop / h)
        for level in LEVELS
        for rows, columns in ndimage.find_objects(ndimage.label(heat > base + level * (top - base))[0])
    ]
    return np.array([box for box in boxes if min(box[2] - box[0], box[3] - box[1]) >= LEAST]).reshape(-1, 4)


def contrasts(heat: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How much hotter than outside it is in each box, and the share of the map in it: [N] each."""
    h, w = heat.shape
    sums = np.pad(heat, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)  # summed-area table
    left, top, right, bottom = np.round(np.clip(boxes, 0, 1) * (w, h, w, h)).astype(int).T
    total = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
    cells = (right - left) * (bottom - top)
    inside = total / np.maximum(cells, 1)
    outside = (sums[-1, -1] - total) / np.maximum(heat.size - cells, 1)
    return np.where(cells < heat.size, inside - outside, 0), cells / heat.size


def squares(width: float, height: float, side: float, stride: float) -> np.ndarray:
    """Squares of `side` that cover a picture, at most `stride` apart, all in the same unit: [N, 4] of shares.

    They are cut to the picture where it is smaller.

    >>> squares(4, 2, 2, 1).tolist()
    [[0.0, 0.0, 0.5, 1.0], [0.25, 0.0, 0.75, 1.0], [0.5, 0.0, 1.0, 1.0]]
    """
    spans = min(side, width), min(side, height)
    x, y = (
        np.linspace(0, length - span, int(np.ceil((length - span) / stride - 1e-9)) + 1)
        for length, span in zip((width, height), spans, strict=True)
    )
    left, top = (grid.ravel() for grid in np.meshgrid(x, y))
    squares = np.stack([left, top, left + spans[0], top + spans[1]], axis=1)
    return np.asarray(squares / (width, height, width, height))


def cropped(boxes: np.ndarray, width: float, height: float, margin: float) -> np.ndarray:
    """The squares around boxes, `margin` times as large, moved into the picture and cut where larger."""
    size = np.array([width, height])
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2 * size
    sides = ((boxes[:, 2:] - boxes[:, :2]) * size).max(axis=1, keepdims=True) * margin
    spans = np.minimum(sides, size)  # [N, 2]
    low = np.clip(centres - spans / 2, 0, size - spans)
    return np.concatenate([low, low + spans], axis=1) / np.tile(size, 2)
