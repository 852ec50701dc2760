"""Depth maps -> float32 metres, 0 where unknown."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xsearch.errors import MissingPackage, Unreadable
from xsearch.media.image import is_deep, opened
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["fits", "read"]

_WHAT_FITS = "depth maps are 16-bit PNG or TIFF in millimetres, or .npy, .pfm, .exr, float TIFF in metres"


def fits(path: Path, mime: str) -> bool:
    """Can this file hold depth? Only one channel of more than 8 bits can."""
    if mime in ("image/x-exr", "image/x-portable-floatmap"):
        return True
    try:
        if mime == "application/x-npy":
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            return array.squeeze().ndim == 2 and array.dtype.kind in "fui"
        if mime in ("image/png", "image/tiff"):
            with opened(path) as picture:
                return is_deep(picture)
    except Exception:  # damaged in whatever way: reading it will say so
        pass
    return False


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample. Integers are millimetres, floats metres; what is not finite and positive is unknown: 0.

    Focal length and baseline stay None: none of the formats carries them.
    """
    path = file.path
    if file.mime == "application/x-npy":
        values = np.load(path, allow_pickle=False).squeeze()
    elif file.mime == "image/x-portable-floatmap":
        values = _pfm(path)
    elif file.mime == "image/x-exr":
        values = _exr(path)
    else:
        with opened(path) as picture:
            if not is_deep(picture):
                raise Unreadable(f"{path}: no depth in a picture of mode {picture.mode}; {_WHAT_FITS}")
            values = np.asarray(picture)
    if values.ndim != 2 or values.dtype.kind not in "fui":
        raise Unreadable(f"{path}: shape {values.shape} {values.dtype} is no depth map; {_WHAT_FITS}")
    metres = values.astype(np.float32) * np.float32(1.0 if values.dtype.kind == "f" else 1e-3)
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    if not metres.any():
        raise Unreadable(f"{path}: empty: no pixel of known depth")
    height, width = metres.shape
    yield Sample(Modality.DEPTH, metres, width=width, height=height)


def _pfm(path: Path) -> np.ndarray:
    """Portable float map (pauldebevec.com/Research/HDR/PFM): rows bottom up, scale < 0 is little-endian."""
    with path.open("rb") as file:
        kind, size, scale = (file.readline(80) for _ in range(3))
        data = file.read()
    if kind.strip() != b"Pf":
        raise Unreadable(f"{path}: not a one-channel PFM; {_WHAT_FITS}")
    width, height = map(int, size.split())
    if len(data) < 4 * width * height:
        raise Unreadable(f"{path}: damaged: shorter than its header says; replace it")
    rows = np.frombuffer(data, "<f4" if float(scale) < 0 else ">f4", width * height)
    return rows.reshape(height, width)[::-1]


def _exr(path: Path) -> np.ndarray:
    try:
        library = importlib.import_module("OpenEXR")
    except ImportError:
        raise MissingPackage(f"{path}: EXR needs one more package: pip install OpenEXR") from None
    channels = library.File(str(path), separate_channels=True).channels()
    name = next((name for name in ("Z", "depth", "Y", "R") if name in channels), next(iter(channels)))
    return np.asarray(channels[name].pixels)
