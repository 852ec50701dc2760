"""Images in any format that Pillow reads, RAW photographs, HDR and EXR -> upright 8-bit RGB.

XSEARCH_EXACT_JPEG   if not empty, decode large JPEGs at full size; for the limits see `media.limits`
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image, ImageStat, UnidentifiedImageError
from PIL.PngImagePlugin import MAX_TEXT_CHUNK

from xsearch.errors import MissingPackage, TooLarge, Unreadable, Unsupported
from xsearch.media import formats
from xsearch.media.faults import Watched, unless_passing, watched
from xsearch.media.image import jxl, pillow, radiance, raw, tiff
from xsearch.media.image.rgb import ORIENTATION, extent, levels, orientation, to_rgb, turned_upright
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["opened", "read"]

# Lower bound, in pixels, on the short side of a downscaled JPEG; ImageBind takes 224. On 40 photographs of
# 12 MP, cosines between embeddings (bundled model) of downscaled and full images are 0.9987 to 1, median
# 0.99999, and decoding takes a third of the time.
MIN_SIDE = 512
_PLUGINS = {"image/heic": ("HEIF", "pillow_heif", "heic"), "image/jxl": ("JXL", "pillow_jxl", "jxl")}
_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
FRAMES = 100  # of an animation, where to look for one that shows something
FRAME_PIXELS = 1 << 28  # of all these frames, which take about five seconds
BLANK = 10  # levels; a first frame with less contrast shows nothing


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield one sample: the picture with its EXIF orientation applied; of an animation, see `_shown`.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, its sides at least MIN_SIDE.
    """
    with opened(file.path) as image:
        width, height = image.size
        if not os.environ.get("XSEARCH_EXACT_JPEG"):
            image.draft(None, (MIN_SIDE, MIN_SIDE))
        drafted = image.size
        turns = orientation(image)
        if turns > 4 or image.size != drafted:  # turned by a quarter; a TIFF file when it is loaded
            width, height = height, width
        rgb = _shown(image, turns)
    yield Sample(Modality.IMAGE, rgb, width=width, height=height)


def _shown(image: Image.Image, turns: int) -> Image.Image:
    """Return the first frame that shows something, upright: many animations begin black, white or empty.

    After a first frame without contrast, it is the first that has half the contrast of the best of FRAMES.
    """
    frame = to_rgb(image)
    contrasts = [_contrast(frame)] if image.format in _ANIMATED and cast(Any, image).is_animated else []
    if contrasts and contrasts[0] < BLANK:
        with suppress(EOFError), unless_passing(OSError, SyntaxError):  # the last frame, or a damaged one
            for number in range(1, min(FRAMES, FRAME_PIXELS // (image.width * image.height))):
                image.seek(number)
                contrasts.append(_contrast(to_rgb(image)))
        best = next(number for number, each in enumerate(contrasts) if 2 * each >= max(contrasts))
        if best:
            image.seek(best)
            frame = to_rgb(image)
    return turned_upright(frame, turns)


def _contrast(image: Image.Image) -> float:
    """Return the standard deviation of an RGB image, in levels of the channel with the largest."""
    return max(ImageStat.Stat(image).stddev)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image lazily, Pillow's warnings silenced; of a RAW photograph its preview.

    Raises Unreadable if it is damaged, too large, or of a format that is not supported.
    """
    pillow.most_pixels()
    try:
        # A file object: Pillow maps paths into memory, and truncating a mapped file raises SIGBUS.
        with watched(path, Watched) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(file, path) as image:
                pillow.check_cost(path, image)
                yield image
    except Image.DecompressionBombError:
        raise pillow.too_many_pixels(path) from None
    except ValueError as error:
        if "too large" not in str(error):  # text of a PNG
            raise
        most = f"over {MAX_TEXT_CHUNK >> 20} MB unpacked (MAX_TEXT_CHUNK of Pillow)"
        raise TooLarge(f"{path}: the text in it is too large, {most}; remove its metadata") from error
    except OSError as error:
        problem = "truncated" if "truncated" in str(error) else "damaged"
        raise Unreadable(f"{path}: a {problem} image; replace the file") from error


def _opened(file: IO[bytes], path: Path) -> Image.Image:
    head = file.read(formats.HEAD)
    mime = formats.detect(path, head)
    first = next(tiff.directories(file), None) if mime == "image/tiff" else None
    if mime in formats.RAW or (first and tiff.is_raw(first)):
        return raw.opened(file, path)
    if first and tiff.is_misread(first):
        return _numbers(file, path)
    if codec := radiance.CODECS.get(mime):
        return radiance.opened(file, path, codec)
    names = pillow.FORMATS + " TGA" * (mime == "image/x-tga")  # TGA has no signature
    if mime in _PLUGINS:
        names, module, extra = _PLUGINS[mime]
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            raise MissingPackage(
                f"{path}: unsupported image format ({formats.title(mime)}): pip install 'xsearch[{extra}]'"
            ) from None
        if names == "HEIF":
            plugin.register_heif_opener()
        else:
            jxl.check(file, path)
    try:
        image = pillow.opened(file, names)
    except (UnidentifiedImageError, RuntimeError) as error:  # the latter of JPEG XL
        if mime == "image/tiff":
            return _numbers(file, path)
        is_image = mime.startswith("image/") and not formats.foreign(path, head)
        kind = Unreadable if is_image else Unsupported
        raise kind(f"{path}: {_unsupported(path, head, mime)}") from error
    if image.format == "JXL" and not getattr(image, "jpeg", None):
        image.getexif().pop(ORIENTATION, None)  # applied by the decoder: ISO/IEC 18181-2, box Exif
    return image


def _unsupported(path: Path, head: bytes, mime: str) -> str:
    """Return why a file is no image that can be read, and what to do."""
    if name := formats.foreign(path, head):
        return f"unsupported image format ({name}): convert it to PNG"
    if other := formats.other(head):
        return f"unsupported image format ({other}): replace it by a picture"
    if mime.startswith("image/"):
        return f"unsupported image format (a variant of {formats.title(mime)}, or damaged): convert it to PNG"
    return f"unsupported image format ({formats.title(mime) or 'unknown'}): convert it to PNG"


def _numbers(file: IO[bytes], path: Path) -> Image.Image:
    """Open a TIFF file of numbers that Pillow has no mode for: float16, float64, many channels, ..."""
    try:
        values = tiff.pixels(file, path)  # [H, W, channels]
    except TooLarge:
        raise
    except Exception as error:  # damaged, or of a compression or type that Pillow lacks
        kind = Unsupported if isinstance(error, ValueError) else Unreadable
        raise kind(
            f"{path}: unsupported image format (a variant of TIFF, or damaged): convert it to PNG"
        ) from error
    if values.shape[2] < 3:  # grey, perhaps with opacity
        values = values[..., 0]
        if values.dtype == np.uint8:
            return Image.fromarray(values)
        is_whole = (
            values.dtype.kind in "iu" and -(2**31) < values.min(initial=0) <= values.max(initial=0) < 2**31
        )
        return Image.fromarray(values.astype(np.int32 if is_whole else np.float32))
    white = 1.0 if values.dtype.kind == "f" else 255.0 if values.dtype.itemsize == 1 else 65535.0
    values = values[..., :3]
    ends = extent(values, white)
    return Image.fromarray(np.stack([levels(row, *ends) for row in values]))
