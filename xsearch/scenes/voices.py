"""Sounds of the twelve subjects: (tape, pitch) -> the sound of one individual.

Times, pitches, tempi and timbres are random; what defines a class is fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xsearch.scenes.synthesis import (
    Tape,
    Wave,
    band,
    drift,
    horn,
    hump,
    lay,
    partials,
    period,
    play,
    snip,
    struck,
    tone,
    vowel,
)

__all__ = ["VOICES"]


# First three formants of five vowels, adult speakers, Hz (Peterson and Barney 1952, rounded).
VOWELS_HZ = ((730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240))


def person(tape: Tape, pitch: float) -> Wave:
    """Speech-like phrases: voiced syllables gliding between vowels, some after a fricative."""
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
            bend = 1.15 - 0.35 * i / syllables + tape.draw(-0.1, 0.1)  # falling intonation
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
    """Bouts of barks: a rough voice that rises and falls within a sixth of a second."""
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
    """Birdsong: repeated whistled sweeps, from fast trills to slow calls."""
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
    """Croaks: trains of 25 to 60 pulses a second on the resonance of the vocal sac, rising in level."""
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
    """An engine: the firing tone and its half orders under a varying throttle, tyre noise, a horn."""
    idle = tape.draw(28, 50) * pitch  # four cylinders at 900 to 1500 rpm
    throttle = drift(tape, tape.draw(0.4, 1.0))
    orders = partials(60, tape.draw(0.5, 0.9)) * tape.rng.uniform(0.3, 1, 60).astype(np.float32)
    orders[::2] *= 0.4  # half orders are weaker
    engine = tone(tape, np.float32(idle / 2) * (1 + np.float32(tape.draw(1, 2.5)) * throttle), orders)
    out = engine * (0.4 + throttle) + band(tape, 600, 2500) * (0.1 + np.float32(0.35) * throttle)
    if tape.chance(0.25):
        f = tape.draw(380, 460)
        lay(out, tape, horn(tape, (f, f * 1.26), tape.draw(0.2, 0.6), 0.6), tape.draw(0, 4), 1.5)
    return out


def train(tape: Tape, pitch: float) -> Wave:
    """Bogies over rail joints (clack-clack, pause), rolling noise, sometimes a chord horn."""
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
    """A slow diesel: muffled thumps, 4 to 8 a second, water under the hull, sometimes a deep horn."""
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
    """Blade slap: noise and a low tone chopped 11 to 22 times a second, with the whine of a turbine."""
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
    """A repeated random pattern of 8 or 16 steps on a low drum, a snare and a small drum."""
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
    """A bell struck repeatedly: hum, prime, tierce, quint, nominal and above, each decaying."""
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
    """Ticking: dry clicks of two alternating pitches at an even pace."""
    out = tape.blank()
    every = 1 / (tape.rng.choice((2, 2.5, 3, 4, 5)) * tape.draw(0.97, 1.03))  # beats of common movements
    f, drop = tape.draw(1800, 3200) * pitch, tape.draw(0.65, 0.9)
    ring = tape.draw(0.004, 0.012)
    ticks = [struck(tape, (f * r, f * 1.7 * r), (ring, ring / 2), (1, 0.7)) for r in (1.0, drop)]
    for i, at in enumerate(np.arange(tape.draw(-every, 0), tape.seconds, every)):
        lay(out, tape, ticks[i % 2], at, 1 if i % 2 else 0.8)
        lay(out, tape, ticks[i % 2], at + 0.018, 0.4)  # the pallet drops after the impulse
    return out


def fire(tape: Tape, pitch: float) -> Wave:
    """Crackling: clicks at random times with heavy-tailed levels, over a fluttering low roar."""
    out = band(tape, 60, 350, 1) * (0.3 + drift(tape, 8)) * np.float32(tape.draw(0.15, 0.4))
    sparks = band(tape, 1200 * pitch, 5500)
    for at in tape.rng.uniform(0, tape.seconds, int(tape.seconds * tape.draw(10, 28))):
        level = min(3.0, 0.25 * float(tape.rng.pareto(1.4)) + 0.15)
        lay(out, tape, snip(tape, sparks, 0.02, tape.draw(0.001, 0.006)), at, level)
    return out


VOICES: dict[str, Callable[[Tape, float], Wave]] = {
    f.__name__: f
    for f in (person, dog, bird, frog, car, train, boat, helicopter, drum, bell, clock, fire)
}  # fmt: skip
