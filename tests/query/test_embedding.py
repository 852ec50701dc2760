"""Queries by long recordings are embedded in batches while they are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

import xsearch
from tests.fakes import FakeBackend
from tests.odd_files import encode_frames
from xsearch import media
from xsearch.decoders import Decoders
from xsearch.query import embed, parse
from xsearch.query.embedding import BATCH
from xsearch.types import Modality, Sample


class Counting(FakeBackend):
    """Counts the samples that are embedded together."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        self.sizes.append(len(samples))
        return super().embed(samples)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Of 40 windows."""
    sound = np.random.default_rng(0).normal(0, 0.1, 8_000 * 400) * np.linspace(0, 1, 8_000 * 400)
    soundfile.write(tmp_path / "a.wav", sound, 8_000)
    return tmp_path / "a.wav"


def test_the_vector_of_a_recording_is_the_mean_of_its_windows(recording):
    backend = Counting()
    whole = FakeBackend().embed(list(media.read(media.identify(recording)))).mean(axis=0)
    with Decoders(1) as decoders:
        for query in (parse(recording), xsearch.audio(recording.read_bytes())):
            [embedded] = embed([query], backend, decode=decoders.read)
            np.testing.assert_allclose(embedded.vector, whole / np.linalg.norm(whole), atol=1e-6)
            assert embedded.windows == (40,)
    assert max(backend.sizes) == BATCH


def test_long_and_short_parts_are_summed(recording):
    backend = Counting()
    parts = [xsearch.text("red"), xsearch.audio(recording), xsearch.text("blue")]
    [embedded] = embed([parts[0] + 0.5 * parts[1] - parts[2]], backend)
    units = [embed([part], backend)[0].vector for part in parts]
    expected = units[0] + 0.5 * units[1] - units[2]
    np.testing.assert_allclose(embedded.vector, expected / np.linalg.norm(expected), atol=1e-6)
    assert embedded.windows == (1, 40, 1)


def test_the_sound_of_a_video_is_not_decoded_for_its_pictures(tmp_path):
    encode_frames(tmp_path / "a.mp4", np.arange(300) / 25)
    pictures = list(media.read(media.identify(tmp_path / "a.mp4")))
    decoded = []

    def decode(file):
        for sample in [
            *pictures,
            Sample(Modality.AUDIO, np.zeros(16_000, np.float32), rate_hz=16_000),
            *pictures,
        ]:
            decoded.append(sample.modality)
            yield sample

    embed([xsearch.video((tmp_path / "a.mp4").read_bytes())], Counting(), decode=decode)
    assert decoded == [Modality.VIDEO] * len(pictures) + [Modality.AUDIO]
