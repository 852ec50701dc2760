"""Value types shared by all layers: frozen dataclasses and enums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

__all__ = [
    "AUDIO_RATE_HZ",
    "DEFAULT_COLLECTION",
    "FALSE_ALARMS",
    "HIT_COLUMNS",
    "KEPT_GENERATIONS",
    "PICTURES",
    "UNKNOWN_SHARE",
    "Box",
    "Device",
    "Fingerprint",
    "Hit",
    "Ingested",
    "Match",
    "MediaFile",
    "Modality",
    "Rank",
    "Sample",
    "Sort",
    "Url",
    "kind_of_file",
]

DEFAULT_COLLECTION = Path("indexes/default")
UNKNOWN_SHARE = 0.7  # of a text's words: captions with more find their pictures no better than by chance
KEPT_GENERATIONS = 3  # of a collection at a URL
FALSE_ALARMS = 0.05  # of pictures without what is looked for: those in which it is located all the same
AUDIO_RATE_HZ = 16_000  # of every audio sample; ImageBind, arXiv:2305.05665, section 3

Device = Literal["auto", "cpu", "cuda"]  # what searches an index


class Modality(StrEnum):
    """The seven kinds of media. Image and video share the vision tower."""

    IMAGE = "image"
    TEXT = "text"
    AUDIO = "audio"
    VIDEO = "video"
    DEPTH = "depth"
    THERMAL = "thermal"
    IMU = "imu"


def kind_of_file(kinds: Iterable[str]) -> Modality:
    """Return the kind of a file with items of these kinds: a video also has sounds, a picture its captions.

    >>> kind_of_file(["audio", "video"]), kind_of_file(["text", "thermal"])
    (<Modality.VIDEO: 'video'>, <Modality.THERMAL: 'thermal'>)
    """
    return Modality(min(kinds, key=lambda kind: (kind != Modality.VIDEO, kind == Modality.TEXT, kind)))


PICTURES = (Modality.IMAGE, Modality.DEPTH, Modality.THERMAL)  # without time


@dataclass(frozen=True, slots=True)
class MediaFile:
    """A file on disk whose kind has been identified."""

    path: Path  # absolute
    modality: Modality
    bytes: int
    mtime_ns: int
    mime: str = ""
    companion: Path | None = None  # gyroscope file of an accelerometer file; camera file of a depth map
    url: str = ""  # origin, if `path` is a local copy

    @property
    def name(self) -> str:
        """URL or path, as stored and displayed."""
        return self.url or str(self.path)


@dataclass(frozen=True, slots=True)
class Url:
    """The URL of a remote file."""

    address: str


@dataclass(frozen=True, slots=True)
class Ingested:
    """A file by the state in which an ingest has read it."""

    name: str  # its absolute path
    bytes: int
    mtime_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """A decoded window of a file, ready to embed, in physical units.

    `data` by modality:
        image    PIL.Image, mode RGB, upright
        text     str
        audio    float32 [N], mono, -1..1 (lossy: up to 1.25), at `rate_hz` (AUDIO_RATE_HZ)
        video    uint8 [T, H, W, 3] RGB frames at `times_s` (seconds from the start of the file)
        depth    float32 [H, W] metres, 0 where unknown
        thermal  float32 [H, W] in 0..1, hot is high
        imu      float32 [6, T]: accelerometer xyz (m/s^2), gyroscope xyz (rad/s), at `rate_hz`
    """

    modality: Modality
    data: Any
    start_s: float | None = None  # window within the file; None for kinds without time
    end_s: float | None = None
    duration_s: float | None = None  # of the whole file
    width: int | None = None  # of the original, pixels
    height: int | None = None
    text: str | None = None  # excerpt for display
    rate_hz: float | None = None
    times_s: tuple[float, ...] = ()
    focal_px: float | None = None  # depth only, in pixels of `data`
    baseline_m: float | None = None
    unknown_share: float | None = None  # of the words of a text, 0..1; None: an open vocabulary
    about: Mapping[str, Any] = field(default_factory=dict)  # what the file says of itself, by column


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Identity of the model behind a collection's vectors; compared before every query."""

    name: str
    digest: str  # sha256 of the weights
    preprocessing: str  # version of the transforms
    dim: int


class Rank(StrEnum):
    """The score that orders hits."""

    BALANCED = "balanced"  # above the modality pair's baseline: comparable across kinds
    COSINE = "cosine"


class Match(StrEnum):
    """What of an item answers a text query."""

    WORDS = "words"  # its text, user columns and file name; no model is loaded
    MEANING = "meaning"  # its vector
    BOTH = "both"  # both, fused by reciprocal rank


class Sort(StrEnum):
    """An order by time, in place of the score's; what has no date comes last."""

    DATE = "date"  # the newest `taken_at` first
    OLDEST = "-date"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle in a picture, in shares of its width and height from the top left, 0 to 1."""

    left: float
    top: float
    right: float
    bottom: float
    score: float  # how far above unrelated queries, in their standard deviations


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result."""

    rank: int  # from 1
    score: float  # what made the order: `balanced`, `cosine`, `bm25`, or the reciprocal ranks of two of them
    cosine: float | None  # None if only words were compared
    balanced: float | None  # above the baseline of this pair of modalities: comparable across them
    expected: float | None  # items of its modality that would be as near by chance: 0.001 is a find
    id: int
    path: str
    modality: Modality
    start_s: float | None = None
    end_s: float | None = None
    text: str | None = None
    bm25: float | None = None  # how well its words match those of the query, above 0; None if they do not
    extra: dict[str, Any] = field(default_factory=dict)  # user metadata, mime, sizes
    is_imported: bool = False  # only an import names its file, which nothing opens therefore
    boxes: tuple[Box, ...] | None = None  # where in the picture the query is, if that was looked for

    @property
    def by_chance(self) -> bool:
        """Whether an unrelated item is `expected` to be as near, and no words match."""
        return self.expected is not None and self.expected > 1 and self.bm25 is None

    @property
    def is_unread(self) -> bool:
        """Whether it is a text of words that the model has not learned, so that its vector says nothing."""
        return self.extra.get("unknown_share", 0.0) > UNKNOWN_SHARE

    @property
    def times(self) -> str:
        """`expected` in a few characters: 0.001, 0.3, 12, >99; "" if it is unknown."""
        if self.expected is None:
            return ""
        return (
            "<0.001" if self.expected < 0.001 else ">99" if self.expected >= 99.5 else f"{self.expected:.2g}"
        )


HIT_COLUMNS = tuple(
    field.name for field in fields(Hit) if field.name not in ("extra", "is_imported", "boxes")
)
