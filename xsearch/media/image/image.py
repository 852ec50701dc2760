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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image, ImageOps, ImageStat, UnidentifiedImageError

from xsearch.errors import MissingPackage, TooLarge, Unreadable, Unsupported
from xsearch.media import formats
from xsearch.media.faults import unless_passing
from xsearch.media.image import raw, tiff
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["check_pixels", "is_deep", "opened", "read", "to_rgb"]

# Lower bound, in pixels, on the short side of a downscaled JPEG; ImageBind takes 224. On 40 photographs of
# 12 MP, cosines between embeddings (bundled model) of downscaled and full images are 0.9987 to 1, median
# 0.99999, and decoding takes a third of the time.
MIN_SIDE = 512
# Pillow's decoders of raster formats. Others start programs (EPS), read text as pictures, or decode nothing.
_FORMATS = "JPEG PNG GIF WEBP TIFF BMP DIB AVIF PPM JPEG2000 ICO CUR ICNS PSD DDS QOI SGI PCX XBM XPM"
_PLUGINS = {"image/heic": ("HEIF", "pillow_heif", "heic"), "image/jxl": ("JXL", "pillow_jxl", "jxl")}
_RADIANCE = {"image/vnd.radiance": "hdr", "image/x-exr": "exr"}  # FFmpeg's decoders of unbounded light
_ANIMATED = {"GIF", "WEBP", "PNG", "AVIF"}
FRAMES = 100  # of an animation, where to look for one that shows something
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
        rgb = _shown(image)
        if rgb.size != drafted:  # turned by a quarter
            width, height = height, width
    yield Sample(Modality.IMAGE, rgb, width=width, height=height)


def _shown(image: Image.Image) -> Image.Image:
    """Return the first frame that shows something, upright: many animations begin black, white or empty.

    After a first frame without contrast, it is the first that has half the contrast of the best of FRAMES.
    """
    frame = to_rgb(ImageOps.exif_transpose(image))
    contrasts = [_contrast(frame)] if image.format in _ANIMATED and cast(Any, image).is_animated else []
    if not contrasts or contrasts[0] >= BLANK:
        return frame
    with suppress(EOFError), unless_passing(OSError, SyntaxError):  # the last frame, or a damaged one
        for number in range(1, FRAMES):
            image.seek(number)
            contrasts.append(_contrast(to_rgb(ImageOps.exif_transpose(image))))
    image.seek(next(number for number, each in enumerate(contrasts) if 2 * each >= max(contrasts)))
    return to_rgb(ImageOps.exif_transpose(image))


def _contrast(image: Image.Image) -> float:
    """Return the standard deviation of an RGB image, in levels of the channel with the largest."""
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
    except ValueError as error:
        if "too large" not in str(error):  # text of a PNG
            raise
        raise Unreadable(f"{path}: the text in it is too large; remove its metadata") from error
    except OSError as error:
        problem = "truncated" if "truncated" in str(error) else "damaged"
        raise Unreadable(f"{path}: a {problem} image; replace the file") from error


def _opened(file: IO[bytes], path: Path, limit: float) -> Image.Image:
    head = file.read(formats.HEAD)
    mime = formats.detect(path, head)
    first = next(tiff.directories(file), None) if mime == "image/tiff" else None
    if mime in formats.RAW or (first and tiff.is_raw(first)):
        return raw.opened(file, path, limit)
    if first and tiff.is_misread(first):
        return _numbers(file, path, limit)
    if codec := _RADIANCE.get(mime):
        return _radiance(file, codec, limit)
    names = [*_FORMATS.split(), *["TGA"] * (mime == "image/x-tga")]  # TGA has no signature
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
    except (UnidentifiedImageError, RuntimeError) as error:  # the latter of JPEG XL
        if mime == "image/tiff":
            return _numbers(file, path, limit)
        kind = Unreadable if mime.startswith("image/") else Unsupported
        raise kind(f"{path}: {_unsupported(path, head, mime)}") from error
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
        kind = Unsupported if isinstance(error, ValueError) else Unreadable
        raise kind(
            f"{path}: unsupported image format (a variant of TIFF, or damaged): convert it to PNG"
        ) from error
    if values.shape[2] < 3:  # grey, perhaps with opacity
        values = values[..., 0]
        if values.dtype == np.uint8:
            return Image.fromarray(values)
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
        number = np.dtype("<f2" if "f16" in frame.format.name else "<f4")
        rows = [np.frombuffer(plane, number).reshape(plane.height, -1) for plane in frame.planes[:3]]
        green, blue, red = (plane[:, : frame.width] for plane in rows)  # formats gbrp*
    except (av.error.FFmpegError, ValueError) as error:
        raise OSError(error) from error
    light = np.nan_to_num(np.stack([red, green, blue], axis=2).astype(np.float32), posinf=0).clip(0)
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
    least, most = (float(finite.min()), float(finite.max())) if finite.size else (low, high)
    if least < low or most > high:
        low, high = least, most
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
