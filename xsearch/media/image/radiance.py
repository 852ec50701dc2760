"""Pictures of unbounded linear light, Radiance HDR and OpenEXR -> 8-bit RGB; the size of an OpenEXR file."""

from __future__ import annotations

import re
import struct
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image

from xsearch.media.image.pillow import check_pixels, most_pixels
from xsearch.media.image.rgb import BAND, levels, strided
from xsearch.media.limits import MAX_DECODED_MB

__all__ = ["CODECS", "check_exr", "opened"]

CODECS = {"image/vnd.radiance": "hdr", "image/x-exr": "exr"}  # FFmpeg's decoders
HEADER = 1 << 16  # bytes that have the size
COST = 24  # bytes a pixel: FFmpeg's planes, levels and Pillow's image
_HDR_SIZE = re.compile(rb"[-+][XY] (\d{1,9}) [-+][XY] (\d{1,9})\n")
_EXR_WINDOW = re.compile(rb"(?:dataWindow|displayWindow)\0box2i\0\x10\0\0\0(.{16})", re.DOTALL)
_EXR_CHANNEL = re.compile(rb"[^\0]{1,255}\0[\0-\2]\0\0\0.{4}.{8}", re.DOTALL)  # name, type, flags, sampling


def opened(file: IO[bytes], path: Path, codec: str) -> Image.Image:
    """Open a picture; its 99th percentile becomes white."""
    import av

    if codec == "exr":
        check_exr(file, path)
    elif size := _HDR_SIZE.search(_header(file)):
        _check(path, int(size[1]) * int(size[2]), COST)
    file.seek(0)
    decoder = av.CodecContext.create(codec, "r")
    decoder.options = {"max_pixels": str(min(most_pixels(), MAX_DECODED_MB.bytes // COST))}
    try:
        [frame] = cast(Any, decoder.decode(av.Packet(file.read())) + decoder.decode(None))
        number = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
        planes = [np.frombuffer(plane, number).reshape(plane.height, -1) for plane in frame.planes[:3]]
        green, blue, red = (plane[:, : frame.width] for plane in planes)  # formats gbrp*
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(error) from error
    white = np.percentile(_light(*map(strided, (red, green, blue))), 99) or 1
    whole = np.empty((frame.height, frame.width, 3), np.uint8)
    rows = max(1, BAND // frame.width)
    for top in range(0, frame.height, rows):
        band = slice(top, top + rows)
        shown = (_light(red[band], green[band], blue[band]) / white).clip(0, 1) ** (1 / 2.2)
        whole[band] = levels(shown, 0.0, 1.0)
    return Image.fromarray(whole)


def _light(red: np.ndarray, green: np.ndarray, blue: np.ndarray) -> np.ndarray:
    """Return non-negative finite light, float32 [H, W, 3]."""
    return np.nan_to_num(np.stack([red, green, blue], axis=2).astype(np.float32), posinf=0).clip(0)


def check_exr(file: IO[bytes], path: Path) -> None:
    """Raise TooLarge if the windows or the channels of an OpenEXR file exceed the limits."""
    head = _header(file)
    channels = head.partition(b"channels\0chlist\0")[2][4:]
    count = 0
    while channel := _EXR_CHANNEL.match(channels):
        count, channels = count + 1, channels[channel.end() :]
    for window in _EXR_WINDOW.findall(head):
        left, top, right, bottom = struct.unpack("<4i", window)
        _check(path, (right - left + 1) * (bottom - top + 1), max(COST, 4 * count))


def _header(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(HEADER)


def _check(path: Path, pixels: int, cost: int) -> None:
    check_pixels(path, pixels)
    MAX_DECODED_MB.check(path, cost * pixels)
