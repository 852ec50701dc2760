"""Outlines of the twelve subjects: unit height, feet at y = 0, y upwards, facing right.

Each function returns parts, back to front: (outline [n, 2], paint, warmth). `paint` is a name that `picture`
maps to a colour; `warmth` is degrees above the air.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from xsearch.scenes.canvas import ellipse, limb, rectangle

__all__ = ["SHAPES", "Shape"]

Rng = np.random.Generator
Part = tuple[np.ndarray, str, float]


@dataclass(frozen=True, slots=True)
class Shape:
    """How to draw a subject: `height_m` in the world, `share` of the image height at size 1."""

    parts: Callable[[Rng, float], list[Part]]  # (rng, phase of the movement in cycles) -> parts
    height_m: float
    share: float
    flies: bool = False


def _poly(*points: float) -> np.ndarray:
    return np.array(points, dtype=float).reshape(-1, 2)


def _person(rng: Rng, phase: float) -> list[Part]:
    step = 0.14 * np.sin(2 * np.pi * phase) + rng.uniform(-0.03, 0.03)
    reach = rng.uniform(-0.12, 0.25)
    return [
        (limb(-0.03, 0.46, -step, 0.02, 0.09), "dark", 5),
        (limb(0.03, 0.46, step, 0.02, 0.09), "dark", 5),
        (limb(-0.08, 0.78, -0.16 - step / 2, 0.48, 0.06), "skin", 10),
        (_poly(-0.12, 0.45, 0.12, 0.45, 0.15, 0.8, -0.15, 0.8), "main", 7),
        (limb(0.08, 0.78, 0.18 + step / 2, 0.5 + reach, 0.06), "skin", 10),
        (ellipse(0, 0.9, 0.075, 0.095), "skin", 12),
        (ellipse(-0.01, 0.95, 0.08, 0.055), "dark", 8),
    ]


def _dog(rng: Rng, phase: float) -> list[Part]:
    step = 0.12 * np.sin(2 * np.pi * phase)
    tail, ear = rng.uniform(0.0, 0.3), rng.uniform(-0.05, 0.1)
    legs: list[Part] = [
        (limb(x, 0.45, x + d, 0.0, 0.11), paint, 6)
        for x, d, paint in (
            (-0.42, step, "shade"), (0.38, -step, "shade"), (-0.5, -step, "main"), (0.3, step, "main"),
        )
    ]  # fmt: skip
    return [
        (limb(-0.5, 0.6, -0.82, 0.75 + tail, 0.08), "main", 6),
        *legs,
        (ellipse(-0.05, 0.55, 0.55, 0.2), "main", 9),
        (limb(0.3, 0.6, 0.58, 0.82, 0.22), "main", 10),
        (ellipse(0.62, 0.84, 0.19, 0.15), "main", 11),
        (ellipse(0.82, 0.78, 0.12, 0.07), "shade", 9),
        (ellipse(0.93, 0.8, 0.035, 0.035), "black", 3),
        (_poly(0.48, 0.92, 0.56, 0.92, 0.46, 0.66 + ear), "shade", 8),
        (ellipse(0.68, 0.88, 0.025, 0.025), "black", 10),
    ]


def _bird(rng: Rng, phase: float) -> list[Part]:
    body: list[Part] = [
        (_poly(-0.4, 0.5, -0.85, 0.72, -0.9, 0.5, -0.4, 0.35), "shade", 5),
        (ellipse(0, 0.48, 0.45, 0.26), "main", 11),
        (ellipse(0.42, 0.74, 0.19, 0.18), "main", 12),
        (_poly(0.58, 0.8, 0.85, 0.7, 0.58, 0.66), "beak", 2),
        (ellipse(0.47, 0.78, 0.035, 0.035), "black", 9),
        (ellipse(0.12, 0.38, 0.25, 0.12), "light", 11),
    ]
    if rng.random() < 0.4:  # in flight
        lift = 0.5 + 0.4 * np.sin(2 * np.pi * 3 * phase)
        wing = (_poly(-0.25, 0.55, 0.2, 0.6, -0.2, 0.65 + lift, -0.65, 0.7 + lift), "shade", 6)
        far = (_poly(-0.1, 0.6, 0.25, 0.6, 0.35, 0.6 + lift, 0.0, 0.75 + lift), "main", 6)
        return [far, *body, wing]
    legs: list[Part] = [(limb(x, 0.28, x + 0.04, 0, 0.04), "beak", 3) for x in (-0.05, 0.12)]
    return [*legs, *body, (_poly(0.15, 0.6, -0.35, 0.62, -0.6, 0.38, -0.05, 0.36), "shade", 8)]


def _frog(rng: Rng, phase: float) -> list[Part]:
    croak = 0.08 * (1 + np.sin(2 * np.pi * phase))
    return [
        (limb(-0.45, 0.35, -0.95, 0.1, 0.22), "shade", -1.5),
        (limb(0.45, 0.35, 0.95, 0.1, 0.22), "shade", -1.5),
        (ellipse(-0.85, 0.05, 0.28, 0.07), "shade", -2),
        (ellipse(0.85, 0.05, 0.28, 0.07), "shade", -2),
        (ellipse(0, 0.38, 0.62, 0.38), "main", -2.5),
        (ellipse(0, 0.22, 0.38 + croak, 0.2 + croak / 2), "light", -1.5),
        (limb(-0.3, 0.3, -0.4, 0.0, 0.12), "main", -2),
        (limb(0.3, 0.3, 0.4, 0.0, 0.12), "main", -2),
        (ellipse(-0.32, 0.8, 0.19, 0.2), "main", -2.5),
        (ellipse(0.32, 0.8, 0.19, 0.2), "main", -2.5),
        (ellipse(-0.32, 0.83, 0.11, 0.12), "light", -1),
        (ellipse(0.32, 0.83, 0.11, 0.12), "light", -1),
        (ellipse(-0.32, 0.83, 0.05, 0.09), "black", -1),
        (ellipse(0.32, 0.83, 0.05, 0.09), "black", -1),
        (limb(-0.35, 0.5, 0.35, 0.5, 0.035), "black", -1),
    ]


def _wheel(x: float, radius: float, warmth: float) -> list[Part]:
    return [
        (ellipse(x, radius, radius, radius), "black", warmth),
        (ellipse(x, radius, radius * 0.5, radius * 0.5), "metal", warmth - 2),
    ]


def _car(rng: Rng, phase: float) -> list[Part]:
    roof, back = rng.uniform(0.9, 1.05), rng.uniform(-0.95, -0.6)
    return [
        (_poly(back, 0.6, back + 0.25, roof, 0.35, roof, 0.75, 0.6), "main", 3),
        (_poly(back + 0.12, 0.62, back + 0.3, roof - 0.07, -0.08, roof - 0.07, -0.08, 0.62), "glass", -1),
        (_poly(0.0, 0.62, 0.0, roof - 0.07, 0.32, roof - 0.07, 0.62, 0.62), "glass", -1),
        (_poly(-1.35, 0.2, 1.4, 0.2, 1.4, 0.45, 1.2, 0.6, -1.3, 0.64), "main", 3),
        (_poly(0.8, 0.3, 1.35, 0.3, 1.3, 0.55, 0.8, 0.6), "main", 13),  # the engine
        (rectangle(1.3, 0.4, 1.4, 0.5), "lamp", 8),
        (rectangle(-1.36, 0.45, -1.28, 0.55), "tail", 4),
        *_wheel(-0.82, 0.22, 7),
        *_wheel(0.85, 0.22, 7),
    ]


def _train(rng: Rng, phase: float) -> list[Part]:
    windows = rng.uniform(0.32, 0.5)
    parts: list[Part] = [
        (rectangle(-6, -0.04, 6, 0.0), "metal", 3),  # the rail
        (rectangle(-6, 0.12, 1.35, 0.98), "main", 3),
        (_poly(1.35, 0.12, 1.95, 0.12, 1.85, 0.5, 1.35, 0.98), "main", 4),
        (rectangle(-6, 0.12, 1.95, 0.24), "dark", 9),
        (rectangle(-6, 0.32, 1.8, 0.4), "light", 3),
        (_poly(1.35, 0.58, 1.78, 0.58, 1.42, 0.88, 1.35, 0.88), "glass", 0),
        (rectangle(1.84, 0.28, 1.93, 0.36), "lamp", 9),
    ]
    panes = np.arange(1.0, -6, -windows - 0.14)
    parts += [(rectangle(x - windows, 0.55, x, 0.84), "glass", 6) for x in panes]
    for x in np.arange(1.5, -6, -0.42):
        parts += _wheel(x, 0.09, 11)
    gaps = np.arange(-1.4, -6, -2.6)  # between carriages
    return parts + [(rectangle(x, 0.1, x + 0.07, 1.0), "black", 2) for x in gaps]


def _boat(rng: Rng, phase: float) -> list[Part]:
    tilt = 0.06 * np.sin(2 * np.pi * phase)
    parts: list[Part] = [(limb(0, 0.3, tilt, 1.0, 0.03), "dark", 1)]
    if rng.random() < 0.6:
        parts += [
            (_poly(0.04, 0.36, tilt + 0.03, 0.97, 0.55, 0.38), "light", -2),
            (_poly(-0.04, 0.36, tilt - 0.02, 0.9, -0.42, 0.38), "light", -2),
        ]
    else:
        parts += [
            (rectangle(-0.35, 0.25, 0.15, 0.52), "light", 3),
            (rectangle(-0.28, 0.38, -0.12, 0.48), "glass", 5),
            (rectangle(-0.06, 0.38, 0.1, 0.48), "glass", 5),
            (rectangle(-0.3, 0.52, -0.18, 0.72), "dark", 14),  # the funnel
        ]
    return [
        (rectangle(-1.1, -0.03, 1.1, 0.06), "water", -3),
        *parts,
        (_poly(-0.62, 0.0, 0.55, 0.0, 0.85, 0.3, -0.72, 0.3), "main", 2),
        (_poly(-0.72, 0.25, 0.8, 0.25, 0.85, 0.31, -0.72, 0.31), "light", 1),
    ]


def _helicopter(rng: Rng, phase: float) -> list[Part]:
    spread = 1.3 * abs(np.cos(2 * np.pi * 7 * phase + rng.uniform(0, 3))) + 0.5
    return [
        (_poly(-0.3, 0.52, -1.5, 0.66, -1.5, 0.74, -0.3, 0.72), "main", 4),
        (_poly(-1.4, 0.7, -1.62, 1.0, -1.68, 1.0, -1.55, 0.66), "main", 2),
        (limb(-1.62, 0.62, -1.56, 0.98, 0.04), "dark", 3),
        (ellipse(0.05, 0.48, 0.58, 0.3), "main", 5),
        (_poly(0.15, 0.72, 0.35, 0.74, 0.62, 0.45, 0.2, 0.42), "glass", 0),
        (rectangle(-0.35, 0.68, 0.15, 0.82), "shade", 17),  # the turbine
        (limb(-0.08, 0.8, -0.08, 0.94, 0.06), "dark", 9),
        (limb(-0.08 - spread, 0.93, -0.08 + spread, 0.95, 0.045), "dark", 2),
        (limb(-0.25, 0.22, -0.3, 0.05, 0.04), "dark", 1),
        (limb(0.3, 0.22, 0.35, 0.05, 0.04), "dark", 1),
        (limb(-0.55, 0.04, 0.65, 0.04, 0.05), "dark", 1),
    ]


def _drum(rng: Rng, phase: float) -> list[Part]:
    beat, wide = 0.2 * abs(np.sin(2 * np.pi * 2 * phase)), rng.uniform(0.42, 0.6)
    parts: list[Part] = [
        (ellipse(0, 0.14, wide, 0.12), "shade", -1.5),
        (rectangle(-wide, 0.14, wide, 0.72), "main", -1.5),
    ]
    xs = np.linspace(-wide, wide, 8)
    for i, (a, b) in enumerate(pairwise(xs)):
        low, high = (0.1, 0.68) if i % 2 else (0.68, 0.1)
        parts.append((limb(a, low, b, high, 0.025), "light", -0.5))
    return [
        *parts,
        (ellipse(0, 0.12, wide, 0.1)[:9][::-1], "metal", -2),
        (ellipse(0, 0.72, wide + 0.03, 0.15), "metal", -3),
        (ellipse(0, 0.73, wide - 0.03, 0.12), "light", 2.5),
        (limb(-0.1, 0.78, -0.55, 1.0 + beat, 0.045), "wood", 0),
        (limb(0.15, 0.78, 0.6, 1.1 - beat, 0.045), "wood", 0),
    ]


def _bell(rng: Rng, phase: float) -> list[Part]:
    swing = 0.12 * np.sin(2 * np.pi * phase)
    profile = [(0.52, 0.1), (0.42, 0.2), (0.33, 0.42), (0.28, 0.62), (0.18, 0.76), (0.0, 0.8)]
    right = np.array([(x + swing * (0.8 - y), y) for x, y in profile])
    left = np.array([(-x + swing * (0.8 - y), y) for x, y in reversed(profile)])
    gold = "main" if rng.random() < 0.5 else "gold"
    return [
        (rectangle(-0.72, 0.0, -0.62, 1.0), "wood", 0),
        (rectangle(0.62, 0.0, 0.72, 1.0), "wood", 0),
        (rectangle(-0.78, 0.88, 0.78, 1.0), "wood", 0),
        (rectangle(-0.06, 0.76, 0.06, 0.9), "dark", -1),
        (ellipse(2 * swing, 0.08, 0.09, 0.09), "dark", -2),
        (np.concatenate([right, left]), gold, -3.5),
        (_poly(-0.52 + swing * 0.7, 0.1, 0.52 + swing * 0.7, 0.1, 0.46, 0.17, -0.46, 0.17), "shade", -4),
    ]


def _clock(rng: Rng, phase: float) -> list[Part]:
    hour, minute = rng.uniform(0, 2 * np.pi, size=2)
    second = 2 * np.pi * phase / 12
    face: list[Part] = [
        (ellipse(0, 0.5, 0.5, 0.5, n=28), "main", 1.5),
        (ellipse(0, 0.5, 0.42, 0.42, n=28), "white", -2.5),
    ]
    for a in np.arange(12) * np.pi / 6:
        s, c = np.sin(a), np.cos(a)
        face.append((limb(0.32 * s, 0.5 + 0.32 * c, 0.39 * s, 0.5 + 0.39 * c, 0.045), "black", 1))
    for angle, length, width in ((hour, 0.2, 0.06), (minute, 0.32, 0.045), (second, 0.34, 0.02)):
        face.append((limb(0, 0.5, length * np.sin(angle), 0.5 + length * np.cos(angle), width), "black", 1.5))
    if rng.random() < 0.5:  # an alarm clock on its feet
        face = [
            (limb(-0.3, 0.1, -0.42, -0.03, 0.08), "metal", 0),
            (limb(0.3, 0.1, 0.42, -0.03, 0.08), "metal", 0),
            (ellipse(-0.28, 0.98, 0.17, 0.12), "metal", 0),
            (ellipse(0.28, 0.98, 0.17, 0.12), "metal", 0),
            *face,
        ]
    return face


def _fire(rng: Rng, phase: float) -> list[Part]:
    def flame(scale: float, paint: str, warmth: float) -> Part:
        lick = rng.uniform(0.75, 1.2, size=5) * (1 + 0.2 * np.sin(2 * np.pi * (4 * phase + rng.random(5))))
        xs = np.array([-0.42, -0.3, -0.2, -0.12, 0.0, 0.1, 0.2, 0.3, 0.42]) * scale
        tops = np.array(
            [0.1, 0.5 * lick[0], 0.3, 0.8 * lick[1], 0.45, 1.0 * lick[2], 0.4, 0.6 * lick[3], 0.1]
        )
        outline = np.stack([xs, 0.08 + tops * scale], axis=1)
        return np.concatenate([outline, [[0.3 * scale, 0.04], [-0.3 * scale, 0.04]]]), paint, warmth

    return [
        (limb(-0.5, 0.02, 0.45, 0.16, 0.1), "wood", 15),
        (limb(-0.45, 0.16, 0.5, 0.02, 0.1), "wood", 15),
        flame(1.0, "flame", 45),
        flame(0.75, "ember", 60),
        flame(0.45, "core", 70),
        (ellipse(0, 0.06, 0.25, 0.05), "core", 60),
    ]


SHAPES = {
    "person": Shape(_person, 1.7, 0.62),
    "dog": Shape(_dog, 0.6, 0.36),
    "bird": Shape(_bird, 0.35, 0.34),
    "frog": Shape(_frog, 0.25, 0.3),
    "car": Shape(_car, 1.5, 0.27),
    "train": Shape(_train, 3.8, 0.3),
    "boat": Shape(_boat, 4.0, 0.45),
    "helicopter": Shape(_helicopter, 3.0, 0.28, flies=True),
    "drum": Shape(_drum, 0.7, 0.38),
    "bell": Shape(_bell, 0.9, 0.42),
    "clock": Shape(_clock, 0.5, 0.38),
    "fire": Shape(_fire, 1.0, 0.42),
}
