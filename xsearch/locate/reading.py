"""A picture as the vision tower reads it: dense features of windows, and vectors of any part."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from xsearch.locate.boxes import cropped, squares
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from xsearch.backend import DenseBackend

__all__ = ["Reading"]

SIDES = (1.0, 0.5)  # of the windows, in short sides of the picture
STRIDE = 0.5  # of a window's side
CELLS = 48  # of a heat map, on the short side of the picture
MARGIN = 1.25  # side of a crop, in longer sides of its box: models have learned things in their surroundings
LONGEST = 8  # short sides: windows of a longer picture are not square
SIDE = 224  # pixels of a crop, for a model that takes any size


class Reading:
    """A picture and a model. What is computed is kept for further queries."""

    def __init__(self, picture: Image, backend: DenseBackend) -> None:
        self.picture = picture.convert("RGB")
        self._backend = backend
        self._side = backend.capabilities().image_side or SIDE
        width, height = self.picture.size
        self.short = short = max(min(width, height), max(width, height) / LONGEST)
        self._windows = np.concatenate(
            [squares(width, height, side * short, STRIDE * side * short) for side in SIDES]
        )
        self._shape = tuple(max(1, round(CELLS * length / short)) for length in (height, width))

    @cached_property
    def _features(self) -> np.ndarray:
        """float32 [windows, h, w, dim]."""
        return self._backend.dense(self._samples(self._windows))

    @cached_property
    def whole(self) -> np.ndarray:
        """float32 [dim]: the vector of the whole picture."""
        return self._backend.embed(self._samples(np.array([[0, 0, 1, 1]])))[0]

    def vectors(self, boxes: np.ndarray) -> np.ndarray:
        """float32 [N, dim]: unit vectors of what is in boxes [N, 4] and around them."""
        return self._backend.embed(self._samples(cropped(boxes, *self.picture.size, MARGIN)))

    def heat(self, direction: np.ndarray) -> np.ndarray:
        """float32 [CELLS, CELLS * width / height]: the products with [dim], a weighted mean of all windows.

        The middle of a window, where convolutions see no padding, weighs more than its edges.
        """
        from PIL import Image

        h, w = self._shape
        total, weights = np.zeros((h, w), np.float32), np.zeros((h, w), np.float32)
        corners = np.round(self._windows * (w, h, w, h)).astype(int)
        for (left, top, right, bottom), products in zip(corners, self._features @ direction, strict=True):
            size = right - left, bottom - top
            enlarged = Image.fromarray(products).resize(size, Image.Resampling.BILINEAR)
            weight = np.outer(_hat(size[1]), _hat(size[0]))
            total[top:bottom, left:right] += weight * np.asarray(enlarged)
            weights[top:bottom, left:right] += weight
        return total / weights

    def _samples(self, boxes: np.ndarray) -> list[Sample]:
        from PIL.Image import Resampling

        size = (self._side, self._side)
        pixels = np.clip(boxes, 0, 1) * np.tile(self.picture.size, 2)
        pieces = (self.picture.resize(size, Resampling.BICUBIC, tuple(box)) for box in pixels)
        return [Sample(Modality.IMAGE, piece) for piece in pieces]


def _hat(n: int) -> np.ndarray:
    """float32 [n], rising to the middle and falling again, nowhere 0."""
    return 1 - np.abs(np.linspace(-1, 1, n + 2, dtype=np.float32)[1:-1])
