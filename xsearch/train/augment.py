"""Augmentations of a pair that preserve its meaning; each modality gets only those that do not harm it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from xsearch.train.motions import varied_motion
from xsearch.train.recipe import Bind
from xsearch.train.sounds import varied_sound
from xsearch.types import Modality, Sample

__all__ = ["augment"]

MIN_AREA = {"weak": 0.6, "strong": 0.35}  # of the largest square crop; the paper's minimum is 0.08
JITTER = 0.4  # brightness, contrast, colour (the paper's Table 9)
GREY_PROBABILITY, ERASE_PROBABILITY = 0.1, 0.25


def augment(
    picture: Sample | None, partner: Sample | None, bind: Bind, rng: np.random.Generator
) -> tuple[Sample | None, Sample | None]:
    """Return an augmented picture and partner; None stays None."""
    if bind.image != "none" and picture is not None:
        side = np.sqrt(rng.uniform(MIN_AREA[bind.image], 1))  # of the short side
        place, mirrored = rng.random(2), bool(rng.random() < 0.5)
        image = _square(picture.data, side, place)
        image = ImageOps.mirror(image) if mirrored else image
        if bind.image == "strong":
            image = _jittered(image, rng)
        picture = replace(picture, data=image)
        if partner is not None and partner.modality in (Modality.DEPTH, Modality.THERMAL):
            plane = _plane(partner.data, side, place)
            partner = replace(partner, data=plane[:, ::-1] if mirrored else plane)
    if partner is None or not bind.other:
        return picture, partner
    if partner.modality == Modality.AUDIO:
        return picture, replace(partner, data=varied_sound(partner.data, rng))
    if partner.modality == Modality.IMU:
        assert partner.rate_hz
        return picture, replace(partner, data=varied_motion(partner.data, partner.rate_hz, rng))
    if partner.modality == Modality.THERMAL:
        contrast, shift = rng.uniform(0.7, 1.3), rng.uniform(-0.1, 0.1)
        data = np.clip((partner.data - 0.5) * contrast + 0.5 + shift, 0, 1)
        return picture, replace(partner, data=data.astype(np.float32))
    return picture, partner


def _box(width: int, height: int, side: float, place: np.ndarray) -> tuple[int, int, int, int]:
    """left, top, right, bottom of a square of `side` short sides, at the relative position `place`."""
    pixels = max(round(side * min(width, height)), 1)
    left, top = (int(share * (room - pixels + 1)) for share, room in zip(place, (width, height), strict=True))
    return left, top, left + pixels, top + pixels


def _square(image: Image.Image, side: float, place: np.ndarray) -> Image.Image:
    return image.crop(_box(*image.size, side, place))


def _plane(data: np.ndarray, side: float, place: np.ndarray) -> np.ndarray:
    left, top, right, bottom = _box(data.shape[1], data.shape[0], side, place)
    return data[top:bottom, left:right]


def _jittered(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Colour jitter, sometimes greyscale, sometimes a square erased."""
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = enhance(image).enhance(rng.uniform(1 - JITTER, 1 + JITTER))
    if rng.random() < GREY_PROBABILITY:
        image = ImageOps.grayscale(image).convert("RGB")
    if rng.random() < ERASE_PROBABILITY:
        box = _box(*image.size, rng.uniform(0.15, 0.5), rng.random(2))
        colour = tuple(int(value) for value in rng.integers(256, size=3))
        image = image.copy()
        image.paste(colour, box)
    return image
