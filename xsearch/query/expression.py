"""The algebra of queries: a weighted sum of media, written as one would say it.

    image("bird.jpg") + 0.7 * audio("sea.wav") - text("cage")

Writing a query opens nothing but URLs; `Query.embed` reads its parts, embeds and normalises each, weights
them, sums them and normalises the sum (ImageBind, arXiv:2305.05665, section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import media
from xsearch.errors import EmptyQuery, MediaError, NotMedia, UsageError
from xsearch.types import AUDIO_RATE_HZ as RATE_HZ
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

    from xsearch.backend import Backend

__all__ = [
    "Embedded",
    "Part",
    "Query",
    "audio",
    "depth",
    "image",
    "imu",
    "parse",
    "text",
    "thermal",
    "vector",
    "video",
]

CANCELLED = 1e-3  # a sum this short, relative to the sum of its weights, points nowhere: float16 noise


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """One medium of a query and its weight. `source` is a path, a literal text, samples, or a vector."""

    modality: Modality
    source: Path | str | tuple[Sample, ...] | np.ndarray
    weight: float = 1.0

    @property
    def label(self) -> str:
        """What a person recognises the part by: its file, its text, or just its kind."""
        if isinstance(self.source, Path | str):
            return str(self.source)
        return f"<{self.modality}>"

    def samples(self) -> list[Sample]:
        """The embeddable pieces; none for a part that is a vector already."""
        match self.source:
            case Path():
                return _read(self.source, self.modality)
            case str():
                return [Sample(Modality.TEXT, self.source, text=self.source)]
            case tuple():
                return list(self.source)
        return []


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A query as vectors, all float32.

    vector: [dim], length 1.
    parts: [P, dim], rows of length 1, in the order of `query.parts`.
    norm: length of the weighted sum before it was normalised; near 0, the parts cancel out.
    """

    query: Query
    vector: np.ndarray
    parts: np.ndarray
    norm: float

    @property
    def cosines(self) -> np.ndarray:
        """float32 [P]: how much the result agrees with each part."""
        return np.asarray(self.parts @ self.vector)


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
        if not isinstance(weight, int | float | np.number):
            return NotImplemented
        if not np.isfinite(weight):
            raise UsageError(f"weight of {self!r}: expected a finite number, got {weight}")
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
            label = repr(part.label) if isinstance(part.source, Path | str) else "..."
            terms += f"{sign}{factor}{part.modality}({label})"
        return terms or "Query()"

    def embed(self, backend: Backend) -> Embedded:
        """Read, embed and sum the parts.

        Raises Unreadable for a part that is not what it is said to be, and EmptyQuery when nothing is
        left of the sum: a direction made of rounding errors would be a random answer.
        """
        if not self.parts:
            raise EmptyQuery("the query is empty: give a text or a media file")
        parts = np.stack([_embed(part, backend) for part in self.parts])  # [P, dim]
        weights = np.array([part.weight for part in self.parts], np.float32)  # [P]
        total = weights @ parts  # [dim]
        norm = float(np.linalg.norm(total))
        if norm <= CANCELLED * float(np.abs(weights).sum()):
            raise EmptyQuery(f"{self!r}: the parts cancel out and nothing is left to search for")
        return Embedded(self, total / norm, parts, norm)


def image(source: str | Path | Image | np.ndarray) -> Query:
    """A picture: a path, a PIL image, or uint8 [H, W, 3] RGB."""
    if isinstance(source, str | Path):
        return _path(Modality.IMAGE, source)
    from PIL import Image

    picture = Image.fromarray(source) if isinstance(source, np.ndarray) else source
    return _samples(Sample(Modality.IMAGE, picture.convert("RGB")))


def text(source: str) -> Query:
    """A text, literally; `parse` opens text files."""
    if not source.strip():
        raise EmptyQuery("the text of the query is empty")
    return Query((Part(Modality.TEXT, source),))


def audio(source: str | Path | np.ndarray, *, rate_hz: float = RATE_HZ) -> Query:
    """A sound: a path (of a video too), or one window as float32 [N] mono in -1..1, at `rate_hz`."""
    if not isinstance(source, str | Path) and rate_hz != RATE_HZ:
        if not 0 < rate_hz < np.inf:
            raise UsageError(f"audio query: expected a rate_hz above 0, got {rate_hz}")
        import soxr

        source = soxr.resample(_checked(Modality.AUDIO, source, 1, np.float32), rate_hz, RATE_HZ)
    return _array(Modality.AUDIO, source, 1, rate_hz=RATE_HZ)


def video(source: str | Path | np.ndarray, *, rate_hz: float = 1.0) -> Query:
    """A video: a path, or the frames of one window as uint8 [T, H, W, 3] RGB at `rate_hz`."""
    if isinstance(source, str | Path):
        return _path(Modality.VIDEO, source)
    frames = _checked(Modality.VIDEO, source, 4, np.uint8)
    return _samples(Sample(Modality.VIDEO, frames, times_s=tuple(np.arange(len(frames)) / rate_hz)))


def depth(
    source: str | Path | np.ndarray, *, focal_px: float | None = None, baseline_m: float | None = None
) -> Query:
    """A depth map: a path, or float32 [H, W] metres, 0 where unknown."""
    return _array(Modality.DEPTH, source, 2, focal_px=focal_px, baseline_m=baseline_m)


def thermal(source: str | Path | np.ndarray) -> Query:
    """A thermal picture: a path, or float32 [H, W] in 0..1, hot is high."""
    return _array(Modality.THERMAL, source, 2)


def imu(source: str | Path | np.ndarray, *, rate_hz: float = 200) -> Query:
    """A motion recording: a path, or one window as float32 [6, T], m/s^2 xyz then rad/s xyz."""
    return _array(Modality.IMU, source, 2, rate_hz=rate_hz)


def vector(values: np.ndarray, modality: Modality | str) -> Query:
    """A vector [dim] that is embedded already, for instance that of a stored item, and what it is of."""
    return Query((Part(Modality(modality), _checked(Modality(modality), values, 1, np.float32)),))


def parse(what: str | Path | Query) -> Query:
    """What a person typed: an existing file or URL by its kind (a text file by its words), else a text.

    Raises UsageError for a file whose kind has to be said.
    """
    if isinstance(what, Query):
        return what
    if media.is_url(what):
        return _samples(*_fetched(str(what)))
    path = Path(what)
    if isinstance(what, Path) or _is_file(path):
        try:
            return _path(media.identify(path.absolute()).modality, path)
        except NotMedia:
            kinds = ", ".join(f"--{kind}" for kind in Modality if kind is not Modality.TEXT)
            raise UsageError(f"{path}: of no known kind; say {kinds} FILE, or --text for words") from None
    return text(what)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long text, or one with a NUL, is no path
        return False


def _path(modality: Modality, source: str | Path) -> Query:
    if media.is_url(source):
        return _samples(*_fetched(str(source), modality))
    return Query((Part(modality, Path(source)),))


def _samples(*samples: Sample) -> Query:
    return Query((Part(samples[0].modality, samples),))


def _array(modality: Modality, source: str | Path | np.ndarray, ndim: int, **about: Any) -> Query:
    if isinstance(source, str | Path):
        return _path(modality, source)
    return _samples(Sample(modality, _checked(modality, source, ndim, np.float32), **about))


def _checked(modality: Modality, values: np.ndarray, ndim: int, dtype: type) -> np.ndarray:
    array: np.ndarray = np.asarray(values, dtype)
    if array.ndim != ndim or array.size == 0 or not np.isfinite(array).all():
        raise UsageError(f"{modality} query: expected {ndim} dimensions of finite numbers, got {array.shape}")
    return array


def _read(path: Path, modality: Modality) -> list[Sample]:
    """The samples of one kind: a video's sound track is no part of `video(path)`."""
    if not _is_file(path):
        raise UsageError(f"{path}: no such file to search with")
    try:
        file = media.identify(path.absolute(), kinds=[(modality, "*")])
        samples = [sample for sample in media.read(file) if sample.modality == modality]
    except MediaError as problem:  # without the advice that only an ingest can follow
        raise type(problem)(str(problem).partition(", or name its kind with --as")[0]) from problem
    if not samples:
        raise EmptyQuery(f"{path}: there is no {modality} in this file to search with")
    return samples


def _fetched(url: str, modality: Modality | None = None) -> list[Sample]:
    """The samples of the file at a URL, of this kind or the one that it is of."""
    with media.at_hand(url) as path:
        return _read(path, modality or media.identify(path).modality)


def _embed(part: Part, backend: Backend) -> np.ndarray:
    """float32 [dim], length 1: the mean direction of the part's windows."""
    if isinstance(part.source, np.ndarray):
        mean = part.source
        if len(mean) != backend.fingerprint.dim:
            raise UsageError(f"vector query: expected {backend.fingerprint.dim} numbers, got {len(mean)}")
    else:
        mean = _mean(backend, part.samples())
    norm = float(np.linalg.norm(mean))
    if norm < CANCELLED:
        raise EmptyQuery(f"{part.label}: its windows cancel out and nothing is left to search for")
    return np.asarray(mean / norm, np.float32)


def _mean(backend: Backend, samples: Sequence[Sample]) -> np.ndarray:
    return np.asarray(backend.embed(samples), np.float32).mean(axis=0)
