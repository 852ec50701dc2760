"""Pictures: whatever Pillow opens -> upright 8-bit RGB."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from xsearch.errors import MissingPackage, Unreadable
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["is_deep", "opened", "read", "to_rgb"]


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample: the first frame, turned as its EXIF orientation says."""
    if file.mime == "image/heic":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise MissingPackage(
                f"{file.path}: HEIC needs one more package: pip install 'xsearch[heic]'"
            ) from None
    with opened(file.path) as picture:
        rgb = to_rgb(ImageOps.exif_transpose(picture))
    yield Sample(Modality.IMAGE, rgb, width=rgb.width, height=rgb.height)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture with its header read, without Pillow's warnings. Unreadable if damaged or too large."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as picture:
                yield picture
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        raise Unreadable(f"{path}: more than {limit:,} pixels, Pillow's limit; make it smaller") from None
    except UnidentifiedImageError:
        raise Unreadable(f"{path}: no picture that Pillow knows; is it damaged?") from None
    except OSError as error:
        raise Unreadable(f"{path}: damaged picture ({error}); replace it") from error


def is_deep(picture: Image.Image) -> bool:
    """One channel of more than 8 bits?"""
    return picture.mode == "F" or picture.mode.startswith("I")


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB. Transparency is laid over white; 16-bit is divided by 257, not cut off at 255.

    32-bit integers and floats that are not in 0..65535 or 0..1 are stretched from their minimum to their
    maximum. CMYK is converted without its colour profile.
    """
    if is_deep(picture):
        values = np.nan_to_num(np.asarray(picture, np.float64))
        low, high = (0.0, 1.0) if picture.mode == "F" else (0.0, 65535.0)
        if values.min() < low or values.max() > high:
            low, high = values.min(), values.max()
        picture = Image.fromarray(np.rint((values - low) * (255 / (high - low))).astype(np.uint8))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")
