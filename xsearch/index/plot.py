"""A picture of what `tune` measured, as SVG: no package for it is needed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from xsearch.index.plan import OperatingPoint

__all__ = ["plot"]

WIDTH, HEIGHT, MARGIN = 640, 400, 56  # pixels
COLOURS = {"same": "#1f77b4", "cross": "#d62728"}


def plot(points: Sequence[OperatingPoint], target: float) -> str:
    """Recall over queries/s (logarithmic): a line for each sort of queries, through points that none beats.

    points: at least one, all of the same sorts. target: the recall that was wanted, drawn dashed.
    """
    speeds = [math.log10(1000 / max(point.ms_per_query, 1e-6)) for point in points]
    first, last = math.floor(min(speeds)), math.floor(max(speeds)) + 1
    low = math.floor(10 * min(min(point.recall for point in points), target, 0.9)) / 10

    def x(speed: float) -> float:
        return MARGIN + (speed - first) / (last - first) * (WIDTH - 2 * MARGIN)

    def y(recall: float) -> float:
        return HEIGHT - MARGIN - (recall - low) / (1 - low) * (HEIGHT - 2 * MARGIN)

    parts = [_text(x(power), HEIGHT - MARGIN + 18, f"{10**power:,}") for power in range(first, last + 1)]
    for step in range(6):
        recall = low + step * (1 - low) / 5
        parts += [_line(y(recall), "#ddd"), _text(MARGIN - 24, y(recall) + 4, f"{recall:.2f}")]
    parts += [_line(y(target), "#888", dashed=True), _text(WIDTH / 2, HEIGHT - 12, "queries/s")]
    for number, sort in enumerate(points[0].recalls):
        colour, best, bends = COLOURS.get(sort, "#000"), -1.0, []
        for speed, point in sorted(zip(speeds, points, strict=True), key=lambda pair: -pair[0]):
            if point.recalls[sort] > best:
                best = point.recalls[sort]
                bends.append(f"{x(speed):.1f},{y(best):.1f}")
        parts.append(f'<polyline points="{" ".join(bends)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(_text(WIDTH / 2, 20 + 16 * number, f"recall@10, {sort}", colour))
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12"'
    ground = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {box}>', ground, *parts, "</svg>\n"])


def _text(x: float, y: float, text: str, colour: str = "#000") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="middle" fill="{colour}">{text}</text>'


def _line(y: float, colour: str, *, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="4 4"' if dashed else ""
    return f'<path d="M{MARGIN} {y:.1f}H{WIDTH - MARGIN}" stroke="{colour}"{dashes}/>'
