"""What a user calls against the functions under it: `Collection.search` beside index and re-rank.

    python -m benchmarks.public --folder DIR [--n 10000 --n 100000 --n 1000000] [--json out.json]

Collections of three modalities (see `benchmarks.vectors`), with the index that an ingest derives, tuned to a
recall of 0.95. Queries are vectors: half of the modalities of the items, half of a fourth. Inner: one search
of the index and the exact re-rank, ids only; at 10,000 items, where there is no index, one exact scan.
Public: ten hits with all their metadata, of single queries as objects; of batches as columns, which become
objects on first access (us for each query). Single queries take turns, A B C A B C, and so do batches.
Opening is measured in processes of their own, with the files in the system's cache; beyond: without what
FAISS takes to read its file. recall: share of the exact ten, for `balanced` of the exact balanced answer.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.search import machine
from benchmarks.systems import Inner
from benchmarks.vectors import ASKING, Cones, Data, K, cones
from xsearch.collection import Collection
from xsearch.index import exact, recall_by_score, rerank
from xsearch.query import Hits, Query, View, search_many, vector
from xsearch.store import Store
from xsearch.types import Fingerprint, Modality

SINGLES, ROUNDS, OPENINGS = 400, 5, 5
CHECKED = 100  # queries whose exact balanced answer is computed
ASKED_AS = {"same": Modality.IMAGE, "cross": Modality.TEXT}

OPEN = """
import sys, time
from pathlib import Path
import faiss, numpy as np
import xsearch
from benchmarks.public import Vectors
from xsearch.collection import Collection
from xsearch.store import Store
path, query = Path(sys.argv[1]), np.load(sys.argv[2])
start = time.perf_counter()
collection = Collection(store := Store.open(path), backend=Vectors(store.snapshot().fingerprint))
collection.search(xsearch.vector(query, "image"))
whole = time.perf_counter() - start
start = time.perf_counter()
for index in path.glob("index/*/index.faiss"):
    faiss.read_index(str(index))
print(whole, time.perf_counter() - start)
"""


@dataclass(frozen=True)
class Vectors:
    """A backend for queries that are vectors."""

    fingerprint: Fingerprint


def tuned(folder: Path, data: Data, recipe: str | None = None) -> Collection:
    """The collection of these data in a folder, made if need be; recipe: of an index if it has none."""
    path = folder / "collection"
    if not (path / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        Inner(2, "cpu").build(folder, data)
    store = Store.open(path)
    collection = Collection(store, backend=Vectors(store.snapshot().fingerprint))  # type: ignore[arg-type]
    if recipe is not None and collection.view().index is None:
        collection.build_index(recipe=recipe)
    if collection.view().index is not None and collection.index_info()["recall"] is None:
        collection.tune_index(recall=0.95)
    return collection


def measure(folder: Path, data: Data) -> dict[str, Any]:
    """folder: for the collection, which stays there."""
    collection = tuned(folder, data)
    view, asked = collection.view(), _asked(data)
    ways = _ways(collection, view)
    batches = {name: _batch(way, asked) for name, way in ways.items()}  # and with it the files are in memory
    for _ in range(ROUNDS - 1):
        for name, way in ways.items():
            batches[name] += _batch(way, asked)
    singles: dict[str, list[float]] = {name: [] for name in ways}
    for one in asked[:SINGLES]:
        for name, way in ways.items():
            start = time.perf_counter()
            answer = way([one])
            if name != "inner":
                list(answer[0])  # as objects
            singles[name].append(1000 * (time.perf_counter() - start))
    opening = [_opening(collection.path, query, folder) for query in data.queries["same"][:OPENINGS]]
    plan = view.index.plan if view.index else None
    return {
        "n": data.n,
        "index": "exact scan"
        if plan is None
        else f"{plan.recipe}, nprobe {plan.nprobe}, refine {plan.refine}",
        "segments": len(view.snapshot.manifest.segments),
        **{f"{name}_p50_ms": statistics.median(took) for name, took in singles.items()},
        **{f"{name}_p99_ms": float(np.quantile(took, 0.99)) for name, took in singles.items()},
        **{f"{name}_queries_per_s": len(asked) / statistics.median(took) for name, took in batches.items()},
        "objects_us": 1e6 * statistics.median(_objects(collection, asked) for _ in range(ROUNDS)),
        "open_s": statistics.median(whole for whole, _ in opening),
        "beyond_s": statistics.median(whole - read for whole, read in opening),
        **_recalls(collection, data),
    }


def _asked(data: Data) -> list[Query]:
    """Queries of both sorts in turns, 1,000 or all that there are."""
    pairs = zip(*(data.queries[asking] for asking in ASKING), strict=True)
    queries = [
        vector(one, ASKED_AS[asking]) for pair in pairs for asking, one in zip(ASKING, pair, strict=True)
    ]
    return queries[:1_000]


def _ways(collection: Collection, view: View) -> dict[str, Callable[[Sequence[Query]], Any]]:
    snapshot, index = view.snapshot, view.index

    def inner(queries: Sequence[Query]) -> Any:
        vectors = np.stack([query.parts[0].source for query in queries])  # type: ignore[arg-type]
        if index is None:
            return exact(vectors, snapshot.blocks(), K)
        _, ids = index.search(vectors, index.candidates(K))
        return rerank(vectors, ids, snapshot.stored, K)

    return {
        "inner": inner,
        "balanced": collection.search_many,
        "cosine": lambda queries: collection.search_many(queries, rank="cosine"),
    }


def _batch(way: Callable[[Sequence[Query]], Any], queries: Sequence[Query]) -> list[float]:
    start = time.perf_counter()
    way(queries)
    return [time.perf_counter() - start]


def _objects(collection: Collection, queries: Sequence[Query]) -> float:
    """Seconds for each query that its hits take to become objects, of a batch."""
    answers = collection.search_many(queries)
    start = time.perf_counter()
    for hits in answers:
        list(hits)
    return (time.perf_counter() - start) / len(queries)


def _opening(path: Path, query: np.ndarray, folder: Path) -> tuple[float, float]:
    """Seconds until the first query is answered; seconds that FAISS takes to read the index."""
    np.save(folder / "query.npy", query)
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(path), str(folder / "query.npy")],
        capture_output=True,
        text=True,
        check=True,
    )
    whole, read = map(float, done.stdout.split())
    return whole, read


def _recalls(collection: Collection, data: Data) -> dict[str, float]:
    figures = {}
    for asking in ASKING:
        queries = [vector(one, ASKED_AS[asking]) for one in data.queries[asking]]
        found = collection.search_many(queries, K, rank="cosine")
        figures[f"recall_cosine_{asking}"] = data.recall(asking, _ids(found))
        found = collection.search_many(queries[:CHECKED], K)
        figures[f"recall_balanced_{asking}"] = scan_recall(collection, found)
    return figures


def scan_recall(collection: Collection, found: Sequence[Hits], **options: Any) -> float:
    """recall@K of these answers, against a scan with the same options."""
    embedded = [hits.query for hits in found if hits.query is not None]
    truth = search_many(View(collection.snapshot()), embedded, top=K, **options)  # without an index
    return recall_by_score(_scores(found), _scores(truth))


def _scores(answers: Sequence[Hits]) -> np.ndarray:
    scores = np.full((len(answers), K), -np.inf, np.float32)
    for row, hits in zip(scores, answers, strict=True):
        row[: len(hits)] = hits.scores
    return scores


def _ids(answers: Sequence[Sequence[Any]]) -> np.ndarray:
    ids = np.full((len(answers), K), -1, np.int64)
    for row, hits in zip(ids, answers, strict=True):
        row[: len(hits)] = [hit.id for hit in hits]
    return ids


def run(folder: Path, sizes: Sequence[int], *, dim: int = 1024, queries: int = 1_000) -> dict[str, Any]:
    rows = []
    for n in sizes:
        data = cones(folder, Cones(n, dim, 128, 0, queries))
        rows.append(measure(folder / f"public-{n}", data))
    return {"machine": machine(), "dim": dim, "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    header = (
        "items,index,p50 ms: inner,`search`,ratio,`search` by cosine,queries/s in batches: inner,"
        "`search_many`,share,by cosine,hits as objects us,open and answer s,beyond the index file s,"
        "recall balanced; by cosine"
    )
    rows = [
        [
            f"{row['n']:,}",
            row["index"],
            f"{row['inner_p50_ms']:.2f}",
            f"**{row['balanced_p50_ms']:.2f}**",
            f"{row['balanced_p50_ms'] / row['inner_p50_ms']:.2f}",
            f"{row['cosine_p50_ms']:.2f}",
            f"{row['inner_queries_per_s']:,.0f}",
            f"**{row['balanced_queries_per_s']:,.0f}**",
            f"{row['balanced_queries_per_s'] / row['inner_queries_per_s']:.0%}",
            f"{row['cosine_queries_per_s']:,.0f}",
            f"{row['objects_us']:.0f}",
            f"{row['open_s']:.2f}",
            f"{row['beyond_s']:.2f}",
            "; ".join(
                f"{min(row[f'recall_{rank}_{asking}'] for asking in ASKING):.3f}"
                for rank in ("balanced", "cosine")
            ),
        ]
        for row in result["rows"]
    ]
    about = f"{result['machine']}, 2 threads, {result['dim']} dimensions."
    return f"{about}\n\n{command.table(header.split(','), rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors and collections")
    parser.add_argument("--n", type=int, action="append", help="items; again for more; 10000")
    options = parser.parse_args()
    command.report(run(options.folder, options.n or [10_000]), markdown, options.json)


if __name__ == "__main__":
    main()
