"""Does `expected` know when there is no answer? Queries with an answer and the same without, compared.

    python -m benchmarks.none                        # the bundled model; about 15 minutes on 2 cores
    python -m benchmarks.none --items 500 --corpus FOLDER --json out.json

The items are scenes that the model has not seen, each in six modalities; the queries are other scenes, and
the figures are of the nearest item of one modality, for all 36 pairs of them. An answer shows the subject and
the place of the query, with motion recordings on either side the place. `answered`: queries with an answer in
the collection. `unanswered`: the same queries, their answers taken away; items that show the subject alone or
the place alone *stay*. `without half`: these are taken away too, as a dog in a forest is something like a dog
at the beach. `sums`: of two modalities of two scenes with the same subject and place; `differences`: half of
another scene is subtracted. `lacking`: the collection has no items of the query's modality. `corpus`: a
labelled folder of real media (benchmarks/labelled.py), its items as queries, without those of the same file;
an answer shares a concept.

AUC: how well the figure tells answered from unanswered, mean of the pairs; `pooled`: of all pairs together,
which a single cut-off has to serve; its best one is chosen with the answers known. `e`: of all queries, with
their answers taken away if there are any, the share with at most that much expected. It should be about
min(e, 1); of unrelated items that are independent of each other it is 1 - exp(-e). Prints Markdown and, with
--json, writes the same figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from benchmarks import command
from benchmarks.labelled import Corpus
from benchmarks.ranking import Mixed, Vectors, same
from xsearch.backend import Backend
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import MODALITIES, embed_scenes
from xsearch.query import Part, Query, View, embed
from xsearch.query.scales import CODES, Scales
from xsearch.scenes import PLACES, SUBJECTS, Scene, sample
from xsearch.types import Fingerprint, Modality

ITEMS, QUERIES = 9_000_003, 10_000_003  # seeds; 31,000,003 to 41,000,003 chose the null model
BOUNDS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
DRAWS = 1_000  # items of all collections of one size together, at least
FIGURES = ("expected", "balanced", "cosine")
CASES = ("answered", "unanswered", "without half", "every")
SINGLE = ("auc", "answered", "unanswered")


@dataclass(frozen=True)
class Nearest:
    """How near the nearest item of each query is, by case and figure; higher is nearer."""

    cases: dict[str, dict[str, list[float]]] = field(
        default_factory=lambda: {case: {figure: [] for figure in FIGURES} for case in CASES}
    )

    def add(self, view: View, queries: Sequence[Query], kind: Modality, worth: np.ndarray) -> None:
        """worth: int [Q, n] of the items of `kind`: 2 for answers, 1 for half, -1 for the query's own."""
        cosines, scales, code = compared(view, queries, kind)
        answered = (worth == 2).any(axis=1)
        of_case = zip(
            CASES,
            (worth >= 0, (worth >= 0) & (worth < 2), worth == 0, (worth >= 0) & (worth < 2)),
            (answered, answered, answered, np.ones_like(answered)),
            strict=True,
        )
        for case, allowed, asked in of_case:
            asked = asked & allowed.any(axis=1)
            nearest = np.where(allowed, cosines, -1).max(axis=1, keepdims=True)  # [Q, 1]
            expected = allowed.sum(axis=1) * scales.chances(nearest, code)[:, 0]
            figures = {
                "expected": -np.log(np.maximum(expected, 1e-300)),
                "balanced": scales.balanced(nearest, code)[:, 0],
                "cosine": nearest[:, 0],
            }
            for name, values in figures.items():
                self.cases[case][name] += values[asked].tolist()

    def measures(self) -> dict[str, Any]:
        answered, unanswered, strict, every = (np.array(self.cases[case]["expected"]) for case in CASES)
        return {
            "queries": len(answered),
            "auc": auc(answered, unanswered),
            "auc_without_half": auc(answered, strict),
            "answered": share(answered, 1),
            "unanswered": share(unanswered, 1),
            "without_half": share(strict, 1),
            "reliability": [share(every, bound) for bound in BOUNDS],
        }


def compared(view: View, queries: Sequence[Query], kind: Modality) -> tuple[np.ndarray, Scales, np.ndarray]:
    """Cosines with the items of `kind`, float32 [Q, n], the queries' scales, and the code of `kind`, [1]."""
    embedded = embed(queries, cast(Backend, Vectors(view.snapshot.fingerprint)))
    items = view.snapshot.vectors(view.snapshot.select(modalities=[kind]))
    cosines = np.stack([query.vector for query in embedded]) @ items.T
    return cosines, view.scaling.of(embedded), np.array([CODES[kind]])


def share(nearness: np.ndarray, bound: float) -> float:
    """Of queries with at most `bound` expected; NaN without queries. nearness: -log of what is expected."""
    return float((nearness >= -np.log(bound)).mean()) if len(nearness) else float("nan")


def auc(high: np.ndarray, low: np.ndarray) -> float:
    """The probability that one of `high` is above one of `low`; ties count half. NaN without both."""
    if not len(high) or not len(low):
        return float("nan")
    ordered = np.sort(low)
    below = (np.searchsorted(ordered, high, "left") + np.searchsorted(ordered, high, "right")) / 2
    return float(below.mean() / len(low))


def cut(high: np.ndarray, low: np.ndarray) -> tuple[float, float]:
    """Shares of both at or above the cut-off that tells them apart best."""
    at = np.unique(np.concatenate([high, low]))
    passing = [1 - np.searchsorted(np.sort(some), at, "left") / len(some) for some in (high, low)]
    best = int((passing[0] - passing[1]).argmax())
    return float(passing[0][best]), float(passing[1][best])


Pair = tuple[str, Modality]  # the query, the items


def measured(collection: str, pairs: dict[Pair, Nearest], least: int) -> list[dict]:
    """A row for each pair with `least` answered queries, and one for all together."""
    rows = []
    for (query, kind), nearest in pairs.items():
        measures = nearest.measures()
        if cast(int, measures["queries"]) >= least:
            rows.append({"collection": collection, "query": query, "answer": str(kind), **measures})
    return rows


def pooled(collection: str, pairs: dict[Pair, Nearest]) -> list[dict]:
    """How single cut-offs of each figure do with all pairs together."""
    rows = []
    for name in FIGURES:
        high, low = (
            np.concatenate([nearest.cases[case][name] for nearest in pairs.values()]) for case in CASES[:2]
        )
        answered, unanswered = cut(high, low)
        row = {"collection": collection, "figure": name, "auc": auc(high, low)}
        rows.append(row | {"answered": answered, "unanswered": unanswered})
    return rows


def worth_of(query: Sequence[Scene], shown: Sequence[Scene], *, place_only: bool) -> np.ndarray:
    """int [Q, n]: 2 for the same subject and place, 1 for one of them; of places alone 2 or 0."""
    places = same(query, shown, "place")
    return 2 * places if place_only else places + same(query, shown, "subject")


@dataclass(frozen=True)
class Asked:
    """Queries from scenes: of one modality, and composed of several."""

    scenes: list[Scene]  # [2 n]: the second n show the same subjects and places in another order
    vectors: dict[Modality, np.ndarray]  # float32 [2 n, D] each

    def forms(self) -> Iterator[tuple[str, str, list[Query], list[Scene], bool]]:
        """Sort and name of the form, its queries, what they show, whether only a place."""
        n = len(self.scenes) // 2
        shows = [(scene.subject, scene.place) for scene in self.scenes]
        again = [n + shows[n:].index(one) for one in shows[:n]]
        other = [n + (row - n + 1) % n for row in again]
        first = self.scenes[:n]

        def parts(kind: Modality, rows: Sequence[int]) -> list[Part]:
            return [Part(kind, self.vectors[kind][row]) for row in rows]

        for a in MODALITIES:
            yield "one", str(a), [Query((part,)) for part in parts(a, range(n))], first, a == Modality.IMU
        for a, b in combinations([kind for kind in MODALITIES if kind != Modality.IMU], 2):
            two = list(zip(parts(a, range(n)), parts(b, again), strict=True))
            yield "sums", f"{a} + {b}", [Query(pair) for pair in two], first, False
            two = list(zip(parts(a, range(n)), parts(b, other), strict=True))
            yield "differences", f"{a} - {b}", [Query((x,)) - 0.5 * Query((y,)) for x, y in two], first, False


def on_scenes(
    fingerprint: Fingerprint,
    vectors: dict[Modality, np.ndarray],
    scenes: list[Scene],
    asked: Asked,
    count: int,
    draws: int,
) -> dict[str, dict[Pair, Nearest]]:
    """The pairs of each sort of query, from collections of `count` items."""
    sorts: dict[str, dict[Pair, Nearest]] = {name: {} for name in ("one", "sums", "differences", "lacking")}
    each = -(-count // len(MODALITIES))
    for start in range(0, len(scenes) - each + 1, each)[: -(-draws // count)]:
        rows = slice(start, start + each)
        drawn = {kind: some[rows] for kind, some in vectors.items()}
        view = View(Mixed(fingerprint, drawn).snapshot)
        without = {
            lacks: View(Mixed(fingerprint, {k: some for k, some in drawn.items() if k != lacks}).snapshot)
            for lacks in MODALITIES
        }
        for sort, name, queries, shown, place_only in asked.forms():
            for kind in MODALITIES:
                worth = worth_of(shown, scenes[rows], place_only=place_only or kind == Modality.IMU)
                sorts[sort].setdefault((name, kind), Nearest()).add(view, queries, kind, worth)
                if sort == "one" and name != kind:
                    lacking = sorts["lacking"].setdefault((name, kind), Nearest())
                    lacking.add(without[Modality(name)], queries, kind, worth)
    return sorts


def corpus_queries(corpus: Corpus) -> Iterator[tuple[Modality, np.ndarray, list[Query], np.ndarray]]:
    """The readable items of each modality as queries, with their rows and the worth of all items.

    worth: int [Q, N]: 2 for answers, 0 for others, -1 for those of the same file and unreadable ones.
    """
    snapshot = corpus.collection.snapshot()
    readable = ~snapshot.unread
    paths = np.array([str(label.path) for label in corpus.shown])
    vectors = snapshot.vectors(snapshot.ids)
    for a in snapshot.counts():
        rows = np.flatnonzero(readable & (snapshot.modalities == a))
        queries = [Query((Part(a, vectors[row]),)) for row in rows]
        worth = np.stack([corpus.worth(corpus.shown[row].concepts, corpus.shown[row].pair) for row in rows])
        worth = np.where(worth > 0, 2, 0)
        worth[paths[rows][:, None] == paths] = -1
        worth[:, ~readable] = -1
        yield a, rows, queries, worth


def on_corpus(corpus: Corpus) -> dict[Pair, Nearest]:
    view = View(corpus.collection.snapshot())
    pairs: dict[Pair, Nearest] = {}
    for a, _, queries, worth in corpus_queries(corpus):
        for b in view.snapshot.counts():
            pairs[str(a), b] = nearest = Nearest()
            nearest.add(view, queries, b, worth[:, view.snapshot.modalities == b])
    return pairs


def run(
    model: str | None,
    items: Sequence[int],
    *,
    draws: int = DRAWS,
    subjects: Sequence[str] = SUBJECTS,
    corpus: Path | None = None,
) -> dict:
    backend = ImageBindBackend.load(model)
    n = len(subjects) * len(PLACES)  # that many scenes in a row have each subject at each place once
    most = -(-max(*items, 2 * draws) // len(MODALITIES))
    scenes, asking = (
        sample(most, seed=ITEMS, subjects=subjects),
        sample(2 * n, seed=QUERIES, subjects=subjects),
    )
    vectors = embed_scenes(backend, scenes)
    asked = Asked(asking, embed_scenes(backend, asking))
    rows, cuts = [], []
    for count in items:
        for sort, pairs in on_scenes(backend.fingerprint, vectors, scenes, asked, count, draws).items():
            name = f"{count:,}" if sort == "one" else f"{count:,}, {sort}"
            rows += measured(name, pairs, least=1)
            cuts += pooled(name, pairs)
    if corpus is not None:
        with TemporaryDirectory() as folder:
            pairs = on_corpus(Corpus.ingest(corpus, Path(folder) / "corpus", model))
        rows += measured("corpus", pairs, least=5)
        cuts += pooled("corpus", pairs)
    return {"model": backend.fingerprint.name, "queries": n, "rows": rows, "cuts": cuts}


def markdown(result: dict) -> str:
    names = dict.fromkeys(row["collection"] for row in result["rows"])
    by_name = {name: [row for row in result["rows"] if row["collection"] == name] for name in names}

    def mean(rows: list[dict], what: str) -> str:
        return f"{np.nanmean([row[what] for row in rows]):.3f}"

    header = "items,pairs,AUC,AUC without half,answered at 1,unanswered at 1,without half at 1"
    table = [
        [name, str(len(rows)), *(mean(rows, what) for what in ("auc", "auc_without_half"))]
        + [mean(rows, what) for what in ("answered", "unanswered", "without_half")]
        for name, rows in by_name.items()
    ]
    bounds = ["items", *(f"e {bound:g}" for bound in BOUNDS)]
    curves = [
        [name, *(f"{value:.3f}" for value in np.mean([row["reliability"] for row in rows], axis=0))]
        for name, rows in by_name.items()
    ]
    cuts = [
        [row["collection"], f"`{row['figure']}`", *(f"{row[what]:.3f}" for what in SINGLE)]
        for row in result["cuts"]
    ]
    whole = [name for name in names if not name.endswith(("sums", "differences", "lacking"))]
    return "\n\n".join(
        [
            command.table(header.split(","), table),
            command.table(bounds, curves),
            command.table(
                ["items", "figure", "AUC, pooled", "answered at its best cut-off", "unanswered"], cuts
            ),
            *(f"{name}: AUC; {', '.join(CASES[:3])} at 1\n\n{matrix(by_name[name])}" for name in whole),
        ]
    )


def matrix(rows: list[dict]) -> str:
    """A table of all pairs."""
    queries, answers = (list(dict.fromkeys(row[what] for row in rows)) for what in ("query", "answer"))
    cells = {
        (row["query"], row["answer"]): f"{row['auc']:.2f}; {row['answered']:.0%} {row['unanswered']:.0%} "
        f"{row['without_half']:.0%}"
        for row in rows
    }
    body = [[query, *(cells.get((query, answer), "") for answer in answers)] for query in queries]
    return command.table(["query", *answers], body)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--items", type=int, nargs="+", default=[50, 500, 50_000])
    parser.add_argument("--corpus", type=Path, help="a labelled folder")
    options = parser.parse_args()
    command.report(run(options.model, options.items, corpus=options.corpus), markdown, options.json)


if __name__ == "__main__":
    main()
