"""Render hits as HTML: a table for notebooks, and a self-contained page for browsers.

Images, players and drawings are embedded in the document. A hit that cannot be shown (file deleted or
damaged) displays its error and never fails the page. A page loads nothing, runs nothing, and has no link to
what only an import names.
"""

from __future__ import annotations

import math
import re
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import cache
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol

from xsearch import decoders, media, preview
from xsearch.errors import XsearchError
from xsearch.media.files import guess
from xsearch.preview import Item, Piece, Preview
from xsearch.system.terminal import printable
from xsearch.types import Hit, Modality, Sample, Url

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = [
    "Part",
    "Query",
    "View",
    "album",
    "captions",
    "details",
    "environment",
    "formatted",
    "name",
    "page",
    "table",
    "view",
]

PLAYER_BYTES = 3 << 20  # larger videos are represented by their poster frame
SMALL_PX = 128  # smaller pictures are enlarged, by a whole factor, to at most this
NAME, TITLE, FACT = 60, 120, 1000  # letters: of a text in a query's name, a page's title, a fact on a card
LINK = 4096  # letters of a link; longer than any path of Linux
VALUES = 100  # of a list that a card shows
# Metadata that a card shows, by the names that tables, sidecars and files use, the first of each line that an
# item has.
CAPTIONS = (("title", "headline"), ("caption", "captions", "description"))
DETAILS = (
    ("taken_at", "recorded_at", "created_at", "date", "datetime", "year"),
    ("subject", "label"),
    ("place", "location", "city", "country"),
    ("camera", "camera_model", "device"),
    ("artist", "author", "creator", "photographer", "byline"),
    ("album",),
    ("keywords", "tags"),
)
COORDINATES = (("latitude", "lat"), ("longitude", "lon", "lng"))


class Part(Protocol):
    """One medium of a query; see `xsearch.query.Part`."""

    @property
    def modality(self) -> Modality | None: ...
    @property
    def source(self) -> Any: ...
    @property
    def weight(self) -> float: ...


class Query(Protocol):
    """A sum of media; see `xsearch.query.Query`."""

    @property
    def parts(self) -> Sequence[Part]: ...


@dataclass(frozen=True, slots=True)
class View:
    """The contents of a card. URIs are data URIs here, addresses in a server."""

    picture: str = ""  # URI of an image, a spectrogram, or a video's poster
    size: tuple[int, int] = (0, 0)  # of the picture at most, CSS pixels; (0, 0): as large as the card
    is_enlarged: bool = False
    sound: str = ""  # URI
    video: str = ""  # URI
    drawing: str = ""  # inline SVG
    text: str = ""
    problem: str = ""  # error message, if there is nothing to show


def table(hits: Sequence[Hit]) -> str:
    """Return an HTML table with a thumbnail per hit; inherits the colours of the enclosing page."""
    return _rendered("table.html.jinja", hits=hits)


def page(hits: Sequence[Hit], query: Query | None = None) -> str:
    """Return an HTML document that shows the parts of `query`, then `hits`, best first.

    Its title names the query; by default the one that the hits answer.
    """
    return album([(query, hits)])


def album(answers: Sequence[tuple[Query | None, Sequence[Hit]]], headings: Sequence[str] = ()) -> str:
    """Return an HTML document with several queries, each above its hits.

    headings: one for each answer; by default the names of the queries.
    """
    queries = [_resolved(query, hits) for query, hits in answers]
    names = headings or ["" if query is None else name(query) for query in queries]
    title = f"{len(names)} searches" if len(names) > 1 else "".join(names)
    shown = [
        () if query is None or (_is_stated(query) and not headings) else query.parts for query in queries
    ]
    sections = zip(names, shown, (hits for _, hits in answers), strict=True)
    style = _style()
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; media-src data:; style-src 'sha256-{digest}'"
    return _rendered("album.html.jinja", sections=list(sections), title=title, style=style, policy=policy)


def name(query: Query) -> str:
    """Return a query in one line: its texts in quotes, the names of its files, their signs and weights.

    >>> from xsearch.query import audio, text
    >>> name(text("a dog") + 0.5 * audio("media/sea.wav") - text("cage"))
    '“a dog” + 0.5 × audio sea.wav − “cage”'
    """
    terms: list[str] = []
    for part in query.parts:
        sign = "−" if part.weight < 0 else "+" if terms else ""
        factor = "" if abs(part.weight) == 1 else f"{abs(part.weight):g} ×"
        terms += [sign, factor, _name(part)]
    return " ".join(filter(None, terms))


def _name(part: Part) -> str:
    kind = str(part.modality or "file")
    match part.source:
        case str(words):
            return f"“{_cut(' '.join(words.split()), NAME)}”"
        case Path() as path:
            return f"{kind} {path.name}"
        case Url(address):
            return f"{kind} {PurePosixPath(address.partition('?')[0]).name or address}"
        case int(id):
            return f"item {id}"
    return f"{kind} from memory"


def _is_stated(query: Query) -> bool:
    """Whether the name of a query says all of it: one text that is not cut."""
    words = [part.source for part in query.parts if isinstance(part.source, str)]
    return len(words) == len(query.parts) == 1 and len(words[0]) <= NAME


def _cut(text: str, length: int) -> str:
    """The text, or its beginning and an ellipsis."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def _resolved(query: Query | None, hits: Sequence[Hit]) -> Query | None:
    """Return the query as embedded, with the modality of every part, if the hits carry it."""
    embedded = getattr(hits, "query", None)
    return query if embedded is None else embedded.query


def _rendered(template: str, **content: Any) -> str:
    """Render a template, without control characters and the surrogates in names that are not UTF-8."""
    html = environment().get_template(template).render(**content)
    return re.sub("(?![\t\n])[\x00-\x1f\x7f-\x9f\ud800-\udfff]", "\ufffd", html)


@cache
def _style() -> str:
    loader = environment().loader
    assert loader is not None
    return "".join(loader.get_source(environment(), name)[0] for name in ("tokens.css", "page.css"))


@cache
def environment() -> Environment:
    """Return the Jinja environment of the package's templates, which call the functions of this module."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("xsearch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.globals |= {
        "address": _address,
        "captions": captions,
        "details": details,
        "place": _place,
        "view": view,
        "window": _window,
    }
    templates.filters["cut"] = lambda text: _cut(text, TITLE)
    return templates


def captions(hit: Hit) -> list[str]:
    """Return the title and the caption in a hit's metadata, unless its text has them."""
    text = " ".join((hit.text or "").split()).casefold()
    return [each for each in dict.fromkeys(_values(hit, CAPTIONS)) if each.casefold() not in text]


def details(hit: Hit) -> list[str]:
    """Return what else in a hit's metadata belongs on its card: date, place, camera, artist, ..."""
    coordinates = ", ".join(_values(hit, COORDINATES))
    return list(filter(None, dict.fromkeys([*_values(hit, DETAILS), coordinates])))


def _values(hit: Hit, columns: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the first value for each of several choices of column names."""
    extra = {column.casefold(): value for column, value in hit.extra.items()}
    for names in columns:
        texts = (formatted(extra[column]) for column in names if column in extra)
        if text := next(filter(None, texts), ""):
            yield text


def formatted(value: Any) -> str:
    """Return metadata in one line. Times lose their seconds, midnight altogether: only the date is known."""
    match value:
        case date():
            value = value.isoformat()
        case float():
            return f"{value:.6g}" if math.isfinite(value) else ""
        case list() | tuple():
            return _cut(", ".join(filter(None, map(formatted, value[:VALUES]))), FACT)
    text = _cut(" ".join(str(value).split()), FACT)
    if time := re.fullmatch(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d.*)?", text):
        return time[1] if time[2] == "00:00" else f"{time[1]} {time[2]}"
    return text


def view(item: Hit | Part, *, players: bool = True) -> View:
    """Decode a hit or query part into a View. Without `players`, sounds and videos are images only."""
    piece = item if isinstance(item, Hit) else _piece(item)
    try:
        if isinstance(piece, Hit) and piece.text is None:
            preview.check(piece)
        if piece.modality is Modality.TEXT:
            return _text(piece, players=players)
        if piece.modality is Modality.AUDIO and players:
            sample = preview.load(piece)
            sound, spectrogram = preview.sound(sample).uri, preview.spectrogram(sample).uri
            return View(picture=spectrogram, sound=sound, drawing=preview.waveform(sample).inline)
        if piece.modality in (Modality.AUDIO, Modality.IMU):
            return View(drawing=preview.thumbnail(piece).inline)
        if piece.modality is Modality.VIDEO and players and not isinstance(piece, Sample):
            return _player(piece)
        return _picture(preview.thumbnail(piece))
    except (XsearchError, OSError) as problem:
        return View(problem=str(problem))


def _text(piece: Piece, *, players: bool) -> View:
    """Return a text, and the medium that it describes if it was read from that medium's file."""
    text = preview.text(piece).data.decode()
    if isinstance(piece, Hit) and guess(Path(piece.path)) in (Modality.IMAGE, Modality.VIDEO, Modality.AUDIO):
        try:
            preview.check(piece)
            with media.at_hand(piece.path, decoders.identify) as path:
                kind = decoders.identify(path).modality
        except XsearchError:
            return View(text=text)
        described = view(replace(piece, modality=kind, text=None), players=players)
        return View(text=text) if described.problem else replace(described, text=text)
    return View(text=text)


def _picture(thumbnail: Preview) -> View:
    width, height = thumbnail.size
    factor = max(1, SMALL_PX // max(width, height))
    return View(picture=thumbnail.uri, size=(factor * width, factor * height), is_enlarged=factor > 1)


def _piece(part: Part) -> Piece:
    if part.modality is None:
        return Sample(Modality.TEXT, _name(part))
    kind = part.modality
    match part.source:
        case Path():
            return Item(kind, str(part.source))
        case Url(address):
            return Item(kind, address)
        case str():
            return Sample(Modality.TEXT, part.source)
        case tuple():
            return part.source[0]
        case int():
            return Sample(Modality.TEXT, f"item {part.source} of the collection")
    return Sample(Modality.TEXT, f"an embedding of {part.modality}")


def _player(piece: Hit | Item) -> View:
    """Return a video's poster and, if browsers play it and up to PLAYER_BYTES, the file itself."""
    with media.at_hand(piece.path, decoders.identify) as path:
        poster = _picture(preview.thumbnail(Item(piece.modality, str(path), piece.start_s, piece.end_s)))
        if path.stat().st_size > PLAYER_BYTES or not (mime := preview.playable(path)):
            return poster
        video = Preview(path.read_bytes(), mime).uri
    window = "" if piece.end_s is None else f"#t={piece.start_s or 0:g},{piece.end_s:g}"
    return replace(poster, video=video + window)


def _address(item: Hit | Path) -> str:
    """Return the link to a file or web page; "" for other URLs, and for what only an import names."""
    if isinstance(item, Hit) and item.is_imported:
        return ""
    path = item.path if isinstance(item, Hit) else str(item)
    is_web = path.lower().startswith(("http://", "https://"))
    if is_web or media.is_url(path) or not path:
        return path if is_web and len(path) <= LINK else ""
    try:
        link = Path(path).absolute().as_uri()
    except (OSError, ValueError):  # no current folder, or no path
        return ""
    return link if len(link) <= LINK and "%00" not in link else ""


def _place(path: str) -> tuple[str, str, str]:
    """Return the whole of a path or URL, its folder, and its name, as they are shown."""
    parts = Path(path)
    whole, folder, name = (_cut(printable(text), FACT) for text in (path, parts.parent.name, parts.name))
    return whole, folder, name or whole or "no path"


def _window(hit: Hit) -> str:
    """Return where in its file a hit is, if it is a window."""
    start_s, end_s = hit.start_s or 0.0, hit.end_s
    if end_s is None or not (math.isfinite(start_s) and math.isfinite(end_s)):
        return ""
    return f"{round(start_s, 1):.7g}–{round(end_s, 1):.7g} s"
