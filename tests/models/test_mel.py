"""Log-mel clips against a slow transform, and clip times."""

import dataclasses
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from xsearch.models import HUGE
from xsearch.models.mel import clip_points, fbank, log_mel_clips, mel_filters

AUDIO, SETTINGS = HUGE.audio, HUGE.preprocessing


def slow_fbank(wave: np.ndarray, mels: int) -> np.ndarray:
    """Kaldi's recipe, sample by sample, in float64."""

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399)
    angles = -2j * np.pi * np.outer(np.arange(400), np.arange(257)) / 512
    step = (mel(8000.0) - mel(20.0)) / (mels + 1)
    rows = []
    for first in range(0, len(wave) - 399, 160):
        frame = wave[first : first + 400].astype(np.float64)
        frame = frame - frame.mean()
        frame = np.array([frame[i] - 0.97 * frame[max(i - 1, 0)] for i in range(400)]) * hann
        power = np.abs(frame @ np.exp(angles)) ** 2
        energies = np.zeros(mels)
        for m in range(mels):
            centre = mel(20.0) + (m + 1) * step
            for k in range(256):
                energies[m] += power[k] * max(0.0, 1 - abs(mel(k * 31.25) - centre) / step)
        rows.append(np.log(np.maximum(energies, np.finfo(np.float32).eps)))
    return np.array(rows)


def test_fbank_is_kaldis_recipe():
    rng = np.random.default_rng(0)
    wave = rng.normal(0.05, 0.1, 400 + 2 * 160 + 100).astype(np.float32)
    ours = fbank(torch.from_numpy(wave)[None], 40)[0]
    assert ours.shape == (3, 40)
    np.testing.assert_allclose(ours, slow_fbank(wave, 40), atol=1e-4)


def test_one_filter_of_128_is_empty():
    empty = (mel_filters(128).sum(dim=0) == 0).nonzero().flatten()
    assert empty.tolist() == [3]


@pytest.mark.parametrize("n", [8_000, 32_000, 48_000, 160_000])
def test_clips_are_pieces_of_the_sound(n):
    wave = np.random.default_rng(n).normal(0, 0.1, n).astype(np.float32)
    clips = log_mel_clips([wave], AUDIO, SETTINGS)
    assert clips.shape == (1, 3, 1, 128, 204)
    assert clips.dtype == torch.float32
    last = max(n - 32_000, 0)
    for s, first in enumerate([0, last // 2, last]):
        piece = wave[first : first + 32_000]
        mel = fbank(torch.from_numpy(piece - piece.mean())[None], 128)[0].T  # [128, F]
        frames = mel.shape[1]
        torch.testing.assert_close(clips[0, s, 0, :, :frames], (mel + 4.268) / 9.138, atol=1e-5, rtol=0)
        beyond = torch.full((128, 204 - frames), 4.268 / 9.138)
        torch.testing.assert_close(clips[0, s, 0, :, frames:], beyond)


def test_silence_and_the_shortest_sounds_are_finite():
    waves = [np.zeros(48_000, np.float32), np.zeros(0, np.float32), np.full(3, 0.5, np.float32)]
    clips = log_mel_clips(waves, AUDIO, SETTINGS)
    assert clips.isfinite().all()
    assert clips[0, 0, 0, 5, 5].item() == pytest.approx(-1.2775646)  # as the official code makes it


def test_the_official_means_differ_only_where_clips_overlap_and_the_input_stays():
    rng = np.random.default_rng(0)
    long, short = (rng.normal(0.2, 0.1, n).astype(np.float32) for n in (96_000, 48_000))
    official = dataclasses.replace(SETTINGS, audio_dc="official")
    before = short.copy()
    ours, theirs = (log_mel_clips([long, short], AUDIO, settings) for settings in (SETTINGS, official))
    assert torch.equal(ours[0], theirs[0])
    assert torch.equal(ours[1, 0], theirs[1, 0])
    assert not torch.equal(ours[1, 1], theirs[1, 1])
    np.testing.assert_array_equal(short, before)


def test_clip_points_are_exact():
    assert clip_points(1.0, 2.0, 3) == [0, 0, 0]
    assert clip_points(10.0, 2.0, 5) == [0, 2, 4, 6, 8]
    assert clip_points(2.5, 2.0, 3)[1] == Fraction(1, 4)
    assert clip_points(9.0, 2.0, 1) == [0]
