"""Augmentation of sounds: recordings of one thing differ in size, distance, room, microphone and level."""

from __future__ import annotations

import numpy as np
from torch import Tensor

__all__ = ["mask_mels", "varied_sound"]

SEMITONES = 3.0  # of pitch, and of tempo with it (Ko et al., Interspeech 2015)
GAIN_DB, NOISE_DB = 6.0, (10.0, 50.0)
BANDS, BAND_DB = 6, 3.0  # of a frequency response: knots from 0 to 8 kHz, standard deviation
MELS, FRAMES = 12, 40  # the widest masks, of 128 mels and 200 frames (the paper masks 12 mels)


def varied_sound(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rolled in time, faster or slower, over noise, filtered, and with another gain: float32 [samples]."""
    n = len(wave)
    if not n:
        return wave
    speed = 2 ** (rng.uniform(-SEMITONES, SEMITONES) / 12)
    at = (rng.integers(n) + speed * np.arange(n)) % n
    x = np.interp(at, np.arange(n + 1), np.append(wave, wave[0]))
    noise = np.sqrt(np.mean(np.square(x))) * 10 ** (-rng.uniform(*NOISE_DB) / 20)
    spectrum = np.fft.rfft(x + noise * rng.standard_normal(n, np.float32))
    gain_db = rng.uniform(-GAIN_DB, GAIN_DB) + rng.normal(0, BAND_DB, BANDS)
    gain_db = np.interp(np.linspace(0, 1, len(spectrum)), np.linspace(0, 1, BANDS), gain_db)
    return np.fft.irfft(spectrum * 10 ** (gain_db / 20), n).astype(np.float32)


def mask_mels(x: Tensor, rng: np.random.Generator) -> Tensor:
    """Set one band of mels and one range of frames of each clip to the mean (SpecAugment, arXiv:1904.08779).

    x: float32 [S, 1, mels, frames], modified in place and returned.
    """
    for clip in x:
        for axis, most in ((1, MELS * x.shape[2] // 128), (2, FRAMES * x.shape[3] // 200)):
            width = int(rng.integers(most + 1))
            start = int(rng.integers(x.shape[axis + 1] - width + 1))
            clip.narrow(axis, start, width).zero_()
    return x
