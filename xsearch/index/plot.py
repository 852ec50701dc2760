"""Recall-over-speed chart of the operating points measured by `tune`."""

from __future__ import annotations

import io
from collections.abc import Sequence

from xsearch.errors import optional_module
from xsearch.index.plan import OperatingPoint

__all__ = ["plot"]

COLOURS = {"same": "#1f77b4", "cross": "#d62728"}


def plot(points: Sequence[OperatingPoint], target: float) -> str:
    """Return an SVG of recall@10 over queries/s with the Pareto front of each sort of queries.

    points: at least one, all with the same sorts. target: requested recall, dashed. The output is
    deterministic. Raises UsageError without matplotlib.
    """
    matplotlib = optional_module("matplotlib", "plot")
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    figure = Figure((6.4, 4.0), layout="constrained")
    axes = figure.add_subplot(xscale="log", xlabel="queries/s", ylabel="recall@10")
    for sort in points[0].recalls:
        speeds: list[float] = []
        recalls: list[float] = []
        for point in sorted(points, key=lambda point: point.ms_per_query):  # fastest first
            if not recalls or point.recalls[sort] > recalls[-1]:
                speeds.append(1000 / max(point.ms_per_query, 1e-6))
                recalls.append(point.recalls[sort])
        axes.plot(speeds, recalls, marker="o", markersize=4, color=COLOURS.get(sort), label=sort, gid=sort)
    axes.axhline(target, color="0.4", linestyle="--", linewidth=1, label=f"target {target:g}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.10g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(color="0.9")
    axes.legend()
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "xsearch", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
