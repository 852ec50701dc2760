"""Sound synthesis: shaped noise (`band`), tones with partials (`tone`), struck bodies (`struck`), and grains
of these, added on a time line (`lay`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Tape",
    "Wave",
    "band",
    "drift",
    "equally_loud",
    "horn",
    "hump",
    "lay",
    "partials",
    "period",
    "play",
    "snip",
    "struck",
    "tone",
    "unit",
    "vowel",
]

Wave = NDArray[np.float32]
Numbers = Sequence[float] | NDArray[np.float64]

TABLE = 2**11  # samples of one period of a tone; rounded look-up has 60 dB SNR


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """The length of a recording and its random generator, for all synthesis functions."""

    rng: np.random.Generator
    n: int
    rate_hz: int

    @property
    def seconds(self) -> float:
        return self.n / self.rate_hz

    def blank(self) -> Wave:
        return np.zeros(self.n, np.float32)

    def time(self, seconds: float | None = None) -> Wave:
        """Time in seconds over a grain of this length, or over the whole tape: float32 [n]."""
        n = self.n if seconds is None else max(8, int(seconds * self.rate_hz))
        return np.arange(n, dtype=np.float32) / np.float32(self.rate_hz)

    def draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)


def hump(x: Wave) -> Wave:
    """Half a sine over x in 0..1, zero outside."""
    return np.sin(np.pi * np.clip(x, 0, 1)).clip(0)


def unit(x: Wave) -> Wave:
    """`x` scaled to an rms of 1; silence stays silent."""
    return x / np.float32(np.sqrt(np.dot(x, x) / len(x)) + 1e-9)


def equally_loud(x: Wave) -> Wave:
    """`x` scaled to an rms of 1 under a loudness weighting that rises with frequency above about 500 Hz."""
    y = x[1:] - np.float32(0.9) * x[:-1]  # the pre-emphasis of speech coders
    return x * np.float32(1 / (np.sqrt(np.dot(y, y) / len(y)) + 1e-9))


def band(tape: Tape, low_hz: float, high_hz: float, tilt: float = 0.0) -> Wave:
    """Noise of rms 1 between two second-order edges; power falls as f^-tilt inside.

    Synthesised in the spectrum as a seamless loop of half the tape, which halves the cost inaudibly.
    """
    n = -(-tape.n // 2)
    hz = tape.rate_hz / n  # between bins
    start = max(1, int(low_hz / 4 / hz))
    stop = min(n // 2, max(start + 8, int(high_hz * 8 / hz)))
    f = np.arange(start, stop, dtype=np.float32) * np.float32(hz)
    gain = 1 / ((1 + (np.float32(low_hz) / f) ** 2) * (1 + (f / np.float32(high_hz)) ** 2))
    if tilt:
        gain *= f ** np.float32(-tilt / 2)
    spectrum = np.zeros(n // 2 + 1, np.complex64)
    white = (tape.rng.random(2 * len(f), np.float32) - np.float32(0.5)).view(np.complex64)
    spectrum[start:stop] = white * gain
    loop = unit(np.fft.irfft(spectrum, n).astype(np.float32, copy=False))
    return np.concatenate([loop, loop])[: tape.n]


def drift(tape: Tape, knots_hz: float) -> Wave:
    """A slow random curve in 0..1 with about `knots_hz` knots a second: gusts, throttle, distance."""
    pieces = max(1, round(tape.seconds * knots_hz))
    x = np.linspace(0, 1, -(-tape.n // pieces), dtype=np.float32)
    knots = tape.rng.random((pieces + 1, 1), np.float32)
    return (knots[:-1] + np.diff(knots, axis=0) * (x * x * (3 - 2 * x))).ravel()[: tape.n]


def partials(count: int, slope: float) -> Wave:
    """Amplitudes k^-slope of the partials 1..count."""
    return np.arange(1, count + 1, dtype=np.float32) ** np.float32(-slope)


def period(tape: Tape, amplitudes: Wave) -> Wave:
    """One period of a tone whose partials have these amplitudes and random phases: float32 [TABLE]."""
    spectrum = np.zeros(TABLE // 2 + 1, np.complex64)
    turns = tape.rng.random(len(amplitudes), np.float32)
    spectrum[1 : len(amplitudes) + 1] = amplitudes * np.exp(np.complex64(2j * np.pi) * turns)
    return unit(np.fft.irfft(spectrum).astype(np.float32, copy=False))


def play(tape: Tape, f_hz: Wave, table: Wave) -> Wave:
    """Repeat a period at the frequencies f_hz [n]; the phase counts 2^-32 periods, so it wraps exactly."""
    phase = np.cumsum((f_hz * np.float32(2**32 / tape.rate_hz)).astype(np.uint32), dtype=np.uint32)
    return table[phase >> np.uint32(21)]


def tone(tape: Tape, f_hz: Wave, amplitudes: Wave) -> Wave:
    """A tone of varying frequency, without partials above the Nyquist frequency."""
    keep = max(1, int(0.48 * tape.rate_hz / float(f_hz.max())))
    return play(tape, f_hz, period(tape, amplitudes[:keep]))


def struck(tape: Tape, modes_hz: Numbers, decays_s: Numbers, levels: Numbers) -> Wave:
    """A struck body: exponentially decaying modes, until the longest has fallen by 40 dB."""
    t = tape.time(min(4.6 * max(decays_s), 4.0))
    out = np.zeros_like(t)
    for f_hz, decay_s, level in zip(
        *(np.asarray(x, np.float32) for x in (modes_hz, decays_s, levels)), strict=True
    ):
        m = min(len(t), int(5 * decay_s * tape.rate_hz) + 8)
        out[:m] += level * np.exp(-t[:m] / decay_s) * np.sin(np.float32(2 * np.pi * f_hz) * t[:m])
    return out


def snip(tape: Tape, material: Wave, seconds: float, decay_s: float) -> Wave:
    """A random piece of noise with a decaying envelope: a puff, a slap, a click."""
    t = tape.time(min(seconds, tape.seconds / 2))
    start = int(tape.rng.integers(0, len(material) - len(t)))
    return material[start : start + len(t)] * np.exp(-t / np.float32(decay_s)) * np.minimum(t * 1000, 1)


def lay(out: Wave, tape: Tape, grain: Wave, at_s: float, level: float = 1.0) -> None:
    """Add a grain to the tape at a time, cut at both ends of the tape."""
    start = int(at_s * tape.rate_hz)
    grain = grain[max(0, -start) :]
    start = max(0, start)
    stop = min(tape.n, start + len(grain))
    if stop > start:
        out[start:stop] += np.float32(level) * grain[: stop - start]


def vowel(tape: Tape, f0_hz: float, formants_hz: Sequence[float], width_hz: float = 90.0) -> Wave:
    """Partials of a voice at f0: a glottal slope of 12 dB per octave, less 6 dB for lip radiation."""
    f = f0_hz * np.arange(1, max(2, int(0.45 * tape.rate_hz / f0_hz)), dtype=np.float32)
    peaks = sum(1 / (1 + ((f - formant) / width_hz) ** 2) for formant in formants_hz)
    return np.asarray((0.02 + peaks) * f0_hz / f, np.float32)


def horn(tape: Tape, reeds_hz: Sequence[float], seconds: float, brightness: float) -> Wave:
    """A chord of reeds with a soft start and end, as blown by compressed air."""
    t = tape.time(seconds)
    edges = np.minimum(1, np.minimum(t, seconds - t) * 20)
    reed = period(tape, partials(14, brightness))
    chord = sum(play(tape, np.full_like(t, f), reed) for f in reeds_hz)
    return np.asarray(edges * chord / len(reeds_hz), np.float32)
