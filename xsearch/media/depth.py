"""Depth maps -> float32 metres, 0 where unknown.

Depth formats carry no camera parameters. An optional `camera.json` beside the maps has any of

    focal_px     focal length in pixels of the map; 518.9 for NYU-D's Kinect, registered to RGB
    baseline_m   stereo or projector baseline: Kinect 0.075, RealSense and Xtion 0.095
                 (from Omnivore, arXiv:2201.08377, which defines the disparity ImageBind takes)
    unit_m       metres per step of an integer map: 0.001 by default; TUM RGB-D 0.0002, KITTI 0.00390625
    rotate_bits  places by which the 16 bits of an integer map are rotated to the left: SUN RGB-D 3
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from xsearch.errors import MissingPackage, Unreadable, Unsupported
from xsearch.media import npy
from xsearch.media.faults import unless_passing
from xsearch.media.image import check_exr, check_pixels, is_deep, opened, step, strided
from xsearch.media.limits import MAX_SIDECAR_MB
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["CAMERA", "camera", "fits", "read"]

CAMERA = "camera.json"
_FIELDS = {"focal_px", "baseline_m", "rotate_bits", "unit_m"}
_IMAGES = {"image/png", "image/tiff", "image/jp2", "image/jxl", "image/x-portable-anymap"}
_FLOATS = {"image/x-exr", "image/x-portable-floatmap"}
_MASKS = {1, 255, 65_535}  # values of masks beside 0
_SUPPORTED = "depth maps are 16-bit PNG or TIFF in millimetres, or .npy, .pfm, .exr, float TIFF in metres"


def fits(path: Path, mime: str) -> bool:
    """Whether the format can hold depth: one channel of more than 8 bits, and no mask."""
    if mime in _FLOATS:
        return True
    with unless_passing(Exception):  # `read` reports damage
        if mime == "application/x-npy":
            with path.open("rb") as file:
                axes, values = npy.sampled(file, 64)
            return axes == 2 and values.dtype.kind in "fui" and not _is_mask(values)
        if mime in _IMAGES:
            with opened(path) as image:
                return is_deep(image)
        return False
    return True


def camera(path: Path) -> Path | None:
    """Return the path of the `camera.json` beside a depth map, if it exists."""
    path = path.with_name(CAMERA)
    return path if path.is_file() else None


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield one sample. Integers are in units of `unit_m`, floats in metres; values that are not finite and
    positive become 0. Focal length and baseline are None unless the camera file has them.
    """
    path = file.path
    intrinsics = _intrinsics(file.companion) if file.companion else {}
    values, (height, width) = _values(path, file.mime)
    if (turned := int(intrinsics.get("rotate_bits", 0))) and values.dtype.kind != "f":
        if values.min(initial=0) < 0 or values.max(initial=0) > 0xFFFF:
            raise Unsupported(f"{path}: rotate_bits is for maps of 16 bits; remove it from {CAMERA}")
        values = values.astype(np.uint16)
        values = values >> turned | values << (16 - turned)
    unit_m = np.float32(1.0 if values.dtype.kind == "f" else intrinsics.get("unit_m", 1e-3))
    with np.errstate(over="ignore", invalid="ignore"):
        metres = values.astype(np.float32) * unit_m
    metres[~(np.isfinite(metres) & (metres > 0))] = 0
    if not metres.any():
        raise Unreadable(f"{path}: empty: no pixel of known depth")
    focal_px = intrinsics.get("focal_px")
    yield Sample(
        Modality.DEPTH,
        metres,
        width=width,
        height=height,
        focal_px=focal_px and focal_px / step((width, height)),
        baseline_m=intrinsics.get("baseline_m"),
    )


def _values(path: Path, mime: str) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the values of a map, of a large one every n-th row and column, and the shape of the whole."""
    if mime.startswith("image/") and mime not in _FLOATS:
        with opened(path) as image:
            if not is_deep(image):
                raise Unsupported(f"{path}: image mode {image.mode} cannot hold depth; {_SUPPORTED}")
            return strided(image), (image.height, image.width)
    with path.open("rb") as file:
        if mime == "image/x-exr":
            values = _exr(file, path)
        else:
            values = npy.plane(file, path) if mime == "application/x-npy" else _pfm(file, path)
    if values.ndim != 2 or values.dtype.kind not in "fui":
        raise Unsupported(f"{path}: {values.dtype}{list(values.shape)} is not a depth map; {_SUPPORTED}")
    return strided(values), values.shape


def _intrinsics(path: Path) -> dict[str, float]:
    try:
        MAX_SIDECAR_MB.check(path, path.stat().st_size)
        intrinsics = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Unreadable(f"{path}: cannot be read as JSON: {error}") from None
    if not isinstance(intrinsics, dict) or not intrinsics.keys() <= _FIELDS:
        raise Unreadable(f"{path}: expected an object with {', '.join(sorted(_FIELDS))} and nothing else")
    for name, value in intrinsics.items():
        if type(value) not in (int, float) or not 0 < value < math.inf:
            raise Unreadable(f"{path}: {name} is {value!r}; expected a number above 0")
        if name == "rotate_bits" and value not in range(1, 16):
            raise Unreadable(f"{path}: {name} is {value!r}; expected a whole number from 1 to 15")
    return intrinsics


def _is_mask(array: np.ndarray) -> bool:
    """Whether values have 8 bits, or are two: 0 and one that means yes."""
    if array.itemsize == 1:
        return True
    values = np.unique(array)
    return len(values) == 2 and values[0] == 0 and values[1] in _MASKS


def _pfm(file: IO[bytes], path: Path) -> np.ndarray:
    """Read a portable float map (pauldebevec.com/Research/HDR/PFM): bottom-up, little-endian if scale < 0."""
    kind, size, scale = (file.readline(80) for _ in range(3))
    if kind.strip() != b"Pf":
        raise Unsupported(f"{path}: not a one-channel PFM; {_SUPPORTED}")
    width, height = map(int, size.split())
    check_pixels(path, width * height)
    data = file.read(max(0, 4 * width * height))
    if min(width, height) < 1 or len(data) < 4 * width * height:
        raise Unreadable(f"{path}: truncated: shorter than its header declares; replace the file")
    rows = np.frombuffer(data, "<f4" if float(scale) < 0 else ">f4", width * height)
    return rows.reshape(height, width)[::-1]


def _exr(file: IO[bytes], path: Path) -> np.ndarray:
    try:
        library = importlib.import_module("OpenEXR")
    except ImportError:
        raise MissingPackage(f"{path}: EXR support is not installed: pip install OpenEXR") from None
    check_exr(file, path)
    channels = library.File(str(path), separate_channels=True).channels()
    name = next((name for name in ("Z", "depth", "Y", "R") if name in channels), next(iter(channels)))
    return np.asarray(channels[name].pixels)
