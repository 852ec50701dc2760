"""What files say of themselves, as columns of their items: when, where, by whom, with what.

A picture's EXIF, XMP and IPTC, a recording's tags, an XMP sidecar, and of what none of them says, the JSON of
Google Takeout. `taken_at` is what the clock of the camera or recorder showed, in the zone `taken_zone` where
that is stated: most cameras state none, most videos and Takeout state UTC. A year or a month alone is its
first day.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from xsearch.media.facts import captions, still, tags, takeout, values, xmp
from xsearch.media.faults import reading, unless_passing
from xsearch.types import PICTURES, MediaFile, Modality

__all__ = ["COLUMNS", "SPOKEN", "Stated", "facts", "of_sidecar", "of_takeout", "unstated", "words"]

# Names and types of all facts; none of them is a column of the store.
COLUMNS: dict[str, type] = {
    "taken_at": datetime,
    "taken_zone": str,  # +02:00
    "camera": str,  # make and model
    "lens": str,
    "exposure_s": float,
    "f_number": float,
    "iso": int,
    "focal_mm": float,
    "orientation": int,  # EXIF's 1 to 8; pictures are turned upright all the same
    "latitude": float,  # degrees, north and east are positive
    "longitude": float,
    "altitude_m": float,
    "title": str,
    "description": str,
    "keywords": str,  # a; b
    "rating": int,  # -1 (rejected) to 5
    "people": str,  # a; b
    "creator": str,
    "copyright": str,
    "artist": str,
    "album": str,
    "genre": str,
    "track": int,
    "bpm": float,
    "comment": str,
    "container": str,
    "codec": str,  # of the pictures; of audio files, of the sound
    "fps": float,
    "rate_hz": int,  # of the sound, as stored
    "channels": int,
}
# Facts in words that people use; the others are codes and numbers
SPOKEN = frozenset(
    {"title", "description", "keywords", "people", "creator", "artist", "album", "genre", "comment", "camera"}
)
_LEAST = {"iso": 1, "track": 1, "rate_hz": 1, "channels": 1, "rating": -1, "orientation": 1}
_MOST = {"rating": 5, "orientation": 8}
_DECISIVE = {"taken_zone": "taken_at", "longitude": "latitude", "altitude_m": "latitude"}


class Stated(NamedTuple):
    """What a sidecar states, and its path; None without one."""

    columns: dict[str, Any]
    path: str | None = None


def facts(file: MediaFile) -> dict[str, Any]:
    """Return what a file and its sidecars state: a value for each such column.

    Whatever is damaged states nothing. Raises Transient for what is not the fault of the file.
    """
    stated: dict[str, Any] = {}
    with reading(file.path), unless_passing(Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if file.modality in PICTURES:
            stated = still.columns(file.path)
        elif file.modality in (Modality.AUDIO, Modality.VIDEO):
            stated = tags.columns(file)
    found = _valid(captions.without_defaults(stated, file.path)) | of_sidecar(file.path).columns
    return found | unstated(found, of_takeout(file.path).columns)


def of_sidecar(path: Path) -> Stated:
    """Return what `photo.jpg.xmp` (darktable, digiKam) or else `photo.xmp` (Lightroom) say of `photo.jpg`."""
    for sidecar in (f"{path}.xmp", f"{os.path.splitext(path)[0]}.xmp"):  # noqa: PTH122  3x faster than pathlib
        if os.path.isfile(sidecar):  # noqa: PTH113
            with suppress(Exception):
                with open(sidecar, "rb") as file:  # noqa: PTH123
                    stated = captions.without_defaults(xmp.columns(file.read(xmp.LARGEST)), path)
                return Stated(_valid(stated), sidecar)
    return Stated({})


def of_takeout(path: Path) -> Stated:
    """Return what the JSON of Google Takeout says of a file."""
    if sidecar := takeout.sidecar(str(path)):
        with suppress(Exception):
            return Stated(_valid(captions.without_defaults(takeout.columns(sidecar), path)), sidecar)
    return Stated({})


def unstated(stated: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of other facts that add to the stated ones: a date with its zone, a place as a whole."""
    return {name: value for name, value in others.items() if _DECISIVE.get(name, name) not in stated}


def words(about: Mapping[str, Any]) -> list[str]:
    """Return the texts that describe a picture: title and description, and its keywords."""
    title, description = about.get("title", ""), about.get("description", "")
    lines = [description] if title.casefold() in description.casefold() else [title, description]
    return list(filter(None, ["\n".join(filter(None, lines)), about.get("keywords", "").replace(";", ",")]))


def _valid(stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return the valid values, of the types of COLUMNS."""
    valid = {name: _value(name, stated.get(name)) for name in COLUMNS}
    return {name: value for name, value in valid.items() if value is not None}


def _value(name: str, value: Any) -> Any:
    kind = COLUMNS[name]
    if value is None or kind is datetime:
        return value
    if kind is str:
        return values.clean(value) or None
    number = float(value)
    if not math.isfinite(number) or not _LEAST.get(name, -math.inf) <= number <= _MOST.get(name, 2**53):
        return None
    return kind(number)
