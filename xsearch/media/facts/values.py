"""Values as files write them -> numbers, texts, times, degrees; None for what is not valid."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

__all__ = ["clean", "coordinates", "decoded", "degrees", "joined", "location", "number", "taken"]

LONGEST = 4096  # bytes of a text

_NUMBER = re.compile(r"\s*(?:f/)?([+-]?\d+(?:[.,]\d*)?(?:e[+-]?\d+)?)(?:\s*/\s*(\d+(?:\.\d*)?))?", re.I)
_MOMENT = re.compile(
    r"""(\d{4}) (?: [-:/.]? (\d\d?) (?: [-:/.]? (\d\d?)
    (?: [T\ ]* (\d\d?) :? (\d\d) (?: :? (\d\d) (?: [.,](\d+) )? )? \s* (Z|[+-]\d\d(?::?\d\d)?)? )? )? )?""",
    re.X,
)
_UNSET = ("1904-01-01 00:00:00", "1970-01-01 00:00:00")  # a clock at 0, of QuickTime and of Unix
_DEGREES = re.compile(
    r"([+-]?\d+(?:\.\d*)?)(?:[,\s°]+(\d+(?:\.\d*)?))?(?:[,\s'′]+(\d+(?:\.\d*)?))?\W*([NSEW])?"
)
_LOCATION = re.compile(r"([+-]\d+(?:\.\d*)?)([+-]\d+(?:\.\d*)?)([+-]\d+(?:\.\d*)?)?")  # ISO 6709
_CONTROLS = re.compile(r"[^\S\n]+|[\x00-\x09\x0b-\x1f\x7f-\x9f]")


def decoded(value: bytes) -> str:
    """Return text in UTF-8, UTF-16 or else Latin-1, up to its first NUL."""
    if value[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return value.decode("utf-16", "replace").partition("\0")[0]
    value = value.partition(b"\0")[0]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def clean(text: object) -> str:
    """Return a text in at most LONGEST bytes of UTF-8, without control characters except line breaks."""
    text = _CONTROLS.sub(
        " ", str(text)[:LONGEST].partition("\0")[0].replace("\r\n", "\n").replace("\r", "\n")
    )
    return text.strip().encode(errors="ignore")[:LONGEST].decode(errors="ignore")


def joined(values: Sequence[str]) -> str:
    """Return distinct keywords or names as one text.

    >>> joined(["beach", " sea ", "", "beach"])
    'beach; sea'
    """
    return "; ".join(dict.fromkeys(filter(None, (value.strip(" ;\t\r\n\0") for value in values))))


def number(value: Any) -> float | None:
    """Return a finite number, also of a fraction.

    >>> number("28/10"), number("1/0"), number((400, 0)), number("f/2.8"), number("x")
    (2.8, None, 400.0, 2.8, None)
    """
    if isinstance(value, tuple | list):
        value = value[0] if value else None
    if isinstance(value, str):
        match = _NUMBER.match(value)
        if not match:
            return None
        divisor = float(match[2] or 1)
        value = float(match[1].replace(",", ".")) / divisor if divisor else None
    try:
        result = float(value)
    except (TypeError, ValueError, ZeroDivisionError, OverflowError):
        return None
    return result if math.isfinite(result) else None


def taken(*stated: object) -> dict[str, Any]:
    """Return the first valid moment as columns, {} if there is none."""
    moments = filter(None, map(_moment, stated))
    return next(({"taken_at": when, "taken_zone": zone} for when, zone in moments), {})


def _moment(value: object) -> tuple[datetime, str | None] | None:
    """Return a date, with or without time and zone, as wall time and zone.

    >>> _moment("2024:06:01 14:30:05"), _moment("20190503")
    ((datetime.datetime(2024, 6, 1, 14, 30, 5), None), (datetime.datetime(2019, 5, 3, 0, 0), None))
    >>> _moment("2024-06-01T14:30+0200"), _moment("0000:00:00 00:00:00")
    ((datetime.datetime(2024, 6, 1, 14, 30), '+02:00'), None)
    """
    match = _MOMENT.fullmatch(str(value).partition("\0")[0].strip())
    if not match:
        return None
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    micros = int((fraction or "0")[:6].ljust(6, "0"))
    parts = int(year), int(month or 1) or 1, int(day or 1) or 1, int(hour or 0), int(minute or 0)
    try:
        when = datetime(*parts, int(second or 0), micros)
    except ValueError:
        return None
    if str(when) in _UNSET or not 1800 <= when.year < 2200:
        return None
    return when, _zone(zone)


def _zone(zone: str | None) -> str | None:
    if not zone:
        return None
    digits = "+0000" if zone == "Z" else zone.replace(":", "").ljust(5, "0")
    return f"{digits[:3]}:{digits[3:]}" if int(digits[1:3]) <= 14 and int(digits[3:]) < 60 else None


def degrees(value: Any, reference: Any = "") -> float | None:
    """Return signed decimal degrees of degrees, minutes and seconds; south and west are negative.

    >>> degrees((48.0, 51.0, 27.72), "N"), degrees("2,17.7W"), degrees("-33.5"), degrees((200.0, 0, 0), "W")
    (48.8577, -2.295, -33.5, None)
    """
    if isinstance(value, str):
        match = _DEGREES.match(value.strip())
        if not match:
            return None
        *value, letter = match.groups()
        reference = letter or reference
    parts = [number(part) for part in (value if isinstance(value, tuple | list) else (value,))][:3]
    if not parts or parts[0] is None:
        return None
    size = sum((abs(part or 0.0)) / 60**at for at, part in enumerate(parts))
    reference = decoded(reference) if isinstance(reference, bytes) else str(reference)
    negative = parts[0] < 0 or reference.strip().upper()[:1] in ("S", "W")
    return None if size > 180 else round(-size if negative else size, 8)


def location(value: str) -> dict[str, float]:
    """Return the coordinates of ISO 6709: degrees, or degrees with minutes and seconds in the same digits.

    >>> location("+48.8577+002.2950+035.0/"), location("-3330+15112/")
    ({'latitude': 48.8577, 'longitude': 2.295, 'altitude_m': 35.0}, {'latitude': -33.5, 'longitude': 151.2})
    """
    match = _LOCATION.match(value.strip())
    if not match:
        return {}
    place = coordinates(_packed(match[1], 2), _packed(match[2], 3))
    return place | ({"altitude_m": float(match[3])} if place and match[3] else {})


def coordinates(latitude: float | None, longitude: float | None) -> dict[str, float]:
    """Return valid coordinates; both exactly 0 is a receiver without a fix."""
    if latitude is None or longitude is None or abs(latitude) > 90 or latitude == longitude == 0:
        return {}
    return {"latitude": latitude, "longitude": longitude}


def _packed(text: str, width: int) -> float | None:
    """Return +DDMMSS.S as degrees; width: of the degrees, in digits."""
    whole, dot, fraction = text[1:].partition(".")
    pairs = [whole[:width], *(whole[at : at + 2] for at in range(width, len(whole), 2))]
    pairs[-1] += dot + fraction
    return degrees(tuple(pairs), "S" if text[0] == "-" else "")
