"""The part of a picture that models see: the centre square that torchvision's Resize and CenterCrop leave."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["centre_square", "margin", "resized", "spare"]


def resized(width: int, height: int, size: int) -> tuple[int, int]:
    """Width and height with the short side `size`; the long one truncated, as torchvision does."""
    short = min(width, height)
    return int(size * width / short), int(size * height / short)


def margin(length: int, size: int) -> int:
    """Where a centred crop starts: half to even, as torchvision does."""
    return round((length - size) / 2)


def spare(width: int, height: int) -> tuple[int, int]:
    """What to cut off left and right, and at top and bottom, so that no side is over 64 times the other.

    Nothing of ordinary pictures; resizing a hair-thin strip would take gigabytes.
    """
    limit = 64 * min(width, height)
    return max(width - limit, 0) // 2, max(height - limit, 0) // 2


def centre_square(picture: Image, size: int) -> Image:
    """The centre of a PIL picture, bicubically resized to size x size pixels; one that is so large stays."""
    from PIL.Image import Resampling

    width, height = picture.size
    left, top = spare(width, height)
    if left or top:
        picture = picture.crop((left, top, width - left, height - top))
    picture = picture.resize(resized(*picture.size, size), Resampling.BICUBIC)
    left, top = (margin(length, size) for length in picture.size)
    return picture.crop((left, top, left + size, top + size))
