"""The server on Ray under load, while searchers die, are slow, and a new index takes the place of the old.

    python -m benchmarks.shards --folder DIR [--n 100000] [--shards 4] [--seconds 30] [--json out.json]

The nodes are processes of this machine (see `benchmarks.cluster`). A collection of made-up vectors (see
`benchmarks.vectors`) in the space of the bundled model gets an index in --shards files, which Ray adds to.
`xsearch serve --engine ray` is asked by some clients over the loopback for the ten nearest, by vectors. Every
answer is compared with that of `Collection.search` with the same files, loaded as one index: ids, order and
figures, to the last bit. Texts, which the replicas embed in batches, are compared by their ids.

    steady     nothing happens
    killed     every few seconds a searcher dies of SIGKILL
    slow       one searcher stands still (SIGSTOP) for half of the time, 0.2 s on end
    stuck      one stands still all the time; only with --allow-partial, as all else would fail
    moved      meanwhile a new index is built and moved to: answers are those of the old one or of the new

Without --allow-partial an answer is right or a failure; with it, and a time-out of 0.1 s, it may lack what
shards hold that it names: partial are those that have all else of the right answer that is better than their
last hit, and the right cosines. Times are those of all requests, also of failures.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pyarrow as pa

import xsearch
from benchmarks import command
from benchmarks.cluster import Nodes
from benchmarks.serve import PATIENCE_S, Connection, serving
from benchmarks.vectors import ITEM_KINDS, Cones, Data, cones
from xsearch.collection import Collection
from xsearch.derive import derive
from xsearch.index import Listing
from xsearch.scenes.caption import all_words
from xsearch.store import Store

TOP = 10
RECIPES = "PCAR128,IVF512,PQ64x4fs", "PCAR128,IVF256,PQ64x4fs"  # of the index, and of that which is moved to
TEXTS = 50
SETTLED_S = 3.0
TIMEOUT_S = 0.1
STOPPED_S = 0.2
Known = list[tuple[int, float, float | None]]  # id, score, cosine of the hits of a query


class Expected:
    """The right answers, by the indexes of a collection."""

    def __init__(self, path: Path, vectors: np.ndarray) -> None:
        self.path, self.vectors = path, vectors
        self.snapshot = Store.open(path).snapshot()
        self.answers: list[list[Known]] = []  # of each index, of each query
        self.parts: Sequence[np.ndarray] = ()

    def add(self) -> None:
        """Note the answers of the index that the collection has now."""
        with Collection(Store.open(self.path)) as collection:
            queries = [xsearch.vector(vector, "image") for vector in self.vectors]
            many = collection.search_many(queries, TOP)
            self.answers.append([[(hit.id, hit.score, hit.cosine) for hit in hits] for hits in many])
            self.parts = Listing.read(collection.snapshot().index_path).parts

    def tally(self, outcomes: Sequence[tuple[int, int, bytes]]) -> dict[str, int]:
        """How many requests came to which end."""
        return dict(Counter(self._judged(*outcome) for outcome in outcomes))

    def _judged(self, at: int, status: int, content: bytes) -> str:
        """`old` and `new` by index, `partial`, `wrong`, or the status of a failure."""
        if status != 200:
            return str(status)
        answer = json.loads(content)
        hits = [(hit["id"], hit["score"], hit["cosine"]) for hit in answer["hits"]]
        for name, known in zip(("old", "new"), self.answers, strict=False):
            if hits == known[at]:
                return name
        if not (missing := answer["missing_shards"]):
            return "wrong"
        gone = set(np.concatenate([self.parts[shard] for shard in missing]).tolist())
        left = [hit for hit in self.answers[-1][at] if hit[0] not in gone and hit[1] > hits[-1][1]]
        exact = self.snapshot.vectors(np.array([id for id, *_ in hits])) @ self.vectors[at]
        is_exact = np.allclose(exact, [cosine for _, _, cosine in hits], atol=1e-6)
        return "partial" if is_exact and set(left) <= set(hits) else "wrong"


async def load(
    port: int, vectors: np.ndarray, clients: int, seconds: float, is_over: Callable[[], bool] = lambda: True
) -> tuple[dict[str, float], list[tuple[int, int, bytes]]]:
    """Milliseconds of the requests of some clients, and their outcomes: query, status, content.

    The clients ask for some seconds, and on until it `is_over`.
    """
    took: list[float] = []
    outcomes: list[tuple[int, int, bytes]] = []

    async def client(number: int) -> None:
        at = number
        async with Connection(port) as connection:
            while time.perf_counter() < end or not is_over():
                at = (at + 7) % len(vectors)
                part = {"kind": "image", "vector": vectors[at].tolist()}
                start = time.perf_counter()
                body = json.dumps({"parts": [part], "top": TOP}).encode()
                outcomes.append((at, *await connection.post("/v1/search", body)))
                took.append(time.perf_counter() - start)

    end = time.perf_counter() + seconds
    async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(client(number))
    p50, p99, worst = (1000 * np.quantile(took, [0.5, 0.99, 1])).tolist()
    return {"p50_ms": p50, "p99_ms": p99, "max_ms": worst}, outcomes


def searchers() -> list[tuple[int, str]]:
    """Process id and application, that is index and shard, of each searcher that runs on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            title = (folder / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::ServeReplica:xsearch-") and ":searcher" in title:
            found.append((int(folder.name), title.split(":")[3]))
    return sorted(found)


@contextmanager
def meanwhile(act: Callable[[Event], None]) -> Iterator[None]:
    """Run `act` in a thread, which ends when its event is set: at the end of the block."""
    over = Event()
    thread = Thread(target=act, args=[over])
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Killing:
    """Kills a searcher at random moments."""

    def __init__(self, spacing_s: float, seed: int = 0) -> None:
        self.kills, self._spacing_s, self._rng = 0, spacing_s, random.Random(seed)

    def __call__(self, over: Event) -> None:
        while not over.wait(self._rng.uniform(0.5, 1.5) * self._spacing_s):
            if there := searchers():
                os.kill(self._rng.choice(there)[0], signal.SIGKILL)
                self.kills += 1


def slow(over: Event) -> None:
    """One searcher stands still for half of the time."""
    while not over.wait(STOPPED_S):
        stuck(over, STOPPED_S)


def stuck(over: Event, seconds: float | None = None) -> None:
    """One searcher stands still, by default to the end."""
    pid, _ = searchers()[0]
    os.kill(pid, signal.SIGSTOP)
    over.wait(seconds)
    os.kill(pid, signal.SIGCONT)


def build(path: Path, shards: int, address: str, recipe: str | None = None) -> float:
    """Seconds of `xsearch index build`."""
    words = [
        "index",
        "build",
        "-c",
        str(path),
        "--shards",
        str(shards),
        "--engine",
        "ray",
        "--address",
        address,
    ]
    words += ["--recipe", recipe] if recipe else []
    start = time.perf_counter()
    subprocess.run([sys.executable, "-m", "xsearch", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


class Moving:
    """Builds another index, and is over some seconds after its searchers alone are left."""

    def __init__(self, path: Path, shards: int, address: str, recipe: str) -> None:
        self._choices = path, shards, address, recipe
        self._old = set(dict(searchers()).values())
        self.build_s, self._due_s = 0.0, math.inf

    def __call__(self, over: Event) -> None:
        self.build_s = build(*self._choices)
        wait_for(lambda: self._old.isdisjoint(dict(searchers()).values()))
        self._due_s = time.monotonic() + SETTLED_S

    def is_over(self) -> bool:
        return time.monotonic() > self._due_s


def spilled(address: str) -> int:
    """Bytes that Ray has written to disk for want of memory."""
    words = [sys.executable, "-m", "ray.scripts.scripts", "memory", "--stats-only", "--address", address]
    text = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return sum(int(float(line.split()[1]) * 1e6) for line in text.splitlines() if line.startswith("Spilled"))


def texts(path: Path, port: int, count: int) -> int:
    """How many of some texts have the same answer here and there."""
    words = np.array(all_words())
    rng = np.random.default_rng(0)
    same = 0
    with Collection(Store.open(path)) as collection, xsearch.connect(f"http://127.0.0.1:{port}") as client:
        for _ in range(count):
            text = " ".join(rng.choice(words, 5))
            answers = [asked.search(text, TOP) for asked in (collection, client)]
            same += len({tuple(hit.id for hit in answer) for answer in answers}) == 1
    return same


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "searchers do not start"
        time.sleep(0.1)


def made(folder: Path, data: Data) -> Path:
    """A collection of these vectors with the fingerprint of the bundled model, made if it is not there."""
    path = folder / f"shards-{data.n}"
    if not path.exists():
        with Collection.create(path, "bundled").store.writer() as writer:
            for ids, vectors in data.blocks():
                kinds = np.array(ITEM_KINDS)[data.kinds[ids]]
                writer.add(pa.table({"path": [f"{id:09}.jpg" for id in ids], "modality": kinds}), vectors)
            writer.commit()
            derive(writer)
    return path


def run(
    folder: Path,
    n: int,
    *,
    shards: int = 4,
    nodes: int = 3,
    clients: int = 4,
    seconds: float = 30.0,
    spacing_s: float = 3.0,
    recipes: Sequence[str] = RECIPES,
) -> dict[str, Any]:
    dim = xsearch.load_model("bundled").backend.fingerprint.dim
    data = cones(folder, Cones(n, dim, 128, 0, 100))
    path = made(folder, data)
    expected = Expected(path, np.concatenate(list(data.queries.values())))
    result: dict[str, Any] = {"items": n, "dim": dim, "shards": shards, "nodes": nodes, "clients": clients}
    phases: dict[str, dict[str, Any]] = {}

    def measure(name: str, port: int, is_over: Callable[[], bool] = lambda: True) -> None:
        wait_for(lambda: len(searchers()) == shards)
        figures, outcomes = asyncio.run(load(port, expected.vectors, clients, seconds, is_over))
        phases[name] = {**figures, "outcomes": outcomes}

    with Nodes(nodes) as cluster:
        options = "--engine", "ray", "--address", cluster.address
        result["build_s"] = build(path, shards, cluster.address, recipes[0])
        expected.add()
        for allowed in ((), ("--allow-partial", "--shard-timeout", str(TIMEOUT_S))):
            suffix = ", partial" if allowed else ""
            with serving(path, *options, *allowed) as (port, _):
                if not allowed:
                    result["texts"] = {"asked": TEXTS, "same": texts(path, port, TEXTS)}
                    measure("steady", port)
                with meanwhile(slow):
                    measure(f"slow{suffix}", port)
                killing = Killing(spacing_s)
                with meanwhile(killing):
                    measure(f"killed{suffix}", port)
                phases[f"killed{suffix}"]["kills"] = killing.kills
                if allowed:
                    wait_for(lambda: len(searchers()) == shards)
                    with meanwhile(stuck):
                        measure(f"stuck{suffix}", port)
                else:
                    wait_for(lambda: len(searchers()) == shards)
                    move = Moving(path, shards, cluster.address, recipes[1])
                    with meanwhile(move):
                        measure("moved", port, move.is_over)
                    result["rebuild_s"] = move.build_s
                    expected.add()
        result["spilled_bytes"] = spilled(cluster.address)
    for phase in phases.values():
        phase["outcomes"] = expected.tally(phase["outcomes"])
    return result | {"phases": phases}


def markdown(result: dict[str, Any]) -> str:
    rows = [
        [
            name,
            str(phase.get("kills", "")),
            *(str(phase["outcomes"].get(kind, 0)) for kind in ("old", "new", "partial", "wrong")),
            str(sum(count for kind, count in phase["outcomes"].items() if kind.isdigit())),
            *(f"{phase[figure]:.1f}" for figure in ("p50_ms", "p99_ms", "max_ms")),
        ]
        for name, phase in result["phases"].items()
    ]
    header = [
        "",
        "kills",
        "right",
        "right only by the new index",
        "partial",
        "wrong",
        "failed",
        "p50 ms",
        "p99 ms",
        "longest ms",
    ]
    lines = [
        command.table(header, rows),
        f"{result['items']:,} items of {result['dim']} dimensions in {result['shards']} shards on "
        f"{result['nodes']} nodes of this machine, {result['clients']} clients. Index built in "
        f"{result['build_s']:.0f} s. {result['texts']['same']} of {result['texts']['asked']} texts have the "
        f"items of the local search. Bytes spilled: {result['spilled_bytes']}.",
    ]
    return "\n\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--n", type=int, default=100_000)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30.0)
    chosen = parser.parse_args()
    choices = {name: getattr(chosen, name) for name in ("shards", "nodes", "clients", "seconds")}
    command.report(run(chosen.folder, chosen.n, **choices), markdown, chosen.json)


if __name__ == "__main__":
    main()
