"""Images in any format Pillow reads -> upright 8-bit RGB.

XSEARCH_MAX_PIXELS   larger images are rejected; defaults to Pillow's limit, 178,956,970
XSEARCH_EXACT_JPEG   if not empty, decode large JPEGs at full size
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

# Lower bound, in pixels, on the short side of a downscaled JPEG; ImageBind takes 224. On 40 photographs of
# 12 MP, cosines between embeddings (bundled model) of downscaled and full images are 0.9987 to 1, median
# 0.99999, and decoding takes a third of the time.
MIN_SIDE = 512


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield one sample: the first frame, with its EXIF orientation applied.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, its sides at least MIN_SIDE.
    """
    if file.mime == "image/heic":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            raise MissingPackage(
                f"{file.path}: HEIC support is not installed: pip install 'xsearch[heic]'"
            ) from None
    with opened(file.path) as image:
        width, height = image.size
        if not os.environ.get("XSEARCH_EXACT_JPEG"):
            image.draft(None, (MIN_SIDE, MIN_SIDE))
        upright = ImageOps.exif_transpose(image)
        if upright.size != image.size:
            width, height = height, width
        rgb = to_rgb(upright)
    yield Sample(Modality.IMAGE, rgb, width=width, height=height)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image lazily, Pillow's warnings silenced. Raises Unreadable if it is damaged or too large."""
    limit = _limit(path)
    try:
        # A file object: Pillow maps paths into memory, and truncating a mapped file raises SIGBUS.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                yield image
    except Image.DecompressionBombError:
        raise _too_large(path, limit) from None
    except UnidentifiedImageError:
        raise Unreadable(f"{path}: unsupported image format, or damaged; convert it to PNG or JPEG") from None
    except OSError as error:
        raise Unreadable(f"{path}: damaged image ({error}); replace the file") from error


def check_pixels(path: Path, pixels: int) -> None:
    """Raise TooLarge if an array of `pixels` elements exceeds the image size limit."""
    if pixels > (limit := _limit(path)):
        raise _too_large(path, limit)


def is_deep(image: Image.Image) -> bool:
    """Whether the image has one channel of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. Transparent pixels are composited over white, 16-bit is divided by 257.

    32-bit integers outside 0..65535 and floats outside 0..1 are rescaled from their minimum to their
    maximum. CMYK is converted without its ICC profile.
    """
    if is_deep(image):
        values = np.asarray(image, np.float64)
        finite = values[np.isfinite(values)]
        low, high = (0.0, 1.0) if image.mode == "F" else (0.0, 65535.0)
        if finite.min(initial=low) < low or finite.max(initial=high) > high:
            low, high = finite.min(), finite.max()
        levels = np.nan_to_num((values - low) / ((high - low) or 1))
        image = Image.fromarray(np.rint(255 * levels.clip(0, 1)).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _limit(path: Path) -> float:
    if value := os.environ.get("XSEARCH_MAX_PIXELS"):
        if not value.isdecimal():
            raise TooLarge(f"{path}: XSEARCH_MAX_PIXELS is {value!r}; expected a whole number")
        Image.MAX_IMAGE_PIXELS = int(value) // 2  # Pillow warns above it and raises above twice as many
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _too_large(path: Path, limit: float) -> TooLarge:
    return TooLarge(f"{path}: over {limit:,} pixels; downscale it or raise XSEARCH_MAX_PIXELS")
