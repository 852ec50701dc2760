"""RAW photographs -> the largest picture that the camera put into them, else the developed sensor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import IO, BinaryIO, cast

from PIL import Image
from PIL.ContainerIO import ContainerIO

from xsearch.errors import Unreadable, Unsupported
from xsearch.media import boxes
from xsearch.media.faults import passing, unless_passing
from xsearch.media.image import pillow, tiff
from xsearch.media.image.pillow import check_pixels
from xsearch.media.image.rgb import ORIENTATION
from xsearch.media.occurrences import occurrences

__all__ = ["opened"]

THUMBNAIL = 160  # pixels, the longer side of EXIF's thumbnails; anything larger is a preview
JPEG_START = 513
_JPEG = (6, 7)  # TIFF compressions
_SIGNATURE = b"\xff\xd8\xff"
_SEGMENTS = bytes([*range(0xC0, 0xC5), 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE])  # one of them follows it
_HEADER = 1 << 18  # bytes that have the segments before the picture
_MAX_JPEGS = 64  # opened of those without a directory; sensors' data have a signature by chance


def opened(file: IO[bytes], path: Path) -> Image.Image:
    """Open the largest embedded preview, its orientation in its EXIF; without one, develop the sensor's data.

    `file` has to stay open. Raises Unreadable if there is neither.
    """
    directories = list(tiff.directories(file))
    best = _largest(_jpegs(file, (start for each in directories for start in _named(each))))
    rgb = [each for each in directories if each.get(tiff.BITS) == (8, 8, 8) and not tiff.is_mosaic(each)]
    rgb = [each for each in rgb if not list(_named(each)) and tiff.WIDTH in each and tiff.HEIGHT in each]
    for each in sorted(rgb, key=_area, reverse=True)[:1]:
        if best is None or _area(each) > best.width * best.height:
            with unless_passing(Exception):  # damaged, or a compression that Pillow lacks
                best = tiff.page(file, each)
    if best is None or max(best.size) <= THUMBNAIL:
        sensor = {start for each in directories if tiff.is_mosaic(each) for start in tiff.segments(each)}
        # CR3, RAF, ORF, RW2, X3F and MRW keep JPEGs anywhere; opening them moves the file
        found = (start for start, segment in occurrences(file, _SIGNATURE, 1) if segment in _SEGMENTS)
        others = _jpegs(file, [*islice((start for start in found if start not in sensor), _MAX_JPEGS)])
        best = _largest([best, *others] if best else others)
    if best is None or max(best.size) <= THUMBNAIL:
        return _developed(file, path, best)
    cr3 = boxes.content(file, b"moov", b"uuid", b"CMT1", end=file.seek(0, 2))
    directories += tiff.directories(BytesIO(cr3 or b""))
    orientation = next((each[ORIENTATION] for each in directories if ORIENTATION in each), None)
    exif = best.getexif()
    if orientation and ORIENTATION not in exif:
        exif[ORIENTATION] = orientation
    return best


def _largest(images: Iterable[Image.Image]) -> Image.Image | None:
    return max(images, key=lambda image: image.width * image.height, default=None)


def _area(directory: tiff.Directory) -> int:
    return int(directory[tiff.WIDTH] * directory[tiff.HEIGHT])


def _named(directory: tiff.Directory) -> Iterator[int]:
    """Yield the offset of the JPEG that a directory names."""
    if start := directory.get(JPEG_START):
        yield start
    elif directory.get(tiff.COMPRESSION) in _JPEG and not tiff.is_mosaic(directory):
        starts = tiff.segments(directory)
        yield from starts if len(starts) == 1 else ()


def _jpegs(file: IO[bytes], starts: Iterable[int]) -> Iterator[Image.Image]:
    """Open the JPEGs of 8 bits at some offsets; those of sensors have more."""
    end = file.seek(0, 2)
    for start in starts:
        part = cast(IO[bytes], ContainerIO(file, start, end - start))
        with unless_passing(OSError, ValueError, Image.DecompressionBombError):
            file.seek(start)
            pillow.opened(BytesIO(file.read(_HEADER)), "JPEG")  # Pillow searches as far as it can
            yield pillow.opened(part, "JPEG")


def _developed(file: IO[bytes], path: Path, thumbnail: Image.Image | None) -> Image.Image:
    """Return the sensor's values as a picture of half the size, or else the thumbnail."""
    import rawpy

    file.seek(0)
    try:
        # LibRaw calls the end of a file an error of the disk
        with rawpy.imread(cast(BinaryIO, file)) as photo:
            check_pixels(path, photo.sizes.raw_width * photo.sizes.raw_height)
            # Blocks of 2 x 2 values become pixels, which takes a quarter of the time
            return Image.fromarray(photo.postprocess(half_size=True, use_camera_wb=True))
    except rawpy.LibRawError as error:
        if passing(error):
            raise
        if thumbnail:
            return thumbnail
        kind = Unsupported if isinstance(error, rawpy.LibRawFileUnsupportedError) else Unreadable
        raise kind(
            f"{path}: RAW photograph without a preview, of an unsupported camera or damaged: "
            "convert it to JPEG or DNG"
        ) from error
