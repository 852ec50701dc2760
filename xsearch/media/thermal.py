"""Thermal pictures -> float32 in 0..1, hot is high."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from PIL import ImageChops, ImageOps

from xsearch.media.image import is_deep, opened, to_rgb
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["fits", "read"]

_PERCENTILES = (
    1,
    99,
)  # of a radiometric picture become 0 and 1: a few dead or burning pixels do not set the scale
_EQUAL = 2  # grey levels by which the channels of a grey RGB picture may differ (JPEG rounding)


def fits(path: Path, mime: str) -> bool:
    """Can this file be a thermal picture by convention? One channel can, or three that show grey."""
    if mime not in ("image/png", "image/tiff", "image/jpeg"):
        return False
    try:
        with opened(path) as picture:
            if is_deep(picture) or picture.mode == "L":
                return True
            pairs = combinations(to_rgb(picture).split(), 2)
            return all(np.asarray(ImageChops.difference(*pair)).max() <= _EQUAL for pair in pairs)
    except Exception:  # damaged in whatever way: reading it will say so
        return False


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample. 8 bits are divided by 255, colour (a rendering, by --as only) is reduced to its luminance.

    More than 8 bits are sensor counts or temperatures in a narrow range: their 1st and 99th percentile
    become 0 and 1 (minimum and maximum if those are equal), what lies beyond is clipped.
    """
    with opened(file.path) as picture:
        picture = ImageOps.exif_transpose(picture)
        if is_deep(picture):
            heat = _stretch(np.asarray(picture, np.float64))
        else:
            heat = np.asarray(to_rgb(picture).convert("L")) / 255
    height, width = heat.shape
    yield Sample(Modality.THERMAL, heat.astype(np.float32), width=width, height=height)


def _stretch(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    if not known.size:
        return np.zeros_like(values)
    low, high = np.percentile(known, _PERCENTILES)
    if low == high:
        low, high = known.min(), known.max()
    finite = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    return np.clip((finite - low) / ((high - low) or 1), 0, 1)
