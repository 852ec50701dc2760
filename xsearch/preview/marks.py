"""Boxes and heat maps drawn onto a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from xsearch.preview import colours
from xsearch.types import Box

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

__all__ = ["marked"]

LINE = 300  # a line is a 300th of the picture's longer side wide
LABEL, LEAST_PX = 32, 11  # a score is a 32nd of it high, and legible
LABELLED_PX = 160  # pictures with a longer side have scores
INK, EDGE = (255, 214, 0), (20, 20, 20)  # yellow on near black shows on any picture
OPACITY = 0.6  # of the hottest places of a heat map


def marked(picture: Image, boxes: Sequence[Box], heat: np.ndarray | None = None) -> Image:
    """Return a copy with boxes and their scores, under them the map in Inferno.

    heat: float [h, w] in 0..1; cold places show the picture unchanged.
    """
    from PIL import Image, ImageDraw

    picture = picture.convert("RGB")
    if heat is not None:
        share = Image.fromarray((255 * np.clip(heat, 0, 1)).astype(np.uint8))
        share = share.resize(picture.size, Image.Resampling.BICUBIC)
        glow = Image.fromarray(colours.colour(np.asarray(share) / 255, colours.INFERNO))
        picture.paste(glow, mask=share.point(lambda value: OPACITY * value))
    draw, long = ImageDraw.Draw(picture), max(picture.size)
    line = max(1, round(long / LINE))
    for box in reversed(boxes):  # the best above the others
        corners = (*_pixel(box.left, box.top, picture), *_pixel(box.right, box.bottom, picture))
        draw.rectangle(_grown(corners, line), outline=EDGE, width=3 * line)
        draw.rectangle(corners, outline=INK, width=line)
        if long > LABELLED_PX:
            _label(draw, (corners[0] + line, corners[1] + line), f"{box.score:.1f}", long)
    return picture


def _pixel(x: float, y: float, picture: Image) -> tuple[int, int]:
    width, height = picture.size
    return min(int(x * width), width - 1), min(int(y * height), height - 1)


def _grown(corners: tuple[int, int, int, int], by: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = corners
    return left - by, top - by, right + by, bottom + by


def _label(draw: ImageDraw, corner: tuple[int, int], text: str, long: int) -> None:
    """Write in the corner of a box."""
    from PIL import ImageFont

    size = max(LEAST_PX, round(long / LABEL))
    font, (x, y), margin = ImageFont.load_default(size), corner, size // 4
    _, _, right, bottom = draw.textbbox((x + margin, y + margin), text, font=font, anchor="lt")
    draw.rectangle((x, y, right + margin, bottom + margin), fill=EDGE)
    draw.text((x + margin, y + margin), text, fill=INK, font=font, anchor="lt")
