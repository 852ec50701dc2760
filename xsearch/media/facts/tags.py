"""Metadata of sound and video files, as FFmpeg names them -> columns.

FFmpeg reads what mutagen reads (ID3, Vorbis comments, MP4, RIFF INFO, BWF, AIFF), except the tempo of MP4.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from xsearch.media import boxes, container
from xsearch.media.facts import values
from xsearch.media.facts.exif import camera
from xsearch.types import MediaFile

__all__ = ["columns"]

_TEXTS = {
    "title": ("title",),
    "artist": (
        "artist",
        "author",
        "com.apple.quicktime.artist",
        "com.apple.quicktime.author",
        "album_artist",
    ),
    "album": ("album",),
    "genre": ("genre",),
    "comment": ("comment", "com.apple.quicktime.comment"),
    "description": ("description", "com.apple.quicktime.description", "synopsis"),
    "copyright": ("copyright", "com.apple.quicktime.copyright"),
}
_NUMBERS = {"track": ("track",), "bpm": ("bpm", "tbpm", "tempo", "tmpo")}
_MAKES = ("com.apple.quicktime.make", "com.android.manufacturer", "make")
_MODELS = ("com.apple.quicktime.model", "com.android.model", "model")
_PLACES = ("com.apple.quicktime.location.iso6709", "location", "location-eng")
# Apple's is of the place's own zone; FFmpeg's is UTC; the others of music and of recorders
_TAKEN = ("com.apple.quicktime.creationdate", "creation_time", "date_recorded", "date", "tyer", "year")


def columns(file: MediaFile) -> dict[str, Any]:
    """Return what a file and its tracks state."""
    with container.opened(file.path) as source:
        pictures, sound = container.picture_track(source), next(iter(source.streams.audio), None)
        stated = {key.lower(): value for key, value in source.metadata.items()}
        if sound is not None and not pictures:  # Ogg keeps them in the stream
            stated = {key.lower(): value for key, value in sound.metadata.items()} | stated
        facts = _of_tags(stated)
        facts["container"] = _container(source.format.name, stated, file.mime)
        if pictures is not None:
            rate = pictures.average_rate or pictures.base_rate
            facts |= {"codec": _codec(pictures), "fps": rate and round(float(rate), 3)}
        if sound is not None:
            facts.setdefault("codec", _codec(sound))
            context = sound.codec_context
            facts |= {"rate_hz": context.sample_rate, "channels": context.layout.nb_channels}
    if facts["container"] == "mp4" and pictures is None:
        with suppress(OSError):
            facts["bpm"] = _tempo(file.path)
    return facts


def _of_tags(stated: dict[str, str]) -> dict[str, Any]:
    def of(names: tuple[str, ...]) -> str:
        return next((stated[name] for name in names if stated.get(name, "").strip()), "")

    facts: dict[str, Any] = {name: of(names) for name, names in _TEXTS.items()}
    facts |= {name: values.number(re.split("[/;]", of(names))[0]) for name, names in _NUMBERS.items()}
    facts["keywords"] = values.joined(re.split("[;,]", of(("keywords", "com.apple.quicktime.keywords"))))
    facts["camera"] = camera(of(_MAKES), of(_MODELS))
    facts |= values.location(of(_PLACES))
    if re.fullmatch(r"\d\d:\d\d:\d\d", stated.get("creation_time", "")):  # BWF: the time of the date
        stated["date"] = f"{stated.get('date', '')} {stated.pop('creation_time')}"
    return facts | values.taken(*(stated.get(name, "") for name in _TAKEN))


def _container(names: str, stated: dict[str, str], mime: str) -> str:
    """Return FFmpeg's name of the format; of a family of formats, the member."""
    first = names.partition(",")[0]
    if first == "mov":
        return "mov" if stated.get("major_brand", "qt  ").strip() == "qt" else "mp4"
    return "webm" if first == "matroska" and mime.endswith("/webm") else first


def _codec(track: Any) -> str:
    codec = track.codec_context.codec
    return str(getattr(codec, "canonical_name", codec.name))  # PyAV 14 lacks the first: mp3float


def _tempo(path: Path) -> float | None:
    """Return the beats per minute of an MP4 file, 16 bits after a type and a locale of four bytes each."""
    with path.open("rb") as file:
        place = (b"moov", b"udta", b"meta", b"ilst", b"tmpo", b"data")
        value = boxes.content(file, *place, end=path.stat().st_size)
    return int.from_bytes(value[8:], "big") if value and len(value) > 8 else None
