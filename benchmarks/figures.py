"""Drawings of a person doing something: the pictures that a recording of this motion is bound to.

No picture of a wearer comes with the recordings, so each activity gets drawings of its own, never twice the
same: size, place, colours, proportions and the posture itself vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["POSTURES", "Posture", "draw"]

SIDE = 112
Point = tuple[float, float]


@dataclass(frozen=True)
class Posture:
    """Degrees from straight down, positive to the front (right); of the trunk from straight up."""

    trunk: float = 0
    thighs: tuple[float, float] = (6, -6)
    shins: tuple[float, float] = (6, -6)
    arms: tuple[float, float] = (10, -10)
    forearms: tuple[float, float] = (15, -5)
    height: float = 0.0  # of the feet above the ground, in body lengths
    prop: str = ""


STEP = {"thighs": (28, -24), "shins": (12, -38), "arms": (-25, 25), "forearms": (-5, 40)}
SEATED = {"thighs": (88, 84), "shins": (2, -4)}
SLIP = {"thighs": (75, 55), "shins": (70, 40), "arms": (-70, 120), "forearms": (-60, 130)}
POSTURES = {
    "walking": Posture(**STEP),
    "jogging": Posture(trunk=12, thighs=(62, -32), shins=(-8, -95), arms=(-60, 45), forearms=(40, 120)),
    "walking up and down stairs": Posture(**{**STEP, "thighs": (70, -8), "shins": (0, -10)}, prop="stairs"),
    "sitting on a chair and getting up": Posture(**SEATED, prop="chair"),
    "collapsing into a chair": Posture(
        trunk=-28, thighs=(75, 70), shins=(30, 22), arms=(-55, -70), forearms=(-40, -60), prop="chair"
    ),
    "crouching to tie shoes and getting up": Posture(
        trunk=62, thighs=(110, 80), shins=(-35, -80), arms=(15, 20), forearms=(10, 15)
    ),
    "jumping to reach a high object": Posture(
        thighs=(8, -20), shins=(-25, -50), arms=(172, 165), forearms=(176, 172), height=0.12, prop="object"
    ),
    "stumbling while walking": Posture(
        trunk=32, thighs=(50, -40), shins=(20, -75), arms=(80, 60), forearms=(95, 80)
    ),
    "hitting a table with the hand": Posture(
        trunk=8, arms=(55, -8), forearms=(85, -4), prop="table"
    ),
    "clapping hands": Posture(arms=(48, 44), forearms=(100, 98)),
    "opening and closing a door": Posture(arms=(62, -8), forearms=(80, -4), prop="door"),
    "falling forward after a trip": Posture(
        trunk=72, thighs=(-20, -50), shins=(-50, -85), arms=(110, 95), forearms=(115, 100),
        height=0.1, prop="stone",
    ),
    "falling forward after a slip": Posture(
        trunk=66, thighs=(-35, -60), shins=(-40, -70), arms=(100, 85), forearms=(110, 90),
        height=0.12, prop="puddle",
    ),
    "falling backward after a slip": Posture(trunk=-62, **SLIP, height=0.12, prop="puddle"),
    "falling sideways after a slip": Posture(
        trunk=-78, thighs=(80, 100), shins=(78, 102), arms=(-150, 60), forearms=(-160, 80),
        height=0.05, prop="puddle",
    ),
    "falling forward from sitting": Posture(
        trunk=70, thighs=(60, 50), shins=(-30, -45), arms=(100, 90), forearms=(110, 100), prop="chair"
    ),
    "falling backward from sitting": Posture(
        trunk=-55, thighs=(115, 105), shins=(85, 70), arms=(-80, 120), forearms=(-60, 140), prop="chair"
    ),
    "falling sideways from sitting": Posture(
        trunk=-48, thighs=(88, 60), shins=(30, 5), arms=(-120, 80), forearms=(-140, 95), prop="tilted chair"
    ),
    "falling backward when trying to sit down": Posture(
        trunk=-45, thighs=(95, 85), shins=(40, 25), arms=(-60, -80), forearms=(-40, -60), prop="far chair"
    ),
}  # fmt: skip


def draw(activity: str, rng: np.random.Generator) -> Image.Image:
    """A drawing, RGB, SIDE x SIDE."""
    posture = POSTURES[activity]
    dark = rng.integers(0, 90, 3)
    light = rng.integers(150, 256, 3)
    if rng.random() < 0.3:
        dark, light = light, dark
    ink, paper = (tuple(int(value) for value in colour) for colour in (dark, light))
    image = Image.new("RGB", (SIDE * 2, SIDE * 2), paper)
    pen = ImageDraw.Draw(image)
    unit = rng.uniform(0.85, 1.15) * SIDE * 2 / 5.2  # length of the trunk
    width = int(rng.uniform(4, 10))
    ground = SIDE * 2 * rng.uniform(0.86, 0.94)
    hip_x = SIDE * 2 * rng.uniform(0.42, 0.58)
    _body(pen, posture, hip_x, ground, unit, width, ink, rng)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return image.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _body(
    pen: ImageDraw.ImageDraw, posture: Posture, x: float, ground: float, unit: float, width: int,
    ink: tuple[int, ...], rng: np.random.Generator,
) -> None:  # fmt: skip
    def end(start: Point, degrees: float, length: float) -> Point:
        angle = np.radians(degrees + rng.normal(0, 5))
        return start[0] + length * unit * np.sin(angle), start[1] + length * unit * np.cos(angle)

    def line(*points: Point) -> None:
        pen.line(points, fill=ink, width=width, joint="curve")

    legs = []
    for thigh, shin in zip(posture.thighs, posture.shins, strict=True):
        knee = end((0, 0), thigh, 0.85)
        legs.append((knee, end(knee, shin, 0.85)))
    lowest = max(foot[1] for _, foot in legs)
    if posture.prop.endswith("chair") and posture.prop != "far chair":
        lowest = max(lowest, 0.8 * unit)
    hip = (x, ground - lowest - posture.height * 3 * unit)
    for knee, foot in legs:
        line(hip, (hip[0] + knee[0], hip[1] + knee[1]), (hip[0] + foot[0], hip[1] + foot[1]))
    neck = end(hip, 180 - posture.trunk, 1.15)
    line(hip, neck)
    for arm, forearm in zip(posture.arms, posture.forearms, strict=True):
        elbow = end(neck, arm, 0.6)
        line(neck, elbow, end(elbow, forearm, 0.55))
    head, radius = end(neck, 180 - posture.trunk, 0.38), 0.3 * unit
    pen.ellipse([head[0] - radius, head[1] - radius, head[0] + radius, head[1] + radius], fill=ink)
    line((0, ground + width), (2 * SIDE, ground + width))
    _prop(pen, posture.prop, hip, head, ground, unit, ink)


def _prop(
    pen: ImageDraw.ImageDraw, prop: str, hip: Point, head: Point, ground: float, unit: float,
    ink: tuple[int, ...],
) -> None:  # fmt: skip
    thin = max(int(unit / 14), 2)

    def lines(*points: Point) -> None:
        pen.line(points, fill=ink, width=thin)

    if prop.endswith("chair"):
        left = hip[0] - (1.3 if prop == "far chair" else 0.35) * unit
        lean = 0.35 * unit if prop == "tilted chair" else 0.0
        seat = ground - 0.85 * unit if prop == "far chair" else hip[1] + 0.1 * unit
        lines(
            (left + lean, seat - unit),
            (left, seat),
            (left + 0.8 * unit, seat),
            (left + 0.8 * unit - lean, ground),
        )
        lines((left, seat), (left - lean, ground))
    elif prop == "table":
        lines((hip[0] + 0.5 * unit, hip[1] - 0.15 * unit), (hip[0] + 2 * unit, hip[1] - 0.15 * unit))
        lines((hip[0] + 1.7 * unit, hip[1] - 0.15 * unit), (hip[0] + 1.7 * unit, ground))
    elif prop == "door":
        right = hip[0] + 1.15 * unit
        lines((right, ground), (right, ground - 3 * unit), (right + 0.9 * unit, ground - 3.2 * unit))
        lines(
            (right + 0.9 * unit, ground - 3.2 * unit),
            (right + 0.9 * unit, ground + 0.2 * unit),
            (right, ground),
        )
    elif prop == "stairs":
        for number in range(4):
            x, y = hip[0] + (0.2 + 0.5 * number) * unit, ground - 0.4 * unit * number
            lines((x, y), (x, y - 0.4 * unit), (x + 0.5 * unit, y - 0.4 * unit))
    elif prop == "object":
        x, y, r = head[0] + 0.2 * unit, head[1] - 1.1 * unit, 0.18 * unit
        pen.rectangle([x - r, y - r, x + r, y + r], fill=ink)
    elif prop == "stone":
        x = hip[0] - 1.3 * unit
        pen.ellipse([x - 0.2 * unit, ground - 0.25 * unit, x + 0.2 * unit, ground], fill=ink)
    elif prop == "puddle":
        pen.ellipse(
            [hip[0] - 0.9 * unit, ground - 0.08 * unit, hip[0] + 0.5 * unit, ground + 0.12 * unit],
            outline=ink,
        )
