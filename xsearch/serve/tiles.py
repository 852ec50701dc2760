"""What a tile and the panel say of an item: proportions, times, words of the query, figures, facts."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from markupsafe import Markup, escape

from xsearch import preview
from xsearch.gallery import CAPTIONS, formatted
from xsearch.serve.contract import Hit, Item, ItemDetail
from xsearch.serve.texts import Texts
from xsearch.types import Modality

__all__ = [
    "Stretch",
    "box",
    "caption",
    "clock",
    "doubled",
    "facts",
    "figure",
    "fragment",
    "length",
    "marked",
    "prose",
    "ratio",
    "scores",
    "timeline",
    "value",
    "window",
]

RATIOS = {
    Modality.AUDIO: 1.5,
    Modality.TEXT: 1.5,
    Modality.IMU: 4 / 3,
}  # width to height of what has no pixels
UNKNOWN = 4 / 3
SMALL = 400  # pixels
DIGITS = 7  # of a number that is shown as it is
NARROW, WIDE = 0.56, 2.4  # beyond, a tile shows the middle
TIMELINE = 1000  # units of width
ELSEWHERE = {"width", "height", "bytes", "mime", "mtime_ns", "sha256", "duration_s", "unknown_share"}
MEASURED = {"exposure_s", "f_number", "iso", "focal_mm", "latitude", "longitude"}  # shown together
NEAR = 12  # windows that the panel links to


def ratio(item: Item) -> float:
    """Return width / height of an item's tile."""
    if item.modality in RATIOS:
        return RATIOS[item.modality]
    return round(min(max(_proportion(item), NARROW), WIDE), 3)


def box(item: Item) -> tuple[int, int]:
    """Return width and height that an item's picture keeps in the panel."""
    return round(1000 * _proportion(item)), 1000


def _proportion(item: Item) -> float:
    width, height = item.extra.get("width"), item.extra.get("height")
    return width / height if width and height else UNKNOWN


def window(item: Item) -> str:
    """Return where in its file an item is, if it is a part of it: 1:20–1:30."""
    if item.end_s is None:
        return ""
    start_s, duration_s = item.start_s or 0.0, item.extra.get("duration_s")
    if start_s == 0 and duration_s is not None and item.end_s >= duration_s - 0.05:
        return time(item.end_s)
    return f"{time(start_s)}–{time(item.end_s)}"


def clock(item: Item) -> str:
    """Return the second at which a video's window begins; if it is the whole file, how long it is."""
    return window(item).partition("–")[0]


def fragment(item: Item) -> str:
    """Return the media fragment by which a browser plays the window of an item alone."""
    return "" if item.end_s is None else f"#t={item.start_s or 0:g},{item.end_s:g}"


def caption(item: Item) -> str:
    """Return what its metadata call an item, else the name of its file."""
    stated = (formatted(item.extra[name]) for name in chain(*CAPTIONS) if name in item.extra)
    return item.name if item.modality is Modality.TEXT else next(filter(None, stated), item.name)


def prose(item: Item) -> str:
    """Return the text of an item to be read in a few lines: of Markdown without its marks."""
    text = item.text or item.name
    return preview.plain(text) if preview.is_markdown(item.path) else text


def doubled(item: Item) -> tuple[int, int] | None:
    """Return twice the size of a picture that is no larger than SMALL, which a larger view would blur."""
    width, height = item.extra.get("width") or SMALL + 1, item.extra.get("height") or SMALL + 1
    return (
        (2 * width, 2 * height) if item.modality is Modality.IMAGE and max(width, height) <= SMALL else None
    )


def length(item: Item) -> str:
    """Return how long the file of an item is."""
    duration_s = item.extra.get("duration_s")
    return "" if duration_s is None else time(duration_s)


def time(second: float) -> str:
    """Format seconds.

    >>> time(7.04), time(83), time(3600)
    ('0:07', '1:23', '1:00:00')
    """
    if not math.isfinite(second):
        return ""
    minutes, seconds = divmod(round(second), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def marked(text: str, words: Sequence[str]) -> Markup:
    """Return a text as HTML with `words` marked, also where they begin a longer word.

    >>> marked("Dogs & a <dog>", ["dog"])
    Markup('<mark>Dogs</mark> &amp; a &lt;<mark>dog</mark>&gt;')
    """
    if not words:
        return escape(text)
    pattern = re.compile(rf"(\b(?:{'|'.join(map(re.escape, words))})\w{{0,3}}\b)", re.IGNORECASE)
    pieces = pattern.split(text)
    return Markup("").join(
        Markup("<mark>{}</mark>").format(piece) if at % 2 else escape(piece)
        for at, piece in enumerate(pieces)
    )


def figure(number: float | None) -> str:
    """Format `expected` in a few characters: <0.001, 0.3, 12, >99."""
    if number is None:
        return "–"
    return "<0.001" if number < 0.001 else ">99" if number >= 99.5 else f"{number:.2g}"


def scores(hit: Hit, t: Texts) -> str:
    """Return the figures of a hit in one line."""
    figures = {
        "expected": None if hit.expected is None else figure(hit.expected),
        "cosine": None if hit.cosine is None else f"{hit.cosine:.3f}",
        "balanced": None if hit.balanced is None else f"{hit.balanced:+.2f}",
        "bm25": None if hit.bm25 is None else f"{hit.bm25:.2f}",
    }
    return " · ".join(t(f"scores.{name}", n=value) for name, value in figures.items() if value is not None)


def facts(item: ItemDetail, t: Texts) -> Iterator[tuple[str, str]]:
    """Yield names and values of what is known of an item: sizes, then all metadata."""
    extra = item.extra
    if extra.get("width") and extra.get("height"):
        yield t("fact.size"), f"{extra['width']} × {extra['height']}"
    if item.file.bytes is not None:
        yield t("fact.bytes"), " · ".join(filter(None, (size(item.file.bytes), str(extra.get("mime") or ""))))
    if item.file.duration_s is not None:
        yield t("fact.duration"), time(item.file.duration_s)
    if item.file.copies:
        yield t("fact.copies"), f"{len(item.file.copies):,}"
    measured = {
        name: value for name, value in extra.items() if name in MEASURED and isinstance(value, int | float)
    }
    if shot := exposure(measured):
        yield t("fact.exposure"), shot
    if measured.keys() >= {"latitude", "longitude"}:
        yield t("fact.place"), f"{measured['latitude']:.4f}, {measured['longitude']:.4f}"
    for name, value in extra.items():
        if name not in ELSEWHERE and name not in measured and (shown := formatted(value)):
            yield t.title(f"facet.{name}", name.replace("_", " ")), shown
    yield t("fact.id"), str(item.id)


def exposure(measured: Mapping[str, float]) -> str:
    """Return how a picture was taken, as photographers write it.

    >>> exposure({"exposure_s": 0.004, "f_number": 2.8, "iso": 100, "focal_mm": 50.0})
    '1/250 s · f/2.8 · ISO 100 · 50 mm'
    """
    shown = {
        "exposure_s": f"{_shutter(measured.get('exposure_s', 0.0))} s",
        "f_number": "f/{:g}",
        "iso": "ISO {:g}",
        "focal_mm": "{:g} mm",
    }
    return " · ".join(text.format(measured[name]) for name, text in shown.items() if measured.get(name))


def _shutter(time_s: float) -> str:
    return f"1/{1 / time_s:.0f}" if 0 < time_s < 0.3 else f"{time_s:g}"


def value(column: str, value: str) -> str:
    """Return a value of a facet in a few digits, if it is a number.

    >>> value("exposure_s", "0.009062103929024082"), value("f_number", "2.7999999"), value("mood", "1.50")
    ('1/110', '2.8', '1.50')
    """
    try:
        number = float(value)
    except ValueError:
        return value
    if column == "exposure_s":
        return _shutter(number)
    return f"{number:.4g}" if len(value) > DIGITS else value


def size(bytes: int) -> str:
    """Format a number of bytes.

    >>> size(900), size(2_340_000), size(250_000)
    ('900 B', '2.3 MB', '250 kB')
    """
    if bytes < 1000:
        return f"{bytes} B"
    step = min(int(math.log10(bytes)) // 3, 4)
    number = bytes / 1000**step
    return f"{number:.{1 if number < 10 else 0}f} {('kB', 'MB', 'GB', 'TB')[step - 1]}"


@dataclass(frozen=True, slots=True)
class Stretch:
    """One window of a file on a line of 1000 units."""

    id: int
    x: float
    width: float
    at: str
    here: bool
    near: bool  # among those that are listed


def timeline(item: ItemDetail) -> list[Stretch]:
    """Return the windows of the same kind in an item's file, in order of time; [] if there is one alone."""
    windows = [
        each for each in item.file.windows if each.modality == item.modality and each.end_s is not None
    ]
    if len(windows) < 2 or item.end_s is None:
        return []
    windows.sort(key=lambda each: each.start_s or 0.0)
    whole_s = max(item.file.duration_s or 0.0, *(each.end_s or 0.0 for each in windows), 1e-3)
    here = next((at for at, each in enumerate(windows) if each.id == item.id), 0)
    first = max(0, min(here - NEAR // 2, len(windows) - NEAR))
    unit = TIMELINE / whole_s
    return [
        Stretch(
            each.id,
            x=round((each.start_s or 0.0) * unit, 1),
            width=round(max(((each.end_s or 0.0) - (each.start_s or 0.0)) * unit - 2, 4), 1),
            at=time(each.start_s or 0.0),
            here=each.id == item.id,
            near=first <= at < first + NEAR,
        )
        for at, each in enumerate(windows)
    ]
