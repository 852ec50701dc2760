"""An evaluation as one picture, drawn with matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from xsearch.errors import optional_module
from xsearch.evaluate.evaluation import Evaluation
from xsearch.types import Modality

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["draw"]

WIDTH_IN, ROW_IN, DPI = 8.6, 0.34, 200  # 1720 pixels: legible on any screen, also at half the size
PALE, GRID = "#6b7280", "#e5e7eb"
STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": GRID,
    "axes.labelcolor": PALE,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 9,
    "axes.titlecolor": PALE,
    "font.size": 8.5,
    "grid.color": GRID,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "xtick.color": PALE,
}
COLOURS = dict(
    zip(Modality, ("#3b6fb6", "#d9822b", "#3a9d5d", "#8a63b8", "#8c6d46", "#c8443f", "#c14d8e"), strict=True)
)
RELATIONS = {
    "trained": ("pair is trained", "#3b6fb6"),
    "emergent": ("pair emerges", "#d9822b"),
    "same": ("within one tower", "#c3c8cf"),
}
DARK, MIDDLE, LIGHT = "#1f4e8c", "#5b8fd0", "#b5cfee"
PUBLISHED = "#d9822b"
RECALLS = {"r_at_1": ("R@1", DARK), "r_at_5": ("R@5", MIDDLE), "r_at_10": ("R@10", LIGHT)}
ACCURACIES = {"top1": ("top 1", DARK), "top5": ("top 5", MIDDLE), "mean_per_class": ("per class", LIGHT)}
PRECISIONS = {"p_at_1": ("P@1", DARK), "p_at_10": ("P@10", MIDDLE)}
COMPOSED = {"p_at_1": ("first hit is right", DARK)}
POINTS = 300  # of each modality

Panel = tuple[float, Callable[["SubFigure"], None]]  # height in inches, and what draws it


def draw(evaluation: Evaluation, title: str) -> Image.Image:
    """RGB, 1720 pixels wide: a panel for each section of the evaluation, one below the other.

    Raises UsageError without matplotlib.
    """
    matplotlib = optional_module("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = list(_panels(evaluation))
    with matplotlib.rc_context(STYLE):
        heights = [height for height, _ in panels]
        size = (WIDTH_IN, 0.5 + sum(heights))
        figure = Figure(size, dpi=DPI, layout="constrained")
        figure.suptitle(title, x=0.02, ha="left", size=13)
        if panels:
            parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False, hspace=0.02)
            for part, (_, fill) in zip(parts.flat, panels, strict=True):
                fill(part)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def _panels(evaluation: Evaluation) -> list[Panel]:
    figures = evaluation.figures
    panels = []
    if rows := figures.get("retrieval"):
        names = [f"{row['query']} to {row['answer']}" for row in rows]
        panels.append(_bars("Retrieval", names, rows, RECALLS))
    if rows := figures.get("zero_shot"):
        names = [f"{row['modality']}, {row['classes']} classes" for row in rows]
        panels.append(_bars("Zero-shot classification", names, rows, ACCURACIES))
    if rows := figures.get("words"):
        panels.append(_bars("Label words", [f"text to {row['answer']}" for row in rows], rows, PRECISIONS))
    if rows := figures.get("matrix"):
        kinds = list(dict.fromkeys(row["query"] for row in rows))
        panels.append((1.1 + 0.42 * len(kinds), partial(_matrix, rows, kinds)))
    if shares := figures.get("composition"):
        rows = [{"p_at_1": share} for share in shares.values()]
        panels.append(_bars("Composition", list(shares), rows, COMPOSED))
    if len(evaluation.vectors) > 1:
        panels.append((max(3.6, 0.9 + 0.2 * len(figures["gap"])), partial(_gap, evaluation)))
    return panels


def _bars(
    heading: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]], bars: dict[str, tuple[str, str]]
) -> Panel:
    """Shares from 0 to 1, those of a row within one another; a mark where a published figure is."""

    def fill(part: SubFigure) -> None:
        axes = part.subplots()
        axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(range(len(rows)), names)
        axes.grid(axis="x")
        for y, row in enumerate(rows):
            for key in sorted(bars, key=lambda key: row[key])[::-1]:  # the first is never covered
                axes.barh(y, row[key], 0.72, color=bars[key][1])
            if "published" in row:
                axes.vlines(row["published"], y - 0.45, y + 0.45, color=PUBLISHED, linewidth=2)
            values = "   ".join(f"{label} {row[key]:.3f}" for key, (label, _) in bars.items())
            axes.annotate(
                values, (1, y), (8, 0), textcoords="offset points", va="center", annotation_clip=False
            )
        legend = dict(bars.values())
        if any("published" in row for row in rows):
            legend[f"ImageBind's {next(iter(legend))}, published"] = PUBLISHED
        _heading(part, heading, legend)

    return 0.85 + ROW_IN * len(rows), fill


def _heading(part: SubFigure, heading: str, colours: Mapping[str, str], *, frames: bool = False) -> None:
    """What a panel shows, and in the same line its legend."""
    from matplotlib.patches import Patch

    handles = [
        Patch(facecolor="white" if frames else colour, edgecolor=colour, linewidth=1.5, label=label)
        for label, colour in colours.items()
    ]
    part.suptitle(heading, x=0.02, ha="left", size=11)
    part.legend(handles=handles, loc="upper right", ncols=len(handles), borderaxespad=0.1)


def _matrix(rows: Sequence[Mapping[str, Any]], kinds: Sequence[str], part: SubFigure) -> None:
    """Precision at 1 of every modality (a row each) among every other."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    axes = part.subplots()
    axes.set(xlim=(-0.5, len(kinds) - 0.5), ylim=(len(kinds) - 0.5, -0.5), xlabel="answer", ylabel="query")
    axes.set_xticks(range(len(kinds)), kinds)
    axes.set_yticks(range(len(kinds)), kinds)
    axes.spines[:].set_visible(False)
    colours = LinearSegmentedColormap.from_list("", ["white", DARK])
    for row in rows:
        x, y = kinds.index(row["answer"]), kinds.index(row["query"])
        share = row["p_at_1"] if row["queries"] else 0.0
        frame = RELATIONS[row["relation"]][1]
        box = Rectangle(
            (x - 0.47, y - 0.43), 0.94, 0.86, facecolor=colours(share), edgecolor=frame, linewidth=1.5
        )
        axes.add_patch(box)
        text = f"{share:.2f}" if row["queries"] else "-"  # no label in common
        axes.text(x, y, text, ha="center", va="center", color="white" if share > 0.5 else "black")
    _heading(part, "P@1 of each modality among each other", dict(RELATIONS.values()), frames=True)


def _gap(evaluation: Evaluation, part: SubFigure) -> None:
    """Vectors on their first two principal components, and the distances between the means."""
    chosen = {kind: rows[:: len(rows) // POINTS + 1] for kind, rows in evaluation.vectors.items()}
    every = np.concatenate(list(chosen.values()))
    centre = every.mean(axis=0)
    directions = np.linalg.svd(every - centre, full_matrices=False)[2][:2]  # [2, dim]
    left, right = part.subplots(1, 2, width_ratios=(1.15, 1))
    for kind, rows in chosen.items():
        x, y = directions @ (rows - centre).T  # [n] each
        left.scatter(x, y, s=5, color=COLOURS[kind], linewidths=0)
    left.set(title="vectors", xlabel="principal component 1", ylabel="principal component 2")
    left.set_aspect("equal", "datalim")
    _heading(part, "Modality gap", {str(kind): COLOURS[kind] for kind in chosen})
    gaps = evaluation.figures["gap"]
    bars = right.barh(
        [f"{row['a']}, {row['b']}" for row in gaps], [row["distance"] for row in gaps], color=MIDDLE
    )
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(title="means", xlabel="distance", ylim=(max(len(gaps), 8) - 0.4, -0.6))
    right.margins(x=0.15)
    right.grid(axis="x")
