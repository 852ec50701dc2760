"""Where the time of a search goes, and what a graph in place of the lists would take: CPU time per query.

    python -m benchmarks.stages --folder DIR [--n 100000] [--content clusters] [--intrinsic 96]

A batch of 1,000 stored vectors as queries, half of the items' modalities (same), half of another (cross), on
one thread; medians of rounds in which all stages take turns. CPU time is the same beside other work, more or
less; on two threads the search of the index and the re-rank take half of it, the rest does not. The index is
what an ingest derives, tuned to a recall of 0.95.

The graph is FAISS's HNSW over codes of 8 bits for each of the same rotated dimensions, and the candidates of
both are re-ranked, four for each result.
"""

from __future__ import annotations

import os
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.public import ASKED_AS, tuned
from benchmarks.search import machine
from benchmarks.vectors import ASKING, Clusters, Cones, Data, K, cones
from xsearch.collection import Collection
from xsearch.index import rerank
from xsearch.index.library import load_faiss
from xsearch.query import vector

ROUNDS, REFINE = 7, 4
PROBES, DEPTHS = (16, 32, 64, 128), (48, 96, 192, 384)  # lists, efSearch
GRAPH_SAMPLE = 20_000
SMALL = "PCAR32,IVF16,PQ16x4fs"


def measure(folder: Path, data: Data) -> dict[str, Any]:
    """folder: for the collection, which stays there. One too small for an index gets one all the same."""
    collection = tuned(folder, data, recipe=SMALL)
    with _one_thread():
        return _measured(collection, data)


@contextmanager
def _one_thread() -> Iterator[None]:
    faiss = load_faiss()
    threads, setting = faiss.omp_get_max_threads(), os.environ.get("OMP_NUM_THREADS")
    faiss.omp_set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
        del os.environ["OMP_NUM_THREADS"]
        os.environ |= {} if setting is None else {"OMP_NUM_THREADS": setting}


def _measured(collection: Collection, data: Data) -> dict[str, Any]:
    index, snapshot = collection.view().index, collection.snapshot()
    assert index is not None
    half = min(500, data.about["queries"])
    rows = np.concatenate([data.queries[asking][:half] for asking in ASKING])
    asked = [vector(row, ASKED_AS[asking]) for asking in ASKING for row in data.queries[asking][:half]]
    _, ids = index.search(rows, index.candidates(K))
    ivf = load_faiss().extract_index_ivf(index.faiss)
    rotation = load_faiss().downcast_VectorTransform(index.faiss.chain.at(0))
    rotated = rotation.apply(rows)
    stages: dict[str, Callable[[], Any]] = {
        "rotation": lambda: rotation.apply(rows),
        "nearest lists": lambda: ivf.quantizer.search(rotated, index.plan.nprobe),
        "index": lambda: index.search(rows, index.candidates(K)),
        "re-rank": lambda: rerank(rows, ids, snapshot.stored, K),
        "search_many, cosine": lambda: collection.search_many(asked, rank="cosine"),
        "search_many, balanced": lambda: collection.search_many(asked),
    }
    files = collection.path.glob("index/*/index.faiss")
    return {
        **data.about,
        "index": f"{index.plan.recipe}, nprobe {index.plan.nprobe}, refine {index.plan.refine}",
        "index_bytes": max(file.stat().st_size for file in files) / data.n,
        "us": {name: took / len(rows) for name, took in _cpu_us(stages).items()},
        "curves": _curves(index, snapshot, data),
    }


def _curves(index: Any, snapshot: Any, data: Data) -> dict[str, Any]:
    """Recall and CPU time of both kinds of index by what they visit."""
    faiss = load_faiss()
    rotation = index.plan.recipe.split(",")[0]
    graph = faiss.index_factory(data.dim, f"{rotation},HNSW16_SQ8", faiss.METRIC_L2)
    vectors = data.vectors.astype(np.float32)
    start = time.process_time()
    graph.train(vectors[np.random.default_rng(0).permutation(data.n)[:GRAPH_SAMPLE]])
    graph.add(vectors)
    build_s = time.process_time() - start

    def in_graph(queries: np.ndarray, depth: int) -> np.ndarray:
        inner = faiss.SearchParametersHNSW(efSearch=depth)
        options = faiss.SearchParametersPreTransform(index_params=inner)
        return graph.search(queries, K * REFINE, params=options)[1]

    def in_lists(queries: np.ndarray, nprobe: int) -> np.ndarray:
        return index.search(queries, K * REFINE, nprobe=nprobe)[1]

    ways: dict[tuple[str, int, str], Callable[[], np.ndarray]] = {}
    for asking in ASKING:
        queries = data.queries[asking]
        for nprobe in (step for step in PROBES if step <= index.plan.lists):
            ways["lists", nprobe, asking] = lambda q=queries, n=nprobe: in_lists(q, n)
        for depth in DEPTHS:
            ways["graph", depth, asking] = lambda q=queries, n=depth: in_graph(q, n)
    took = _cpu_us(ways)
    points: dict[str, dict[int, dict[str, Any]]] = {"lists": {}, "graph": {}}
    for (name, visited, asking), way in ways.items():
        queries = data.queries[asking]
        ids = rerank(queries, way(), snapshot.stored, K)[1]
        point = points[name].setdefault(visited, {"visited": visited})
        point[f"recall_{asking}"] = data.recall(asking, ids)
        point[f"us_{asking}"] = took[name, visited, asking] / len(queries)
    return {
        "graph": f"{rotation},HNSW16_SQ8",
        "graph_bytes": faiss.serialize_index(graph).nbytes / data.n,
        "graph_build_cpu_s": build_s,
        "points": {name: list(some.values()) for name, some in points.items()},
    }


def _cpu_us(ways: dict[Any, Callable[[], Any]]) -> dict[Any, float]:
    """Medians of the CPU time of each, which take turns."""
    took = defaultdict(list)
    for way in ways.values():
        way()  # caches
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.process_time()
            way()
            took[name].append(1e6 * (time.process_time() - start))
    return {name: statistics.median(some) for name, some in took.items()}


def markdown(result: dict[str, Any]) -> str:
    us = result["us"]
    whole = us["search_many, cosine"]
    scan = us["index"] - us["rotation"] - us["nearest lists"]
    stages = [
        ("rotation", us["rotation"]),
        ("nearest lists", us["nearest lists"]),
        ("scan of the lists", scan),
        ("re-rank", us["re-rank"]),
        ("queries and hits, in Python", whole - us["index"] - us["re-rank"]),
        ("**`search_many` by cosine**", whole),
        ("`search_many`, balanced", us["search_many, balanced"]),
    ]
    rows = [[name, f"{value:.0f}", f"{value / whole:.0%}"] for name, value in stages]
    curves = result["curves"]
    what = {"lists": result["index"].split(", nprobe")[0], "graph": curves["graph"]}
    size = {"lists": result["index_bytes"], "graph": curves["graph_bytes"]}
    visited = {"lists": "nprobe", "graph": "efSearch"}
    beside = [
        [
            what[name],
            f"{size[name]:.0f}",
            f"{visited[name]} {point['visited']}",
            *(f"{point[f'recall_{asking}']:.3f}; {point[f'us_{asking}']:.0f}" for asking in ASKING),
        ]
        for name, points in curves["points"].items()
        for point in points
    ]
    about = (
        f"{result['machine']}; {result['n']:,} vectors of {result['dim']} dimensions ({result['content']}, "
        f"intrinsic {result['intrinsic']}); {result['index']}."
    )
    header = ["index", "B/vector", "visits", "same: recall; us", "cross: recall; us"]
    tables = command.table(["stage", "us", "share"], rows), command.table(header, beside)
    return "\n\n".join([about, *tables])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors and the collection")
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--content", choices=["cones", "clusters"], default="clusters")
    parser.add_argument("--intrinsic", type=int, default=96)
    options = parser.parse_args()
    kind = Clusters if options.content == "clusters" else Cones
    data = cones(options.folder, kind(options.n, intrinsic=options.intrinsic))
    result = {"machine": machine(), **measure(options.folder / f"stages-{data.folder.name}", data)}
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
