"""The curves of a training run: losses and held-out precision over its steps."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from xsearch.errors import optional_module
from xsearch.train.log import read_log

__all__ = ["CURVES", "curves"]

CURVES = "curves.png"
WIDTH_IN, HEIGHT_IN, DPI = 10, 3.6, 100
FEW = 60  # points, below which each is marked
LEGEND_ROWS = 21
# Okabe and Ito's colours, which the colour-blind tell apart; then the same again with other dashes.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DASHES = ("-", "--", ":", "-.")

Curves = dict[str, dict[str, list[tuple[int, float]]]]  # by name and stage: steps of the run, values


def curves(run: Path, path: Path) -> None:
    """Draw the log of a run as a PNG, 1,000 pixels wide: losses, and below them P@1 on held-out pairs.

    Stages follow each other along the axis; the legend has the last values.
    Raises UsageError without matplotlib.
    """
    optional_module("matplotlib", "plot")
    from matplotlib.figure import Figure

    starts: dict[str, int] = {}  # steps before each stage
    losses: Curves = defaultdict(lambda: defaultdict(list))
    precisions: Curves = defaultdict(lambda: defaultdict(list))
    last = 0
    for entry in read_log(run):
        stage = entry["stage"]
        step = starts.setdefault(stage, last) + entry["step"]
        last = max(last, step)
        for name, value in entry.items():
            if name.startswith("loss "):
                losses[name.removeprefix("loss ")][stage].append((step, value))
            elif ">" in name:
                precisions[name][stage].append((step, value))
    charts = [(label, series) for label, series in (("loss", losses), ("held-out P@1", precisions)) if series]
    figure = Figure((WIDTH_IN, HEIGHT_IN * max(len(charts), 1)), dpi=DPI, layout="constrained")
    figure.suptitle(f"Training of {run.absolute().name}", x=0.01, ha="left", size=12)
    for number, (label, series) in enumerate(charts, start=1):
        axes = figure.add_subplot(len(charts), 1, number, xlabel="step", ylabel=label, xlim=(0, max(last, 1)))
        axes.set_prop_cycle(color=COLOURS * len(DASHES), linestyle=np.repeat(DASHES, len(COLOURS)))
        final = {name: max(max(stages.values()))[1] for name, stages in series.items()}
        for name in sorted(final, key=lambda name: -final[name]):
            (line,) = axes.plot([], [], label=f"{name}  {final[name]:.2f}")
            for points in series[name].values():
                steps, values = zip(*sorted(points), strict=True)
                marker = "o" if len(points) < FEW else ""
                colour, dashes = line.get_color(), line.get_linestyle()
                axes.plot(steps, values, color=colour, linestyle=dashes, marker=marker, markersize=3)
        axes.grid(axis="y", color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
        for stage, start in starts.items():
            axes.axvline(start, color="0.8", linestyle=":")
            if number == 1:
                axes.text(start, 1.02, stage, fontsize=9, transform=axes.get_xaxis_transform())
        columns = -(-len(series) // LEGEND_ROWS)
        axes.legend(
            loc="upper left",
            bbox_to_anchor=(1, 1.05),
            fontsize=9,
            frameon=False,
            ncols=columns,
            labelspacing=0.1,
        )
    figure.savefig(path, metadata={"Software": None})
