"""An evaluation as one picture, drawn with matplotlib."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from xsearch.errors import optional_module
from xsearch.evaluate.evaluation import Evaluation
from xsearch.types import Modality

if TYPE_CHECKING:
    from matplotlib.figure import SubFigure

__all__ = ["draw", "wilson"]

WIDTH_IN, DPI = 8.6, 200  # 1720 pixels: legible on any screen, also at half the size
BAR_IN, GAP_IN = 0.17, 0.14  # height of a bar, space between rows
TITLE_LETTERS = 78  # of a line of the title
Z95 = 1.959964  # two-sided 95 % quantile of the normal distribution
INK, PALE, GRID = "#1f2937", "#6b7280", "#e5e7eb"
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
    "ytick.left": False,
}
# Okabe and Ito's colours, which the colour-blind tell apart (jfly.uni-koeln.de/color).
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#000000",
)  # fmt: skip
COLOURS = dict(zip(Modality, (BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK), strict=True))
RELATIONS = {
    "trained": ("pair is trained", BLUE),
    "emergent": ("pair emerges", ORANGE),
    "same": ("within one tower", "#c3c8cf"),
}
DARK, MIDDLE, LIGHT = "#2f6db5", "#7fabdc", "#c4d9f0"
PUBLISHED = RED
RECALLS = {"r_at_1": ("R@1", DARK), "r_at_5": ("R@5", MIDDLE), "r_at_10": ("R@10", LIGHT)}
ACCURACIES = {"top1": ("top 1", DARK), "top5": ("top 5", MIDDLE), "mean_per_class": ("per class", LIGHT)}
PRECISIONS = {"p_at_1": ("P@1", DARK), "p_at_10": ("P@10", MIDDLE)}
COMPOSED = {"p_at_1": ("first hit is right", DARK)}
MEANS = {"p_at_10", "mean_per_class"}  # not shares of the queries: without an interval
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
        lines = textwrap.wrap(title, TITLE_LETTERS)
        figure = Figure((WIDTH_IN, 0.3 + 0.22 * len(lines) + sum(heights)), dpi=DPI)
        figure.set_layout_engine("constrained", w_pad=0.1, h_pad=0.05)
        figure.suptitle("\n".join(lines), x=0.02, ha="left", size=13)
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
        named = {f"{row['query']} to {row['answer']}": row for row in rows}
        panels.append(_bars("Retrieval", named, RECALLS))
    if rows := figures.get("zero_shot"):
        named = {
            f"{row['modality']}, {row['classes']:,} classes": row | {"chance": 1 / row["classes"]}
            for row in rows
        }
        panels.append(_bars("Zero-shot classification", named, ACCURACIES))
    if rows := figures.get("words"):
        panels.append(_bars("Label words", {f"text to {row['answer']}": row for row in rows}, PRECISIONS))
    if rows := figures.get("matrix"):
        kinds = list(dict.fromkeys(row["query"] for row in rows))
        panels.append((1.1 + 0.42 * len(kinds), partial(_matrix, rows, kinds)))
    if shares := figures.get("composition"):
        counts = figures.get("composition_queries", {})
        named = {name: {"p_at_1": share, "queries": counts.get(name)} for name, share in shares.items()}
        panels.append(_bars("Composition", named, COMPOSED, is_sorted=False))
    if len(evaluation.vectors) > 1:
        panels.append((max(3.6, 0.9 + 0.2 * len(figures["gap"])), partial(_gap, evaluation)))
    return panels


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % score interval of a share of `count` independent trials (Wilson 1927).

    >>> [round(bound, 3) for bound in wilson(0.9, 10)]
    [0.596, 0.982]
    """
    centre = share + Z95**2 / (2 * count)
    spread = Z95 * math.sqrt(share * (1 - share) / count + (Z95 / (2 * count)) ** 2)
    scale = 1 + Z95**2 / count
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def _bars(
    heading: str,
    rows: Mapping[str, Mapping[str, Any]],
    bars: Mapping[str, tuple[str, str]],
    *,
    is_sorted: bool = True,
) -> Panel:
    """Shares from 0, with intervals; the row with the greatest first share above the others.

    rows: by name; where they are known with their number, `queries` or `samples`, and with marks for the bar
    of the first share, `chance` and `published`.
    """
    key, (first, _) = next(iter(bars.items()))
    step = len(bars) + GAP_IN / BAR_IN  # from row to row, in bars
    if is_sorted:  # NaN, of no query, goes last
        rows = dict(sorted(rows.items(), key=lambda row: -row[1][key] if row[1][key] >= 0 else 1))

    def fill(part: SubFigure) -> None:
        axes = part.subplots()
        labels: list[str] = []
        right = 0.0
        for number, (name, row) in enumerate(rows.items()):
            count = row.get("queries", row.get("samples"))
            labels.append(name if count is None else f"{name}, n = {count:,}")
            for at, (column, (_, colour)) in enumerate(bars.items()):
                trials = count if column not in MEANS else None
                right = max(right, _bar(axes, number * step + at, row[column], trials or 0, colour))
            for mark, colour, style in (("chance", INK, ":"), ("published", PUBLISHED, "-")):
                if (value := row.get(mark, math.nan)) >= 0:
                    y = number * step + np.array([-0.5, 0.5])
                    axes.plot([value] * 2, y, "-", color="white", linewidth=3)
                    axes.plot([value] * 2, y, style, color=colour, linewidth=1.8)
                    right = max(right, value)
        axes.set(xlim=(0, 1.09 * right or 1), ylim=((len(rows) - 1) * step + len(bars) - 0.3, -0.7))
        axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(1, right + 1e-9)])
        axes.set_yticks(np.arange(len(rows)) * step + (len(bars) - 1) / 2, labels)
        axes.grid(axis="x")
        axes.set_xlabel(_caption(first, rows.values(), is_sorted=is_sorted))
        legend = dict(bars.values())
        if any("published" in row for row in rows.values()):
            legend[f"ImageBind's {first}, published"] = PUBLISHED
        _heading(part, heading, legend)

    return 1.0 + BAR_IN * step * len(rows), fill


def _bar(axes: Any, y: float, share: float, count: int, colour: str) -> float:
    """Draw a share, its interval if it is of `count` queries, and its figure; return where they end."""
    if math.isnan(share):
        return 0.0
    axes.barh(y, share, 0.86, color=colour)
    end = share
    if count:
        low, end = wilson(share, count)
        axes.errorbar(
            share, y, xerr=[[max(0, share - low)], [max(0, end - share)]], color=INK, elinewidth=1, capsize=2
        )
    axes.annotate(f"{share:.3f}", (end, y), (5, 0), textcoords="offset points", va="center", size=8)
    return end


def _caption(first: str, rows: Collection[Mapping[str, Any]], *, is_sorted: bool) -> str:
    """What the order, the whiskers and the dotted lines of a panel are."""
    notes = [f"best {first} first"] if is_sorted and len(rows) > 1 else []
    if any(row.get("queries", row.get("samples")) for row in rows):
        notes.append("whiskers: 95 % Wilson interval over n queries")
    if any(row.get("chance", -1) >= 0 for row in rows):
        notes.append(f"dotted: {first} by chance")
    return "; ".join(notes)


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
        ink = "white" if share > 0.5 else INK
        if not row["queries"]:  # no label in common
            axes.text(x, y, "–", ha="center", va="center", color=PALE)
            continue
        axes.text(x, y - 0.12, f"{share:.2f}", ha="center", va="center", color=ink)
        axes.text(x, y + 0.22, f"n = {row['queries']:,}", ha="center", va="center", color=ink, size=7)
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
        left.scatter(x, y, s=6, color=COLOURS[kind], linewidths=0, alpha=0.8)
    left.set(title="vectors", xlabel="principal component 1", ylabel="principal component 2")
    left.set_aspect("equal", "datalim")
    _heading(part, "Modality gap", {str(kind): COLOURS[kind] for kind in chosen})
    gaps = sorted(evaluation.figures["gap"], key=lambda row: row["distance"])
    bars = right.barh(
        [f"{row['a']}, {row['b']}" for row in gaps], [row["distance"] for row in gaps], color=MIDDLE
    )
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set(title="means, nearest first", xlabel="distance", ylim=(max(len(gaps), 8) - 0.4, -0.6))
    right.margins(x=0.15)
    right.grid(axis="x")
