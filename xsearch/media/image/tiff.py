"""TIFF files beyond Pillow: all their directories, and numbers that Pillow has no mode for."""

from __future__ import annotations

import io
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2 as Directory

from xsearch.media.faults import unless_passing
from xsearch.media.image import pillow
from xsearch.media.limits import MAX_DECODED_MB

__all__ = [
    "Directory",
    "directories",
    "directory",
    "is_misread",
    "is_mosaic",
    "is_raw",
    "page",
    "pixels",
    "segments",
]

# Tags, from TIFF 6.0, TIFF/EP (ISO 12234-2) and DNG 1.7
SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
STRIPS, SAMPLES, ROWS, STRIP_BYTES, PLANAR, PREDICTOR = 273, 277, 278, 279, 284, 317
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, SUBDIRECTORIES, SAMPLE_FORMAT = 322, 323, 324, 325, 330, 339
TIFF_EP, DNG_VERSION = 37398, 50706
_SENSOR = (32803, 34892)  # photometric interpretation: colour filter array, linear raw
_KINDS = {1: "u", 2: "i", 3: "f"}  # sample format -> kind of a NumPy dtype
_PREDICTING = (5, 8, 32946, 34925, 50000)  # compressions with predictors: LZW, Deflate, LZMA, Zstandard
_BIG = (b"+\0", b"\0+")  # versions of BigTIFF
_MAX_DIRECTORIES = 64
_COPIES = 6  # of the numbers that are in memory at once


def directories(file: IO[bytes]) -> Iterator[Directory]:
    """Yield the directories of a file like TIFF, sub-directories behind their parents; stop at damage."""
    file.seek(0)
    if file.read(2) not in (b"II", b"MM"):
        return
    offsets, visited = deque[int | None]([None]), {0}
    with unless_passing(Exception):  # damaged: Pillow raises what it meets
        while offsets and len(visited) <= _MAX_DIRECTORIES:
            if (offset := offsets.popleft()) not in visited:
                each = directory(file, offset)
                visited.add(each.offset)
                yield each
                children = each.get(SUBDIRECTORIES, ())
                offsets.extendleft(reversed(children if isinstance(children, tuple) else (children,)))
                offsets.append(each.next)


def directory(file: IO[bytes], offset: int | None = None) -> Directory:
    """Return the directory at an offset of a file like TIFF, by default the first.

    Olympus and Panasonic write a number of their own in place of TIFF's 42. Raises undocumented exceptions if
    it is damaged.
    """
    file.seek(0)
    head = file.read(16)
    if head[:2] not in (b"II", b"MM"):
        raise ValueError("no TIFF header")
    is_big = head[2:4] in _BIG
    loaded = Directory(b"II+\0" + head[4:] if is_big else b"II*\0" + head[4:8], head[:2])
    file.seek(loaded.next if offset is None else offset)
    loaded.load(file)
    return loaded


def is_mosaic(directory: Directory) -> bool:
    """Whether a directory holds the values of a sensor rather than a picture."""
    return directory.get(PHOTOMETRIC) in _SENSOR


def is_raw(first: Directory) -> bool:
    """Whether the first directory of a TIFF file is that of a RAW photograph (DNG, TIFF/EP)."""
    is_preview = bool(first.get(SUBFILE_TYPE, 0) & 1) and SUBDIRECTORIES in first
    return is_preview or is_mosaic(first) or DNG_VERSION in first or TIFF_EP in first


def is_misread(first: Directory) -> bool:
    """Whether Pillow confuses the bytes: compressed big-endian numbers, planes of 16 bits or of opacity."""
    is_deep, is_planar = max(first.get(BITS, (1,))) > 8, first.get(PLANAR, 1) == 2
    is_swapped = is_deep and first.prefix == b"MM" and first.get(COMPRESSION, 1) != 1
    return is_swapped or (is_planar and (is_deep or first.get(SAMPLES, 1) == 2))


def segments(directory: Directory) -> tuple[int, ...]:
    """Return the offsets of the strips or tiles of a directory."""
    return tuple(directory.get(TILES) or directory.get(STRIPS, ()))


def page(file: IO[bytes], directory: Directory) -> Image.Image:
    """Open the picture of one directory, by a copy of the file that starts with it."""
    file.seek(0)
    data = bytearray(file.read())
    at = 8 if data[2:4] in _BIG else 4
    data[at : 2 * at] = _number(directory.offset, at, directory.prefix)
    return pillow.opened(io.BytesIO(data), "TIFF")


def pixels(file: IO[bytes], path: Path) -> np.ndarray:
    """Return the first picture of a TIFF file as numbers [H, W, channels], of any type of 8 to 64 bits.

    Pillow decompresses it as bytes, of which NumPy makes the numbers. Of separate planes, three are read.
    Raises ValueError if samples are of another type, TooLarge beyond the limits of pixels and memory.
    """
    first = next(directories(file))
    width, height, samples = first[WIDTH], first[HEIGHT], first.get(SAMPLES, 1)
    pillow.check_pixels(path, width * height)
    bits, kinds = set(first.get(BITS, (1,))), set(first.get(SAMPLE_FORMAT, (1,)))
    if len(bits) > 1 or len(kinds) > 1 or not (kind := _KINDS.get(max(kinds))):
        raise ValueError("samples of several types, or complex")
    if max(bits) not in ((16, 32, 64) if kind == "f" else (8, 16, 32, 64)):
        raise ValueError(f"samples of {max(bits)} bits")
    dtype = np.dtype(f"{kind}{max(bits) // 8}").newbyteorder("<" if first.prefix == b"II" else ">")
    planes, samples = (min(samples, 3), 1) if first.get(PLANAR, 1) == 2 else (1, samples)
    segment = first.get(TILE_WIDTH, width)  # of a row; predictors start anew in each
    padded = -(-width // segment) * segment
    MAX_DECODED_MB.check(path, _COPIES * padded * height * samples * dtype.itemsize * planes)
    file.seek(0)
    data = file.read()
    parts = []
    for plane in range(planes):
        image = _as_bytes(data, first, padded * samples * dtype.itemsize, height, plane)
        rows = np.asarray(image).reshape(height, -1, segment * samples * dtype.itemsize)
        predictor = first.get(PREDICTOR, 1) if first.get(COMPRESSION) in _PREDICTING else 1
        numbers = _predicted(rows, dtype, samples, predictor)
        parts.append(numbers.reshape(height, padded, samples)[:, :width])
    return np.concatenate(parts, axis=2)


def _number(value: int, size: int, prefix: bytes) -> bytes:
    return value.to_bytes(size, "little" if prefix == b"II" else "big")


def _as_bytes(data: bytes, first: Directory, width: int, height: int, plane: int) -> Image.Image:
    """Open one plane of a picture as `width` x `height` grey bytes, by another directory behind the file."""
    is_tiled = TILES in first
    tags = {WIDTH: width, HEIGHT: height, BITS: 8, COMPRESSION: first.get(COMPRESSION, 1), PHOTOMETRIC: 1}
    if is_tiled:
        across = -(-first[WIDTH] // first[TILE_WIDTH])
        tags |= {TILE_WIDTH: width // across, TILE_HEIGHT: first[TILE_HEIGHT]}
    else:
        tags |= {ROWS: min(first.get(ROWS, height), height)}
    planes = first.get(SAMPLES, 1) if first.get(PLANAR, 1) == 2 else 1
    lists = {tag: first[tag] for tag in ((TILES, TILE_BYTES) if is_tiled else (STRIPS, STRIP_BYTES))}
    each = len(segments(first)) // planes
    part = slice(plane * each, (plane + 1) * each)
    values = {tag: (value,) for tag, value in tags.items()} | {tag: lists[tag][part] for tag in lists}
    at = len(data) + len(data) % 2
    head = first.prefix + _number(42, 2, first.prefix) + _number(at, 4, first.prefix)
    behind = data[8:].ljust(at - 8, b"\0") + _packed(values, at, first.prefix)
    return pillow.opened(io.BytesIO(head + behind), "TIFF")


def _packed(tags: dict[int, tuple[int, ...]], at: int, prefix: bytes) -> bytes:
    """Return a directory at offset `at` whose values are all of the type LONG."""
    entries, lists, after = b"", b"", at + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = b"".join(_number(value, 4, prefix) for value in values)
        entries += _number(tag, 2, prefix) + _number(4, 2, prefix) + _number(len(values), 4, prefix)
        entries += packed if len(values) == 1 else _number(after + len(lists), 4, prefix)
        lists += packed if len(values) > 1 else b""
    return _number(len(tags), 2, prefix) + entries + bytes(4) + lists


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
