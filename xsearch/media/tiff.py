"""TIFF files beyond Pillow: all their directories, and numbers that Pillow has no mode for."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from typing import IO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

__all__ = ["Directory", "directories", "is_mosaic", "is_raw", "page", "pixels", "segments"]

# Tags, from TIFF 6.0, TIFF/EP (ISO 12234-2) and DNG 1.7
SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUBDIRECTORIES, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 339
TIFF_EP, DNG_VERSION = 37398, 50706
_SENSOR = (32803, 34892)  # photometric interpretation: colour filter array, linear raw
_KINDS = {1: "u", 2: "i", 3: "f"}  # sample format -> kind of a NumPy dtype
_BIG = (b"+\0", b"\0+")  # versions of BigTIFF
_MAX_DIRECTORIES = 64


def directories(file: IO[bytes]) -> Iterator[Directory]:
    """Yield the directories of a file like TIFF, sub-directories behind their parents; stop at damage.

    Olympus and Panasonic write a number of their own in place of TIFF's 42.
    """
    file.seek(0)
    head = file.read(16)
    if head[:2] not in (b"II", b"MM"):
        return
    is_big = head[2:4] in _BIG
    head = head[:2] + _number(43 if is_big else 42, 2, head[:2]) + head[4 : 16 if is_big else 8]
    try:
        offsets, visited = deque([Directory(head).next]), set[int]()
        while offsets and len(visited) < _MAX_DIRECTORIES:
            if (offset := offsets.popleft()) and offset not in visited:
                visited.add(offset)
                directory = Directory(head)
                file.seek(offset)
                directory.load(file)
                yield directory
                children = directory.get(SUBDIRECTORIES, ())
                offsets.extendleft(reversed(children if isinstance(children, tuple) else (children,)))
                offsets.append(directory.next)
    except Exception:  # damaged: Pillow raises what it meets
        return


def is_mosaic(directory: Directory) -> bool:
    """Whether a directory holds the values of a sensor rather than a picture."""
    return directory.get(PHOTOMETRIC) in _SENSOR


def is_raw(file: IO[bytes]) -> bool:
    """Whether a TIFF file is a RAW photograph (DNG, TIFF/EP): its first directory tells."""
    first = next(directories(file), None)
    if first is None:
        return False
    is_preview = bool(first.get(SUBFILE_TYPE, 0) & 1) and SUBDIRECTORIES in first
    return is_preview or is_mosaic(first) or DNG_VERSION in first or TIFF_EP in first


def segments(directory: Directory) -> tuple[int, ...]:
    """Return the offsets of the strips or tiles of a directory."""
    return tuple(directory.get(TILES) or directory.get(STRIPS, ()))


def page(file: IO[bytes], directory: Directory) -> Image.Image:
    """Open the picture of one directory, by a copy of the file that starts with it."""
    file.seek(0)
    data = file.read()
    at = 8 if data[2:4] in _BIG else 4
    start = _number(directory.offset, at, directory.prefix)
    return Image.open(io.BytesIO(data[:at] + start + data[2 * at :]), formats=["TIFF"])


def pixels(file: IO[bytes], limit: float) -> np.ndarray:
    """Return the first picture of a TIFF file as numbers [H, W, channels], of any type of 8 to 64 bits.

    Pillow decompresses it as bytes, of which NumPy makes the numbers. Of separate planes, three are read.
    Raises ValueError if samples are of another type, DecompressionBombError above `limit` pixels.
    """
    first = next(directories(file))
    width, height, samples = first[WIDTH], first[HEIGHT], first.get(SAMPLES, 1)
    if width * height > limit:
        raise Image.DecompressionBombError
    bits, kinds = set(first.get(BITS, (1,))), set(first.get(SAMPLE_FORMAT, (1,)))
    if len(bits) > 1 or len(kinds) > 1 or not (kind := _KINDS.get(max(kinds))):
        raise ValueError("samples of several types, or complex")
    if max(bits) not in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64)):
        raise ValueError(f"samples of {max(bits)} bits")
    dtype = np.dtype(f"{kind}{max(bits) // 8}").newbyteorder("<" if first.prefix == b"II" else ">")
    planes, samples = (min(samples, 3), 1) if first.get(PLANAR, 1) == 2 else (1, samples)
    segment = first.get(TILE_WIDTH, width)  # of a row; predictors start anew in each
    padded = -(-width // segment) * segment
    file.seek(0)
    data = file.read()
    parts = []
    for plane in range(planes):
        image = _as_bytes(data, first, padded * samples * dtype.itemsize, height, plane)
        rows = np.asarray(image).reshape(height, -1, segment * samples * dtype.itemsize)
        numbers = _predicted(rows, dtype, samples, first.get(PREDICTOR, 1))
        parts.append(numbers.reshape(height, padded, samples)[:, :width])
    return np.concatenate(parts, axis=2)


def _number(value: int, size: int, prefix: bytes) -> bytes:
    return value.to_bytes(size, "little" if prefix == b"II" else "big")


def _as_bytes(data: bytes, first: Directory, width: int, height: int, plane: int) -> Image.Image:
    """Open one plane of a picture as `width` x `height` grey bytes, by another directory behind the file."""
    is_tiled = TILES in first
    offsets, counts = (first[tag] for tag in ((TILES, TILE_BYTES) if is_tiled else (STRIPS, STRIP_BYTES)))
    planes = first.get(SAMPLES, 1) if first.get(PLANAR, 1) == 2 else 1
    each = len(offsets) // planes
    part = slice(plane * each, (plane + 1) * each)
    grey = Directory(prefix=first.prefix)
    grey[WIDTH], grey[HEIGHT], grey[BITS], grey[SAMPLES], grey[PHOTOMETRIC] = width, height, 8, 1, 1
    grey[COMPRESSION] = first.get(COMPRESSION, 1)
    if is_tiled:
        grey[TILE_WIDTH] = width // -(-first[WIDTH] // first[TILE_WIDTH])
        grey[TILE_HEIGHT] = first[TILE_HEIGHT]
        grey[TILES], grey[TILE_BYTES] = offsets[part], counts[part]
    else:
        grey[ROWS] = first.get(ROWS, height)
        grey[STRIPS], grey[STRIP_BYTES] = offsets[part], counts[part]
    at = len(data) + len(data) % 2
    head = first.prefix + _number(42, 2, first.prefix) + _number(at, 4, first.prefix)
    behind = data[8:].ljust(at - 8, b"\0") + grey.tobytes(at)
    return Image.open(io.BytesIO(head + behind), formats=["TIFF"])


def _predicted(rows: np.ndarray, dtype: np.dtype, samples: int, predictor: int) -> np.ndarray:
    """Undo a predictor, TIFF 6.0 section 14 and Adobe's TIFF Technical Note 3.

    rows: uint8 [H, segments, bytes]. Returns numbers of `dtype`, [H, segments, pixels * samples].
    """
    H, S, _ = rows.shape
    if predictor == 3:  # the bytes of all numbers by significance, then their differences
        planes = np.cumsum(rows.reshape(H, S, -1, samples), axis=2, dtype=np.uint8)
        by_number = planes.reshape(H, S, dtype.itemsize, -1).swapaxes(2, 3)
        return np.ascontiguousarray(by_number).view(dtype.newbyteorder(">"))[..., 0]
    if predictor == 2:
        integers = dtype.str.replace(dtype.kind, "u")
        native = np.dtype(f"u{dtype.itemsize}")
        steps = np.ascontiguousarray(rows).view(integers).reshape(H, S, -1, samples)
        return np.cumsum(steps, axis=2, dtype=native).reshape(H, S, -1).view(dtype.newbyteorder("="))
    return np.ascontiguousarray(rows).view(dtype)
