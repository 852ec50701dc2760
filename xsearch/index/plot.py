"""Recall-over-speed chart of the operating points measured by `tune`."""

from __future__ import annotations

import io
from collections.abc import Sequence

from xsearch.errors import optional_module
from xsearch.index.plan import OperatingPoint

__all__ = ["plot"]

# Okabe and Ito's colours, which the colour-blind tell apart; each sort has a marker of its own too.
STYLES = {
    "same": ("#0072b2", "o"),
    "cross": ("#d55e00", "s"),
    "all": ("#009e73", "^"),
    "balanced": ("#cc79a7", "D"),
}
MARGIN = 1.6  # factor around the speeds: wide enough for one of the ticks 1, 2, 5, 10, ...


def plot(
    points: Sequence[OperatingPoint],
    target: float,
    *,
    kept: tuple[int, int] | None = None,
    about: str = "",
) -> str:
    """Return an SVG of recall@10 over queries/s with the Pareto front of each sort of queries.

    points: at least one, all with the same sorts; those off the front, which another one beats, are faint or
    below the axis, which starts at the lowest of the fronts. target: requested recall, dashed. kept: nprobe
    and refine of the chosen point, which is labelled. about: what was tuned, for the title. The output is
    deterministic. Raises UsageError without matplotlib.
    """
    matplotlib = optional_module("matplotlib", "plot")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure((7.2, 4.6), layout="constrained")
    axes = figure.add_subplot(xscale="log", ylabel="recall@10")
    in_view = [target]
    fastest_first = sorted(points, key=_speed, reverse=True)
    for sort, (colour, marker) in STYLES.items():
        if sort in points[0].recalls:
            front: list[OperatingPoint] = []
            others: list[OperatingPoint] = []
            for point in fastest_first:
                gains = not front or point.recalls[sort] > front[-1].recalls[sort]
                (front if gains else others).append(point)
            in_view += [point.recalls[sort] for point in front]
            axes.plot(*_line(front, sort), color=colour, marker=marker, ms=5, label=sort, gid=sort)
            axes.plot(*_line(others, sort), marker, color=colour, ms=4, alpha=0.3, gid=f"{sort}, others")
    axes.axhline(target, color="0.35", linestyle="--", linewidth=1, label=f"target {target:g}")
    for point in points:
        if (point.nprobe, point.refine) == kept:
            speeds, recalls = [_speed(point)] * len(point.recalls), list(point.recalls.values())
            in_view += recalls
            axes.axvline(speeds[0], color="0.35", linestyle=":", linewidth=1.2)
            label = f"kept: nprobe {point.nprobe}, refine {point.refine}"
            axes.plot(speeds, recalls, "o", ms=12, mfc="none", mec="black", label=label, gid="kept")
    axes.set_xlim(_speed(fastest_first[-1]) / MARGIN, _speed(fastest_first[0]) * MARGIN)
    height = max(1 - min(in_view), 0.01)
    bottom = min(in_view) - 0.06 * height
    axes.set_ylim(bottom, 1 + 0.04 * height)
    below = sum(recall < bottom for point in points for recall in point.recalls.values())
    hidden = f", {below} below" if below else ""
    axes.set_xlabel(f"queries/s (batched); faint: beaten by another setting{hidden}")
    axes.set_title(f"Recall and speed of the index\n{about}".rstrip(), loc="left", size=11)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=9)
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "xsearch", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()


def _speed(point: OperatingPoint) -> float:
    """Queries/s."""
    return 1000 / max(point.ms_per_query, 1e-6)


def _line(points: Sequence[OperatingPoint], sort: str) -> tuple[list[float], list[float]]:
    """The coordinates of points: speeds and recalls."""
    return [_speed(point) for point in points], [point.recalls[sort] for point in points]
