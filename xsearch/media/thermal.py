"""Thermal images -> float32 in 0..1, hot is high."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from xsearch.media.faults import unless_passing
from xsearch.media.image import bands, is_deep, opened, orientation, strided, to_rgb, turned_upright
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["fits", "read"]

_PERCENTILES = (1, 99)  # map to 0 and 1: robust against dead and saturated pixels
_IMAGES = {"image/bmp", "image/jp2", "image/jpeg", "image/jxl", "image/png", "image/tiff", "image/webp"}
_IMAGES |= {"image/x-portable-anymap"}
_DRAFT = (160, 120)  # lower bound of the size at which the channels of a JPEG are compared
_LARGEST = 1 << 25  # pixels of a colour picture whose channels are compared; thermal cameras have 1.3 million
_EQUAL = 2  # tolerance in grey levels between the channels of a grey RGB image (JPEG rounding)


def fits(path: Path, mime: str) -> bool:
    """Whether the format can hold thermal data: one channel, or three equal ones."""
    if mime not in _IMAGES:
        return False
    with unless_passing(Exception), opened(path) as image:  # `read` reports damage
        if is_deep(image) or image.mode == "L":
            return True
        image.draft(None, _DRAFT)
        if image.width * image.height > _LARGEST:
            return False
        pairs = (pair for band in bands(image) for pair in combinations(to_rgb(band).split(), 2))
        return all(np.asarray(ImageChops.difference(*pair)).max() <= _EQUAL for pair in pairs)
    return False


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield one sample. 8-bit values are divided by 255; false colour (only by --as) becomes luminance.

    Deeper images hold sensor counts or temperatures in a narrow range: their 1st and 99th percentile
    (minimum and maximum if those are equal) map to 0 and 1, the rest is clipped.
    """
    with opened(file.path) as image:
        turns = orientation(image)
        width, height = image.size if turns < 5 else image.size[::-1]
        if is_deep(image):
            heat = _rescale(np.asarray(strided(image), np.float64))
        else:
            heat = np.asarray(to_rgb(image).convert("L")) / 255
        heat = np.asarray(turned_upright(Image.fromarray(heat.astype(np.float32)), turns))
    yield Sample(Modality.THERMAL, heat, width=width, height=height)


def _rescale(values: np.ndarray) -> np.ndarray:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros_like(values)
    low, high = np.percentile(finite, _PERCENTILES)
    if low == high:
        low, high = finite.min(), finite.max()
    values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return np.clip((values - low) / ((high - low) or 1), 0, 1)
