"""Arrays in NumPy's .npy format, read within limits, and never mapped: a truncated mapping raises SIGBUS."""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format

from xsearch.media.image import check_pixels
from xsearch.media.limits import MAX_DECODED_MB

__all__ = ["plane", "sampled", "stated_bytes"]

LONGEST_ROW = 1 << 20  # bytes


def plane(file: IO[bytes], path: Path) -> np.ndarray:
    """Return an array, unless it has two axes without those of length 1. Raises TooLarge, or ValueError."""
    shape, _, dtype = _header(file)
    check_pixels(path, math.prod(shape))
    MAX_DECODED_MB.check(path, math.prod(shape) * dtype.itemsize)
    file.seek(0)
    array = format.read_array(file, allow_pickle=False)
    return array if array.ndim == 2 else array.squeeze()


def sampled(file: IO[bytes], count: int) -> tuple[int, np.ndarray]:
    """Return how many axes the `plane` of a file has, and if it has two, the values of about `count` rows."""
    shape, is_transposed, dtype = _header(file)
    sides = shape if len(shape) == 2 else tuple(side for side in shape if side != 1)
    parts = [np.empty(0, dtype)]
    if len(sides) == 2:
        height, width = sides[::-1] if is_transposed else sides
        start = file.tell()
        for row in range(0, height, -(-height // count) or 1):
            file.seek(start + row * width * dtype.itemsize)
            data = file.read(min(width * dtype.itemsize, LONGEST_ROW))
            parts.append(np.frombuffer(data, dtype, len(data) // dtype.itemsize))
    return len(sides), np.concatenate(parts)


def stated_bytes(file: IO[bytes]) -> int:
    """Return the size that the header of an array states."""
    shape, _, dtype = _header(file)
    return math.prod(shape) * dtype.itemsize


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether it is stored by columns, and type; the file is at the values."""
    read = format.read_array_header_1_0 if format.read_magic(file) == (1, 0) else format.read_array_header_2_0
    shape, is_transposed, dtype = read(file)
    return shape, is_transposed, dtype
