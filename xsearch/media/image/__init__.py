"""Pictures of any format: those of Pillow, RAW photographs, TIFF files of numbers."""

from xsearch.media.image.image import check_pixels, is_deep, opened, read, to_rgb

__all__ = ["check_pixels", "is_deep", "opened", "read", "to_rgb"]
