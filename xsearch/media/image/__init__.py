"""Pictures of any format: those of Pillow, RAW photographs, TIFF files of numbers."""

from xsearch.media.image.image import opened, read
from xsearch.media.image.pillow import check_pixels
from xsearch.media.image.radiance import check_exr
from xsearch.media.image.rgb import bands, is_deep, orientation, step, strided, to_rgb, turned_upright

__all__ = [
    "bands",
    "check_exr",
    "check_pixels",
    "is_deep",
    "opened",
    "orientation",
    "read",
    "step",
    "strided",
    "to_rgb",
    "turned_upright",
]
