"""Generic queries of each kind: vectors of many unrelated media.

Their mean is what all media of a kind have in common, and says nothing about a place in a picture. The spread
of their scores in a picture is what a query has to exceed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from xsearch import scenes
from xsearch.backend import Backend
from xsearch.scenes import sound
from xsearch.scenes.world import DURATION_S
from xsearch.types import AUDIO_RATE_HZ, Modality, Sample

__all__ = ["NOISES", "SLOPES", "Generic", "noises"]

COUNT = 64  # of a kind
SEED = 7  # neither training nor any benchmark draws these scenes
SIDE = 112  # pixels
# Of the sounds, silence and noises, which are in no picture
SLOPES = (0, 1, 2, 3, 4, 5, 6)  # dB an octave: 0 is white, 3 pink, 6 brown
BANDS_HZ = (
    (32, 250), (32, 1000), (32, 4000), (250, 1000), (250, 4000), (500, 2000), (1000, 4000), (1000, 8000),
)  # fmt: skip
NOISES = 1 + len(SLOPES) + len(BANDS_HZ)
LOUDNESS = 0.1  # of a noise, rms
# Everyday things, places and materials, so that most are not in the picture at hand
NOUNS = (
    "a person", "a face", "a dog", "a cat", "a horse", "a cow", "a bird", "a fish", "an insect", "a frog",
    "a car", "a bus", "a train", "a bicycle", "a boat", "an airplane", "a helicopter", "a truck", "a house",
    "a bridge", "a tower", "a street", "a road", "a room", "a kitchen", "a beach", "a mountain", "a forest",
    "a field", "a harbour", "a river", "the sky", "clouds", "grass", "sand", "snow", "water", "fire", "smoke",
    "a tree", "a flower", "fruit", "bread", "a cake", "a bottle", "a cup", "a knife", "a plate", "a table",
    "a chair", "a bed", "a lamp", "a clock", "a bell", "a drum", "a guitar", "a piano", "a ball", "a book",
    "a telephone", "a computer", "a keyboard", "a door", "a window",
)  # fmt: skip


class Generic:
    """The generic queries of a backend; a kind is embedded when it is first asked for."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._vectors: dict[Modality, np.ndarray] = {}

    def vectors(self, kind: Modality) -> np.ndarray:
        """float32 [at most COUNT, dim], unit rows. A video is one of pictures."""
        kind = Modality.IMAGE if kind is Modality.VIDEO else kind
        if kind not in self._vectors:
            self._vectors[kind] = self._backend.embed_query(samples(kind, self._backend))
        return self._vectors[kind]

    def noises(self) -> np.ndarray:
        """float32 [NOISES, dim]: those of the sounds that are silence or noise."""
        return self.vectors(Modality.AUDIO)[:NOISES]


def samples(kind: Modality, backend: Backend) -> Sequence[Sample]:
    """At most COUNT media of a kind; texts without words that the model has not learned."""
    if kind is Modality.TEXT:
        words = backend.capabilities().vocabulary
        return [Sample(kind, noun) for noun in NOUNS if words is None or not words.unknown(noun)]
    if kind is Modality.AUDIO:
        heard = (sound.render(scene) for scene in scenes.sample(COUNT - NOISES, seed=SEED))
        return [*noises(), *(Sample(kind, wave, rate_hz=AUDIO_RATE_HZ) for wave in heard)]
    return [rendered[kind] for rendered in _rendered()]


@cache
def _rendered() -> list[dict[Modality, Sample]]:
    return [scenes.render(scene, width=SIDE, height=SIDE) for scene in scenes.sample(COUNT, seed=SEED)]


def noises(seed: int = SEED) -> Iterator[Sample]:
    """Yield silence, noises whose power falls by 0 to 6 dB an octave, and noises of a band."""
    rng = np.random.default_rng(seed)
    n = round(DURATION_S * AUDIO_RATE_HZ)
    hz = np.fft.rfftfreq(n, 1 / AUDIO_RATE_HZ)
    yield Sample(Modality.AUDIO, np.zeros(n, np.float32), rate_hz=AUDIO_RATE_HZ)
    gains = [np.maximum(hz, hz[1]) ** (-slope / 6) for slope in SLOPES]
    gains += [(low <= hz) & (hz <= high) for low, high in BANDS_HZ]
    for gain in gains:
        wave = np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * gain, n)
        loud = (LOUDNESS / wave.std() * wave).clip(-1, 1)
        yield Sample(Modality.AUDIO, loud.astype(np.float32), rate_hz=AUDIO_RATE_HZ)
