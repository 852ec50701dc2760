"""What Google Photos knew of a file, from the JSON beside it in an export of Google Takeout -> columns."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from xsearch.media.facts import values

__all__ = ["columns", "is_takeout", "sidecar"]

LARGEST = 1 << 20  # bytes; most have 2,000
LONGEST_NAME = 46  # characters, to which Takeout cuts names before `.json`
_NUMBERED = re.compile(r"(.+)(\(\d+\))(\.\w+)", re.S)


def is_takeout(fields: object) -> bool:
    """Whether the content of a JSON file is of Google Takeout."""
    return isinstance(fields, dict) and isinstance(fields.get("photoTakenTime"), dict)


def sidecar(path: str) -> str | None:
    """Return the JSON file that may be of Takeout and tells of a file."""
    return next(filter(os.path.isfile, _names(path)), None)


def columns(path: str) -> dict[str, Any]:
    """Return what a JSON file of Takeout states. Raises ValueError if it is none."""
    with open(path, "rb") as file:  # noqa: PTH123
        fields = json.loads(file.read(LARGEST))
    if not is_takeout(fields):
        raise ValueError(f"{path}: not of Takeout")
    place = fields.get("geoData") or {}
    latitude, longitude, altitude = (
        values.number(place.get(f"{name}itude")) for name in ("lat", "long", "alt")
    )
    people = [str(person.get("name", "")) for person in fields.get("people") or []]
    found = {"description": fields.get("description"), "people": values.joined(people)}
    found |= values.coordinates(latitude, longitude)
    if "latitude" in found:
        found["altitude_m"] = altitude or None
    if seconds := values.number(fields["photoTakenTime"].get("timestamp")):
        taken = datetime(1970, 1, 1) + timedelta(seconds=seconds)
        found |= {"taken_at": taken, "taken_zone": "+00:00"}
    return found


def _names(path: str) -> Iterator[str]:
    """Yield the names that the JSON of a file may have, of Takeout since the end of 2024 and before.

    >>> list(_names("/a/b(1).jpg"))
    ['/a/b.jpg.supplemental-metadata(1).json', '/a/b.jpg(1).json']
    >>> list(_names("PXL_20240603_073320123.jpg"))[1:]
    ['PXL_20240603_073320123.jpg.supplemental-metada.json', 'PXL_20240603_073320123.jpg.json']
    """
    folder, slash, name = path.rpartition("/")
    number = ""
    if match := _NUMBERED.fullmatch(name):
        name, number = match[1] + match[3], match[2]
    for whole in (f"{name}.supplemental-metadata", name):
        for cut in dict.fromkeys((whole, whole[:LONGEST_NAME])):
            yield f"{folder}{slash}{cut}{number}.json"
