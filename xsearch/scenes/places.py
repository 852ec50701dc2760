"""Backgrounds of the eight places, with colour, distance and temperature.

Temperatures are in degrees above the air; `day` is the solar heating, 1 at noon and 0 at night.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xsearch.scenes.canvas import Canvas, ellipse, limb, rectangle

__all__ = ["PAINTERS", "Sky"]

Rng = np.random.Generator
Sky = tuple[np.ndarray, np.ndarray]  # colour at the top and at the horizon

SKY_C = -25.0  # a clear sky is colder than the air
WATER_C = -2.0


def _sky(c: Canvas, sky: Sky, rng: Rng) -> None:
    bands = 8
    for i in range(bands):
        t = i / (bands - 1)
        top = c.horizon * i / bands - 0.01
        rgb = sky[0] * (1 - t) + sky[1] * t
        c.paint(
            rectangle(0, top, 1, c.horizon + 0.02), rgb, heat_c=SKY_C + 6 * t, texture=0.02, glow=1
        )  # its own light
    for _ in range(rng.integers(0, 4)):
        x, y, r = rng.uniform(0, 1), rng.uniform(0, 0.8) * c.horizon, rng.uniform(0.06, 0.2)
        c.paint(ellipse(x, y, r, r * 0.3), sky[1] * 0.6 + 0.35, heat_c=SKY_C + 12, texture=0.1, glow=0.6)


def _ground(c: Canvas, rgb: np.ndarray, heat_c: float, texture: float) -> None:
    c.paint(
        rectangle(0, c.horizon, 1, 1.0), rgb, heat_c=heat_c, texture=texture, surface="ground", distance_m=1
    )


def _tone(rng: Rng, r: float, g: float, b: float, spread: float = 0.06) -> np.ndarray:
    return np.clip(np.array([r, g, b]) + rng.normal(0, spread, size=3) * 0.7 + rng.normal(0, spread), 0, 1)


def _feet(c: Canvas, distance_m: float) -> float:
    """The row of the ground at `distance_m`, relative to the height."""
    return c.horizon + c.camera_m * c.focal / distance_m / c.height


def _beach(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    shore = c.horizon + rng.uniform(0.08, 0.22)
    sea = _tone(rng, 0.12, 0.4, 0.55)
    c.paint(
        rectangle(0, c.horizon, 1, shore + 0.06), sea, heat_c=WATER_C, texture=0.08,
        surface="ground", distance_m=1,
    )  # fmt: skip
    tilt = rng.uniform(-0.05, 0.05)
    sand = _tone(rng, 0.83, 0.72, 0.5)
    outline = np.array([[0, shore - tilt], [1, shore + tilt], [1, 1], [0, 1]])
    c.paint(outline, sand, heat_c=9 * day - 1, texture=0.1, surface="ground", distance_m=1)
    for _ in range(rng.integers(3, 7)):  # breaking waves
        y, x, w = rng.uniform(c.horizon + 0.02, shore + 0.01), rng.uniform(0, 1), rng.uniform(0.1, 0.35)
        c.paint(
            ellipse(x, y, w, 0.008), _tone(rng, 0.9, 0.95, 0.97, 0.02), heat_c=WATER_C - 1,
            surface="ground", distance_m=1,
        )  # fmt: skip
    parasol = rng.random()
    if parasol < 0.7:
        x, d = rng.choice([0.12, 0.88]) + rng.uniform(-0.08, 0.08), 9.0
        y = max(_feet(c, d), shore)
        c.paint(limb(x, y, x, y - 0.2, 0.01), _tone(rng, 0.6, 0.5, 0.4), distance_m=d)
        c.paint(ellipse(x, y - 0.2, 0.1, 0.04)[8:], rng.uniform(0.3, 1, 3), distance_m=d, heat_c=5 * day)
    if parasol > 0.4:  # a palm
        x, d = rng.choice([0.1, 0.9]) + rng.uniform(-0.06, 0.06), 12.0
        y, top = shore + 0.04, c.horizon - rng.uniform(0.2, 0.35)
        c.paint(limb(x, y, x + 0.03, top, 0.02), _tone(rng, 0.45, 0.35, 0.2), distance_m=d)
        for a in np.linspace(0.1, np.pi - 0.1, 6):
            tip = (x + 0.03 + 0.13 * np.cos(a), top - 0.03 * np.sin(a) + 0.05 * abs(np.cos(a)))
            c.paint(limb(x + 0.03, top, *tip, 0.02), _tone(rng, 0.2, 0.45, 0.15), distance_m=d, heat_c=-1)


def _forest(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    c.paint(
        rectangle(0, -0.01, 1, c.horizon + 0.03), _tone(rng, 0.16, 0.3, 0.13), distance_m=35, heat_c=-1,
        texture=0.3,
    )  # fmt: skip
    _ground(c, _tone(rng, 0.3, 0.28, 0.15), 1.0, 0.25)
    for d in np.sort(rng.uniform(4, 28, size=rng.integers(11, 18)))[::-1]:
        x, w = rng.uniform(-0.05, 1.05), rng.uniform(0.2, 0.4) / d
        bark = _tone(rng, 0.3, 0.22, 0.15) * (0.7 + 0.02 * d)
        y = min(_feet(c, d), 1.0)
        c.paint(limb(x, y, x + rng.uniform(-0.02, 0.02), -0.05, w), bark, distance_m=d, heat_c=1, texture=0.2)
    for _ in range(rng.integers(8, 14)):  # leaves overhead and undergrowth
        d, high = rng.uniform(5, 20), rng.random() < 0.6
        y = rng.uniform(-0.02, 0.14) if high else _feet(c, d) + rng.uniform(-0.02, 0.02)
        leaf = _tone(rng, 0.17, 0.38, 0.13)
        size = rng.uniform(0.4, 1.1) / d
        c.paint(
            ellipse(rng.uniform(0, 1), y, size, size * 0.6, n=9), leaf, distance_m=d, heat_c=-1.5, texture=0.3
        )


def _street(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    _ground(c, _tone(rng, 0.32, 0.32, 0.33), 6 * day + 1, 0.06)
    half, h = rng.uniform(4.0, 6.0), c.horizon
    for side in (0.0, 1.0):
        facade, edge = _tone(rng, 0.6, 0.5, 0.43, 0.12), 0.5 + (side - 0.5) * rng.uniform(0.16, 0.3)
        roof, base = rng.uniform(-0.5, -0.1), h + c.camera_m * 0.45 / half * c.focal / c.height
        roof_end, base_end = h - 0.2 - rng.uniform(0, 0.1), h + 0.012
        c.paint(
            np.array([[side, roof], [edge, roof_end], [edge, base_end], [side, max(base, h + 0.06)]]),
            facade, heat_c=4 * day + 1, texture=0.05, surface="wall", half_width_m=half, distance_m=1,
        )  # fmt: skip
        lit = rng.random() < 0.5 or day < 0.2
        glass = _tone(rng, 0.9, 0.8, 0.45) if lit else _tone(rng, 0.25, 0.33, 0.42)
        for s in np.linspace(0.08, 0.85, 5):  # windows shrink towards the vanishing point
            x0, x1 = side + (edge - side) * s, side + (edge - side) * min(s + 0.1, 0.97)
            for t in (0.18, 0.42, 0.66):
                top = [r + (b - r) * t for r, b in ((roof + (roof_end - roof) * q, h) for q in (s, s + 0.1))]
                tall = 0.13 * (1 - s) + 0.02
                c.paint(
                    np.array([[x0, top[0]], [x1, top[1]], [x1, top[1] + tall], [x0, top[0] + tall]]), glass,
                    heat_c=5, glow=0.9 if lit else 0, surface="wall", half_width_m=half, distance_m=1,
                )  # fmt: skip
    kerb = 0.32 + rng.uniform(-0.05, 0.05)
    for s in (-1, 1):
        outline = np.array(
            [[0.5 + s * 0.02, h], [0.5 + s * 0.04, h], [0.5 + s * 0.75, 1], [0.5 + s * kerb, 1]]
        )
        c.paint(outline, _tone(rng, 0.55, 0.54, 0.52), heat_c=5 * day + 1, surface="ground", distance_m=1)
    if rng.random() < 0.7:  # a lamp post
        s, d = rng.choice([-1, 1]), rng.uniform(7, 14)
        x, y = 0.5 + s * rng.uniform(0.2, 0.3), _feet(c, d)
        c.paint(limb(x, y, x, h - 0.32, 0.012), _tone(rng, 0.15, 0.15, 0.15), distance_m=d)
        c.paint(ellipse(x, h - 0.33, 0.02, 0.02), (1, 0.9, 0.6), distance_m=d, glow=1, heat_c=12 * (1 - day))


def _field(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    base = _tone(rng, 0.4, 0.55, 0.2) if rng.random() < 0.65 else _tone(rng, 0.72, 0.62, 0.25)
    _ground(c, base, 3 * day - 2, 0.15)
    hedge = np.cumsum(rng.normal(0, 0.006, size=13)) + c.horizon - 0.02
    outline = np.stack([np.linspace(0, 1, 13), np.minimum(hedge, c.horizon - 0.005)], axis=1)
    low = [[1, c.horizon + 0.01], [0, c.horizon + 0.01]]
    c.paint(
        np.concatenate([outline, low]), _tone(rng, 0.2, 0.35, 0.15), distance_m=45, heat_c=-2, texture=0.2
    )
    if rng.random() < 0.6:  # furrows
        vanish = rng.uniform(0.2, 0.8)
        for x in np.linspace(-1.5, 2.5, 22):
            c.paint(
                np.array([[vanish, c.horizon + 0.01], [x, 1], [x + 0.06, 1]]), base * 0.78,
                heat_c=3 * day - 2.6, texture=0.1, surface="ground", distance_m=1,
            )  # fmt: skip
    bloom = rng.uniform(0.4, 1, 3)
    for _ in range(rng.integers(20, 60)):  # flowers and tufts
        y = rng.uniform(c.horizon + 0.04, 1)
        r = 0.03 * (y - c.horizon)
        rgb = bloom if rng.random() < 0.5 else base * 1.25
        c.paint(
            ellipse(rng.uniform(0, 1), y, r, r, n=5), rgb, heat_c=3 * day - 1, surface="ground", distance_m=1
        )
    d = rng.uniform(9, 16)  # a fence
    y, post = _feet(c, d), 1.1 * c.focal / d / c.height
    for x in np.arange(rng.uniform(-0.1, 0), 1.1, rng.uniform(0.12, 0.2)):
        c.paint(limb(x, y, x, y - post, 0.012), (0.36, 0.27, 0.18), distance_m=d, heat_c=day)
    for t in (0.45, 0.9):
        c.paint(limb(0, y - t * post, 1, y - t * post, 0.008), (0.4, 0.3, 0.2), distance_m=d, heat_c=day)
    if rng.random() < 0.4:  # bales of hay
        for _ in range(rng.integers(1, 4)):
            d, x = rng.uniform(14, 30), rng.uniform(0, 1)
            c.paint(
                ellipse(x, _feet(c, d) - 0.3 / d, 0.7 / d, 0.6 / d), _tone(rng, 0.75, 0.62, 0.3),
                distance_m=d, heat_c=2 * day,
            )  # fmt: skip


def _room(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    wall = _tone(rng, 0.72, 0.68, 0.6, 0.12)
    half, back = rng.uniform(1.6, 2.4), rng.uniform(3.5, 6.0)
    h, scale = c.horizon, c.focal / c.height
    left, right = 0.5 - half * c.focal / back / c.width, 0.5 + half * c.focal / back / c.width
    floor, ceiling = h + max(0.1, min(0.25, 1.3 * scale / back)), h - 1.3 * scale / back
    glow = 0.75  # the light is on
    c.paint(
        rectangle(0, 0, 1, 1), wall * 1.1, heat_c=1, texture=0.02, glow=glow, surface="ceiling",
        half_width_m=1.3, distance_m=1,
    )  # fmt: skip
    rug = _tone(rng, 0.5, 0.36, 0.24, 0.1)
    c.paint(
        np.array([[0, 1], [left, floor], [right, floor], [1, 1]]), rug, heat_c=-1, texture=0.1, glow=glow,
        surface="ground", distance_m=1,
    )  # fmt: skip
    for side, edge in ((0.0, left), (1.0, right)):
        c.paint(
            np.array([[side, -0.1], [edge, ceiling], [edge, floor], [side, 1.05]]), wall * 0.85, heat_c=0.5,
            texture=0.03, glow=glow, surface="wall", half_width_m=half, distance_m=1,
        )  # fmt: skip
    c.paint(rectangle(left, ceiling, right, floor), wall, heat_c=0, texture=0.03, glow=glow, distance_m=back)
    wide, tall = right - left, floor - ceiling
    x, y = left + wide * rng.uniform(0.1, 0.5), ceiling + tall * rng.uniform(0.1, 0.25)
    pane = sky[1] if rng.random() < 0.6 else rng.uniform(0.2, 0.9, 3)  # a window or a painting
    warmth = -6 if rng.random() < 0.6 else 1
    c.paint(
        rectangle(x - 0.01, y - 0.01, x + wide * 0.32, y + tall * 0.4), (0.9, 0.88, 0.82), distance_m=back,
        glow=glow,
    )  # fmt: skip
    c.paint(rectangle(x, y, x + wide * 0.3, y + tall * 0.36), pane, distance_m=back, heat_c=warmth, glow=glow)
    x = left + wide * rng.uniform(0.05, 0.6)  # a sofa or a cupboard at the wall
    high = tall * rng.uniform(0.2, 0.6)
    c.paint(
        rectangle(x, floor - high, x + wide * 0.35, floor + 0.015), _tone(rng, 0.45, 0.33, 0.3, 0.15),
        distance_m=back - 0.6, heat_c=1.5, glow=glow, texture=0.06,
    )  # fmt: skip
    if rng.random() < 0.5:  # a radiator is warm
        c.paint(
            rectangle(right - wide * 0.2, floor - tall * 0.2, right - 0.02, floor - 0.02), (0.9, 0.9, 0.88),
            distance_m=back - 0.1, heat_c=14, glow=glow,
        )  # fmt: skip


def _mountain(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    for layer in range(3):
        height = (0.42, 0.3, 0.16)[layer] * rng.uniform(0.8, 1.2)
        xs = np.linspace(-0.1, 1.1, 9)
        ys = c.horizon - height * rng.uniform(0.35, 1.0, size=9) * np.where(np.arange(9) % 2, 1.0, 0.55)
        rock = _tone(rng, 0.42, 0.42, 0.48) * (1.1 - 0.15 * layer)
        low = [[1.1, c.horizon + 0.03], [-0.1, c.horizon + 0.03]]
        reach = (0.0, 49.0, 32.0)[layer]  # the far range is out of reach
        c.paint(
            np.concatenate([np.stack([xs, ys], axis=1), low]), rock, distance_m=reach,
            heat_c=4 * day - 3 - 2 * (2 - layer), texture=0.15,
        )  # fmt: skip
        if layer < 2:
            for i in range(1, 9, 2):  # snow on the peaks
                drop = 0.3 * height
                cap = [
                    [xs[i], ys[i]],
                    [xs[i] + 0.045, ys[i] + drop],
                    [xs[i], ys[i] + drop * 0.7],
                    [xs[i] - 0.045, ys[i] + drop],
                ]
                c.paint(np.array(cap), _tone(rng, 0.92, 0.94, 0.97, 0.02), distance_m=reach, heat_c=-10)
    _ground(c, _tone(rng, 0.45, 0.43, 0.4), 4 * day - 2, 0.3)
    for d in np.sort(rng.uniform(3, 18, size=rng.integers(8, 15)))[::-1]:  # boulders
        x, y, r = rng.uniform(0, 1), _feet(c, d), rng.uniform(0.15, 0.5) / d
        if y > 0.98:
            y = rng.uniform(0.75, 1.0)
        outline = ellipse(x, y, r * 1.4, r, n=7) + rng.normal(0, r * 0.15, size=(7, 2))
        c.paint(outline, _tone(rng, 0.5, 0.48, 0.46), distance_m=d, heat_c=5 * day - 1, texture=0.25)


def _road(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    verge = _tone(rng, 0.45, 0.5, 0.25) if rng.random() < 0.6 else _tone(rng, 0.65, 0.52, 0.35)
    _ground(c, verge, 2 * day - 1, 0.15)
    bend, h = rng.uniform(0.4, 0.6), c.horizon
    left, right = rng.uniform(-0.35, 0.0), rng.uniform(1.0, 1.35)
    c.paint(
        np.array([[bend - 0.01, h], [bend + 0.01, h], [right, 1], [left, 1]]),
        _tone(rng, 0.27, 0.27, 0.28, 0.03), heat_c=11 * day + 3, texture=0.04, surface="ground", distance_m=1,
    )  # fmt: skip
    paint = _tone(rng, 0.92, 0.9, 0.75, 0.04)
    for edge in (0.06, 0.94):
        x = left + (right - left) * edge
        c.paint(
            np.array([[bend, h], [x - 0.015, 1], [x + 0.015, 1]]), paint, heat_c=8 * day + 2,
            surface="ground", distance_m=1,
        )  # fmt: skip
    middle = (left + right) / 2
    for s in (0.05, 0.12, 0.22, 0.38, 0.62):  # the dashed centre line
        e = s * 1.4
        xs, xe = bend + (middle - bend) * s, bend + (middle - bend) * e
        c.paint(
            np.array([
                [xs - 0.012 * s, h + (1 - h) * s], [xs + 0.012 * s, h + (1 - h) * s],
                [xe + 0.014 * e, h + (1 - h) * e], [xe - 0.014 * e, h + (1 - h) * e],
            ]), paint, heat_c=8 * day + 2, surface="ground", distance_m=1,
        )  # fmt: skip
    if rng.random() < 0.8:  # a crash barrier
        s = rng.choice([-1, 1])
        far = bend + s * 0.03
        near = 0.5 + s * 0.62
        rail = np.array([[far, h - 0.005], [near, h + 0.16], [near, h + 0.22], [far, h + 0.005]])
        c.paint(
            rail, _tone(rng, 0.68, 0.7, 0.72, 0.03), heat_c=-2, surface="wall", half_width_m=4, distance_m=1
        )
    for d in np.array([8, 12, 18, 28, 45]) * rng.uniform(0.8, 1.2):  # poles along the way
        x, y = bend + rng.choice([-1, 1]) * 4.5 / d, _feet(c, d)
        c.paint(limb(x, y, x, y - 3.5 / d, 0.08 / d), _tone(rng, 0.4, 0.33, 0.27), distance_m=d, heat_c=1)


def _harbour(c: Canvas, sky: Sky, day: float, rng: Rng) -> None:
    _sky(c, sky, rng)
    h = c.horizon
    quay = h + rng.uniform(0.14, 0.24)
    _ground(c, _tone(rng, 0.15, 0.28, 0.36), WATER_C, 0.12)
    x = rng.uniform(-0.1, 0.05)
    while x < 1.05:  # warehouses across the water
        w, tall = rng.uniform(0.08, 0.2), rng.uniform(0.05, 0.14)
        c.paint(
            rectangle(x, h - tall, x + w, h + 0.012), _tone(rng, 0.5, 0.38, 0.34, 0.12), distance_m=42,
            heat_c=3, texture=0.06,
        )  # fmt: skip
        if rng.random() < 0.7:
            c.paint(
                rectangle(x + w * 0.3, h - tall * 0.6, x + w * 0.5, h - tall * 0.3), (0.95, 0.85, 0.5),
                distance_m=42, glow=0.9, heat_c=6,
            )  # fmt: skip
        x += w + rng.uniform(0.0, 0.08)
    if rng.random() < 0.7:  # a crane
        x, top = rng.uniform(0.1, 0.9), h - rng.uniform(0.25, 0.4)
        steel = _tone(rng, 0.75, 0.45, 0.15)
        for outline in (limb(x, h, x, top, 0.018), limb(x - 0.08, top, x + 0.2, top - 0.02, 0.014)):
            c.paint(outline, steel, distance_m=38, heat_c=-3)
        c.paint(limb(x + 0.17, top, x + 0.17, top + 0.12, 0.005), (0.1, 0.1, 0.1), distance_m=38)
    for _ in range(rng.integers(4, 8)):  # moored masts
        x, d = rng.uniform(0.02, 0.98), rng.uniform(16, 30)
        y = min(h + 0.5 / d + 0.03, quay)
        c.paint(limb(x, y, x, y - rng.uniform(5, 8) / d, 0.009), _tone(rng, 0.8, 0.78, 0.72), distance_m=d)
        c.paint(
            np.array([[x - 1.2 / d, y - 0.3 / d], [x + 1.4 / d, y - 0.3 / d], [x + 1.0 / d, y + 0.2 / d],
                      [x - 1.0 / d, y + 0.2 / d]]),
            rng.uniform(0.2, 0.95, 3), distance_m=d, heat_c=2,
        )  # fmt: skip
    c.paint(
        rectangle(0, quay, 1, 1), _tone(rng, 0.5, 0.49, 0.47), heat_c=7 * day + 1, texture=0.15,
        surface="ground", distance_m=1,
    )  # fmt: skip
    c.paint(
        rectangle(0, quay, 1, quay + 0.025), _tone(rng, 0.35, 0.33, 0.31), heat_c=5 * day, surface="ground",
        distance_m=1,
    )  # fmt: skip
    for x in rng.uniform(0, 1, size=rng.integers(2, 4)):  # bollards
        c.paint(rectangle(x, quay - 0.04, x + 0.035, quay + 0.03), (0.1, 0.1, 0.11), distance_m=6, heat_c=3)


PAINTERS: dict[str, Callable[[Canvas, Sky, float, Rng], None]] = {
    "beach": _beach,
    "forest": _forest,
    "street": _street,
    "field": _field,
    "room": _room,
    "mountain": _mountain,
    "road": _road,
    "harbour": _harbour,
}
