"""Kinds of media that folders and names tell of: `thermal_16_bit/`, `lowres_depth/`, `cat_ir.png`.

The words are those of public data sets: FLIR ADAS, LLVIP, KAIST, M3FD; ARKitScenes, ScanNet, SUN RGB-D,
KITTI, TUM, DIODE.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from xsearch.types import Modality

__all__ = ["named"]

_KINDS = {
    Modality.DEPTH: {"depth", "depths", "depthmap", "depthmaps"},
    Modality.THERMAL: {"infrared", "ir", "lwir", "mwir", "thermal", "thermogram", "thermograms", "tir"},
}
# Pictures by light, and disparity, which is no distance
_OTHERS = {"color", "colour", "disp", "disparity", "rgb", "vis", "visible"}
# What is near infrared, or drawn over pictures rather than measured, whatever else a name says
_NEVER = {"near", "nir", "swir", "annotation", "annotations", "confidence", "instance", "instances", "label"}
_NEVER |= {"labels", "mask", "masks", "normal", "normals", "seg", "segmentation", "semantic", "semantics"}
_MAX_WORDS = 4  # of a folder that tells of a kind; more are a sentence
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def named(path: Path) -> Iterator[Modality]:
    """Yield the kinds that the name and the folders of a file tell of, the nearest first.

    Words are whole: "irish" is not "ir". A folder of something else (`visible/`, `masks/`) ends the search.

    >>> [list(map(str, named(Path(name)))) for name in ("LLVIP/infrared/1.jpg", "ThermalIR/visible/1.jpg")]
    [['thermal'], []]
    >>> [list(map(str, named(Path(name)))) for name in ("depth/cat_IR.png", "a_depth_mask.npy", "irish.png")]
    [['thermal', 'depth'], [], []]
    """
    kinds, is_last = _read(path.stem)
    yield from kinds
    for folder in reversed(path.parts[:-1]):
        if is_last:
            return
        kinds, is_last = _read(folder, _MAX_WORDS)
        yield from kinds


@lru_cache(maxsize=4096)
def _read(name: str, most: int | None = None) -> tuple[tuple[Modality, ...], bool]:
    """Return the kinds that a name of at most so many words tells of, and whether it ends the search."""
    words = [word.lower() for word in _WORD.findall(name) if len(word) > 1]
    if most and len(words) > most:
        return (), False
    found = tuple(kind for kind, names in _KINDS.items() if names.intersection(words))
    if _NEVER.intersection(words) or (Modality.DEPTH in found and "valid" in words):
        return (), True
    return found, not found and bool(_OTHERS.intersection(words))
