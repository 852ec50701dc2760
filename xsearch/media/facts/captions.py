"""Default captions: what cameras, phones and programs write where a description belongs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["without_defaults"]

# Words of which nothing but defaults are made, beside those of the camera's name
FILLERS = """
    camera cameras cam digital photo photograph picture image images img pic jpeg jpg exif dsc dscn dcim still
    default untitled unnamed title description caption comment none null unknown new no my a the scan scanned
    screenshot screen shot screencap beautiful
    olympus sony konica minolta samsung nikon canon kodak pentax fujifilm panasonic casio ricoh sanyo gopro
    corporation corp co ltd inc
"""
# What Huawei, Honor and Xiaomi phones write: names of their modes
MODES = """
    binary btf btfmdn bsf bty burst cbf cof dav edf fhdr fznor hdr hdrpl mde mdn nor ozedf oznor oznorpl
    picsay ptr qrf rbt rhdr rpt sdr vlcs
"""
_FILLERS, _MODES = frozenset(FILLERS.split()), frozenset(MODES.split())
_PROGRAMS = re.compile(
    r"""(created|made|edited|processed|captured|converted|compressed|optimi[sz]ed|exported|generated|encoded
    |file\ written)\ (with|by|using)\ (\S+\s){0,4}\S+$
    |creator\s?:|software\s?:|intel\(r\)\ |lead\ technologies|applemark|acd\ systems|handmade\ software
    |adobe\ |gimp\b|picasa|photoshop|lavc\d|paint\.net|vlcsnap|maker:|filter:|<\w+\s
    |\{.*\}\s*$|\{"|\w+:\s?[\w.]+;\s*\w+:\s?[\w.]+;""",
    re.I | re.X | re.S,
)
LONGEST_NAME = 256  # characters
_FILE_NAME = re.compile(
    r"""\S*\.(jpe?g|png|gif|tiff?|heic|heif|webp|bmp|psd|dng|cr[23w]|nef|arw|raf|orf|rw2|mov|mp4|avi|svg|pdf)
    |[a-z]{1,5}[-_]?\d{4,}([-_]\d+)*([-_]?[a-z]{1,4}\d*)?     # IMG_1234, DSC01234, IMG-20240601-WA0003
    |(img|dscn?|dscf|pict|screenshot|pxl|vid|mvimg|signal|whatsapp\ (image|video))[-_ ].*\d\d.*
    |[a-z]:\\.*|.*dcim[\\/].*|https?://\S+|[\W\d_]*""",
    re.I | re.X,
)


def without_defaults(stated: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Return the columns without a title or description that a camera or a program wrote by itself."""
    camera = str(stated.get("camera") or "")
    return {
        name: value
        for name, value in stated.items()
        if name not in ("title", "description") or not _is_default(str(value or ""), camera, path)
    }


def _is_default(text: str, camera: str, path: Path) -> bool:
    """Whether a camera or a program wrote a text.

    >>> [_is_default(text, "SONY", Path("a.jpg")) for text in ("SONY DSC", "IMG_1234", "A barn", "Sunset")]
    [True, True, False, False]
    """
    text = text.strip("\0 \t\r\n")
    if text in (path.name, path.stem) or text.casefold() in _MODES:
        return True
    if (len(text) < LONGEST_NAME and _FILE_NAME.fullmatch(text)) or _PROGRAMS.match(text):
        return True
    words = re.findall(r"\w+", text.casefold())
    known = _FILLERS.union(re.findall(r"\w+", camera.casefold()))
    return all(word in known or word.isdecimal() for word in words)
