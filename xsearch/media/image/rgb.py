"""Pictures of any mode -> 8-bit RGB, upright; large ones in bands, and by whole factors smaller."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image

__all__ = [
    "bands",
    "extent",
    "is_deep",
    "levels",
    "orientation",
    "step",
    "strided",
    "to_rgb",
    "turned_upright",
]

LARGE = 1 << 24  # pixels; models take 224 x 224
BAND = 1 << 20  # pixels that are converted at once
ORIENTATION = 274
_UPRIGHT = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def is_deep(image: Image.Image) -> bool:
    """Whether the image has one channel of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def orientation(image: Image.Image) -> int:
    """Return the orientation that EXIF states, 1 (upright) to 8; 5 and above are turned by a quarter."""
    image.load()
    stated = image.getexif().get(ORIENTATION)
    return stated if stated in _UPRIGHT else 1


def turned_upright(image: Image.Image, orientation: int) -> Image.Image:
    """Undo an orientation."""
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. Transparent pixels are composited over white, 16-bit is divided by 257.

    32-bit integers outside 0..65535 and floats outside 0..1 are rescaled from their minimum to their
    maximum. CMYK is converted without its ICC profile. Above LARGE pixels, the sides are divided by the
    smallest whole number that leaves no more.
    """
    by = step(image.size)
    if by == 1 and not is_deep(image):
        return _rgb(image)
    ends = (0.0, 0.0)
    if is_deep(image):
        ends = extent(map(np.asarray, bands(image)), 1.0 if image.mode == "F" else 65535.0)
    whole = Image.new("RGB", (-(-image.width // by), -(-image.height // by)))
    top = 0
    for band in bands(image, by):
        if is_deep(image):
            band = Image.fromarray(levels(np.asarray(band), *ends))
        part = _rgb(band)
        part = part.reduce(by) if by > 1 else part
        whole.paste(part, (0, top))
        top += part.height
    return whole


def strided(image: Image.Image | np.ndarray) -> np.ndarray:
    """Return the values of one channel, [H, W]; above LARGE pixels, of every n-th row and column."""
    if isinstance(image, np.ndarray):
        by = step(image.shape)
        return image[::by, ::by]
    by = step(image.size)
    if by == 1:
        return np.asarray(image)
    return np.concatenate([np.asarray(band)[::by, ::by] for band in bands(image, by)])


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low..high to 0..255, uint8; what is not a number becomes 0."""
    scaled = np.nan_to_num((values - np.float64(low)) / ((high - low) or 1))
    return np.rint(255 * scaled.clip(0, 1)).astype(np.uint8)


def extent(parts: Iterable[np.ndarray], white: float) -> tuple[float, float]:
    """Return 0 and `white`, or minimum and maximum if finite values lie outside of them."""
    finite = (values[np.isfinite(values)] for values in parts)
    ends = [(float(values.min()), float(values.max())) for values in finite if values.size]
    least, most = min((end[0] for end in ends), default=0.0), max((end[1] for end in ends), default=white)
    return (least, most) if least < 0 or most > white else (0.0, white)


def step(size: tuple[int, ...]) -> int:
    """Return the whole number by which both sides are divided: 1 up to LARGE pixels."""
    return max(1, math.ceil(math.sqrt(math.prod(size) / LARGE)))


def bands(image: Image.Image, by: int = 1) -> Iterator[Image.Image]:
    """Yield a picture from top to bottom, in bands of a multiple of `by` rows."""
    rows = max(1, BAND // (image.width * by)) * by
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height)))


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
