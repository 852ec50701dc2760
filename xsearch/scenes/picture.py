"""Images of a scene: colour, depth and thermal, at any time within it."""

from __future__ import annotations

import numpy as np

from xsearch.scenes.canvas import FOCAL_HEIGHTS, Canvas, Rgb, View
from xsearch.scenes.places import PAINTERS
from xsearch.scenes.subjects import SHAPES
from xsearch.scenes.world import Scene

__all__ = ["render"]

_LOOKS, _POSES, _SENSOR = 1, 2, 3  # random streams of a scene that this module draws from

# RGB in 0..1: colours of scenes, then of materials.
_PAINTS = {
    "red": (0.78, 0.12, 0.1), "orange": (0.9, 0.5, 0.1), "yellow": (0.92, 0.82, 0.15),
    "green": (0.16, 0.55, 0.2), "blue": (0.13, 0.3, 0.75), "purple": (0.5, 0.2, 0.6),
    "white": (0.93, 0.93, 0.92), "black": (0.1, 0.1, 0.11), "brown": (0.45, 0.28, 0.14),
    "grey": (0.5, 0.5, 0.52),
    "dark": (0.16, 0.16, 0.2), "light": (0.88, 0.86, 0.8), "metal": (0.62, 0.64, 0.67),
    "glass": (0.25, 0.36, 0.45), "lamp": (1.0, 0.95, 0.7), "tail": (0.8, 0.1, 0.1),
    "wood": (0.42, 0.27, 0.15),
    "gold": (0.78, 0.6, 0.2), "water": (0.16, 0.36, 0.45), "beak": (0.9, 0.6, 0.15),
    "flame": (0.95, 0.4, 0.08), "ember": (1.0, 0.65, 0.12), "core": (1.0, 0.92, 0.5),
}  # fmt: skip
_SKINS = ((0.95, 0.78, 0.66), (0.78, 0.58, 0.42), (0.5, 0.34, 0.24), (0.33, 0.22, 0.16))
_GLOWING = ("lamp", "flame", "ember", "core")

# By time of day: light, sky at the zenith and at the horizon, solar heating.
_LIGHT = {
    "morning": ((0.95, 0.88, 0.8), (0.45, 0.62, 0.85), (0.95, 0.8, 0.68), 0.4),
    "noon": ((1.05, 1.04, 1.0), (0.3, 0.55, 0.9), (0.72, 0.83, 0.95), 1.0),
    "evening": ((0.85, 0.68, 0.57), (0.35, 0.35, 0.6), (0.95, 0.55, 0.32), 0.7),
    "night": ((0.38, 0.42, 0.56), (0.03, 0.04, 0.1), (0.1, 0.12, 0.22), 0.0),
}


def render(scene: Scene, *, width: int = 112, height: int = 112, t_s: float = 0.0) -> View:
    """The view `t_s` seconds after the start; pixels of the three images correspond."""
    looks, poses = scene.rng(_LOOKS), scene.rng(_POSES)
    light, zenith, haze, day = _LIGHT[scene.time]
    lamp = (np.array(light) + looks.normal(0, 0.04, size=3)) * looks.uniform(0.85, 1.15)
    shape = SHAPES[scene.subject]
    horizon = 0.46 + 0.07 * scene.viewpoint + 0.01 * np.sin(2 * np.pi * 0.4 * t_s)
    feet, share = looks.uniform(0.74, 0.92), shape.share * scene.size
    # The camera height that gives the subject this size and its feet this row.
    camera_m = (feet - horizon) * shape.height_m / share
    canvas = Canvas(width, height, horizon=horizon, camera_m=camera_m, rng=scene.rng(_SENSOR))
    top, low = (np.clip(np.array(c) + looks.normal(0, 0.05, 3), 0, 1) for c in (zenith, haze))
    PAINTERS[scene.place](canvas, (top, low), day, looks)

    main = np.clip(np.array(_PAINTS[scene.colour]) + looks.normal(0, 0.05, 3), 0, 1)
    skin = _SKINS[looks.integers(len(_SKINS))]
    paints: dict[str, Rgb] = {**_PAINTS, "main": main, "shade": main * 0.72, "skin": skin}
    facing = looks.choice([-1, 1])
    drift = facing * looks.uniform(0.0, 0.05) * t_s
    lift = looks.uniform(0.3, 0.55) if shape.flies else 0.0
    for x, scale in _herd(scene, looks) if scene.count else []:
        tall = share * scale
        base = horizon + (feet - horizon) * scale - lift
        side = facing if poses.random() < 0.8 else -facing
        lean = poses.normal(0, 0.04)
        canvas.begin()
        for outline, role, warmth in shape.parts(poses, t_s + poses.random()):
            across = (outline[:, 0] + lean * outline[:, 1]) * side * tall * height / width
            canvas.paint(
                np.stack([0.5 + x + drift + across, base - outline[:, 1] * tall], axis=1),
                paints[role],
                distance_m=FOCAL_HEIGHTS * shape.height_m / tall,
                heat_c=warmth,
                glow=float(role in _GLOWING),
            )
    return canvas.develop(np.clip(lamp, 0.05, 1.4).astype(np.float32), noise=scene.noise)


def _herd(scene: Scene, rng: np.random.Generator) -> list[tuple[float, float]]:
    """(offset from the centre, scale) of each individual, the farthest first."""
    first = 0.3 * scene.x
    others = []
    for _ in range(scene.count - 1):
        x, scale = rng.uniform(-0.42, 0.42), rng.uniform(0.7, 0.92)
        beside = x if abs(x - first) > 0.2 else x + np.copysign(0.25, x - first)
        others.append((beside, scale))
    return [*sorted(others, key=lambda o: o[1]), (first, 1.0)]
