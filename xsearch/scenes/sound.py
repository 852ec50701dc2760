"""What a scene sounds like: its subject's voice over the ambience of its place, through some microphone.

Every sound is built from four materials: shaped noise (`band`), a tone with partials (`tone`), a struck body
(`struck`), and short grains of these laid on a time line (`lay`). Event times, pitches, tempi, timbres,
levels, microphone and gain are drawn anew for every scene, so only what defines a class is common to it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xsearch.scenes.world import Scene

__all__ = ["render"]

Wave = NDArray[np.float32]
Numbers = Sequence[float] | NDArray[np.float64]

STREAM = 21  # this module's random stream of a scene
SNR_DB = (-3.0, 12.0)  # subject over ambience, rms: from half drowned to clearly in front
TABLE = 2**11  # samples of one period of a tone; a rounded look-up is then 60 dB clean


@dataclass(frozen=True, slots=True, eq=False)
class Tape:
    """What every synthesis function needs: a generator and the length of the recording."""

    rng: np.random.Generator
    n: int
    rate_hz: int

    @property
    def seconds(self) -> float:
        return self.n / self.rate_hz

    def blank(self) -> Wave:
        return np.zeros(self.n, np.float32)

    def time(self, seconds: float | None = None) -> Wave:
        """Seconds from the start of a grain of this length, or of the whole tape: float32 [n]."""
        n = self.n if seconds is None else max(8, int(seconds * self.rate_hz))
        return np.arange(n, dtype=np.float32) / np.float32(self.rate_hz)

    def draw(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)


# ---- materials -----------------------------------------------------------------------


def hump(x: Wave) -> Wave:
    """Half a sine over x in 0..1, never below zero."""
    return np.sin(np.pi * np.clip(x, 0, 1)).clip(0)


def unit(x: Wave) -> Wave:
    """Scaled to an rms of 1 (silence stays silent)."""
    return x / np.float32(np.sqrt(np.dot(x, x) / len(x)) + 1e-9)


def equally_loud(x: Wave) -> Wave:
    """Scaled to an rms of 1 as the ear weighs it: above 500 Hz or so rising with frequency, less below."""
    y = x[1:] - np.float32(0.9) * x[:-1]  # the pre-emphasis of speech coders
    return x * np.float32(1 / (np.sqrt(np.dot(y, y) / len(y)) + 1e-9))


def band(tape: Tape, low_hz: float, high_hz: float, tilt: float = 0.0) -> Wave:
    """Noise of rms 1 between two second-order edges; power falls as f^-tilt inside.

    Made in the spectrum as a seamless loop of half the tape: half the work, and no ear notices.
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
    """A slow random curve in 0..1 with about `knots_hz` turns a second: gusts, throttle, distance."""
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
    """Repeat a period at the frequencies f_hz [n]; the phase counts in 2^-32 turns, so it wraps exactly."""
    phase = np.cumsum((f_hz * np.float32(2**32 / tape.rate_hz)).astype(np.uint32), dtype=np.uint32)
    return table[phase >> np.uint32(21)]


def tone(tape: Tape, f_hz: Wave, amplitudes: Wave) -> Wave:
    """A tone of varying frequency; partials above the Nyquist frequency are left out."""
    keep = max(1, int(0.48 * tape.rate_hz / float(f_hz.max())))
    return play(tape, f_hz, period(tape, amplitudes[:keep]))


def struck(tape: Tape, modes_hz: Numbers, decays_s: Numbers, levels: Numbers) -> Wave:
    """A body rung once: exponentially decaying modes, until the longest has fallen by 40 dB."""
    t = tape.time(min(4.6 * max(decays_s), 4.0))
    out = np.zeros_like(t)
    for f_hz, decay_s, level in zip(
        *(np.asarray(x, np.float32) for x in (modes_hz, decays_s, levels)), strict=True
    ):
        m = min(len(t), int(5 * decay_s * tape.rate_hz) + 8)
        out[:m] += level * np.exp(-t[:m] / decay_s) * np.sin(np.float32(2 * np.pi * f_hz) * t[:m])
    return out


def snip(tape: Tape, material: Wave, seconds: float, decay_s: float) -> Wave:
    """A random piece of a noise, decaying: a puff, a slap, a click."""
    t = tape.time(min(seconds, tape.seconds / 2))
    start = int(tape.rng.integers(0, len(material) - len(t)))
    return material[start : start + len(t)] * np.exp(-t / np.float32(decay_s)) * np.minimum(t * 1000, 1)


def lay(out: Wave, tape: Tape, grain: Wave, at_s: float, level: float = 1.0) -> None:
    """Add a grain to the tape at a time; whatever lies outside the tape is cut off."""
    start = int(at_s * tape.rate_hz)
    grain = grain[max(0, -start) :]
    start = max(0, start)
    stop = min(tape.n, start + len(grain))
    if stop > start:
        out[start:stop] += np.float32(level) * grain[: stop - start]


def vowel(tape: Tape, f0_hz: float, formants_hz: Sequence[float], width_hz: float = 90.0) -> Wave:
    """Partials of a voice at f0: a glottal slope of 12 dB per octave, less 6 for the lips."""
    f = f0_hz * np.arange(1, max(2, int(0.45 * tape.rate_hz / f0_hz)), dtype=np.float32)
    peaks = sum(1 / (1 + ((f - formant) / width_hz) ** 2) for formant in formants_hz)
    return np.asarray((0.02 + peaks) * f0_hz / f, np.float32)


def horn(tape: Tape, reeds_hz: Sequence[float], seconds: float, brightness: float) -> Wave:
    """Reeds blown together, with the soft start and end of compressed air."""
    t = tape.time(seconds)
    edges = np.minimum(1, np.minimum(t, seconds - t) * 20)
    reed = period(tape, partials(14, brightness))
    chord = sum(play(tape, np.full_like(t, f), reed) for f in reeds_hz)
    return np.asarray(edges * chord / len(reeds_hz), np.float32)


# ---- subjects: (tape, pitch) -> one individual ---------------------------------------

# First three formants of five vowels, adult speakers, Hz (Peterson and Barney 1952, rounded).
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def person(tape: Tape, pitch: float) -> Wave:
    """Speech-like phrases: voiced syllables gliding between vowels, some with a fricative before them."""
    out, hiss = tape.blank(), band(tape, 3000, 6500)
    f0 = tape.draw(100, 220) * pitch  # men about 120 Hz, women about 210 Hz
    tract, pace = tape.draw(0.9, 1.2), tape.draw(3.5, 6.5)  # syllables a second
    vowels = [period(tape, vowel(tape, f0, [tract * f for f in formants])) for formants in VOWELS_HZ]
    at = tape.draw(-0.6, 0.4)
    while at < tape.seconds:
        syllables = int(tape.rng.integers(3, 9))
        for i in range(syllables):
            t = tape.time(tape.draw(0.65, 1.1) / pace)
            x = t / t[-1]
            bend = 1.15 - 0.35 * i / syllables + tape.draw(-0.1, 0.1)  # a sentence falls
            f = np.float32(f0 * bend) * (1 + np.float32(tape.draw(-0.15, 0.15)) * x)
            first, second = tape.rng.integers(0, len(vowels), 2)
            voice = (1 - x) * play(tape, f, vowels[first]) + x * play(tape, f, vowels[second])
            lay(out, tape, voice * hump(x) ** 0.6, at, tape.draw(0.5, 1))
            if tape.chance(0.4):
                lay(out, tape, snip(tape, hiss, 0.1, 0.04), at - 0.05, tape.draw(0.1, 0.4))
            at += float(t[-1]) * tape.draw(1.0, 1.2)
        at += tape.draw(0.15, 0.8)
    return out


def dog(tape: Tape, pitch: float) -> Wave:
    """Barks in bouts: a rough voice that jumps up and falls within a sixth of a second."""
    out, rasp = tape.blank(), band(tape, 500, 2500)
    f0 = tape.draw(280, 600) * pitch
    mouth = [f0 * tape.draw(1.6, 2.4), f0 * tape.draw(3, 4.5)]
    at = tape.draw(-0.2, 0.5)
    while at < tape.seconds:
        for _ in range(int(tape.rng.integers(1, 5))):
            seconds = tape.draw(0.11, 0.24)
            x = tape.time(seconds) / np.float32(seconds)
            f = np.float32(f0) * (0.65 + 0.55 * np.sin(np.pi * x**0.7))
            bark = (
                tone(tape, f, vowel(tape, f0, mouth, 350))
                + snip(tape, rasp, seconds, seconds)[: len(x)] * 0.6
            )
            lay(out, tape, bark * np.minimum(1, x * 12) * (1 - x) ** 1.2, at, tape.draw(0.6, 1))
            at += seconds + tape.draw(0.12, 0.35)
        at += tape.draw(0.2, 1.0)
    return out


def bird(tape: Tape, pitch: float) -> Wave:
    """Song: repeated figures of whistled sweeps; fast and many for a trill, slow and few for a call."""
    out = tape.blank()
    base = tape.draw(2300, 4200) * pitch
    at = tape.draw(-0.4, 0.4)
    while at < tape.seconds:
        step = tape.draw(0.05, 0.3)  # trills of 4 to 20 notes a second
        notes = int(tape.draw(0.3, 1.4) / step) + 1
        low, high = base * tape.draw(0.7, 1), base * tape.draw(1, 1.5)
        arch, warble = tape.draw(-1, 1), tape.draw(0, 0.08)
        x = np.linspace(0, 1, max(8, int(step * tape.draw(0.5, 0.9) * tape.rate_hz)), dtype=np.float32)
        f = low + (high - low) * (x if arch > 0 else 1 - x) ** (0.5 + abs(arch)) * (
            1 + warble * np.sin(90 * x)
        )
        note = tone(tape, np.minimum(f, 7200), np.array([1, 0.15], np.float32)) * np.sin(np.pi * x)
        for i in range(notes):
            lay(out, tape, note, at + i * step, tape.draw(0.6, 1))
        at += notes * step + tape.draw(0.1, 0.7)
    return out


def frog(tape: Tape, pitch: float) -> Wave:
    """Croaks: a train of 25 to 60 pulses a second on the resonance of the vocal sac, rising in level."""
    out = tape.blank()
    sac, pulses, length = tape.draw(380, 850) * pitch, tape.draw(25, 60), tape.draw(0.18, 0.55)
    every = length + tape.draw(0.15, 0.7)
    at = tape.draw(-0.3, every)
    while at < tape.seconds:
        t = tape.time(length * tape.draw(0.85, 1.15))
        x = t / t[-1]
        beat = (pulses * t * (1 + 0.15 * x)) % 1
        f = np.float32(sac) * (1 + np.float32(0.15) * x)
        throat = tone(tape, f, np.array([1, 0.25, 0.5, 0.1], np.float32))
        lay(out, tape, throat * np.exp(-5 * beat) * np.minimum(1, 3 * x) * np.minimum(1, 10 * (1 - x)), at)
        at += every * tape.draw(0.85, 1.2)
    return out


def car(tape: Tape, pitch: float) -> Wave:
    """An engine near by: the firing tone and its half orders under a moving throttle, tyre hiss, a hoot."""
    idle = tape.draw(28, 50) * pitch  # four cylinders at 900 to 1500 rpm
    throttle = drift(tape, tape.draw(0.4, 1.0))
    orders = partials(60, tape.draw(0.5, 0.9)) * tape.rng.uniform(0.3, 1, 60).astype(np.float32)
    orders[::2] *= 0.4  # half orders of the firing tone are weaker
    engine = tone(tape, np.float32(idle / 2) * (1 + np.float32(tape.draw(1, 2.5)) * throttle), orders)
    out = engine * (0.4 + throttle) + band(tape, 600, 2500) * (0.1 + np.float32(0.35) * throttle)
    if tape.chance(0.25):
        f = tape.draw(380, 460)
        lay(out, tape, horn(tape, (f, f * 1.26), tape.draw(0.2, 0.6), 0.6), tape.draw(0, 4), 1.5)
    return out


def train(tape: Tape, pitch: float) -> Wave:
    """Bogies over rail joints (clack-clack, pause), rolling rumble, at times a chord horn."""
    iron = band(tape, 350, 1500)
    every, axles = tape.draw(0.45, 0.95), tape.draw(0.11, 0.17)
    ring = tape.draw(700, 1200) * pitch
    clack = struck(tape, (ring, ring * 2.1, ring * 0.4), (0.02, 0.015, 0.03), (1, 0.6, 1))
    out = band(tape, 50, 220, 1) * 0.35 + iron * 0.08
    for at in np.arange(tape.draw(-every, 0), tape.seconds, every):
        for axle in (0.0, axles):
            lay(out, tape, clack, at + axle, tape.draw(2.0, 2.8))
            lay(out, tape, snip(tape, iron, 0.12, 0.03), at + axle, tape.draw(1.2, 2.0))
    if tape.chance(0.4):
        f = tape.draw(290, 340) * pitch  # a five-chime air horn starts near D sharp 4, 311 Hz
        chord = horn(tape, (f, f * 1.19, f * 1.5, f * 1.68), tape.draw(0.8, 1.8), 0.5)
        lay(out, tape, chord, tape.draw(-0.5, 3.5), tape.draw(0.8, 1.5))
    return out


def boat(tape: Tape, pitch: float) -> Wave:
    """A slow diesel: single muffled thumps, 4 to 8 a second, slaps under the hull, at times a deep horn."""
    out, water = tape.blank(), band(tape, 200, 900)
    body = tape.draw(65, 120) * pitch
    thump = struck(tape, (body, body * 2.2, body * 4.7), (0.045, 0.03, 0.012), (1, 0.6, 0.5))
    every = 1 / (tape.draw(4.5, 8) * pitch**0.5)
    for i, at in enumerate(np.arange(tape.draw(-every, 0), tape.seconds, every)):
        lay(out, tape, thump, at + tape.draw(-0.06, 0.06) * every, tape.draw(0.75, 1) * (1 - 0.25 * (i % 2)))
        lay(out, tape, snip(tape, water, 0.08, 0.02), at, 0.12)
    for _ in range(int(tape.rng.poisson(2))):
        lay(out, tape, snip(tape, water, 0.3, 0.08), tape.draw(0, tape.seconds), tape.draw(0.2, 0.5))
    if tape.chance(0.4):
        blast = horn(tape, (tape.draw(90, 160) * pitch,), tape.draw(0.8, 2), 0.7)
        lay(out, tape, blast, tape.draw(-0.5, 3.5), tape.draw(0.3, 0.7))
    return out


def helicopter(tape: Tape, pitch: float) -> Wave:
    """Blade slap: noise and a low tone chopped 11 to 22 times a second, with a turbine's whine above."""
    chop = tape.draw(11, 20) * pitch**0.5
    wobble = 1 + np.float32(0.06) * drift(tape, 1)
    beat = np.cumsum(chop / tape.rate_hz * wobble, dtype=np.float32)
    beat -= np.floor(beat)
    slap = np.exp(-tape.draw(4, 8) * beat)
    out = band(tape, 80, 1400, 0.6) * slap
    out += 0.5 * tone(tape, np.float32(chop) * wobble, partials(20, 0.3)) * slap
    out += np.float32(tape.draw(0.03, 0.1)) * tone(
        tape, np.float32(tape.draw(1600, 2600)) * wobble, partials(2, 1)
    )
    return out * (0.6 + 0.4 * drift(tape, 0.5))


def drum(tape: Tape, pitch: float) -> Wave:
    """A beat: a random pattern of 8 or 16 steps, repeated, on a low drum, a snare and a small drum."""
    out, wires = tape.blank(), band(tape, 1200, 5000)
    step = 60 / tape.draw(80, 160) / 4  # sixteenths at 80 to 160 beats a minute
    low, small = tape.draw(55, 100) * pitch, tape.draw(180, 320) * pitch
    drums = (
        struck(tape, (low, low * 1.59, low * 2.14), (0.16, 0.08, 0.05), (1, 0.5, 0.3)),  # modes of a membrane
        0.7 * snip(tape, wires, 0.25, tape.draw(0.04, 0.09)),
        struck(tape, (small, small * 1.59, small * 2.14), (0.1, 0.06, 0.04), (0.9, 0.5, 0.3)),
    )
    steps = int(tape.rng.choice((8, 16)))
    pattern = tape.rng.random((steps, 3)) < tape.rng.uniform(0.12, 0.5, 3)
    pattern[0, 0] = pattern[steps // 2, 1] = True
    at = tape.draw(-1, 0)
    for i in range(int((tape.seconds - at) / step) + 1):
        for j in np.flatnonzero(pattern[i % steps]):
            lay(out, tape, drums[j], at + i * step, tape.draw(0.7, 1))
    return out


def bell(tape: Tape, pitch: float) -> Wave:
    """A bell struck again and again: hum, prime, tierce, quint, nominal and above, each decaying."""
    out = tape.blank()
    prime, ring = tape.draw(240, 800) * pitch, tape.draw(0.5, 1.3)
    ratios = np.array((0.5, 1, 1.2, 1.5, 2, 2.5, 3.0, 4.1)) * tape.rng.uniform(0.985, 1.015, 8)
    strike = struck(tape, prime * ratios, ring / ratios**0.7, tape.rng.uniform(0.3, 1, 8))
    every = tape.draw(0.5, 1.8)
    at = tape.draw(-every, 0.4)
    while at < tape.seconds:
        lay(out, tape, strike, at, tape.draw(0.6, 1))
        at += every * tape.draw(0.9, 1.1)
    return out


def clock(tape: Tape, pitch: float) -> Wave:
    """Tick, tock: dry clicks of two pitches at a perfectly even pace."""
    out = tape.blank()
    every = 1 / (tape.rng.choice((2, 2.5, 3, 4, 5)) * tape.draw(0.97, 1.03))  # beats of common movements
    f, drop = tape.draw(1800, 3200) * pitch, tape.draw(0.65, 0.9)
    ring = tape.draw(0.004, 0.012)
    ticks = [struck(tape, (f * r, f * 1.7 * r), (ring, ring / 2), (1, 0.7)) for r in (1.0, drop)]
    for i, at in enumerate(np.arange(tape.draw(-every, 0), tape.seconds, every)):
        lay(out, tape, ticks[i % 2], at, 1 if i % 2 else 0.8)
        lay(out, tape, ticks[i % 2], at + 0.018, 0.4)  # the pallet drops a moment after the impulse
    return out


def fire(tape: Tape, pitch: float) -> Wave:
    """Crackle: many clicks with a heavy tail of levels at random times, over a fluttering low roar."""
    out = band(tape, 60, 350, 1) * (0.3 + drift(tape, 8)) * np.float32(tape.draw(0.15, 0.4))
    sparks = band(tape, 1200 * pitch, 5500)
    for at in tape.rng.uniform(0, tape.seconds, int(tape.seconds * tape.draw(10, 28))):
        level = min(3.0, 0.25 * float(tape.rng.pareto(1.4)) + 0.15)
        lay(out, tape, snip(tape, sparks, 0.02, tape.draw(0.001, 0.006)), at, level)
    return out


SUBJECTS: dict[str, Callable[[Tape, float], Wave]] = {
    f.__name__: f
    for f in (person, dog, bird, frog, car, train, boat, helicopter, drum, bell, clock, fire)
}  # fmt: skip


# ---- places: tape -> ambience --------------------------------------------------------


def beach(tape: Tape) -> Wave:
    """Surf: waves every few seconds that rumble, break with a rush of bright noise, and draw back hissing."""
    swell = tape.blank()
    every, steep = tape.draw(2.2, 5), tape.draw(0.2, 0.35)
    for at in np.arange(tape.draw(-every, 0), tape.seconds, every):
        x = tape.time(2 * every) / np.float32(every * steep)
        lay(swell, tape, x**2 * np.exp(2 - 2 * x), at + tape.draw(-0.3, 0.3), tape.draw(0.6, 1.2))
    low, bright = band(tape, 150, 900, 1), band(tape, 1500, 6500)
    return low * (0.35 + 0.6 * swell) + bright * (0.06 + np.float32(tape.draw(0.7, 1.2)) * swell * swell)


def forest(tape: Tape) -> Wave:
    """Leaves rustling in gusts, cicadas buzzing high above, now and then a twig."""
    gust = drift(tape, tape.draw(1, 2.5))
    out = band(tape, 2200, 6500) * (0.15 + gust**2) + band(tape, 100, 400, 1) * np.float32(0.3) * gust
    rasp = 0.5 + 0.5 * np.sin(np.float32(2 * np.pi * tape.draw(35, 70)) * tape.time())
    f = tape.draw(4600, 6400)
    out += (
        band(tape, f - 250, f + 250) * rasp * (0.4 + 0.6 * drift(tape, 0.6)) * np.float32(tape.draw(0.4, 0.9))
    )
    leaves = band(tape, 900, 4000)
    for at in tape.rng.uniform(0, tape.seconds, int(tape.rng.poisson(5))):
        lay(out, tape, snip(tape, leaves, 0.08, 0.015), at, tape.draw(0.5, 2))
    return out


def street(tape: Tape) -> Wave:
    """Traffic hum from all sides, a murmur of voices, far horns, a tram bell's or crossing's beep."""
    out = band(tape, 60, 400, 1) + band(tape, 300, 1100, 1) * (0.2 + 0.3 * drift(tape, 1))
    syllables = drift(tape, 9) * drift(tape, 7)  # the speech rhythm of several people at once
    out += band(tape, 350, 900) * syllables * np.float32(tape.draw(0.8, 1.6))
    for _ in range(int(tape.rng.integers(1, 4))):
        f = tape.draw(330, 520)
        hoot = horn(tape, (f, f * tape.rng.choice((1.2, 1.26, 1.33))), tape.draw(0.15, 0.9), 1.0)
        lay(out, tape, hoot, tape.draw(-0.2, tape.seconds - 0.4), tape.draw(0.3, 1.0))
    beep = struck(tape, (tape.draw(900, 1300),), (0.05,), (1,))  # a pedestrian signal
    for at in np.arange(tape.draw(-1, 0), tape.seconds, 1 / tape.draw(0.8, 4)):
        lay(out, tape, beep, at, 0.6)
    return out


def field(tape: Tape) -> Wave:
    """Open wind and crickets: chirps of three or four pulses near 4.5 kHz, two or three chirps a second."""
    out = band(tape, 60, 300, 1.5) * (0.3 + 0.7 * drift(tape, 1.5))
    for _ in range(int(tape.rng.integers(1, 4))):
        every, pulse = 1 / tape.draw(1.8, 3.4), tape.draw(24, 34)
        x = tape.time(tape.rng.integers(3, 5) / pulse)
        chirp = np.sin(np.pi * pulse * x) ** 2 * np.sin(2 * np.pi * tape.draw(3900, 5100) * x)
        level = tape.draw(0.4, 1.4)
        for at in np.arange(tape.draw(-every, 0), tape.seconds, every):
            lay(out, tape, chirp, at, level)
    return out


def room(tape: Tape) -> Wave:
    """Indoors: mains hum with its harmonics and the even breath of a ventilator."""
    mains = np.full(tape.n, tape.rng.choice((50.0, 60.0)), np.float32)
    loud = tape.rng.uniform(0.1, 1, 12).astype(np.float32) / np.arange(1, 13, dtype=np.float32) ** 0.4
    loud[1::2] *= 3  # rectifiers and transformers hum at even multiples
    fan = band(tape, 80, tape.draw(350, 700), 0.5)
    return tone(tape, mains, loud) + fan * np.float32(tape.draw(0.2, 0.8))


def mountain(tape: Tape) -> Wave:
    """Wind howling round rock: narrow noise whose pitch rises with each gust, over a deep rush."""
    gust = drift(tape, tape.draw(0.6, 1.4))
    out = band(tape, 40, 250, 1) * (0.2 + 0.8 * gust)
    for _ in range(2):
        f = np.float32(tape.draw(350, 650)) * (1 + np.float32(tape.draw(0.5, 1.1)) * gust)
        flutter = band(tape, 2, 30)
        howl = tone(tape, f * (1 + np.float32(0.03) * flutter.clip(-3, 3)), partials(2, 2.5)) * (
            0.4 + np.abs(flutter)
        )
        out += howl * gust**2 * np.float32(tape.draw(0.8, 1.6))
    return out


def road(tape: Tape) -> Wave:
    """Cars passing: each a swell of tyre noise, brightest when nearest, its tone falling as it goes by."""
    t, out = tape.time(), band(tape, 80, 400, 1) * np.float32(0.1)
    tyres, roar = band(tape, 700, 1500), band(tape, 90, 300, 0.5)  # tyre noise peaks near 1 kHz
    drone = period(tape, partials(8, 1))
    for at in np.linspace(-0.5, tape.seconds, int(tape.rng.integers(3, 6))) + tape.rng.uniform(-0.5, 0.5):
        speed = tape.draw(2.5, 6)  # passing speed over distance, 1/s: 15 to 30 m/s at about 6 m
        along = (t - np.float32(at + tape.draw(-0.4, 0.4))) * np.float32(speed)
        near = 1 / (1 + along**2)
        doppler = 1 - np.float32(0.07) * along * np.sqrt(near)
        engine = play(tape, np.float32(tape.draw(80, 160)) * doppler, drone)
        out += np.float32(tape.draw(0.6, 1.3)) * near * (tyres * near + 0.5 * roar + 0.5 * engine)
    return out


def harbour(tape: Tape) -> Wave:
    """Water lapping at a quay, halyards clanking on masts, gulls, ropes creaking."""
    out = band(tape, 150, 500, 1) * (0.1 + 0.3 * drift(tape, 2))
    for at in tape.rng.uniform(-0.1, tape.seconds, int(tape.seconds * tape.draw(6, 12))):
        t = tape.time(tape.draw(0.04, 0.12))  # a closing bubble: a rising, dying tone
        bubble = np.sin(2 * np.pi * tape.draw(280, 800) * t * (1 + 3 * t)) * np.exp(-t * 35)
        lay(out, tape, bubble, at, tape.draw(0.5, 1.5))
    mast = tape.draw(1500, 2600)
    clank = struck(tape, (mast, mast * 1.48, mast * 2.37), (0.09, 0.06, 0.03), (1, 0.7, 0.5))
    for at in tape.rng.uniform(0, tape.seconds, int(tape.rng.integers(5, 12))):
        lay(out, tape, clank, at, tape.draw(0.4, 1.0))
    voice, at = tape.draw(850, 1250), tape.draw(0, 1.5)
    for _ in range(int(tape.rng.integers(2, 6))):  # gulls: harmonic cries that fall by a third
        x = np.linspace(0, 1, int(tape.draw(0.2, 0.4) * tape.rate_hz), dtype=np.float32)
        cry = tone(tape, np.float32(voice) * (1.1 - 0.35 * x), partials(5, 0.5)) * hump(x) ** 0.7
        lay(out, tape, cry, at, tape.draw(0.3, 0.8))
        at += tape.draw(0.35, 1.2)
    return out


PLACES: dict[str, Callable[[Tape], Wave]] = {
    f.__name__: f for f in (beach, forest, street, field, room, mountain, road, harbour)
}


# ---- recording -----------------------------------------------------------------------


def indoors(tape: Tape, sound: Wave) -> Wave:
    """With a room's dense tail, 60 dB down after 0.3 to 0.9 s. Circular: it begins amid echoes."""
    t = tape.time(min(1.0, tape.seconds))
    response = tape.blank()
    tail = (tape.rng.random(len(t), np.float32) - np.float32(0.5)) * np.exp(
        t * np.float32(-6.9 / tape.draw(0.3, 0.9))
    )
    response[: len(t)] = np.float32(tape.draw(0.06, 0.18)) * tail
    response[0] = 1
    echoed = np.fft.irfft(np.fft.rfft(sound) * np.fft.rfft(response), tape.n)
    return echoed.astype(np.float32, copy=False)


def among_rocks(tape: Tape, sound: Wave) -> Wave:
    """With the separate echoes of three walls, 60 to 200 m away."""
    out = sound.copy()
    for _ in range(3):
        lay(out, tape, sound, tape.draw(0.35, 1.2), tape.draw(0.15, 0.45))
    return out


ECHOES: dict[str, Callable[[Tape, Wave], Wave]] = {"room": indoors, "mountain": among_rocks}


def microphone(tape: Tape) -> Wave:
    """Response of a random microphone: low cut, high cut, a tilt, two bumps; float32 [n // 2 + 1]."""
    octave = np.log2(np.maximum(1, np.arange(65)) * (tape.rate_hz / 128 / 1000.0))  # re 1 kHz, coarse grid
    gain_db = tape.draw(-2.5, 2.5) * octave
    for _ in range(2):
        gain_db += tape.draw(-5, 5) * np.exp(-((octave - tape.draw(-3, 3)) ** 2))
    gain = 10 ** (gain_db / 20) / (1 + 2 ** (4 * (octave - np.log2(tape.draw(5, 9)))))
    grid = np.linspace(0, 64, tape.n // 2 + 1, dtype=np.float32)
    response = np.interp(grid, np.arange(65), gain).astype(np.float32)
    cut = int(tape.draw(20, 110) * tape.seconds)
    response[:cut] *= np.linspace(0, 1, cut, dtype=np.float32) ** 2
    return response


def render(scene: Scene, *, duration_s: float = 5.0, rate_hz: int = 16000) -> Wave:
    """The sound of a scene: float32 [duration_s * rate_hz], mono, -1..1; always the same.

    `count` individuals of the subject sound together. `pitch` and, weakly, `size` (big bodies are
    low) scale their frequencies, `loudness` the level of the recording, `noise` the hiss of the recorder.
    """
    tape = Tape(scene.rng(STREAM), round(duration_s * rate_hz), rate_hz)
    pitch = scene.pitch * scene.size**-0.3
    subject = tape.blank()
    for i in range(scene.count):
        one = SUBJECTS[scene.subject](tape, pitch * tape.draw(0.93, 1.07))
        subject += unit(one) * np.float32(1 if i == 0 else tape.draw(0.4, 0.9))
    if scene.place in ECHOES:
        subject = ECHOES[scene.place](tape, subject)
    mix = equally_loud(subject) * np.float32(10 ** (tape.draw(*SNR_DB) / 20))
    mix += equally_loud(PLACES[scene.place](tape))
    sound = unit(np.fft.irfft(np.fft.rfft(mix) * microphone(tape), tape.n).astype(np.float32, copy=False))
    hiss = np.float32(10 ** ((30 * scene.noise - 55) / 20))  # 55 to 25 dB below the sound
    sound += hiss * (tape.rng.random(tape.n, np.float32) - np.float32(0.5)) * np.float32(12**0.5)
    return sound * np.float32(scene.loudness * tape.draw(0.3, 0.98) / np.abs(sound).max())
