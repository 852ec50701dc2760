"""Does `expected` mean what it says? Unrelated items that are as near, beside how many it announces.

    python -m benchmarks.reliability                    # the bundled model; about a minute on one core
    python -m benchmarks.reliability --corpus FOLDER --json out.json --plot reliability.png

Queries and items are those of `benchmarks.none`: scenes that the model has not seen, each in six modalities,
and a labelled folder of real media. The answers to a query are taken away: scenes of the same subject and
place, media of the same concept. `scenes, no half answers` lacks those of the same subject or place too; a
motion recording has only a place. For each e: how many of the remaining items of a kind have at most e
expected, on average over the queries of all kinds. It is e if `expected` means what it says. Intervals: 95 %,
percentile bootstrap over the scenes or files that ask, each in all its modalities.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.labelled import Corpus
from benchmarks.none import BOUNDS, ITEMS, QUERIES, compared, corpus_queries, worth_of
from benchmarks.ranking import Mixed
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import optional_module
from xsearch.evaluate import MODALITIES, embed_scenes
from xsearch.evaluate.chart import BLUE, GREEN, INK, ORANGE, PALE, STYLE
from xsearch.query import Part, Query, View
from xsearch.scenes import sample
from xsearch.types import Modality

ANNOUNCED = (*BOUNDS, 30.0)
RESAMPLES, SEED = 2_000, 0  # of the bootstrap
WIDTH_IN, HEIGHT_IN, DPI = 10, 5.6, 100
SETS = {"scenes": BLUE, "scenes, no half answers": GREEN, "real media": ORANGE}


class Counts:
    """How many items of each kind have at most each of ANNOUNCED expected, by query."""

    def __init__(self) -> None:
        self.parts: dict[Modality, list[tuple[np.ndarray, np.ndarray]]] = {}
        self.items: dict[Modality, int] = {}

    def add(
        self, view: View, queries: Sequence[Query], askers: np.ndarray, kind: Modality, unrelated: np.ndarray
    ) -> None:
        """askers: int [Q], the scene or file of each query; unrelated: bool [Q, n], the items that count."""
        cosines, scales, code = compared(view, queries, kind)
        expected = unrelated.sum(axis=1, keepdims=True) * scales.chances(cosines, code)
        counts = np.stack([((expected <= e) & unrelated).sum(axis=1) for e in ANNOUNCED], axis=1)
        self.parts.setdefault(kind, []).append((askers, counts))
        self.items[kind] = unrelated.shape[1]

    def figures(self) -> dict[str, dict[str, Any]]:
        """By kind: how many items and queries; for each of ANNOUNCED the mean count with its interval."""
        figures = {}
        for kind, parts in self.parts.items():
            askers, counts = (np.concatenate(some) for some in zip(*parts, strict=True))
            _, units, sizes = np.unique(askers, return_inverse=True, return_counts=True)
            sums = np.zeros((len(sizes), len(ANNOUNCED)))
            np.add.at(sums, units, counts)
            drawn = np.random.default_rng(SEED).integers(len(sizes), size=(RESAMPLES, len(sizes)))
            means = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)[:, None]
            low, high = np.quantile(means, (0.025, 0.975), axis=0).tolist()
            measured = counts.mean(axis=0).tolist()
            sizes_of = {"items": self.items[kind], "queries": len(units)}
            figures[str(kind)] = sizes_of | {"measured": measured, "low": low, "high": high}
        return figures


def on_scenes(backend: ImageBindBackend, items: int, asking: int) -> dict[str, Counts]:
    scenes, asked = sample(items, seed=ITEMS), sample(asking, seed=QUERIES)
    view = View(Mixed(backend.fingerprint, embed_scenes(backend, scenes)).snapshot)
    whole, half = Counts(), Counts()
    for a, vectors in embed_scenes(backend, asked).items():
        queries = [Query((Part(a, vector),)) for vector in vectors]
        for b in MODALITIES:
            worth = worth_of(asked, scenes, place_only=Modality.IMU in (a, b))
            whole.add(view, queries, np.arange(asking), b, worth < 2)
            if b != Modality.IMU:
                half.add(view, queries, np.arange(asking), b, worth < 1)
    return {"scenes": whole, "scenes, no half answers": half}


def on_corpus(corpus: Corpus) -> Counts:
    view = View(corpus.collection.snapshot())
    files = np.array([str(label.path) for label in corpus.shown])
    counts = Counts()
    for _, rows, queries, worth in corpus_queries(corpus):
        for b in view.snapshot.counts():
            counts.add(view, queries, files[rows], b, worth[:, view.snapshot.modalities == b] == 0)
    return counts


def run(model: str | None, *, items: int, queries: int, corpus: Path | None = None) -> dict:
    backend = ImageBindBackend.load(model)
    sets = on_scenes(backend, items, queries)
    if corpus is not None:
        with TemporaryDirectory() as folder:
            sets["real media"] = on_corpus(Corpus.ingest(corpus, Path(folder) / "corpus", model))
    about = {"model": backend.fingerprint.name, "digest": backend.fingerprint.digest, "announced": ANNOUNCED}
    return about | {"sets": {name: counts.figures() for name, counts in sets.items()}}


def markdown(result: dict) -> str:
    rows = [
        (name, kind, f"{of['items']:,}", f"{of['queries']:,}", *(f"{value:.2g}" for value in of["measured"]))
        for name, by_kind in result["sets"].items()
        for kind, of in by_kind.items()
    ]
    header = ("set", "kind", "items", "queries", *(f"e {e:g}" for e in result["announced"]))
    return command.table(header, rows)


def draw(result: dict, path: Path) -> None:
    """A PNG, 1,000 pixels wide: a chart for each kind of items. Raises UsageError without matplotlib."""
    matplotlib = optional_module("matplotlib", "plot")
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    sets, announced = result["sets"], np.array(result["announced"])
    kinds = [kind for kind in Modality if any(kind in by_kind for by_kind in sets.values())]
    limits = announced[0] / 1.5, announced[-1] * 1.5
    lines = {}
    with matplotlib.rc_context(STYLE):
        figure = Figure((WIDTH_IN, HEIGHT_IN), dpi=DPI, layout="constrained")
        columns = -(-(len(kinds) + 1) // 2)  # one more, for the legend
        *panels, last = figure.subplots(2, columns, sharex=True, sharey=True).flat
        for axes, kind in zip(panels, kinds, strict=False):
            (lines["as announced"],) = axes.plot(limits, limits, "--", color=INK, linewidth=1)
            for name, colour in SETS.items():
                if of := sets.get(name, {}).get(kind):
                    few = announced <= of["items"]
                    x = announced[few]
                    curves = (np.array(of[key])[few] for key in ("measured", "low", "high"))
                    measured, low, high = (np.maximum(curve, 1e-9) for curve in curves)  # 0 is below the axis
                    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
                    (lines[name],) = axes.plot(x, measured, "o-", color=colour, markersize=3)
            axes.set(title=str(kind), xscale="log", yscale="log", xlim=limits, ylim=limits)
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_formatter(FuncFormatter(lambda e, _: f"{e:g}"))
            axes.minorticks_off()
            axes.tick_params(labelbottom=True)
            axes.grid()
        for axes in [*panels[len(kinds) :], last]:
            axes.set_axis_off()
        last.legend(lines.values(), lines, loc="center")
        title = "Items that are no answer: how many are as near, beside how many are announced"
        figure.suptitle(title, x=0.01, ha="left", size=12)
        figure.supxlabel("announced: expected by chance", color=PALE, size=9)
        figure.supylabel("measured: items as near, per query", color=PALE, size=9)
        figure.savefig(path, metadata={"Software": None})


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--items", type=int, default=500, help="scenes")
    parser.add_argument("--queries", type=int, default=192, help="scenes")
    parser.add_argument("--corpus", type=Path, help="a labelled folder")
    parser.add_argument("--plot", type=Path, help="draw the figures, as PNG")
    options = parser.parse_args()
    result = run(options.model, items=options.items, queries=options.queries, corpus=options.corpus)
    command.report(result, markdown, options.json)
    if options.plot:
        draw(result, options.plot)


if __name__ == "__main__":
    main()
