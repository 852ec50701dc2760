"""Augmentation of motions: people differ in tempo; sensors in bandwidth, scale and how they are worn."""

from __future__ import annotations

import numpy as np

from xsearch.scenes.motion import rotation

__all__ = ["varied_motion"]

TEMPO, SCALE = 0.15, 0.1  # relative
TURN = np.pi / 3  # radians, about any axis
# Everyday life and falls may come from sensors of different rates: 50 and 40 Hz in WEDA-FALL
LOW_PASS_HZ = (5.0, 15.0)


def varied_motion(data: np.ndarray, rate_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Faster, repeated from the start, or slower; turned, scaled, low-pass filtered: float32 [6, T]."""
    n = data.shape[1]
    at = np.arange(n) * rng.uniform(1 - TEMPO, 1 + TEMPO)
    x = np.stack([np.interp(at, np.arange(n), channel, period=n) for channel in data])
    turn = rotation(rng.standard_normal(3), rng.uniform(-TURN, TURN))
    x = np.concatenate([turn @ x[:3], turn @ x[3:]]) * rng.uniform(1 - SCALE, 1 + SCALE)
    spectrum = np.fft.rfft(x, axis=1)
    spectrum[:, np.fft.rfftfreq(n, 1 / rate_hz) > rng.uniform(*LOW_PASS_HZ)] = 0
    return np.fft.irfft(spectrum, n, axis=1).astype(np.float32)
