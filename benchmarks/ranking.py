"""In what order should the answers of six modalities stand? Ways to rank a mixed collection, compared.

    python -m benchmarks.ranking                     # the bundled model; about 10 minutes on 2 cores
    python -m benchmarks.ranking --scenes 300 --seeds 3 --corpus FOLDER --json out.json

`even` and `uneven`: the items are scenes that the model has not seen, each in six modalities; `uneven` has a
fifth of them in all modalities but pictures. The queries are other scenes: in one modality, or as a sum of
two scenes with the same subject and place in two. An item is worth 1 for the subject of the query and 1 for
its place; a motion recording asks for a place only, as it holds no subject. `apart`: the same as `even` after
a vector of length 1 has been added to all of each modality, as the towers of other models are apart.
`corpus`: a labelled folder of real media (benchmarks/labelled.py), its files as queries; each file's own
items are left out, and texts that the model cannot read. `P@10`: share of the first ten that are worth most.
`nDCG@10` counts 2^worth - 1. Prints Markdown and, with --json, writes the same figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import cast

import numpy as np
import pyarrow as pa

from benchmarks import command
from benchmarks.labelled import Corpus, ndcg
from xsearch.backend import Backend
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.evaluate import MODALITIES, embed_scenes
from xsearch.query import Part, Query, View, calibrate, embed, search_many
from xsearch.scenes import PLACES, SUBJECTS, Scene, sample
from xsearch.store import Snapshot, Store
from xsearch.types import Fingerprint, Modality

TOP = 10
ITEMS, QUERIES = (
    7_000_003,
    8_000_003,
)  # seeds; the trainer's is 1, and 5,000,003 to 6,000,005 chose the winner
SAMPLE = 256  # items of a kind that stand for all of them
NEIGHBOURS = 10  # of CSLS (Conneau et al., ICLR 2018, arXiv:1710.04087, section 2.3)
NORMAL_TAIL = 1.645  # standard deviations that the 95th percentile of normal figures is above their median
OWN = 30  # items of a query's own file at most
MAD = 1.4826  # times the median absolute deviation: the standard deviation of normal figures


@dataclass(frozen=True)
class Mixed:
    """A collection: vectors of unit length by modality, and what each item shows."""

    fingerprint: Fingerprint
    vectors: dict[Modality, np.ndarray]  # float32 [n, D] each

    @cached_property
    def items(self) -> np.ndarray:
        """float32 [N, D]"""
        return np.concatenate(list(self.vectors.values()))

    @cached_property
    def kinds(self) -> np.ndarray:
        """str [N]"""
        return np.repeat([str(kind) for kind in self.vectors], [len(rows) for rows in self.vectors.values()])

    @cached_property
    def samples(self) -> dict[Modality, np.ndarray]:
        rng = np.random.default_rng(0)
        return {kind: rng.permutation(rows)[:SAMPLE] for kind, rows in self.vectors.items()}

    def usual(self, a: Modality, b: Modality) -> np.ndarray:
        """The cosines of two samples, an item not with itself."""
        cosines = self.samples[a] @ self.samples[b].T
        return cosines[np.triu_indices(len(cosines), k=1)] if a == b else cosines.ravel()

    @cached_property
    def snapshot(self) -> Snapshot:
        """The same as the program keeps it; the files are mapped and may go."""
        rows = {"path": [f"/{row}" for row in range(len(self.kinds))], "modality": self.kinds.tolist()}
        with TemporaryDirectory() as folder:
            store = Store.create(Path(folder) / "mixed", self.fingerprint)
            with store.writer() as writer:
                writer.add(pa.table(rows), self.items)
                writer.commit()
                writer.set_calibration(calibrate(writer.snapshot).to_dict())
                writer.commit()
            return store.snapshot()


@dataclass(frozen=True)
class Asked:
    """Queries of one form: the sum of a vector of each of these modalities."""

    parts: dict[Modality, np.ndarray]  # float32 [Q, D] each
    worth: np.ndarray  # int [Q, N]: 0 to 2 for each item, -1 for the query's own

    @cached_property
    def norm(self) -> np.ndarray:
        """[Q, 1]: how long the sums are."""
        return np.linalg.norm(sum(self.parts.values()), axis=1, keepdims=True)

    @property
    def vectors(self) -> np.ndarray:
        """float32 [Q, D], rows of length 1."""
        return np.asarray(sum(self.parts.values()) / self.norm)


def scene_worth(parts: Sequence[Modality], asking: list[Scene], shown: list[Scene]) -> np.ndarray:
    """int [Q, N]: 0 to 2."""
    worth = same(asking, shown, "place")
    return worth if set(parts) == {Modality.IMU} else worth + same(asking, shown, "subject")


def same(some: Sequence[Scene], others: Sequence[Scene], what: str) -> np.ndarray:
    """Whether each two scenes have the same "place" or "subject": int [some, others], 0 or 1."""
    a, b = (np.array([getattr(scene, what) for scene in scenes]) for scenes in (some, others))
    return (a[:, None] == b[None, :]).astype(int)


def by_kinds(centre: Callable, spread: Callable) -> Callable[[Mixed, Asked], np.ndarray]:
    """(cosine - centre) / spread of all queries of these kinds, put together as the program does."""

    def scores(mixed: Mixed, asked: Asked) -> np.ndarray:
        found = asked.vectors @ mixed.items.T
        for kind in mixed.vectors:
            usual = [mixed.usual(part, kind) for part in asked.parts]
            middle = sum(centre(cosines) for cosines in usual) / asked.norm
            width = sum(spread(cosines) ** 2 for cosines in usual) ** 0.5 / asked.norm
            found[:, mixed.kinds == kind] = (found[:, mixed.kinds == kind] - middle) / width
        return found

    return scores


def by_query(centre: Callable, spread: Callable) -> Callable[[Mixed, Asked], np.ndarray]:
    """(cosine - centre) / spread of this very query."""

    def scores(mixed: Mixed, asked: Asked) -> np.ndarray:
        found = asked.vectors @ mixed.items.T
        for kind, items in mixed.samples.items():
            usual = asked.vectors @ items.T  # [Q, S]
            middle, width = (np.array([f(row) for row in usual])[:, None] for f in (centre, spread))
            found[:, mixed.kinds == kind] = (found[:, mixed.kinds == kind] - middle) / np.maximum(width, 1e-3)
        return found

    return scores


def quota(mixed: Mixed, asked: Asked) -> np.ndarray:
    """The best of each modality, then the second of each, and so on; by cosine within a round."""
    found = asked.vectors @ mixed.items.T
    for kind in mixed.vectors:
        own = found[:, mixed.kinds == kind]
        found[:, mixed.kinds == kind] -= 10 * np.argsort(np.argsort(-own, axis=1), axis=1)
    return found


def csls(mixed: Mixed, asked: Asked) -> np.ndarray:
    """2 cosine - r(query) - r(item), r: the mean cosine to the nearest of the other's modality."""
    found = 2 * asked.vectors @ mixed.items.T
    for kind, items in mixed.vectors.items():
        of_query = _nearest(asked.vectors @ mixed.samples[kind].T)  # [Q, 1]
        of_items = [_nearest(items @ mixed.samples[part].T) for part in asked.parts]  # [n, 1] each
        found[:, mixed.kinds == kind] -= of_query + sum(of_items).T / asked.norm
    return found


def _nearest(cosines: np.ndarray) -> np.ndarray:
    return np.sort(cosines, axis=1)[:, -NEIGHBOURS:].mean(axis=1, keepdims=True)


def _mad(cosines: np.ndarray) -> float:
    return MAD * float(np.median(np.abs(cosines - np.median(cosines))))


def _tail(cosines: np.ndarray) -> float:
    return float(np.quantile(cosines, 0.95) - np.median(cosines))


def centred(mixed: Mixed, asked: Asked) -> np.ndarray:
    """The cosine of query and item as seen from the means of their modalities."""
    means = {kind: items.mean(axis=0) for kind, items in mixed.samples.items()}
    found = np.empty((len(asked.worth), len(mixed.kinds)), np.float32)
    query = np.sum([part - means[kind] for kind, part in asked.parts.items()], axis=0)
    for kind, items in mixed.vectors.items():
        away = items - means[kind]
        found[:, mixed.kinds == kind] = query @ (away / np.linalg.norm(away, axis=1, keepdims=True)).T
    return found


def with_width(mixed: Mixed, asked: Asked) -> np.ndarray:
    """Median and 95th percentile of the kinds, in units that the widths of the kinds have a part in."""
    found = by_kinds(np.median, _tail)(mixed, asked)
    power = (2 - 1 / len(asked.parts)) / 3
    for kind in mixed.vectors:
        square = sum(_tail(mixed.usual(part, kind)) ** 2 for part in asked.parts)
        spread = square**0.5 / asked.norm / NORMAL_TAIL
        width = float(np.sqrt(1 - mixed.usual(kind, kind).mean()))
        found[:, mixed.kinds == kind] *= NORMAL_TAIL * spread ** (1 - power) / width ** (1 - power)
    return found


WAYS: dict[str, Callable[[Mixed, Asked], np.ndarray]] = {
    "cosine": lambda mixed, asked: asked.vectors @ mixed.items.T,
    "mean and standard deviation of the kinds": by_kinds(np.mean, np.std),
    "median and MAD of the kinds": by_kinds(np.median, _mad),
    "median and 95th percentile of the kinds": by_kinds(np.median, _tail),
    "mean and standard deviation of the query": by_query(np.mean, np.std),
    "median and MAD of the query": by_query(np.median, _mad),
    "median and 95th percentile of the query": by_query(np.median, _tail),
    "quota": quota,
    "CSLS": csls,
    "cosine from the kinds' means": centred,
    "median, 95th percentile and width of the kinds": with_width,
}
BALANCED = "`--rank balanced`"


def best(mixed: Mixed, asked: Asked) -> dict[str, np.ndarray]:
    """For each way int64 [Q, TOP]: the rows of the first items, without the query's own."""
    own = asked.worth < 0
    ways = {}
    for name, way in WAYS.items():
        scores = np.where(own, -np.inf, way(mixed, asked))
        ways[name] = np.argsort(-scores, axis=1, kind="stable")[:, :TOP]
    queries = [
        Query(tuple(Part(kind, part[row]) for kind, part in asked.parts.items()))
        for row in range(len(asked.worth))
    ]
    hits = search_many(
        View(mixed.snapshot), embed(queries, cast(Backend, Vectors(mixed.fingerprint))), top=TOP + OWN
    )
    others = [[hit.id for hit in some if not own[row, hit.id]][:TOP] for row, some in enumerate(hits)]
    return ways | {BALANCED: np.array(others)}


@dataclass(frozen=True)
class Vectors:
    """A backend for queries that are vectors."""

    fingerprint: Fingerprint


def measures(found: np.ndarray, worth: np.ndarray) -> dict[str, float]:
    """found: int64 [Q, TOP]. worth: int [Q, N]."""
    each = [ndcg(rows, of) for rows, of in zip(found, np.maximum(worth, 0), strict=True)]
    return {
        "p_at_10": float((np.take_along_axis(worth, found, axis=1) == worth.max()).mean()),
        "ndcg_at_10": float(np.mean(each)),
    }


def scene_collections(
    backend: ImageBindBackend, *, scenes: int, seed: int, subjects: Sequence[str]
) -> Iterator[tuple[str, Mixed, list[Asked]]]:
    n = len(subjects) * len(PLACES)  # that many scenes in a row have each subject at each place once
    shown = sample(scenes, seed=ITEMS + seed, subjects=subjects)
    asking = sample(2 * n, seed=QUERIES + seed, subjects=subjects)
    items, queries = embed_scenes(backend, shown), embed_scenes(backend, asking)
    first, second = ([(scene.subject, scene.place) for scene in some] for some in (asking[:n], asking[n:]))
    again = [n + second.index(shows) for shows in first]
    few = {kind: items[kind][: scenes if kind == Modality.IMAGE else scenes // 5] for kind in MODALITIES}
    rng = np.random.default_rng(seed)
    away = {kind: unit(rng.normal(size=backend.fingerprint.dim)).astype(np.float32) for kind in MODALITIES}
    moved, asked_for = (
        {kind: unit(some[kind] + away[kind]) for kind in MODALITIES} for some in (items, queries)
    )
    for name, vectors, of in (
        ("even", items, queries),
        ("uneven", few, queries),
        ("apart", moved, asked_for),
    ):
        of_items = [scene for rows in vectors.values() for scene in shown[: len(rows)]]
        forms = [{kind: of[kind][:n]} for kind in MODALITIES]
        forms += [{a: of[a][:n], b: of[b][again]} for a, b in combinations(MODALITIES, 2)]
        asked = [Asked(parts, scene_worth(list(parts), asking[:n], of_items)) for parts in forms]
        yield name, Mixed(backend.fingerprint, vectors), asked


def corpus_collection(corpus: Corpus) -> tuple[Mixed, list[Asked]]:
    snapshot = corpus.collection.snapshot()
    readable = ~snapshot.unread
    rows = {Modality(kind): np.flatnonzero(readable & (snapshot.modalities == kind)) for kind in Modality}
    rows = {kind: of_kind for kind, of_kind in rows.items() if len(of_kind)}
    order = np.concatenate(list(rows.values()))
    vectors = {kind: snapshot.vectors(snapshot.ids[of_kind]) for kind, of_kind in rows.items()}
    paths = [str(corpus.shown[row].path) for row in order]
    kinds = snapshot.modalities[order]
    items = np.concatenate(list(vectors.values()))
    asked = []
    for kind in vectors:
        parts, worth = [], []
        for label in corpus.files(kind):
            own = np.array([path == str(label.path) for path in paths])
            each = np.where(own, -1, corpus.worth(label.concepts, label.pair)[order])
            if (own & (kinds == kind)).any() and each.max() > 0:
                parts.append(unit(items[own & (kinds == kind)].mean(axis=0)))
                worth.append(each)
        asked.append(Asked({kind: np.stack(parts)}, np.stack(worth)))
    return Mixed(snapshot.fingerprint, vectors), asked


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def run(
    model: str | None,
    *,
    scenes: int,
    seeds: int,
    subjects: Sequence[str] = SUBJECTS,
    corpus: Path | None = None,
) -> dict:
    backend, rows = ImageBindBackend.load(model), []

    def measure(collection: str, seed: int, mixed: Mixed, forms: list[Asked]) -> None:
        for asked in forms:
            about = {"collection": collection, "seed": seed, "query": " + ".join(asked.parts)}
            for way, found in best(mixed, asked).items():
                rows.append(about | {"way": way} | measures(found, asked.worth))

    for seed in range(seeds):
        for name, mixed, asked in scene_collections(backend, scenes=scenes, seed=seed, subjects=subjects):
            measure(name, seed, mixed, asked)
    if corpus is not None:
        with TemporaryDirectory() as folder:
            measure("corpus", 0, *corpus_collection(Corpus.ingest(corpus, Path(folder) / "c", model)))
    queries = len(subjects) * len(PLACES)
    return {
        "model": backend.fingerprint.name,
        "scenes": scenes,
        "queries": queries,
        "seeds": seeds,
        "rows": rows,
    }


def markdown(result: dict) -> str:
    def figure(way: str, collection: str, parts: int, measure: str) -> str:
        """The mean over the queries, and how far the seeds are from it."""
        by_seed: dict[int, list[float]] = {}
        for row in result["rows"]:
            if (row["way"], row["collection"], len(row["query"].split(" + "))) == (way, collection, parts):
                by_seed.setdefault(row["seed"], []).append(row[measure])
        means = [float(np.mean(values)) for values in by_seed.values()]
        return f"{np.mean(means):.3f} ± {np.ptp(means) / 2:.3f}"

    asked = dict.fromkeys((row["collection"], len(row["query"].split(" + "))) for row in result["rows"])
    columns = [(*form, measure) for form in asked for measure in ("p_at_10", "ndcg_at_10")]
    names = {1: "one", 2: "two", "p_at_10": "P@10", "ndcg_at_10": "nDCG@10"}
    header = ["order by", *(f"{collection}, {names[n]}: {names[m]}" for collection, n, m in columns)]
    ways = dict.fromkeys(row["way"] for row in result["rows"])
    rows = [[way, *(figure(way, *column) for column in columns)] for way in ways]
    about = (
        f"{result['scenes']} scenes in six modalities (uneven: a fifth of them in five), {result['queries']} "
        f"queries of each (one) and of each pair (two), {result['seeds']} seeds; ±: half of their range. "
        "Corpus: the mean over the modalities of its queries."
    )
    return f"{command.table(header, rows)}\n\n{about}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--model", default="bundled", help="bundled (the default), imagebind or a folder")
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--corpus", type=Path, help="a folder of media with labels.csv")
    options = parser.parse_args()
    result = run(options.model, scenes=options.scenes, seeds=options.seeds, corpus=options.corpus)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
