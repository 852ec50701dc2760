"""An backend that can be checked by hand: what a sample is about is an axis of the space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xsearch import media
from xsearch.backend import Capabilities
from xsearch.models.vocabulary import Vocabulary
from xsearch.types import Fingerprint, Modality, Sample

WORDS = ("red", "green", "blue", "dark", "bright")
DIM = 16
WINDOW = 60  # words, which are its tokens
CELLS = 4  # of a picture's side, of dense features
GAP = 8  # axes from here on belong to the kinds: every kind has its own corner of the space


class FakeBackend:
    """Vector = what the sample is about + `gap` x the axis of its kind, normalised.

    A text is about its words in WORDS (a word it does not know is "dark"). Pictures (also depth and thermal,
    read as grey) are about their mean colour in red, green and blue; a sound is about its energy below 500 Hz
    (red), below 2 kHz (green) and above (blue); a motion about its three mean absolute accelerations.
    """

    batch = 32

    def __init__(
        self,
        *,
        gap: float = 0.5,
        name: str = "fake",
        fail_after: int | None = None,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        self.fingerprint = Fingerprint(name=name, digest=f"{name}-{gap}", preprocessing="1", dim=DIM)
        self.gap = gap
        self.fail_after = fail_after  # samples, then KeyboardInterrupt: a run that is stopped
        self.vocabulary = vocabulary
        self.seen: list[Sample] = []

    def capabilities(self) -> Capabilities:
        return Capabilities(tuple(Modality), DIM, None, self.vocabulary, "cpu", "fp32", self.batch)

    def windows(self, text: str) -> Iterator[str]:
        return media.windows(text, lambda texts: [len(each.split()) for each in texts], WINDOW)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return self.embed(samples)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if self.fail_after is not None and len(self.seen) + len(samples) > self.fail_after:
            raise KeyboardInterrupt
        self.seen += samples
        vectors = np.zeros((len(samples), DIM), np.float32)
        for vector, sample in zip(vectors, samples, strict=True):
            about = _ABOUT.get(sample.modality, _grey)(sample)
            vector[: len(about)] = about / np.linalg.norm(about)
            vector[GAP + list(Modality).index(sample.modality)] = self.gap
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class DenseFake(FakeBackend):
    """The dense features of a picture are the vectors of its cells."""

    def dense(self, pictures: Sequence[Sample]) -> np.ndarray:
        maps = []
        for sample in pictures:
            side = sample.data.width // CELLS
            corners = [(side * x, side * y) for y in range(CELLS) for x in range(CELLS)]
            cells = [sample.data.crop((x, y, x + side, y + side)) for x, y in corners]
            maps.append(self.embed([Sample(Modality.IMAGE, cell) for cell in cells]))
        return np.stack(maps).reshape(len(maps), CELLS, CELLS, -1)


def _text(sample: Sample) -> np.ndarray:
    words = sample.data.lower().split()
    about = np.array([words.count(word) for word in WORDS], np.float32)
    return about if about.any() else np.eye(len(WORDS), dtype=np.float32)[WORDS.index("dark")]


def _colour(sample: Sample) -> np.ndarray:
    pixels: Any = np.asarray(sample.data, np.float32)
    return np.asarray(pixels.reshape(-1, 3).mean(axis=0) + 1)


def _sound(sample: Sample) -> np.ndarray:
    power = np.abs(np.fft.rfft(sample.data)) ** 2
    hz = np.fft.rfftfreq(len(sample.data), 1 / (sample.rate_hz or 16_000))
    return np.array([power[band].sum() for band in (hz < 500, (hz >= 500) & (hz < 2000), hz >= 2000)]) + 1e-9


def _motion(sample: Sample) -> np.ndarray:
    return np.asarray(np.abs(sample.data[:3]).mean(axis=1) + 1e-6)


def _grey(sample: Sample) -> np.ndarray:
    return np.full(3, float(np.mean(sample.data)) + 1e-6)


_ABOUT = {
    Modality.TEXT: _text,
    Modality.IMAGE: _colour,
    Modality.VIDEO: _colour,
    Modality.AUDIO: _sound,
    Modality.IMU: _motion,
}
