"""The algebra of queries: an immutable weighted sum of media.

    image("bird.jpg") + 0.7 * audio("sea.wav") - text("cage")

A query says what is meant and reads nothing but the kind of a local file; `embedding` reads and embeds it.
Modules of arrays and media are imported where they are used: a query of words needs none of them.
"""

from __future__ import annotations

import base64
import binascii
import math
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from xsearch.errors import EmptyQuery, NotMedia, UsageError
from xsearch.types import AUDIO_RATE_HZ, Ingested, Modality, Sample, Url

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

__all__ = [
    "Part",
    "Query",
    "Source",
    "audio",
    "depth",
    "image",
    "imu",
    "item",
    "parse",
    "parse_each",
    "text",
    "thermal",
    "vector",
    "video",
]

# A literal text, a file here, elsewhere, or of the collection, a file's content, a stored item's id, decoded
# media, or a vector
Source: TypeAlias = "str | Path | Url | Ingested | bytes | int | tuple[Sample, ...] | np.ndarray"


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One medium of a query and its weight. modality: None where only reading the source tells it."""

    modality: Modality | None
    source: Source
    weight: float = 1.0

    @property
    def label(self) -> str:
        """What a person recognises the part by: its file, its text, or just its modality."""
        match self.source:
            case str() | Path():
                return str(self.source)
            case Url(name) | Ingested(name):
                return name
            case int():
                return f"item {self.source}"
        return f"<{self.modality or 'file'}>"


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """An immutable weighted sum of media.

    >>> 2 * text("sea") - text("ship") / 2
    2*text('sea') - 0.5*text('ship')
    """

    parts: tuple[Part, ...] = ()

    def __add__(self, other: Query) -> Query:
        if not isinstance(other, Query):
            return NotImplemented
        return Query(self.parts + other.parts)

    def __sub__(self, other: Query) -> Query:
        if not isinstance(other, Query):
            return NotImplemented
        return self + -other

    def __mul__(self, weight: float) -> Query:
        if not isinstance(weight, Real):
            return NotImplemented
        try:
            is_finite = math.isfinite(weight)
        except OverflowError:  # an integer beyond all floats
            is_finite = False
        if not is_finite:
            raise UsageError(f"weight of {self!r}: expected a finite number, got {str(weight)[:20]}")
        return Query(tuple(replace(part, weight=part.weight * float(weight)) for part in self.parts))

    __rmul__ = __mul__

    def __truediv__(self, divisor: float) -> Query:
        return self * (1 / divisor)

    def __neg__(self) -> Query:
        return self * -1.0

    def __repr__(self) -> str:
        terms = ""
        for part in self.parts:
            sign = (" - " if part.weight < 0 else " + ") if terms else ("-" if part.weight < 0 else "")
            factor = "" if abs(part.weight) == 1 else f"{abs(part.weight):g}*"
            label = repr(part.label) if isinstance(part.source, Path | Url | str) else "..."
            label = str(part.source) if isinstance(part.source, int) else label
            name = "item" if isinstance(part.source, int) else part.modality or "file"
            terms += f"{sign}{factor}{name}({label})"
        return terms or "Query()"

    def to_dict(self) -> dict[str, Any]:
        """The wire form, fit for JSON, which `from_dict` reads. It never names a file or a URL.

        Raises UsageError for a part that is one, or that is decoded media: send its bytes or its vector.
        """
        return {"parts": [_to_wire(part) for part in self.parts]}

    @staticmethod
    def from_dict(content: Any) -> Query:
        """From the wire form: {"parts": [...]}, each part with one of

            {"kind": "text", "text": "a dog"}
            {"kind": "image", "data": "<base64 of a file's bytes>"}
            {"kind": "audio", "vector": [0.1, ...]}
            {"item": 17}

        and, if need be, "weight". Raises UsageError for anything else.
        """
        parts = content.get("parts") if isinstance(content, Mapping) and len(content) == 1 else None
        if not isinstance(parts, Sequence) or isinstance(parts, str):
            raise UsageError('query: expected {"parts": [...]}')
        return sum((_from_wire(part, f"query: parts[{at}]") for at, part in enumerate(parts)), Query())


def _to_wire(part: Part) -> dict[str, Any]:
    content: dict[str, Any]
    match part.source:
        case str():
            content = {"kind": "text", "text": part.source}
        case bytes():
            content = {"kind": part.modality and str(part.modality)}
            content["data"] = base64.b64encode(part.source).decode()
        case int():
            content = {"item": part.source}
        case Path() | Url() | Ingested() | tuple():
            raise UsageError(f"{part.label}: has no wire form; send its bytes, or its vector")
        case _:
            content = {"kind": str(part.modality), "vector": part.source.tolist()}
    return content | {"weight": part.weight}


def _from_wire(content: Any, where: str) -> Query:
    if not isinstance(content, Mapping):
        raise UsageError(f"{where}: expected an object")
    values = dict(content)
    kind, weight = values.pop("kind", None), values.pop("weight", 1.0)
    if kind is not None and kind not in tuple(Modality):
        raise UsageError(f"{where}: kind: expected one of {', '.join(Modality)}, got {kind!r}")
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise UsageError(f"{where}: weight: expected a number, got {weight!r}")
    match values:
        case {"text": str(words), **rest} if not rest and kind in (None, "text"):
            part = text(words)
        case {"data": str(data), **rest} if not rest:
            try:
                part = _bytes(kind and Modality(kind), base64.b64decode(data, validate=True))
            except binascii.Error as error:
                raise UsageError(f"{where}: data: not base64: {error}") from None
        case {"item": int(id), **rest} if not rest and kind is None and not isinstance(id, bool):
            part = item(id)
        case {"vector": list(numbers), **rest} if not rest and kind is not None:
            try:
                part = vector(numbers, kind)
            except (TypeError, ValueError, OverflowError):
                raise UsageError(f"{where}: vector: expected numbers") from None
        case _:
            names = ", ".join(map(str, content)) or "none"
            raise UsageError(f"{where}: expected text, data, item, or kind and vector; got {names}")
    return part * weight


def image(source: str | Path | bytes | Image | np.ndarray) -> Query:
    """A picture: a path, URL or a file's bytes, a PIL image, or uint8 [H, W, 3] RGB."""
    if isinstance(source, str | Path | bytes):
        return _file(Modality.IMAGE, source)
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(source) if isinstance(source, np.ndarray) else source
    if not isinstance(picture, Image.Image):
        raise UsageError(f"image query: expected a path, bytes or pixels, got {type(source).__name__}")
    return _samples(Sample(Modality.IMAGE, picture.convert("RGB")))


def text(source: str) -> Query:
    """A text, literally; `parse` opens text files."""
    if not isinstance(source, str):
        raise UsageError(f"text query: expected a str, got {type(source).__name__}")
    if not source.strip():
        raise EmptyQuery("the text of the query is empty")
    return Query((Part(Modality.TEXT, source),))


def audio(source: str | Path | bytes | np.ndarray, *, rate_hz: float = AUDIO_RATE_HZ) -> Query:
    """A sound: a path, URL or bytes (of a video too), or one window as float32 [N] mono in -1..1."""
    if not isinstance(source, str | Path | bytes) and rate_hz != AUDIO_RATE_HZ:
        if not 0 < rate_hz < math.inf:
            raise UsageError(f"audio query: expected a rate_hz above 0, got {rate_hz}")
        import soxr

        source = soxr.resample(_checked(Modality.AUDIO, source, 1), rate_hz, AUDIO_RATE_HZ)
    return _array(Modality.AUDIO, source, 1, rate_hz=AUDIO_RATE_HZ)


def video(source: str | Path | bytes | np.ndarray, *, rate_hz: float = 1.0) -> Query:
    """A video: a path, URL or bytes, or the frames of one window as uint8 [T, H, W, 3] RGB at `rate_hz`."""
    if isinstance(source, str | Path | bytes):
        return _file(Modality.VIDEO, source)
    import numpy as np

    frames = _checked(Modality.VIDEO, source, 4, "uint8")
    times_s = tuple(np.arange(len(frames)) / rate_hz)
    return _samples(Sample(Modality.VIDEO, frames, times_s=times_s))


def depth(
    source: str | Path | bytes | np.ndarray, *, focal_px: float | None = None, baseline_m: float | None = None
) -> Query:
    """A depth map: a path, URL or bytes, or float32 [H, W] metres, 0 where unknown."""
    return _array(Modality.DEPTH, source, 2, focal_px=focal_px, baseline_m=baseline_m)


def thermal(source: str | Path | bytes | np.ndarray) -> Query:
    """A thermal picture: a path, URL or bytes, or float32 [H, W] in 0..1, hot is high."""
    return _array(Modality.THERMAL, source, 2)


def imu(source: str | Path | bytes | np.ndarray, *, rate_hz: float = 200) -> Query:
    """A motion recording: a path, URL or bytes, or one window as float32 [6, T], m/s^2 xyz then rad/s xyz."""
    return _array(Modality.IMU, source, 2, rate_hz=rate_hz)


def vector(values: np.ndarray | Sequence[float], modality: Modality | str) -> Query:
    """A vector [dim] that is embedded already, for instance that of a stored item, and what it is of."""
    return Query((Part(Modality(modality), _checked(Modality(modality), values, 1)),))


def item(id: int) -> Query:
    """A stored item of the collection that is searched, by its id."""
    if isinstance(id, bool) or not isinstance(id, Integral):
        raise UsageError(f"item query: expected the id of an item, got {id!r}")
    return Query((Part(None, int(id)),))


def parse(what: str | Path | Query) -> Query:
    """What a person typed: an existing file or URL by its kind (a text file by its words), else a text.

    For the command line and Python: it looks at any path, and expands no `~`. What comes from elsewhere goes
    through `Query.from_dict`. Raises UsageError for a folder, for a name that looks like a path where there
    is no file (`text` takes it as words), and for a file of unknown kind.
    """
    if isinstance(what, Query):
        return what
    if not isinstance(what, str | Path):
        raise UsageError(f"query: expected a text, a path or a Query, got {type(what).__name__}")
    if isinstance(what, str) and _is_words(what):
        return text(what)
    from xsearch import decoders, media

    if media.is_url(what):
        return Query((Part(None, Url(str(what))),))
    if not os.path.isfile(what):  # noqa: PTH113  a long text, or one with a NUL, is no path
        if isinstance(what, Path):
            raise UsageError(media.why_no_file(what))
        if media.looks_like_path(what):
            why = media.why_no_file(what)
            raise UsageError(f"{why}; to search for these words: --text, or xsearch.text in Python")
        return text(what)
    path = Path(what)
    try:
        return _file(decoders.identify(path.absolute()).modality, path)
    except NotMedia:
        kinds = ", ".join(f"--{kind}" for kind in Modality if kind is not Modality.TEXT)
        raise UsageError(f"{path}: of no known kind; say {kinds} FILE, or --text for words") from None


def _is_words(name: str) -> bool:
    """Whether a name is words for certain, no path and no URL; `media.looks_like_path` decides the rest."""
    is_token = "." in name and not re.search(r"\s", name)
    return not is_token and "/" not in name and "\\" not in name and not os.path.exists(name)  # noqa: PTH110


def parse_each(queries: Sequence[str | Path | Query]) -> list[Query]:
    """`parse` of each. Raises UsageError for a single query, which is no list of them."""
    if isinstance(queries, str | Path | Query):
        raise UsageError(f"queries: expected a list, got one {type(queries).__name__}")
    return [parse(query) for query in queries]


def _file(modality: Modality, source: str | Path | bytes) -> Query:
    if isinstance(source, bytes):
        return _bytes(modality, source)
    from xsearch.media import is_url

    return Query((Part(modality, Url(str(source)) if is_url(source) else Path(source)),))


def _bytes(modality: Modality | None, content: bytes) -> Query:
    if not content:
        raise EmptyQuery("a file of the query has no content")
    return Query((Part(modality, content),))


def _samples(*samples: Sample) -> Query:
    return Query((Part(samples[0].modality, samples),))


def _array(modality: Modality, source: str | Path | bytes | np.ndarray, ndim: int, **about: Any) -> Query:
    if isinstance(source, str | Path | bytes):
        return _file(modality, source)
    return _samples(Sample(modality, _checked(modality, source, ndim), **about))


def _checked(
    modality: Modality, values: np.ndarray | Sequence[float], ndim: int, dtype: str = "float32"
) -> np.ndarray:
    import numpy as np

    array: np.ndarray = np.asarray(values, dtype)
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise UsageError(f"{modality} query: expected {ndim} dimensions of finite numbers, got {array.shape}")
    return array
