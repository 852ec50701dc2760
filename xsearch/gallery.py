"""Hits as HTML: a picture table for notebooks, and one self-contained page for a browser.

Nothing is fetched: pictures, players and plots are data URIs and inline SVG. What cannot be shown any
more (the file is gone or damaged) is said in its place; a page is never refused because of one hit.
"""

from __future__ import annotations

import base64
import io
import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import media
from xsearch.media import container
from xsearch.query import Url
from xsearch.types import Hit, Modality, Sample

if TYPE_CHECKING:
    from xsearch.query import Part, Query

__all__ = ["album", "page", "table"]

THUMBNAIL_PX = 400  # longest side: 320 CSS pixels with some reserve for dense screens
PLAYER_BYTES = 3 << 20  # a longer video is shown by its poster frame only
SOUND_HZ = 22_050
SOUND_S = 10.0  # of a query's sound; a hit has its own window
COLOURS = ("#4e79c4", "#d9822b", "#3a9a6b")  # x, y, z of an IMU plot, legible on light and dark

# The inferno map of matplotlib (CC0), every eighth of the way.
INFERNO = np.array(
    [
        *([0, 0, 4], [31, 12, 72], [85, 15, 109], [136, 34, 106], [186, 54, 85]),
        *([227, 89, 51], [249, 140, 10], [249, 201, 50], [252, 255, 164]),
    ],
    np.float32,
)
# Google's Turbo as polynomials of degree 0..5 for red, green, blue (Apache-2.0, R. Du, 2019).
TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ],
    np.float32,
)


def table(hits: Sequence[Hit]) -> str:
    """HTML of a small table with a picture per hit; inherits the colours of the page it stands in."""
    rows = "".join(
        f"<tr><td>{hit.rank}</td><td>{_show(_of_hit(hit), players=False)}</td><td>{hit.cosine:.3f}</td>"
        f"<td>{_balanced(hit)}</td><td>{hit.modality}</td><td>{escape(hit.path)} {_window(hit)}</td></tr>"
        for hit in hits
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "item", "cosine", "balanced", "kind", "path"))
    return f"<style>{_TABLE_CSS}</style><table class=xsearch><tr>{head}</tr>{rows}</table>"


def page(hits: Sequence[Hit], query: Query | None = None) -> str:
    """One HTML document that shows `hits`, best first, below the parts of the `query` that found them."""
    return album([(query, hits)])


def album(answers: Sequence[tuple[Query | None, Sequence[Hit]]]) -> str:
    """One HTML document with several queries, each above its hits."""
    sections = "".join(
        f"<section>{_parts(query) if query is not None else ''}<h2>{_count(hits)}</h2>"
        f"<div class=grid>{''.join(map(_card, hits))}</div></section>"
        for query, hits in answers
    )
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>xsearch</title><style>{_PAGE_CSS}</style></head>"
        f"<body><h1>xsearch</h1><main>{sections}</main><footer>{_LEGEND}</footer></body></html>\n"
    )


def colour(values: np.ndarray, name: str) -> np.ndarray:
    """float [H, W] in 0..1 -> uint8 [H, W, 3] in the colour map `name` ("inferno" or "turbo").

    >>> colour(np.array([[0.0, 1.0]]), "inferno").tolist()
    [[[0, 0, 4], [252, 255, 164]]]
    """
    x = np.clip(values, 0, 1)
    if name == "inferno":
        at = np.linspace(0, 1, len(INFERNO))
        rgb = np.stack([np.interp(x, at, INFERNO[:, c]) for c in range(3)], -1)  # [H, W, 3]
    else:
        rgb = 255 * (x[..., None] ** np.arange(6)) @ TURBO.T  # [H, W, 3]
    return np.clip(rgb, 0, 255).round().astype(np.uint8)


# ---------------------------------------------------------------- style

_LEGEND = (
    "<p><b>cosine</b> is the similarity of the two embeddings, −1 to 1. <b>balanced</b> says by how many "
    "standard deviations that exceeds what is usual between the query's kind and the item's kind: it makes "
    "different kinds comparable.</p>"
)

_TABLE_CSS = """
.xsearch td, .xsearch th { text-align: left; vertical-align: middle; padding: 4px 10px }
.xsearch img, .xsearch svg, .xsearch blockquote { max-width: 160px; max-height: 120px; display: block }
.xsearch svg { width: 160px; height: 72px } .xsearch svg text { display: none }
.xsearch blockquote { overflow: hidden; font-style: italic; margin: 0; padding: 0 }
.xsearch polyline { fill: none; stroke-width: 2 } .xsearch path { stroke: currentColor; stroke-width: 1.6 }
"""

_PAGE_CSS = """
:root { color-scheme: light dark; --ground: #f6f6f3; --card: #fff; --well: #efefeb; --ink: #1d1d1b;
  --soft: #6a6a65; --line: #e2e2dc; --image: #2f6fb0; --text: #7457b8; --audio: #b5651d; --video: #b23a3a;
  --depth: #15806f; --thermal: #b83268; --imu: #4f7d2c }
@media (prefers-color-scheme: dark) { :root { --ground: #121314; --card: #1b1c1e; --well: #242628;
  --ink: #ecece9; --soft: #9c9c97; --line: #2e3033; --image: #7db4ec; --text: #b9a3f0; --audio: #eba869;
  --video: #f08c8c; --depth: #62cbb9; --thermal: #f189b4; --imu: #a3cf7e } }
* { box-sizing: border-box; margin: 0 }
body { background: var(--ground); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; max-width: 1400px;
  margin: auto; padding: 28px clamp(14px, 3vw, 44px) 40px }
h1 { font-size: 22px; letter-spacing: -.02em; padding-bottom: 14px } footer, h2 { color: var(--soft) }
section + section { border-top: 1px solid var(--line); margin-top: 30px; padding-top: 12px }
h2 { font-size: 13px; font-weight: 600; letter-spacing: .02em; padding: 14px 0 10px }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 240px), 1fr)); gap: 18px }
.card { --kind: var(--image); background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  overflow: hidden; break-inside: avoid; display: flex; flex-direction: column }
.text { --kind: var(--text) } .audio { --kind: var(--audio) } .video { --kind: var(--video) }
.depth { --kind: var(--depth) } .thermal { --kind: var(--thermal) } .imu { --kind: var(--imu) }
.well { background: var(--well); aspect-ratio: 4/3; overflow: hidden; display: flex; flex-direction: column;
  justify-content: center }
.well img, .well video { width: 100%; height: 100%; object-fit: contain; display: block }
.well audio { width: calc(100% - 20px); height: 36px; margin: 0 10px 12px }
.wave { width: calc(100% - 32px); flex: 1; min-height: 0; margin: 12px 16px 6px }
.wave path { stroke: var(--kind); stroke-width: 1.8; stroke-linecap: round }
.plot { width: 100%; height: 100%; padding: 10px 14px } .plot text { font-size: 11px; fill: var(--soft) }
.plot polyline { fill: none; stroke-width: 1.3; vector-effect: non-scaling-stroke }
blockquote { padding: 18px 22px; font: italic 20px/1.4 Georgia, serif; overflow: auto; margin: auto 0;
  max-height: 100% }
blockquote.long { font-size: 15px; font-style: normal }
.gone { padding: 18px; color: var(--soft); font-size: 13px; overflow-wrap: anywhere }
.about { padding: 11px 14px 13px; display: flex; flex-direction: column; gap: 4px; flex: 1 }
.top { display: flex; gap: 10px; align-items: baseline; font-size: 13px; color: var(--soft) }
.top b { color: var(--ink); font-size: 16px; font-variant-numeric: tabular-nums }
.kind { color: var(--kind); font-weight: 600 }
.path { color: var(--soft); font-size: 13px; overflow-wrap: anywhere } .path a { color: var(--ink) }
a { text-decoration: none } a:hover, a:focus-visible { text-decoration: underline }
dl { display: flex; gap: 5px; font-size: 13px; margin-top: auto; padding-top: 4px;
  font-variant-numeric: tabular-nums }
dt { color: var(--soft) } dd { font-weight: 600; margin-right: 12px }
.query { display: flex; flex-wrap: wrap; gap: 12px }
.query .card { width: 220px }
.sign { align-self: center; font-size: 22px; color: var(--soft); font-variant-numeric: tabular-nums }
footer { font-size: 13px; max-width: 75ch; padding-top: 30px }
@media (max-width: 560px) { .query .card { width: 100% } }
@media print { body { max-width: none; padding: 0; background: none } audio { display: none }
  .grid { grid-template-columns: repeat(3, 1fr) } }
"""


# ---------------------------------------------------------------- cards


def _card(hit: Hit) -> str:
    folder = Path(hit.path).parent.name
    where = f"{escape(folder)}/" if folder else ""
    return (
        f"<article class='card {hit.modality}'><div class=well>{_show(_of_hit(hit))}</div><div class=about>"
        f"<p class=top><b>{hit.rank}</b><span class=kind>{hit.modality}</span><span>{_window(hit)}</span></p>"
        f"<p class=path title='{escape(hit.path)}'>{where}<wbr>{_link(hit.path)}</p>"
        f"<dl><dt>cosine</dt><dd>{hit.cosine:.3f}</dd><dt>balanced</dt><dd>{_balanced(hit)}</dd></dl>"
        "</div></article>"
    )


def _count(hits: Sequence[Hit]) -> str:
    return f"{len(hits)} result{'s' * (len(hits) != 1)}, best first" if hits else "No items match"


def _link(place: str | Path) -> str:
    """place: an absolute path, or a URL."""
    url = str(place) if media.is_url(place) else Path(place).as_uri()
    return f"<a href='{escape(url)}'>{escape(Path(place).name)}</a>"


def _balanced(hit: Hit) -> str:
    return "–" if hit.balanced is None else f"{hit.balanced:+.2f}"


def _window(item: Hit | _Piece) -> str:
    if item.start_s is None or item.end_s is None:
        return ""
    start, end = (f"{seconds:.1f}".removesuffix(".0") for seconds in (item.start_s, item.end_s))
    return f"{start}–{end} s"


def _parts(query: Query) -> str:
    """What was searched with, as a sum: a sign or weight between small cards."""
    cards: list[str] = []
    for part in query.parts:
        weight = "" if abs(part.weight) == 1 else f"{abs(part.weight):g} ×"
        sign = ("−" if part.weight < 0 else "+" if cards else "") + " " + weight
        if sign.strip():
            cards.append(f"<span class=sign>{sign.strip()}</span>")
        name = _link(part.source.absolute()) if isinstance(part.source, Path) else ""
        cards.append(
            f"<article class='card {part.modality}'><div class=well>{_show(_of_part(part))}</div>"
            f"<div class=about><p class=top><span class=kind>{part.modality}</span></p>"
            f"<p class=path>{name}</p></div></article>"
        )
    return f"<h2>Searched with</h2><div class=query>{''.join(cards)}</div>"


# ---------------------------------------------------------------- one item of each kind


@dataclass(frozen=True, slots=True)
class _Piece:
    """What is shown: a hit or a part of a query; from its file, or from a sample in memory."""

    modality: Modality
    path: str = ""  # or a URL
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    sample: Sample | None = None
    at: Path = Path()  # where the file of `path` can be read

    @property
    def alt(self) -> str:
        return escape(f"{self.modality}: {Path(self.path).name or 'from memory'} {_window(self)}".strip())

    def load(self) -> Sample:
        """The stored piece, decoded again: the window that starts where the hit does."""
        if self.sample is not None:
            return self.sample
        file = media.identify(self.at.absolute(), kinds=[(self.modality, "*")])
        return min(media.read(file), key=lambda s: abs((s.start_s or 0.0) - (self.start_s or 0.0)))

    def bounds(self) -> tuple[float, float]:
        start_s = self.start_s or 0.0
        return start_s, self.end_s if self.end_s is not None else start_s + SOUND_S


def _of_hit(hit: Hit) -> _Piece:
    return _Piece(hit.modality, hit.path, hit.start_s, hit.end_s, hit.text)


def _of_part(part: Part) -> _Piece:
    assert part.modality is not None
    match part.source:
        case Path():
            return _Piece(part.modality, str(part.source))
        case Url(address):
            return _Piece(part.modality, address)
        case str():
            return _Piece(part.modality, text=part.source)
        case tuple():
            return _Piece(part.modality, sample=part.source[0])
    return _Piece(Modality.TEXT, text=f"an embedding of {part.modality}")


def _show(piece: _Piece, *, players: bool = True) -> str:
    try:
        if piece.sample is not None or piece.text is not None:
            return _SHOW[piece.modality](piece, players)
        with media.at_hand(piece.path) as path:
            return _SHOW[piece.modality](replace(piece, at=path), players)
    except Exception as problem:  # the boundary: what decoders raise on damaged input is not documented
        there = piece.sample is not None or media.is_url(piece.path) or Path(piece.path).exists()
        told = str(problem).removeprefix(f"{piece.path}: ") or type(problem).__name__
        reason = told if there else "the file is gone"
        return f"<p class=gone>cannot be shown: {escape(reason)}</p>"


def _image(piece: _Piece, players: bool) -> str:
    return _picture(piece.load().data, piece)


def _text(piece: _Piece, players: bool) -> str:
    text = piece.text if piece.text is not None else str(piece.load().data)
    size = "short" if len(text) < 120 else "long"
    return f"<blockquote class={size}>{escape(text)}</blockquote>"


def _audio(piece: _Piece, players: bool) -> str:
    import soundfile

    wave, rate_hz = _decode_sound(piece)
    bars = _waveform(wave, piece)
    if not players:
        return bars
    kind, mime = ("MP3", "audio/mpeg") if "MP3" in soundfile.available_formats() else ("WAV", "audio/wav")
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, format=kind)
    return f"{bars}<audio controls preload=metadata src='{_data_uri(file.getvalue(), mime)}'></audio>"


def _video(piece: _Piece, players: bool) -> str:
    frame = _decode_frame(piece)
    if not players or piece.sample is not None or piece.at.stat().st_size > PLAYER_BYTES:
        return _picture(frame, piece)
    mime = mimetypes.guess_type(piece.at)[0] or "video/mp4"
    source = _data_uri(piece.at.read_bytes(), mime)
    about = f"poster='{_jpeg(frame)}' aria-label='{piece.alt}'"
    return f"<video controls preload=metadata {about} src='{source}'></video>"


def _depth(piece: _Piece, players: bool) -> str:
    depth = piece.load().data  # [H, W] metres, 0 where unknown
    near, far = _range(1 / depth[depth > 0])[::-1] if (depth > 0).any() else (1.0, 0.0)
    inverse = np.divide(1, depth, out=np.zeros_like(depth), where=depth > 0)
    closeness = np.clip((inverse - far) / (near - far), 0, 1)
    rgb = colour(0.1 + 0.8 * closeness, "turbo")  # near is red, far is blue; the ends of the map are too dark
    rgb[depth <= 0] = 128
    return _picture(_from_array(rgb), piece)


def _thermal(piece: _Piece, players: bool) -> str:
    values = piece.load().data  # [H, W] in 0..1
    low, high = _range(values)
    return _picture(_from_array(colour((values - low) / (high - low), "inferno")), piece)


def _imu(piece: _Piece, players: bool) -> str:
    """Two panels of three lines each: acceleration above, turning below."""
    data = piece.load().data  # [6, T]
    panels = []
    for top, rows, unit in ((0, data[:3], "m/s²"), (100, data[3:], "rad/s")):
        low, high = float(rows.min()), float(rows.max())
        x = np.linspace(0, 320, 160)
        old = np.linspace(0, 320, rows.shape[1])
        panels.append(f"<text x=4 y={top + 14}>{unit}, {low:.1f} to {high:.1f}</text>")
        for values, stroke in zip(rows, COLOURS, strict=True):
            y = top + 94 - 72 * (np.interp(x, old, values) - low) / max(high - low, 1e-9)
            points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True))
            panels.append(f"<polyline points='{points}' stroke='{stroke}'/>")
    return _svg("".join(panels), 200, "plot", piece)


_SHOW: dict[Modality, Callable[[_Piece, bool], str]] = {
    Modality.IMAGE: _image,
    Modality.TEXT: _text,
    Modality.AUDIO: _audio,
    Modality.VIDEO: _video,
    Modality.DEPTH: _depth,
    Modality.THERMAL: _thermal,
    Modality.IMU: _imu,
}


# ---------------------------------------------------------------- decoding and encoding


def _decode_frame(piece: _Piece) -> Any:
    """The upright picture in the middle of the window; the last one if the video is shorter."""
    if piece.sample is not None:
        return _from_array(piece.sample.data[len(piece.sample.data) // 2])
    start_s, end_s = piece.bounds()
    at_s = (start_s + end_s) / 2 if piece.end_s is not None else 0.0
    with container.opened(piece.at) as source:
        frame = None
        origin_s = _seek(source, at_s)
        for frame in source.decode(container.picture_track(source)):
            if frame.time is None or frame.time - origin_s >= at_s:
                break
        if frame is None:
            raise ValueError("there is no picture in this window")
        return _from_array(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))


def _decode_sound(piece: _Piece) -> tuple[np.ndarray, int]:
    """float32 [N] mono, and its rate in Hz. Only the window is decoded, also of an hour's recording."""
    from av import AudioResampler

    if piece.sample is not None:
        return piece.sample.data, int(piece.sample.rate_hz or 16_000)
    start_s, end_s = piece.bounds()
    parts = []
    with container.opened(piece.at) as source:
        resampler = AudioResampler(format="flt", layout="mono", rate=SOUND_HZ)
        origin_s = _seek(source, start_s)
        for frame in source.decode(audio=0):
            time_s = (frame.time or 0.0) - origin_s
            if time_s >= end_s:
                break
            if time_s + frame.samples / frame.sample_rate > start_s:
                parts += [out.to_ndarray()[0] for out in resampler.resample(frame)]
    if not parts:
        raise ValueError("there is no sound in this window")
    return np.concatenate(parts), SOUND_HZ


def _seek(source: Any, at_s: float) -> float:
    """Go to the key frame before `at_s`; returns the time stamp at which the file starts."""
    start_us = source.start_time or 0
    source.seek(start_us + int(at_s * 1e6))
    return float(start_us / 1e6)


def _range(values: np.ndarray) -> tuple[float, float]:
    """Where the colours start and end: without the extreme 2 % on either side."""
    low, high = np.percentile(values, [2, 98])
    return float(low), float(max(high, low + 1e-6))


def _from_array(rgb: np.ndarray) -> Any:
    from PIL import Image

    return Image.fromarray(rgb)


def _picture(picture: Any, piece: _Piece) -> str:
    return f"<img src='{_jpeg(picture)}' alt='{piece.alt}' loading=lazy>"


def _jpeg(picture: Any) -> str:
    small = picture.convert("RGB")
    small.thumbnail((THUMBNAIL_PX, THUMBNAIL_PX))
    file = io.BytesIO()
    small.save(file, "JPEG", quality=82)
    return _data_uri(file.getvalue(), "image/jpeg")


def _data_uri(content: bytes, mime: str) -> str:
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def _svg(inside: str, height: int, name: str, piece: _Piece) -> str:
    return (
        f"<svg class={name} viewBox='0 0 320 {height}' role=img aria-label='{piece.alt}' "
        f"preserveAspectRatio=none>{inside}</svg>"
    )


def _waveform(wave: np.ndarray, piece: _Piece) -> str:
    """One bar per hundredth of the window, as high as its loudest sample."""
    peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(wave, 100)])
    heights = 2 + 86 * peaks / max(float(peaks.max()), 1e-6)
    bars = "".join(f"M{3.2 * i + 1.6:.1f} {50 - h / 2:.1f}v{h:.1f}" for i, h in enumerate(heights))
    return _svg(f"<path d='{bars}'/>", 100, "wave", piece)
