"""Centre crop of images, equivalent to torchvision's Resize and CenterCrop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["centre_square", "margin", "resized", "spare"]


def resized(width: int, height: int, size: int) -> tuple[int, int]:
    """Return width and height with short side `size`; the long side is truncated as in torchvision."""
    short = min(width, height)
    return int(size * width / short), int(size * height / short)


def margin(length: int, size: int) -> int:
    """Return the offset of a centred crop, rounded half to even as in torchvision."""
    return round((length - size) / 2)


def spare(width: int, height: int) -> tuple[int, int]:
    """Return the horizontal and vertical margins to crop so that the aspect ratio is at most 64.

    Zero for ordinary images; resizing a one-pixel strip would take gigabytes.
    """
    limit = 64 * min(width, height)
    return max(width - limit, 0) // 2, max(height - limit, 0) // 2


def centre_square(picture: Image, size: int) -> Image:
    """Resize (bicubic) and centre-crop an image to size x size pixels."""
    from PIL.Image import Resampling

    width, height = picture.size
    left, top = spare(width, height)
    if left or top:
        picture = picture.crop((left, top, width - left, height - top))
    picture = picture.resize(resized(*picture.size, size), Resampling.BICUBIC)
    left, top = (margin(length, size) for length in picture.size)
    return picture.crop((left, top, left + size, top + size))
