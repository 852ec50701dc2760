"""One collection shared by threads: queries per second, and how long a query takes beside a writer.

    python -m benchmarks.sharing --folder DIR [--n 20000] [--seconds 5] [--json out.json]

A collection of three modalities (see `benchmarks.vectors`), with the index that an ingest derives. All
threads call `Collection.search` of one `Collection`, each one query after the other; queries are vectors,
half of the modalities of the items, half of a fourth. Then the same while another process writes without a
pause: it adds a sixteenth of the items, brings index and calibration up to date as an ingest does (so many
items that the index is replaced each time), removes them, and compacts. The first query after a commit opens
the new state.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from multiprocessing.synchronize import Event
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks import command
from benchmarks.public import ASKED_AS, Vectors
from benchmarks.search import machine
from benchmarks.systems import Inner
from benchmarks.vectors import ASKING, Cones, Data, cones
from xsearch.collection import Collection
from xsearch.derive import derive
from xsearch.query import Query, vector
from xsearch.store import Store

THREADS = (1, 2, 4, 8)
ADDED = 16  # one item for so many: more than what an index leaves to a scan


def open_shared(folder: Path, data: Data) -> Collection:
    """folder: for the collection, which stays there."""
    path = folder / "collection"
    if not (path / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        Inner(2, "cpu").build(folder, data)
    store = Store.open(path)
    return Collection(store, backend=Vectors(store.snapshot().fingerprint))  # type: ignore[arg-type]


def ask(collection: Collection, queries: Sequence[Query], threads: int, seconds: float) -> dict[str, float]:
    """Queries per second of all threads together, and milliseconds of one query."""
    start = Barrier(threads)

    def run(thread: int) -> list[float]:
        took: list[float] = []
        start.wait()
        end = time.perf_counter() + seconds
        for query in cycle(queries[thread::threads]):
            before = time.perf_counter()
            collection.search(query)
            after = time.perf_counter()
            took.append(1000 * (after - before))
            if after >= end:
                break
        return took

    began = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        took = np.concatenate(list(pool.map(run, range(threads))))
    p50, p99 = np.quantile(took, [0.5, 0.99]).tolist()
    return {"queries_per_s": len(took) / (time.perf_counter() - began), "p50_ms": p50, "p99_ms": p99}


def write(path: Path, ready: Event, stop: Event) -> None:
    """Add, derive, remove and compact until `stop`; `ready` after the first round."""
    store, rng = Store.open(path), np.random.default_rng(0)
    while not stop.is_set():
        with store.writer() as writer:
            snapshot = writer.snapshot
            old = snapshot.select("path LIKE 'added%'")
            count = (len(snapshot) - len(old)) // ADDED
            rows = np.sort(rng.choice(len(snapshot), count, replace=False))  # items again, under other names
            items = {"path": [f"added {row}" for row in rows], "modality": snapshot.modalities[rows]}
            writer.add(pa.table(items), snapshot.vectors(snapshot.ids[rows]))
            writer.commit()
            derive(writer)
            writer.remove(old)
            writer.commit()
            derive(writer)
            writer.compact()
        ready.set()


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Another process writes; the block begins after its first round."""
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    child = context.Process(target=write, args=(path, ready, stop))
    child.start()
    try:
        while not ready.wait(timeout=1) and child.is_alive():
            pass
        yield
    finally:
        stop.set()
        child.join()
    assert child.exitcode == 0, "the writer failed"


def run(
    folder: Path,
    n: int = 20_000,
    *,
    dim: int = 1024,
    intrinsic: int = 128,
    queries: int = 1_000,
    threads: Sequence[int] = THREADS,
    seconds: float = 5.0,
) -> dict[str, Any]:
    data = cones(folder, Cones(n, dim, intrinsic, 0, queries))
    collection = open_shared(folder / f"sharing-{n}", data)
    pairs = zip(*(data.queries[asking] for asking in ASKING), strict=True)
    asked = [
        vector(one, ASKED_AS[asking]) for pair in pairs for asking, one in zip(ASKING, pair, strict=True)
    ]
    ask(collection, asked, 1, seconds)  # and with it the files are in memory
    index = collection.view().index
    alone = [ask(collection, asked, count, seconds) for count in threads]
    beside = []
    with writing(collection.path):
        for count in threads:
            first, began = collection.summary()["generation"], time.perf_counter()
            figures = ask(collection, asked, count, seconds)
            commits = collection.summary()["generation"] - first
            beside.append(figures | {"commits_per_s": commits / (time.perf_counter() - began)})
    return {
        "machine": machine(),
        "n": n,
        "dim": dim,
        "index": index.plan.recipe if index else "exact scan",
        "rows": [
            {"threads": count, "alone": one, "beside": other}
            for count, one, other in zip(threads, alone, beside, strict=True)
        ],
    }


def markdown(result: dict[str, Any]) -> str:
    header = (
        "threads,queries/s,p50 ms,p99 ms,beside a writer: queries/s,p50 ms,p99 ms,commits/s of the writer"
    )
    rows = [
        [
            str(row["threads"]),
            *(
                f"{row[way][name]:,.{digits}f}"
                for way in ("alone", "beside")
                for name, digits in (("queries_per_s", 0), ("p50_ms", 2), ("p99_ms", 2))
            ),
            f"{row['beside']['commits_per_s']:.1f}",
        ]
        for row in result["rows"]
    ]
    about = f"{result['machine']}; {result['n']:,} items, {result['dim']} dimensions, {result['index']}."
    return f"{about}\n\n{command.table(header.split(','), rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors and the collection")
    parser.add_argument("--n", type=int, default=20_000, help="items; 20000")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure; 5")
    options = parser.parse_args()
    command.report(run(options.folder, options.n, seconds=options.seconds), markdown, options.json)


if __name__ == "__main__":
    main()
