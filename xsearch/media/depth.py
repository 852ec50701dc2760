"""Depth maps -> float32 metres, 0 where unknown.

No format carries the camera. A file `camera.json` in the folder of the maps may tell, each or all of

    focal_px     focal length in pixels of the maps; NYU-D's Kinect, aligned to its pictures: 518.9
    baseline_m   from the sensor's one eye or projector to the other: Kinect 0.075, RealSense and Xtion 0.095
                 (those of Omnivore, arXiv:2201.08377, whose disparity ImageBind takes)
    unit_m       metres of one step of an integer map: 0.001 if not told; TUM RGB-D 0.0002, KITTI 0.00390625
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xsearch.errors import MissingPackage, Unreadable
from xsearch.media.image import check_pixels, is_deep, opened
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["camera", "fits", "read"]

_CAMERA = {"focal_px", "baseline_m", "unit_m"}

_WHAT_FITS = "depth maps are 16-bit PNG or TIFF in millimetres, or .npy, .pfm, .exr, float TIFF in metres"


def fits(path: Path, mime: str) -> bool:
    """Can this file hold depth? Only one channel of more than 8 bits can."""
    if mime in ("image/x-exr", "image/x-portable-floatmap"):
        return True
    try:
        if mime == "application/x-npy":
            array = _plane(np.load(path, mmap_mode="r", allow_pickle=False))  # the header only
            return array.ndim == 2 and array.dtype.kind in "fui"
        if mime in ("image/png", "image/tiff"):
            with opened(path) as picture:
                return is_deep(picture)
    except Exception:  # damaged in whatever way: reading it will say so
        return True
    return False


def camera(path: Path) -> Path | None:
    """The file that tells of the camera of a depth map, if there is one."""
    beside = path.with_name("camera.json")
    return beside if beside.is_file() else None


def read(file: MediaFile) -> Iterator[Sample]:
    """One sample. Integers are millimetres unless the camera file tells otherwise, floats are metres; what is
    not finite and positive is unknown: 0. Focal length and baseline are None where no camera file tells them.
    """
    path = file.path
    about = _about(file.companion) if file.companion else {}
    if file.mime == "application/x-npy":
        check_pixels(path, np.load(path, mmap_mode="r", allow_pickle=False).size)
        values = _plane(np.load(path, allow_pickle=False))
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
    unit_m = np.float32(1.0 if values.dtype.kind == "f" else about.get("unit_m", 1e-3))
    with np.errstate(over="ignore", invalid="ignore"):
        metres = values.astype(np.float32) * unit_m
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    if not metres.any():
        raise Unreadable(f"{path}: empty: no pixel of known depth")
    height, width = metres.shape
    yield Sample(
        Modality.DEPTH,
        metres,
        width=width,
        height=height,
        focal_px=about.get("focal_px"),
        baseline_m=about.get("baseline_m"),
    )


def _about(path: Path) -> dict[str, float]:
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(about, dict) or not about.keys() <= _CAMERA:
        raise Unreadable(f"{path}: expected an object with {', '.join(sorted(_CAMERA))} and nothing else")
    for name, value in about.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise Unreadable(f"{path}: {name} is {value!r}; expected a number above 0")
    return about


def _plane(array: np.ndarray) -> np.ndarray:
    """Without axes of length 1, unless two are left only with them."""
    return array if array.ndim == 2 else array.squeeze()


def _pfm(path: Path) -> np.ndarray:
    """Portable float map (pauldebevec.com/Research/HDR/PFM): rows bottom up, scale < 0 is little-endian."""
    with path.open("rb") as file:
        kind, size, scale = (file.readline(80) for _ in range(3))
        if kind.strip() != b"Pf":
            raise Unreadable(f"{path}: not a one-channel PFM; {_WHAT_FITS}")
        width, height = map(int, size.split())
        check_pixels(path, width * height)
        data = file.read(max(0, 4 * width * height))
    if min(width, height) < 1 or len(data) < 4 * width * height:
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
