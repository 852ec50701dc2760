"""An evaluation as one picture, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xsearch.evaluate.evaluation import Evaluation
from xsearch.types import Modality

__all__ = ["draw"]

SCALE = 2  # pixels per unit: sharp on any screen
WIDTH, MARGIN, LINE = 860, 28, 22
INK, PALE, GRID, GROUND = "#1b1f24", "#6b7280", "#e5e7eb", "#ffffff"
COLOURS = dict(
    zip(Modality, ("#3b6fb6", "#d9822b", "#3a9d5d", "#8a63b8", "#8c6d46", "#c8443f", "#c14d8e"), strict=True)
)
FRAMES = {"trained": "#3b6fb6", "emergent": "#d9822b", "same": "#c3c8cf"}
BARS = {"r_at_1": ("R@1", "#1f4e8c"), "r_at_5": ("R@5", "#5b8fd0"), "r_at_10": ("R@10", "#b5cfee")}
SHARES = {
    "top1": ("top 1", "#1f4e8c"),
    "top5": ("top 5", "#5b8fd0"),
    "mean_per_class": ("per class", "#b5cfee"),
}
POINTS = 300  # of each modality


def draw(evaluation: Evaluation, title: str) -> Image.Image:
    """RGB: a panel for each section that there is, below one another."""
    figures = evaluation.figures
    panels = [_title(title)]
    if rows := figures.get("retrieval"):
        names = [f"{row['query']} to {row['answer']}" for row in rows]
        panels.append(_bars("Retrieval", names, rows, BARS))
    if rows := figures.get("zero_shot"):
        names = [f"{row['modality']}, {row['classes']} classes" for row in rows]
        panels.append(_bars("Zero-shot classification", names, rows, SHARES))
    if rows := figures.get("words"):
        bars = {"p_at_1": ("P@1", "#1f4e8c"), "p_at_10": ("P@10", "#5b8fd0")}
        panels.append(_bars("Words of the labels", [f"text to {row['answer']}" for row in rows], rows, bars))
    if rows := figures.get("matrix"):
        panels.append(_matrix(rows))
    if shares := figures.get("composition"):
        bars = {"p_at_1": ("first hit is right", "#1f4e8c")}
        rows = [{"p_at_1": share} for share in shares.values()]
        panels.append(_bars("Composition", list(shares), rows, bars))
    if len(evaluation.vectors) > 1:
        panels.append(_scatter(evaluation))
    page = Image.new("RGB", (WIDTH * SCALE, sum(panel.height for panel in panels) + MARGIN * SCALE), GROUND)
    top = 0
    for panel in panels:
        page.paste(panel, (0, top))
        top += panel.height
    return page


class _Panel:
    """A strip of the page; positions in units from its upper left corner."""

    def __init__(self, height: float) -> None:
        self.picture = Image.new("RGB", (WIDTH * SCALE, round(height * SCALE)), GROUND)
        self._draw = ImageDraw.Draw(self.picture)

    def text(
        self, x: float, y: float, text: str, *, size: float = 13, colour: str = INK, anchor: str = "lm"
    ) -> None:
        font = ImageFont.load_default(size * SCALE)
        self._draw.text((x * SCALE, y * SCALE), text, fill=colour, font=font, anchor=anchor)

    def box(self, x: float, y: float, width: float, height: float, colour: str, *, frame: str = "") -> None:
        corners = [x * SCALE, y * SCALE, (x + width) * SCALE, (y + height) * SCALE]
        self._draw.rectangle(corners, fill=colour, outline=frame or None, width=2 * SCALE)

    def dot(self, x: float, y: float, radius: float, colour: str) -> None:
        self._draw.circle((x * SCALE, y * SCALE), radius * SCALE, fill=colour)


def _title(title: str) -> Image.Image:
    panel = _Panel(54)
    panel.text(MARGIN, 34, title, size=18)
    return panel.picture


def _bars(
    heading: str,
    names: Sequence[str],
    rows: Sequence[dict[str, Any]],
    bars: dict[str, tuple[str, str]],
) -> Image.Image:
    """Shares from 0 to 1, those of a row within one another; a mark where a published figure is."""
    left, wide = 210, WIDTH - 210 - 250
    panel = _Panel(58 + (LINE + 8) * len(rows) + 22)
    panel.text(MARGIN, 24, heading, size=15)
    bottom = 50 + (LINE + 8) * len(rows)
    for tenth in range(0, 11, 2):
        panel.box(left + wide * tenth / 10, 46, 0.5, bottom - 46, GRID)
        panel.text(
            left + wide * tenth / 10, bottom + 10, f"{tenth / 10:g}", size=11, colour=PALE, anchor="mm"
        )
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = 50 + (LINE + 8) * number
        panel.text(left - 12, y + LINE / 2, name, anchor="rm")
        for key, (_, colour) in sorted(bars.items(), key=lambda bar: -row[bar[0]]):
            panel.box(left, y, wide * row[key], LINE, colour)
        figures = "   ".join(f"{label} {row[key]:.3f}" for key, (label, _) in bars.items())
        panel.text(left + wide + 14, y + LINE / 2, figures, size=12)
        if "published" in row:
            panel.box(left + wide * row["published"] - 1, y - 3, 2, LINE + 6, FRAMES["emergent"])
    legend = [(label, colour) for label, colour in bars.values()]
    if any("published" in row for row in rows):
        legend.append((f"ImageBind's {legend[0][0]}, published", FRAMES["emergent"]))
    _legend(panel, legend, x=left, y=24)
    return panel.picture


def _legend(panel: _Panel, entries: Sequence[tuple[str, str]], *, x: float, y: float) -> None:
    for label, colour in entries:
        panel.box(x, y - 5, 10, 10, colour)
        panel.text(x + 16, y, label, size=12, colour=PALE)
        x += 40 + 7 * len(label)


def _matrix(rows: Sequence[dict[str, Any]]) -> Image.Image:
    """Precision at 1 of every kind (a row each) among every other."""
    kinds = list(dict.fromkeys(row["query"] for row in rows))
    wide, high, left, top = min(96, (WIDTH - 150) / len(kinds)), 40, 120, 88
    panel = _Panel(top + high * len(kinds) + 20)
    panel.text(MARGIN, 24, "Every kind among every other: share of first hits that are right", size=15)
    _legend(panel, [("pair is trained", FRAMES["trained"]), ("pair emerges", FRAMES["emergent"]),
                    ("within one tower", FRAMES["same"])], x=MARGIN, y=48)  # fmt: skip
    for row in rows:
        x, y = left + wide * kinds.index(row["answer"]), top + high * kinds.index(row["query"])
        share = row["p_at_1"] if row["queries"] else 0.0
        red, green, blue = (round(255 + share * (end - 255)) for end in (31, 78, 140))
        panel.box(
            x + 2,
            y + 2,
            wide - 4,
            high - 4,
            f"#{red:02x}{green:02x}{blue:02x}",
            frame=FRAMES[row["relation"]],
        )
        ink = GROUND if share > 0.5 else INK
        text = f"{share:.2f}" if row["queries"] else "-"  # a kind that has no label of the other
        panel.text(x + wide / 2, y + high / 2, text, colour=ink, anchor="mm")
    for number, kind in enumerate(kinds):
        panel.text(left - 12, top + high * (number + 0.5), kind, anchor="rm")
        panel.text(left + wide * (number + 0.5), top - 12, kind, anchor="mm")
    return panel.picture


def _scatter(evaluation: Evaluation) -> Image.Image:
    """Vectors on their first two principal components, and how far apart the means of the kinds are."""
    high, left, top = 330, MARGIN, 66
    panel = _Panel(top + max(high, 34 + 19 * len(evaluation.figures["gap"])) + 20)
    panel.text(MARGIN, 24, "Modality gap: vectors on their two principal components", size=15)
    _legend(panel, [(str(kind), COLOURS[kind]) for kind in evaluation.vectors], x=MARGIN, y=48)
    panel.box(left, top, high, high, GROUND, frame=GRID)
    chosen = {kind: rows[:: len(rows) // POINTS + 1] for kind, rows in evaluation.vectors.items()}
    every = np.concatenate(list(chosen.values()))
    centre = every.mean(axis=0)
    axes = np.linalg.svd(every - centre, full_matrices=False)[2][:2]  # [2, dim]
    flat = {kind: (rows - centre) @ axes.T for kind, rows in chosen.items()}  # [n, 2] each
    reach = 1.08 * np.abs(np.concatenate(list(flat.values()))).max() or 1.0
    for kind, at in flat.items():
        for x, y in left + high / 2 + at / reach * high / 2 - np.array([0, left - top]):
            panel.dot(x, y, 2, COLOURS[kind])
    panel.text(left + high + 40, top + 10, "distance of the means", size=12, colour=PALE)
    for number, row in enumerate(evaluation.figures["gap"]):
        y = top + 34 + 19 * number
        panel.text(left + high + 40, y, f"{row['a']}, {row['b']}", size=12)
        panel.text(left + high + 240, y, f"{row['distance']:.2f}", size=12, anchor="rm")
        panel.box(left + high + 252, y - 6, 60 * row["distance"], 12, BARS["r_at_5"][1])
    return panel.picture
