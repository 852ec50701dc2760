"""A canvas of polygons that have colour, distance and temperature.

Shapes are drawn once, back to front, into a map of shape numbers; colour, depth and thermal images are looked
up from the same map, so that they agree pixel by pixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

__all__ = ["FAR_M", "FOCAL_HEIGHTS", "Canvas", "Rgb", "View", "ellipse", "limb", "rectangle"]

Rgb = tuple[float, float, float] | np.ndarray  # 0..1 each

FOCAL_HEIGHTS = 0.9  # focal length in picture heights: a lens of about 58 degrees
FAR_M = 50.0  # range of the depth camera (the limit of ImageBind's depth input)
_COLDEST_C, _HOTTEST_C = -10.0, 20.0  # range of the thermal camera, relative to the air
_FRONT, _GROUND, _WALL, _CEILING = range(4)
_SURFACES = {"front": _FRONT, "ground": _GROUND, "wall": _WALL, "ceiling": _CEILING}


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One rendered view, H x W pixels."""

    picture: np.ndarray  # uint8 [H, W, 3]
    depth_m: np.ndarray  # float32 [H, W], 0 out of range
    thermal: np.ndarray  # float32 [H, W], 0 cold to 1 hot, with random gain
    focal_px: float
    boxes: np.ndarray  # float32 [individuals, 4], in view: left, top, right, bottom as shares of W, H


def ellipse(x: float, y: float, rx: float, ry: float, *, n: int = 16) -> np.ndarray:
    """Outline points, float [n, 2]."""
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([x + rx * np.cos(t), y + ry * np.sin(t)], axis=1)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])


def limb(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    """A thick line from (x0, y0) to (x1, y1)."""
    length = max(np.hypot(x1 - x0, y1 - y0), 1e-9)
    nx, ny = -(y1 - y0) / length * width / 2, (x1 - x0) / length * width / 2
    return np.array([[x0 + nx, y0 + ny], [x1 + nx, y1 + ny], [x1 - nx, y1 - ny], [x0 - nx, y0 - ny]])


class Canvas:
    """Coordinates are relative to the image: x 0..1 left to right, y 0..1 top to bottom."""

    def __init__(self, width: int, height: int, *, horizon: float, camera_m: float, rng: np.random.Generator):
        self.width, self.height = width * 2, height * 2  # 2x supersampling
        self.horizon, self.camera_m, self.rng = horizon, camera_m, rng
        self.focal = FOCAL_HEIGHTS * self.height  # pixels
        self._map = Image.new("I", (self.width, self.height), 0)
        self._draw = ImageDraw.Draw(self._map)
        self._shapes: list[tuple[float, ...]] = []
        self._individuals: list[int] = []  # the first shape of each; the background's come before

    def begin(self) -> None:
        """What is painted from here on, to the next call, is one individual."""
        self._individuals.append(len(self._shapes))

    def paint(
        self,
        points: np.ndarray,
        rgb: Rgb,
        *,
        distance_m: float = 0.0,
        heat_c: float = 0.0,
        texture: float = 0.08,
        glow: float = 0.0,
        surface: str = "front",
        half_width_m: float = 3.0,
    ) -> None:
        """Fill a polygon. `distance_m` 0 is out of range; `glow` is the share of light that is independent of
        the time of day; a `wall` is `half_width_m` beside the camera, a `ceiling` as much above it."""
        number = len(self._shapes)
        pixels = points * (self.width, self.height)
        self._draw.polygon([tuple(p) for p in pixels], fill=number)
        self._shapes.append((*rgb, distance_m, heat_c, texture, glow, _SURFACES[surface], half_width_m))

    def develop(self, light: np.ndarray, *, noise: float) -> View:
        """Look up the three images from the map. light: gain of each colour at the time of day."""
        number = np.asarray(self._map)  # [2H, 2W]
        table = np.array(self._shapes, dtype=np.float32)
        cloud = self._cloud(number.shape)
        shade = table[:, 5][number] * cloud
        light_of = light + table[:, 6:7] * (1 - light)  # [shapes, 3]
        colour = (table[:, :3] * light_of)[number] * (1 + shade)[..., None]
        H, W = self.height // 2, self.width // 2
        colour = colour.reshape(H, 2, W, 2, 3).mean(axis=(1, 3))
        colour += self.rng.standard_normal((H, W, 1), dtype=np.float32) * (0.005 + 0.03 * noise)
        heat = table[:, 4][number] + 12 * shade
        heat = heat.reshape(H, 2, W, 2).mean(axis=(1, 3))
        return View(
            picture=(np.clip(colour, 0, 1) * 255).astype(np.uint8),
            depth_m=self._depth(number[::2, ::2], table, noise),
            thermal=self._thermal(heat, noise),
            focal_px=self.focal / 2,
            boxes=self._boxes(number),
        )

    def _boxes(self, number: np.ndarray) -> np.ndarray:
        """The boxes around what is to be seen of each individual."""
        boxes = []
        for first, end in pairwise([*self._individuals, len(self._shapes)]):
            visible = (number >= first) & (number < end)
            rows, columns = (np.flatnonzero(visible.any(axis=axis)) for axis in (1, 0))
            if len(rows):
                boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        scale = np.array([self.width, self.height] * 2, np.float32)
        return np.array(boxes, np.float32).reshape(-1, 4) / scale

    def _cloud(self, shape: tuple[int, int]) -> np.ndarray:
        """Smooth noise at two scales, about -1..1."""
        total = np.zeros(shape, dtype=np.float32)
        for cells, weight in ((9, 0.6), (56, 0.6)):
            grid = Image.fromarray(self.rng.standard_normal((cells, cells), dtype=np.float32))
            total += weight * np.asarray(grid.resize(shape[::-1], Image.Resampling.BILINEAR))
        return total

    def _depth(self, number: np.ndarray, table: np.ndarray, noise: float) -> np.ndarray:
        H, W = number.shape
        focal = self.focal / 2
        below = (np.arange(H) + 0.5 - self.horizon * H)[:, None]  # pixels under the horizon
        aside = np.abs(np.arange(W) + 0.5 - W / 2)[None, :]
        surface, reach = table[:, 7][number], table[:, 8][number]
        depth = table[:, 3][number]
        ground = self.camera_m * focal / np.maximum(below, 0.5)
        depth = np.where(surface == _GROUND, ground, depth)
        depth = np.where(surface == _WALL, reach * focal / np.maximum(aside, 0.5), depth)
        depth = np.where(surface == _CEILING, reach * focal / np.maximum(-below, 0.5), depth)
        speckle = self.rng.standard_normal((H, W), dtype=np.float32)
        depth = depth * (1 + (0.003 + 0.012 * noise) * speckle)
        lost = self.rng.random((H, W), dtype=np.float32) < 0.01 * noise
        return np.where((depth > FAR_M) | lost, 0, depth).astype(np.float32)

    def _thermal(self, heat_c: np.ndarray, noise: float) -> np.ndarray:
        blurred = Image.fromarray(heat_c).resize((self.width // 4, self.height // 4), Image.Resampling.BOX)
        soft = np.asarray(blurred.resize((self.width // 2, self.height // 2), Image.Resampling.BILINEAR))
        soft = 0.5 * soft + 0.5 * heat_c
        gain = self.rng.uniform(0.9, 1.1)
        grain = self.rng.standard_normal(heat_c.shape, dtype=np.float32) * (0.004 + 0.02 * noise)
        return np.clip((soft - _COLDEST_C) / (_HOTTEST_C - _COLDEST_C) * gain + grain, 0, 1).astype(
            np.float32
        )
