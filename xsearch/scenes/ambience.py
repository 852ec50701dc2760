"""Background sounds of the eight places: tape -> wave."""

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
)

__all__ = ["AMBIENCES"]


def beach(tape: Tape) -> Wave:
    """Surf: a wave every few seconds, low noise that swells, then a burst of bright noise that fades."""
    swell = tape.blank()
    every, steep = tape.draw(2.2, 5), tape.draw(0.2, 0.35)
    for at in np.arange(tape.draw(-every, 0), tape.seconds, every):
        x = tape.time(2 * every) / np.float32(every * steep)
        lay(swell, tape, x**2 * np.exp(2 - 2 * x), at + tape.draw(-0.3, 0.3), tape.draw(0.6, 1.2))
    low, bright = band(tape, 150, 900, 1), band(tape, 1500, 6500)
    return low * (0.35 + 0.6 * swell) + bright * (0.06 + np.float32(tape.draw(0.7, 1.2)) * swell * swell)


def forest(tape: Tape) -> Wave:
    """Rustling leaves in gusts, buzzing cicadas, occasional twigs."""
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
    """Traffic hum, a murmur of voices, distant horns, the beep of a pedestrian signal."""
    out = band(tape, 60, 400, 1) + band(tape, 300, 1100, 1) * (0.2 + 0.3 * drift(tape, 1))
    syllables = drift(tape, 9) * drift(tape, 7)  # overlapping speech rhythms
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
    """Wind and crickets: chirps of three or four pulses near 4.5 kHz, two or three a second."""
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
    """Indoors: mains hum with harmonics, and the steady noise of a fan."""
    mains = np.full(tape.n, tape.rng.choice((50.0, 60.0)), np.float32)
    loud = tape.rng.uniform(0.1, 1, 12).astype(np.float32) / np.arange(1, 13, dtype=np.float32) ** 0.4
    loud[1::2] *= 3  # rectifiers and transformers hum at even multiples
    fan = band(tape, 80, tape.draw(350, 700), 0.5)
    return tone(tape, mains, loud) + fan * np.float32(tape.draw(0.2, 0.8))


def mountain(tape: Tape) -> Wave:
    """Howling wind: narrow-band noise whose pitch rises with each gust, over low noise."""
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
    """Passing cars: tyre noise, loudest and brightest when nearest, with a Doppler shift."""
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
    """Lapping water, halyards clanking on masts, gulls."""
    out = band(tape, 150, 500, 1) * (0.1 + 0.3 * drift(tape, 2))
    for at in tape.rng.uniform(-0.1, tape.seconds, int(tape.seconds * tape.draw(6, 12))):
        t = tape.time(tape.draw(0.04, 0.12))  # a bubble: a rising, decaying tone
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


AMBIENCES: dict[str, Callable[[Tape], Wave]] = {
    f.__name__: f for f in (beach, forest, street, field, room, mountain, road, harbour)
}
