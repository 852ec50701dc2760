"""Render hits as HTML: a table for notebooks, and a self-contained page for browsers.

Images, players and drawings are embedded in the document. A hit that cannot be shown (file deleted or
damaged) displays its error and never fails the page.
"""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from xsearch import media, preview
from xsearch.errors import XsearchError
from xsearch.preview import Item, Piece, Preview
from xsearch.types import Hit, Modality, Sample, Url

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["Part", "Query", "View", "album", "environment", "page", "table", "view"]

PLAYER_BYTES = 3 << 20  # larger videos are represented by their poster frame


class Part(Protocol):
    """One medium of a query; see `xsearch.query.Part`."""

    @property
    def modality(self) -> Modality | None: ...
    @property
    def source(self) -> Any: ...


class Query(Protocol):
    """A sum of media; see `xsearch.query.Query`."""

    @property
    def parts(self) -> Sequence[Part]: ...


@dataclass(frozen=True, slots=True)
class View:
    """The contents of a card. URIs are data URIs here, addresses in a server."""

    picture: str = ""  # URI of an image, a spectrogram, or a video's poster
    sound: str = ""  # URI
    video: str = ""  # URI
    drawing: str = ""  # inline SVG
    text: str = ""
    problem: str = ""  # error message, if there is nothing to show


def table(hits: Sequence[Hit]) -> str:
    """Return an HTML table with a thumbnail per hit; inherits the colours of the enclosing page."""
    return environment().get_template("table.html.jinja").render(hits=hits)


def page(hits: Sequence[Hit], query: Query | None = None) -> str:
    """Return an HTML document that shows the parts of `query`, then `hits`, best first."""
    return album([(query, hits)])


def album(answers: Sequence[tuple[Query | None, Sequence[Hit]]]) -> str:
    """Return an HTML document with several queries, each above its hits."""
    resolved = [(_resolved(query, hits), hits) for query, hits in answers]
    return environment().get_template("album.html.jinja").render(answers=resolved)


def _resolved(query: Query | None, hits: Sequence[Hit]) -> Query | None:
    """Return the query as embedded, with the modality of every part, if the hits carry it."""
    embedded = getattr(hits, "query", None)
    return query if query is None or embedded is None else embedded.query


@cache
def environment() -> Environment:
    """Return the Jinja environment of the package's templates, which call `view(hit or part)`."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("xsearch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    templates.globals |= {"view": view, "Path": Path, "address": _address}
    return templates


def view(item: Hit | Part, *, players: bool = True) -> View:
    """Decode a hit or query part into a View. Without `players`, sounds and videos are images only."""
    piece = item if isinstance(item, Hit) else _piece(item)
    try:
        match piece.modality:
            case Modality.TEXT:
                return View(text=preview.text(piece).data.decode())
            case Modality.AUDIO if players:
                sample = preview.load(piece)
                sound, spectrogram = preview.sound(sample).uri, preview.spectrogram(sample).uri
                return View(picture=spectrogram, sound=sound, drawing=preview.waveform(sample).inline)
            case Modality.AUDIO | Modality.IMU:
                return View(drawing=preview.thumbnail(piece).inline)
            case Modality.VIDEO if players and not isinstance(piece, Sample):
                return _player(piece)
        return View(picture=preview.thumbnail(piece).uri)
    except (XsearchError, OSError) as problem:
        return View(problem=str(problem))


def _piece(part: Part) -> Piece:
    kind = Modality(str(part.modality))
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
    """Return a video's poster and, up to PLAYER_BYTES, the file itself, limited to the window."""
    with media.at_hand(piece.path) as path:
        poster = preview.thumbnail(Item(piece.modality, str(path), piece.start_s, piece.end_s)).uri
        if path.stat().st_size > PLAYER_BYTES:
            return View(picture=poster)
        video = Preview(path.read_bytes(), mimetypes.guess_type(path)[0] or "video/mp4").uri
    window = "" if piece.end_s is None else f"#t={piece.start_s or 0:g},{piece.end_s:g}"
    return View(picture=poster, video=video + window)


def _address(path: str | Path) -> str:
    """Return the link target of a path or URL."""
    return str(path) if media.is_url(path) else Path(path).absolute().as_uri()
