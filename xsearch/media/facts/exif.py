"""EXIF (CIPA DC-008) -> columns. Pillow reads directories, and tag by tag, so that a bad one costs itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any

from PIL.ExifTags import GPS, IFD, Base

from xsearch.media.facts import values
from xsearch.media.image import tiff

__all__ = ["Directory", "camera", "columns", "modified"]

_WINDOWS = {  # tags of Windows Explorer, UTF-16
    "title": (Base.XPTitle, Base.XPSubject),
    "description": (Base.XPComment,),
    "keywords": (Base.XPKeywords,),
    "creator": (Base.XPAuthor,),
}


class Directory:
    """The tags of a TIFF structure's first directory, or of the one at `offset`."""

    def __init__(self, file: IO[bytes], offset: int | None = None) -> None:
        self._file = file
        self._tags: Mapping[int, Any] = {}
        with suppress(Exception):  # undocumented exceptions on damaged input
            self._tags = tiff.directory(file, offset)

    def __getitem__(self, tag: int) -> Any:
        """Return the value of a tag, None without one: str, bytes, a number or a tuple of numbers."""
        try:
            value = self._tags[tag]
        except Exception:
            return None
        return value[0] if isinstance(value, tuple) and len(value) == 1 else value

    def inner(self, tag: int) -> Directory | None:
        """Return the directory that a tag points to."""
        offset = self[tag]
        return Directory(self._file, offset) if isinstance(offset, int) else None

    def text(self, *tags: int) -> str | None:
        """Return the first text of these tags."""
        return next(filter(None, (_text(self[tag]) for tag in tags)), None)

    def number(self, *tags: int) -> float | None:
        numbers = (values.number(self[tag]) for tag in tags)
        return next((number for number in numbers if number is not None), None)


def columns(tags: Directory, shot: Directory | None = None, place: Directory | None = None) -> dict[str, Any]:
    """Return what the first directory of a file states, and those of EXIF and GPS, by default below it."""
    facts: dict[str, Any] = {
        "camera": camera(tags.text(Base.Make) or "", tags.text(Base.Model) or ""),
        "orientation": tags.number(Base.Orientation),
        "description": tags.text(Base.ImageDescription),
        "creator": tags.text(Base.Artist),
        "copyright": tags.text(Base.Copyright),
        "rating": tags.number(Base.Rating),
    }
    for name, sources in _WINDOWS.items():
        utf16 = (
            value.decode("utf-16-le", "ignore") for tag in sources if isinstance(value := tags[tag], bytes)
        )
        if not facts.get(name) and (text := next(filter(None, utf16), "")):
            facts[name] = values.joined(text.split(";")) if name == "keywords" else text
    with suppress(Exception):
        if shot := shot or tags.inner(IFD.Exif):
            facts |= _exposure(shot)
            facts["description"] = facts["description"] or _comment(shot[Base.UserComment])
    with suppress(Exception):
        if place := place or tags.inner(IFD.GPSInfo):
            facts |= _place(place)
    return values.taken(tags[Base.DateTimeOriginal]) | facts  # the former of DNG


def modified(tags: Directory) -> dict[str, Any]:
    """Return when the file was last changed, for pictures that state nothing better."""
    return values.taken(tags[Base.DateTime])


def _exposure(shot: Directory) -> dict[str, Any]:
    """Return what an EXIF directory states."""
    facts: dict[str, Any] = {
        "lens": shot.text(Base.LensModel),
        "exposure_s": shot.number(Base.ExposureTime),
        "f_number": shot.number(Base.FNumber),
        "focal_mm": shot.number(Base.FocalLength),
        "iso": shot.number(Base.ISOSpeedRatings),
    }
    if facts["iso"] == 65535:  # the largest of its 16 bits: more
        facts["iso"] = shot.number(
            Base.RecommendedExposureIndex, Base.StandardOutputSensitivity, Base.ISOSpeed
        )
    if facts["exposure_s"] is None and (stops := shot.number(Base.ShutterSpeedValue)) is not None:
        facts["exposure_s"] = 2.0**-stops if abs(stops) < 64 else None
    facts |= {name: None for name in ("exposure_s", "f_number", "focal_mm") if not (facts[name] or 0) > 0}
    stated: list[str] = []
    for clock, fraction, offset in (
        (Base.DateTimeOriginal, Base.SubsecTimeOriginal, Base.OffsetTimeOriginal),
        (Base.DateTimeDigitized, Base.SubsecTimeDigitized, Base.OffsetTimeDigitized),
    ):
        seconds = shot.text(clock) or ""
        digits = (shot.text(fraction) or "").strip()
        zone = (shot.text(offset) or shot.text(Base.OffsetTime) or "").strip()
        precise = f"{seconds}.{digits}" if digits.isdecimal() else seconds
        stated += [f"{precise}{zone}", precise, seconds]
    return facts | values.taken(*stated)


def _place(place: Directory) -> dict[str, Any]:
    """Return the coordinates of a GPS directory."""
    latitude = values.degrees(place[GPS.GPSLatitude], place[GPS.GPSLatitudeRef] or "")
    longitude = values.degrees(place[GPS.GPSLongitude], place[GPS.GPSLongitudeRef] or "")
    facts: dict[str, Any] = dict(values.coordinates(latitude, longitude))
    altitude = values.number(place[GPS.GPSAltitude])
    if facts and altitude is not None:
        below = place[GPS.GPSAltitudeRef] in (b"\1", 1, b"\3", 3)
        facts["altitude_m"] = -altitude if below else altitude
    return facts


def camera(make: str, model: str) -> str | None:
    """Return make and model, without a make that the model repeats.

    >>> camera("Google", "Pixel 8"), camera("NIKON CORPORATION", "NIKON D750"), camera("Canon", "")
    ('Google Pixel 8', 'NIKON D750', 'Canon')
    """
    make, model = values.clean(make), values.clean(model)
    first = re.match(r"\w*", model)
    repeated = first is not None and first[0].casefold() in re.findall(r"\w\w+", make.casefold())
    return model if model and repeated else f"{make} {model}".strip() or None


def _text(value: Any) -> str | None:
    """Return a text; Pillow reads all as Latin-1, and many cameras write UTF-8."""
    if isinstance(value, str):
        with suppress(UnicodeEncodeError):
            value = value.encode("latin-1")
    text = values.decoded(value) if isinstance(value, bytes) else value if isinstance(value, str) else ""
    return values.clean(text) or None


def _comment(value: Any) -> str | None:
    """Return a user comment, which starts with eight bytes that name its character set."""
    if not isinstance(value, bytes):
        return _text(value)
    charset, content = value[:8], value[8:]
    if charset == b"UNICODE\0":
        is_little = content[:2] == b"\xff\xfe" or content[1:2] == b"\0"
        text = content.decode("utf-16-le" if is_little else "utf-16-be", "ignore").strip("\ufeff")
    elif charset == b"JIS\0\0\0\0\0":
        text = content.decode("iso2022_jp", "ignore")
    else:
        text = values.decoded(content if charset in (b"ASCII\0\0\0", bytes(8)) else value)
    return values.clean(text) or None
