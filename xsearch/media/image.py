"""Images in any format that Pillow reads, RAW photographs, HDR and EXR -> upright 8-bit RGB.

XSEARCH_MAX_PIXELS   larger images are rejected; defaults to Pillow's limit, 178,956,970
XSEARCH_EXACT_JPEG   if not empty, decode large JPEGs at full size
"""

from __future__ import annotations

import importlib
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

from xsearch.errors import MissingPackage, TooLarge, Unreadable
from xsearch.media import formats, raw, tiff
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_pixels", "is_deep", "opened", "read", "to_rgb"]

# Lower bound, in pixels, on the short side of a downscaled JPEG; ImageBind takes 224. On 40 photographs of
# 12 MP, cosines between embeddings (bundled model) of downscaled and full images are 0.9987 to 1, median
# 0.99999, and decoding takes a third of the time.
MIN_SIDE = 512
# Pillow's decoders of raster formats. Others start programs (EPS), read text as pictures, or decode nothing.
_FORMATS = ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "AVIF", "PPM", "JPEG2000", "ICO", "CUR", "ICNS"]
_FORMATS += ["PSD", "DDS", "QOI", "SGI", "PCX", "XBM", "XPM"]
_PLUGINS = {"image/heic": ("HEIF", "pillow_heif", "heic"), "image/jxl": ("JXL", "pillow_jxl", "jxl")}
_RADIANCE = {"image/vnd.radiance": "hdr", "image/x-exr": "exr"}  # FFmpeg's decoders of unbounded light
_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
_MAX_FRAMES = 100  # of an animation, until one shows something
_CONTRAST = 10  # grey levels, standard deviation of a frame that shows something


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield one sample: the picture with its EXIF orientation applied; of an animation, see `_shown`.

    A large JPEG is decoded at 1/2, 1/4 or 1/8 of its size, its sides at least MIN_SIDE.
    """
    with opened(file.path) as image:
        width, height = image.size
        if not os.environ.get("XSEARCH_EXACT_JPEG"):
            image.draft(None, (MIN_SIDE, MIN_SIDE))
        drafted = image.size
        rgb = _shown(image)
        if rgb.size != drafted:  # turned by a quarter
            width, height = height, width
    yield Sample(Modality.IMAGE, rgb, width=width, height=height)


def _shown(image: Image.Image) -> Image.Image:
    """Return the first frame that shows something, upright: many animations begin black, white or empty.

    Of the first _MAX_FRAMES it is the first with a contrast of _CONTRAST, or else the one with the most.
    """
    shown = to_rgb(ImageOps.exif_transpose(image))
    if image.format not in _ANIMATED or not getattr(image, "is_animated", False):
        return shown
    best = _contrast(shown)
    for number in range(1, _MAX_FRAMES):
        if best >= _CONTRAST:
            break
        try:
            image.seek(number)
            frame = to_rgb(ImageOps.exif_transpose(image))
        except (EOFError, OSError, SyntaxError):  # the last frame, or a damaged one
            break
        if (contrast := _contrast(frame)) > best:
            shown, best = frame, contrast
    return shown


def _contrast(image: Image.Image) -> float:
    return max(ImageStat.Stat(image).stddev)


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """Open an image lazily, Pillow's warnings silenced; of a RAW photograph its preview.

    Raises Unreadable if it is damaged, too large, or of a format that is not supported.
    """
    limit = _limit(path)
    try:
        # A file object: Pillow maps paths into memory, and truncating a mapped file raises SIGBUS.
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with _opened(file, path, limit) as image:
                yield image
    except Image.DecompressionBombError:
        raise _too_large(path, limit) from None
    except OSError as error:
        problem = "truncated" if "truncated" in str(error) else "damaged"
        raise Unreadable(f"{path}: {problem} image; replace the file") from error


def _opened(file: IO[bytes], path: Path, limit: float) -> Image.Image:
    head = file.read(formats.HEAD)
    mime = formats.detect(path, head)
    if mime in formats.RAW or (mime == "image/tiff" and tiff.is_raw(file)):
        return raw.opened(file, path, limit)
    if codec := _RADIANCE.get(mime):
        return _radiance(file, codec, limit)
    names = [*_FORMATS, *["TGA"] * (mime == "image/x-tga")]  # TGA has no signature
    if mime in _PLUGINS:
        name, module, extra = _PLUGINS[mime]
        try:
            plugin = importlib.import_module(module)
        except ImportError:
            raise MissingPackage(
                f"{path}: unsupported image format ({formats.title(mime)}): pip install 'xsearch[{extra}]'"
            ) from None
        if name == "HEIF":
            plugin.register_heif_opener()
        names = [name]
    try:
        image = Image.open(file, formats=names)
    except UnidentifiedImageError as error:
        if mime == "image/tiff":
            return _numbers(file, path, limit)
        raise Unreadable(f"{path}: {_unsupported(path, head, mime)}") from error
    if image.format == "JXL" and not getattr(image, "jpeg", None):
        image.getexif().pop(raw.ORIENTATION, None)  # applied by the decoder: ISO/IEC 18181-2, box Exif
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


def _numbers(file: IO[bytes], path: Path, limit: float) -> Image.Image:
    """Open a TIFF file of numbers that Pillow has no mode for: float16, float64, many channels, ..."""
    try:
        values = tiff.pixels(file, limit)  # [H, W, channels]
    except Image.DecompressionBombError:
        raise
    except Exception as error:  # damaged, or of a compression or type that Pillow lacks
        raise Unreadable(
            f"{path}: unsupported image format (a variant of TIFF, or damaged): convert it to PNG"
        ) from error
    if values.shape[2] < 3:  # grey, perhaps with opacity
        values = values[..., 0]
        is_whole = values.dtype.kind in "iu" and abs(values.astype(np.float64)).max(initial=0) < 2**31
        return Image.fromarray(values.astype(np.int32 if is_whole else np.float32))
    white = 1.0 if values.dtype.kind == "f" else 255.0 if values.dtype.itemsize == 1 else 65535.0
    return Image.fromarray(_levels(values[..., :3], white))


def _radiance(file: IO[bytes], codec: str, limit: float) -> Image.Image:
    """Open a picture of unbounded linear light; its 99th percentile becomes white."""
    import av

    file.seek(0)
    decoder = av.CodecContext.create(codec, "r")
    decoder.options = {"max_pixels": str(min(limit, 2**31 - 1))}
    try:
        [frame] = cast(Any, decoder.decode(av.Packet(file.read())) + decoder.decode(None))
        light = frame.reformat(format="gbrpf32le").to_ndarray()  # [H, W, 3]
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(error) from error
    light = np.nan_to_num(light, posinf=0).clip(0)
    shown = (light / (np.percentile(light, 99) or 1)).clip(0, 1) ** (1 / 2.2)
    return Image.fromarray(_levels(shown, 1.0))


def check_pixels(path: Path, pixels: int) -> None:
    """Raise TooLarge if an array of `pixels` elements exceeds the image size limit."""
    if pixels > (limit := _limit(path)):
        raise _too_large(path, limit)


def is_deep(image: Image.Image) -> bool:
    """Whether the image has one channel of more than 8 bits."""
    return image.mode == "F" or image.mode.startswith("I")


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any mode to RGB. Transparent pixels are composited over white, 16-bit is divided by 257.

    32-bit integers outside 0..65535 and floats outside 0..1 are rescaled from their minimum to their
    maximum. CMYK is converted without its ICC profile.
    """
    if is_deep(image):
        values = np.asarray(image, np.float64)
        image = Image.fromarray(_levels(values, 1.0 if image.mode == "F" else 65535.0))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _levels(values: np.ndarray, white: float) -> np.ndarray:
    """Scale 0..white to 0..255; rescale from minimum to maximum if values lie outside."""
    finite = values[np.isfinite(values)]
    low, high = 0.0, white
    if finite.min(initial=low) < low or finite.max(initial=high) > high:
        low, high = finite.min(), finite.max()
    levels = np.nan_to_num((values - np.float64(low)) / ((high - low) or 1))
    return np.rint(255 * levels.clip(0, 1)).astype(np.uint8)


def _limit(path: Path) -> float:
    if value := os.environ.get("XSEARCH_MAX_PIXELS"):
        if not value.isdecimal():
            raise TooLarge(f"{path}: XSEARCH_MAX_PIXELS is {value!r}; expected a whole number")
        Image.MAX_IMAGE_PIXELS = int(value) // 2  # Pillow warns above it and raises above twice as many
    return math.inf if Image.MAX_IMAGE_PIXELS is None else 2 * Image.MAX_IMAGE_PIXELS


def _too_large(path: Path, limit: float) -> TooLarge:
    return TooLarge(f"{path}: over {limit:,} pixels; downscale it or raise XSEARCH_MAX_PIXELS")
