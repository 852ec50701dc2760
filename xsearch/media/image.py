"""Pictures: whatever Pillow opens -> upright 8-bit RGB.

XSEARCH_MAX_PIXELS   no picture of more is read: 178,956,970, Pillow's own limit, if not told
XSEARCH_EXACT_JPEG   if not empty, large JPEGs are decoded whole
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xsearch.errors import MissingPackage, TooLarge, Unreadable
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_pixels", "is_deep", "opened", "read", "to_rgb"]

# Pixels that a JPEG's short side keeps, over twice what ImageBind takes, 224: embeddings of 40 photographs of
# 12 MP by the bundled model have cosines of 0.9987 to 1, median 0.99999, with those of the whole, read in a
# third of the time.
SIDE = 512


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample: the first frame, turned as its EXIF orientation says.

    A large JPEG is decoded at a half, a quarter or an eighth of its size, not below SIDE.
    """
    if file.mime == "image/heic":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise MissingPackage(
                f"{file.path}: HEIC needs one more package: pip install 'xsearch[heic]'"
            ) from None
    with opened(file.path) as picture:
        width, height = picture.size
        if not os.environ.get("XSEARCH_EXACT_JPEG"):
            picture.draft(None, (SIDE, SIDE))
        upright = ImageOps.exif_transpose(picture)
        if upright.size != picture.size:
            width, height = height, width
        rgb = to_rgb(upright)
    yield Sample(Modality.IMAGE, rgb, width=width, height=height)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture with its header read, without Pillow's warnings. Unreadable if damaged or too large."""
    limit = _limit(path)
    try:
        # A file, not a path: that Pillow would map into memory, and a mapped file that shrinks is a crash.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as picture:
                yield picture
    except Image.DecompressionBombError:
        raise _too_large(path, limit) from None
    except UnidentifiedImageError:
        raise Unreadable(f"{path}: no picture that Pillow knows; is it damaged?") from None
    except OSError as error:
        raise Unreadable(f"{path}: damaged picture ({error}); replace it") from error


def check_pixels(path: Path, pixels: int) -> None:
    """Raise TooLarge for an array of more pixels than a picture may have."""
    if pixels > (limit := _limit(path)):
        raise _too_large(path, limit)


def is_deep(picture: Image.Image) -> bool:
    """One channel of more than 8 bits?"""
    return picture.mode == "F" or picture.mode.startswith("I")


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB. Transparency is laid over white; 16-bit is divided by 257, not cut off at 255.

    32-bit integers and floats that are not in 0..65535 or 0..1 are stretched from their minimum to their
    maximum. CMYK is converted without its colour profile.
    """
    if is_deep(picture):
        values = np.asarray(picture, np.float64)
        known = values[np.isfinite(values)]
        low, high = (0.0, 1.0) if picture.mode == "F" else (0.0, 65535.0)
        if known.min(initial=low) < low or known.max(initial=high) > high:
            low, high = known.min(), known.max()
        share = np.nan_to_num((values - low) / ((high - low) or 1))
        picture = Image.fromarray(np.rint(255 * share.clip(0, 1)).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


def _limit(path: Path) -> float:
    if given := os.environ.get("XSEARCH_MAX_PIXELS"):
        if not given.isdecimal():
            raise TooLarge(f"{path}: XSEARCH_MAX_PIXELS is {given!r}; give a whole number")
        Image.MAX_IMAGE_PIXELS = int(given) // 2  # Pillow warns from there on, and refuses twice as many
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _too_large(path: Path, limit: float) -> TooLarge:
    return TooLarge(f"{path}: over {limit:,} pixels; make it smaller, or allow more by XSEARCH_MAX_PIXELS")
