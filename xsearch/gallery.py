"""Hits as HTML: a picture table for notebooks, and one self-contained page for a browser.

Nothing is fetched: pictures, players and drawings are part of the document. What cannot be shown any more
(the file is gone or damaged) says so in its place; a page is never refused because of one hit.
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

PLAYER_BYTES = 3 << 20  # a larger video is shown by its poster frame only


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
    """What a template shows of one piece. Addresses are data URIs here; a server has its own."""

    picture: str = ""  # address: of the piece, of a sound's spectrogram, of a video's poster
    sound: str = ""  # address
    video: str = ""  # address
    drawing: str = ""  # inline SVG
    text: str = ""
    problem: str = ""  # why there is nothing to show


def table(hits: Sequence[Hit]) -> str:
    """HTML of a small table with a picture per hit; inherits the colours of the page it stands in."""
    return environment().get_template("table.html.jinja").render(hits=hits)


def page(hits: Sequence[Hit], query: Query | None = None) -> str:
    """One HTML document that shows `hits`, best first, below the parts of the `query` that found them."""
    return album([(query, hits)])


def album(answers: Sequence[tuple[Query | None, Sequence[Hit]]]) -> str:
    """One HTML document with several queries, each above its hits."""
    known = [(_resolved(query, hits), hits) for query, hits in answers]
    return environment().get_template("album.html.jinja").render(answers=known)


def _resolved(query: Query | None, hits: Sequence[Hit]) -> Query | None:
    """The query as it was embedded, where the hits know it: with the modality of every part."""
    embedded = getattr(hits, "query", None)
    return query if query is None or embedded is None else embedded.query


@cache
def environment() -> Environment:
    """The templates of this package. They call `view(hit or part)` for what a card shows."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("xsearch"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    made.globals |= {"view": view, "Path": Path, "address": _address}
    return made


def view(item: Hit | Part, *, players: bool = True) -> View:
    """A hit or a part of a query, decoded again. Without `players`, sounds and videos are only drawn."""
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
    return Sample(Modality.TEXT, f"an embedding of {part.modality}")


def _player(piece: Hit | Item) -> View:
    """The poster of a video and, if it is small, its file, played from where the window starts to its end."""
    with media.at_hand(piece.path) as path:
        poster = preview.thumbnail(Item(piece.modality, str(path), piece.start_s, piece.end_s)).uri
        if path.stat().st_size > PLAYER_BYTES:
            return View(picture=poster)
        video = Preview(path.read_bytes(), mimetypes.guess_type(path)[0] or "video/mp4").uri
    window = "" if piece.end_s is None else f"#t={piece.start_s or 0:g},{piece.end_s:g}"
    return View(picture=poster, video=video + window)


def _address(path: str | Path) -> str:
    """Of a path or URL, for a link."""
    return str(path) if media.is_url(path) else Path(path).absolute().as_uri()
