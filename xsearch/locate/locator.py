"""Where in a picture is what a query says, shows or sounds like.

The picture is read in overlapping windows of two sizes. Their dense features, times the query, make a heat
map. Squares, and the regions of the map above several thresholds, are candidates; those that are hottest
against their surroundings are embedded as pictures, and the best has the largest cosine less that of the
whole picture, and contrast. From the query, what any query of its kind has is taken away first: the mean of
`generic` queries.

Whether it is there at all is another question, and there the whole picture's cosine counts *for* it: it is
answered by a sum of both cosines, in standard deviations of the generic queries in the same picture, above
their mean. A sound that is like silence or noise is nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from xsearch.backend import load_backend
from xsearch.errors import UsageError
from xsearch.locate.boxes import contrasts, nested, proposed, squares, suppressed
from xsearch.locate.generic import Generic
from xsearch.locate.reading import Reading
from xsearch.locate.thresholds import Thresholds
from xsearch.preview import load, marked
from xsearch.query import Embedded, Query, embed, image, parse, read
from xsearch.types import FALSE_ALARMS, Box, Hit, Modality

if TYPE_CHECKING:
    import numpy.typing as npt
    from PIL.Image import Image

    from xsearch.backend import Backend, DenseBackend

__all__ = ["Candidates", "Located", "Locator"]

CANDIDATES = 24  # boxes that are embedded
SAME = 0.7  # overlap of two candidates, of which one is embedded
SQUARES = (0.3, 0.45, 0.65, 0.95)  # sides of candidates, in short sides of the picture
# Of 64 scenes with texts and sounds; 0.3 to 0.5, and 2 to 16, do about as well
AREA = 0.4  # exponent of the share of a picture that a contrast is multiplied with
CONTRAST = 4.0  # weight of a contrast, relative to a cosine
WHOLE = 2.0  # weight of the whole picture in whether something is there; 1 to 3 do about as well
APART = 0.5  # share of a box that is in a better one, from which it is not reported
FAINT = 0.7  # of the best box's worth, from which another one is reported
MOST_BOXES = 8
LARGE = 2048  # pixels of a side, to which larger pictures of a collection are reduced
# Cosine with silence or a noise, less the mean of sounds, from which a sound is noise. Of 48 noises in other
# bands half have 0.79 and more, of 96 scenes two have 0.72 (the bundled model)
NOISE = 0.7


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Where a query might be.

    boxes: float [N, 4], best first. worth: [N], by which they are compared. scores: [N], of `Box`.
    heat: float32 [h, w].
    """

    boxes: np.ndarray
    worth: np.ndarray
    scores: np.ndarray
    heat: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Located:
    """What was located in a picture of `size` pixels, width and height.

    boxes: best first; none if it is not there.
    heat: float32 [h, w] in 0..1, from the median of the map to its maximum.
    score: of the best candidate, also without a box. threshold: the least score of a box.
    false_alarms: the share of pictures without it that get a box; None: not measured for this model.
    """

    size: tuple[int, int]
    boxes: tuple[Box, ...]
    heat: np.ndarray
    score: float
    threshold: float
    false_alarms: float | None

    def draw(self, picture: Image, *, heat: bool = True) -> Image:
        """A copy of the picture with the boxes, and with the heat map."""
        return marked(picture, self.boxes, self.heat if heat else None)


class Locator:
    """Locates queries in pictures. Safe to share between threads."""

    def __init__(
        self, backend: Backend, *, generic: Generic | None = None, thresholds: Thresholds | None = None
    ) -> None:
        """thresholds: those measured for the model. Raises UsageError for one without dense features."""
        if not hasattr(backend, "dense"):
            raise UsageError(f"{backend.fingerprint.name} says only what is in a picture, not where")
        self.backend = cast("DenseBackend", backend)
        self.generic = generic or Generic(backend)
        self.thresholds = thresholds or Thresholds.of(backend.fingerprint)

    @staticmethod
    def load(model: str | None = None, *, device: str = "auto", dtype: str = "auto") -> Locator:
        """With the model of this name or folder; see `xsearch.load_model`."""
        return Locator(load_backend(model, device=device, dtype=dtype))

    def locate(
        self,
        picture: str | Path | bytes | Image | npt.NDArray[np.uint8],
        query: Query | str | Path,
        *,
        false_alarms: float = FALSE_ALARMS,
    ) -> Located:
        """Boxes of what a `Query`, a file or a text means in a picture, and a heat map.

        picture: as `xsearch.image` takes it. false_alarms: the share of pictures without it that may get a
            box; fewer means that more of what is there is overlooked.
        Raises UnknownWords, MediaError and EmptyQuery as a search does.
        """
        (sample, *_) = read(image(picture).parts[0])
        (embedded,) = embed([parse(query)], self.backend)
        return self.find(Reading(sample.data, self.backend), embedded, false_alarms=false_alarms)

    def find(self, reading: Reading, query: Embedded, *, false_alarms: float = FALSE_ALARMS) -> Located:
        """The same for a picture and a query that are at hand."""
        return self.judge(self.candidates(reading, query), reading, query, false_alarms=false_alarms)

    def judge(
        self, candidates: Candidates, reading: Reading, query: Embedded, *, false_alarms: float = FALSE_ALARMS
    ) -> Located:
        """The candidates that are there."""
        kinds = {cast("Modality", part.modality) for part in query.query.parts}
        threshold = max(self.thresholds.at(kind, false_alarms) for kind in kinds)
        score = float(candidates.scores.max())
        heat = candidates.heat - np.median(candidates.heat)
        return Located(
            size=reading.picture.size,
            boxes=_boxes(candidates, threshold) if score >= threshold else (),
            heat=np.clip(heat / max(float(heat.max()), 1e-6), 0, 1),
            score=score,
            threshold=threshold,
            false_alarms=false_alarms if self.thresholds.is_of(self.backend.fingerprint) else None,
        )

    def in_hit(self, hit: Hit, query: Embedded, *, false_alarms: float = FALSE_ALARMS) -> Located:
        """The same for the picture of a hit. Raises MediaError if it is none, or cannot be read."""
        picture = load(hit, Modality.IMAGE, size=LARGE).data
        return self.find(Reading(picture, self.backend), query, false_alarms=false_alarms)

    def candidates(self, reading: Reading, query: Embedded) -> Candidates:
        """Where a query might be, whether it is there or not."""
        direction, others = self._directions(query)
        heat = reading.heat(direction)
        boxes, contrast = _hottest(heat, reading)
        vectors = reading.vectors(boxes)  # [N, dim]
        worth = (vectors - reading.whole) @ direction + CONTRAST * contrast
        evidence = vectors + WHOLE * reading.whole
        rivals = (evidence @ others.T).max(axis=0)  # [M]
        scores = (evidence @ direction - rivals.mean()) / max(float(rivals.std()), 1e-6)
        if self._is_noise(query):
            scores = np.minimum(scores, 0)
        order = np.argsort(-worth, kind="stable")
        return Candidates(boxes[order], worth[order], scores[order], heat)

    def _is_noise(self, query: Embedded) -> bool:
        """Whether a sound in it is silence or noise, which are of nothing that a picture shows."""
        sounds = [part.modality is Modality.AUDIO for part in query.query.parts]
        if not any(sounds):
            return False
        mean = self.generic.vectors(Modality.AUDIO).mean(axis=0)
        heard, noises = query.parts[sounds] - mean, self.generic.noises() - mean
        lengths = np.linalg.norm(heard, axis=1)[:, None] * np.linalg.norm(noises, axis=1)
        return bool((heard @ noises.T >= NOISE * lengths).any())

    def _directions(self, query: Embedded) -> tuple[np.ndarray, np.ndarray]:
        """A query less the mean of generic ones, [dim], and generic ones likewise, [M, dim].

        The generic ones of a sum are sums, with the same weights.
        """
        generic = [self.generic.vectors(cast("Modality", part.modality)) for part in query.query.parts]
        count, rng = min(map(len, generic)), np.random.default_rng(0)
        direction = np.zeros_like(query.vector)  # [dim]
        others = np.zeros((count, len(direction)), np.float32)
        for part, vector, some in zip(query.query.parts, query.parts, generic, strict=True):
            share, mean = part.weight / query.norm, some.mean(axis=0)
            direction += share * (vector - mean)
            others += share * (some[rng.permutation(len(some))[:count]] - mean)
        return direction, others


def _hottest(heat: np.ndarray, reading: Reading) -> tuple[np.ndarray, np.ndarray]:
    """At most CANDIDATES boxes [N, 4] that are hotter than their surroundings, and how much [N]."""
    width, height = reading.picture.size
    regular = [squares(width, height, side * reading.short, side * reading.short / 2) for side in SQUARES]
    boxes = np.concatenate([proposed(heat), *regular])
    contrast, share = contrasts(heat, boxes)
    contrast *= share**AREA
    chosen = suppressed(boxes, contrast, SAME)[:CANDIDATES]
    return boxes[chosen], contrast[chosen]


def _boxes(candidates: Candidates, threshold: float) -> tuple[Box, ...]:
    """The best candidate, and others apart from it that are of some worth and score."""
    best, *others = suppressed(candidates.boxes, candidates.worth, APART, by=nested)
    least = FAINT * candidates.worth[best]
    good = (at for at in others if candidates.worth[at] >= least and candidates.scores[at] >= threshold)
    return tuple(
        Box(*map(float, (*candidates.boxes[at], candidates.scores[at]))) for at in [best, *good][:MOST_BOXES]
    )
