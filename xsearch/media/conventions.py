"""Kinds of media by the words of folders and names: `thermal_16_bit/`, `lowres_depth/`, `cat_ir.png`.

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
    Modality.THERMAL: {
        "infra",
        "infrared",
        "ir",
        "lwir",
        "mwir",
        "thermal",
        "thermogram",
        "thermograms",
        "tir",
    }
    | {"thermographic", "thermography"},
}
_LIGHT = {"color", "colour", "rgb", "vis", "visible"}  # not thermal; of depth, the bits decide
# Near infrared; disparity, which is no distance; what is drawn over pictures rather than measured
_NEVER = {"near", "nir", "swir", "disp", "disparity", "annotation", "annotations", "confidence", "instance"}
_NEVER |= {"instances", "label", "labels", "mask", "masks", "normal", "normals", "seg", "segmentation"}
_NEVER |= {"semantic", "semantics"}
_MAX_WORDS = 4  # of a folder that names a kind; more are a sentence
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def named(path: Path) -> Iterator[Modality]:
    """Yield the kinds that the name and the folders of a file state, the nearest first.

    Words are whole: "irish" is not "ir". A nearer word of another thing (`visible/`, `masks/`) excludes them.

    >>> [list(map(str, named(Path(name)))) for name in ("LLVIP/infrared/1.jpg", "ThermalIR/visible/1.jpg")]
    [['thermal'], []]
    >>> [list(map(str, named(Path(name)))) for name in ("depth/cat_IR.png", "a_depth_mask.npy", "irish.png")]
    [['thermal', 'depth'], [], []]
    """
    possible = set(_KINDS)
    for part, most in [(path.stem, None), *((folder, _MAX_WORDS) for folder in reversed(path.parts[:-1]))]:
        kinds, ruled_out = _read(part, most)
        possible -= ruled_out
        yield from (kind for kind in kinds if kind in possible)


@lru_cache(maxsize=4096)
def _read(name: str, most: int | None) -> tuple[tuple[Modality, ...], set[Modality]]:
    """Return the kinds that a name of at most `most` words states, and those that it rules out."""
    words = [word.lower() for word in _WORD.findall(name) if len(word) > 1]
    if most and len(words) > most:
        return (), set()
    kinds = tuple(kind for kind, names in _KINDS.items() if names.intersection(words))
    if _NEVER.intersection(words) or (Modality.DEPTH in kinds and "valid" in words):
        return (), set(_KINDS)
    return kinds, {Modality.THERMAL} if not kinds and _LIGHT.intersection(words) else set()
