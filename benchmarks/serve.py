"""The server under load: requests per second and how long they take, beside the same searches in one process.

    python -m benchmarks.serve --folder DIR [--n 100000] [--seconds 10] [--minutes 10] [--json out.json]

A collection of made-up vectors of three kinds (see `benchmarks.vectors`) in the space of the bundled model,
with the index that an ingest derives, is asked for the ten nearest: by a vector, by a text of five words, and
by a picture, which is uploaded first. No two texts and no two pictures are the same, so that nothing is
remembered. In process, `Collection.search` is asked one query after the other, and `search_many` for 64 at a
time. Then `xsearch serve` is asked by 1, 8 and 64 clients over the loopback, each of which sends a request
when it has the answer to the one before. At last 8 clients ask for all three for some minutes, and the memory
of the server is measured: its growth is that from the first fifth of the time, which fills caches, to the
last fifth, medians of both. The clients share the cores with the server, and take a part of them.
"""

from __future__ import annotations

import asyncio
import io
import json
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Self

import numpy as np
import pyarrow as pa
from PIL import Image

import xsearch
from benchmarks import command
from benchmarks.search import machine
from benchmarks.vectors import ASKING, ITEM_KINDS, Cones, Data, cones
from xsearch.collection import Collection
from xsearch.derive import derive
from xsearch.query import Query
from xsearch.scenes.caption import all_words
from xsearch.store import Store

KINDS = ("vector", "text", "picture")
CLIENTS = (1, 8, 64)
TOGETHER = 64  # queries of one `search_many`
BESIDE = 8  # clients of the long run
SIDE = 160  # pixels of a picture
START_S = 300.0  # that the server may take
PATIENCE_S = 120.0  # for the last answers of a run


def build(folder: Path, data: Data) -> Path:
    """A collection of these vectors with the fingerprint of the bundled model, made if it is not there."""
    path = folder / f"serve-{data.n}"
    if not (path / "manifest.json").exists():
        store = Collection.create(path, "bundled").store
        with store.writer() as writer:
            for ids, vectors in data.blocks():
                items = {
                    "path": [f"{id:09}.jpg" for id in ids],
                    "modality": np.array(ITEM_KINDS)[data.kinds[ids]],
                }
                writer.add(pa.table(items), vectors)
                writer.commit()
            derive(writer)
    return path


class Queries:
    """Queries of one kind, each another one: for a process, and as requests."""

    def __init__(self, kind: str, data: Data, seed: int) -> None:
        self.kind = kind
        self._rng = np.random.default_rng([seed, KINDS.index(kind)])
        self._vectors = np.concatenate([data.queries[asking] for asking in ASKING])
        self._words = np.array(all_words())
        self._noise = Image.fromarray(self._rng.integers(0, 255, (12, 12, 3), np.uint8)).resize((SIDE, SIDE))
        self._count = count()

    def __iter__(self) -> Iterator[Any]:
        """Yield float32 [dim], texts, or JPEGs."""
        for number in self._count:
            if self.kind == "vector":
                yield self._vectors[number % len(self._vectors)]
            elif self.kind == "text":
                yield " ".join(self._rng.choice(self._words, 5))
            else:
                picture = self._noise.copy()
                picture.paste(tuple(self._rng.integers(0, 255, 3).tolist()), (8, 8, 72, 72))
                picture.save(file := io.BytesIO(), "JPEG")
                yield file.getvalue()

    def query(self, source: Any) -> Query:
        if self.kind == "vector":
            return xsearch.vector(source, "image")
        return xsearch.text(source) if self.kind == "text" else xsearch.image(source)


def in_process(collection: Collection, queries: Queries, seconds: float) -> dict[str, float]:
    """Milliseconds of a `search`, and queries per second of `search_many`."""
    sources = iter(queries)
    collection.search(queries.query(next(sources)))  # loads the model
    took: list[float] = []
    while sum(took) < seconds:
        query = queries.query(next(sources))
        start = time.perf_counter()
        collection.search(query)
        took.append(time.perf_counter() - start)
    together: list[float] = []
    while sum(together) < seconds:
        batch = [queries.query(next(sources)) for _ in range(TOGETHER)]
        start = time.perf_counter()
        for hits in collection.search_many(batch):
            len(hits)
        together.append(time.perf_counter() - start)
    many = TOGETHER * len(together) / sum(together)
    return {"p50_ms": 1000 * statistics.median(took), "many_per_s": many}


class Connection:
    """One HTTP connection that is kept: enough of the protocol for the answers of our server."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._writer.close()

    async def post(self, target: str, body: bytes, type: str = "application/json") -> tuple[int, bytes]:
        """(status, content)."""
        head = f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nContent-Type: {type}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        await self._writer.drain()
        status = int((await self._reader.readline()).split()[1])
        length = 0
        while (line := await self._reader.readline()).strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, await self._reader.readexactly(length)


async def ask(connection: Connection, kind: str, source: Any) -> bool:
    """Whether a search is answered with ten hits."""
    part: dict[str, Any]
    if kind == "vector":
        part = {"kind": "image", "vector": source.tolist()}
    elif kind == "text":
        part = {"text": source}
    else:
        status, content = await connection.post("/v1/uploads?name=a.jpg", source, "image/jpeg")
        if status >= 300:
            return False
        part = {"upload": json.loads(content)["id"]}
    status, content = await connection.post("/v1/search", json.dumps({"parts": [part]}).encode())
    return status == 200 and len(json.loads(content)["hits"]) == 10


async def load(port: int, each: Sequence[Queries], clients: int, seconds: float) -> dict[str, Any]:
    """Requests per second of all clients together, milliseconds of one, and how many failed.

    each: queries that every client asks in turn.
    """
    took: list[float] = []
    failed = 0
    sources = [(queries.kind, iter(queries)) for queries in each]

    async def client() -> None:
        nonlocal failed
        async with Connection(port) as connection:
            while time.perf_counter() < end:
                for kind, source in sources:
                    start = time.perf_counter()
                    failed += not await ask(connection, kind, next(source))
                    took.append(time.perf_counter() - start)

    began = time.perf_counter()
    end = began + seconds
    async with asyncio.timeout(seconds + PATIENCE_S), asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client())
    p50, p99 = (1000 * np.quantile(took, [0.5, 0.99])).tolist()
    per_s = len(took) / (time.perf_counter() - began)
    return {"requests_per_s": per_s, "p50_ms": p50, "p99_ms": p99, "requests": len(took), "failed": failed}


@contextmanager
def serving(collection: Path, *options: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """The port and the process of a server that has answered."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "xsearch", "serve", "--collection", str(collection), "--port", str(port)]
    words += options
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        with xsearch.connect(f"http://127.0.0.1:{port}") as client:
            end = time.monotonic() + START_S
            while True:
                try:
                    client.search("a dog")  # and with it the model is loaded
                    break
                except xsearch.XsearchError:
                    assert server.poll() is None, "the server has ended"
                    assert time.monotonic() < end, "the server does not start"
                    time.sleep(0.1)
        yield port, server
    finally:
        server.terminate()
        server.wait()


class Resident(command.Sampler):
    """The memory of a process over time."""

    def __init__(self, pid: int, period_s: float) -> None:
        self.period_s = period_s
        self._status = Path(f"/proc/{pid}/status")
        self.mb: list[float] = []

    def sample(self) -> None:
        (line,) = [line for line in self._status.read_text().splitlines() if line.startswith("VmRSS")]
        self.mb.append(int(line.split()[1]) / 1024)


def growth(port: int, pid: int, data: Data, minutes: float) -> dict[str, Any]:
    """The memory of the server in the first and last fifth of a run of all kinds of queries."""
    with Resident(pid, max(60 * minutes / 500, 0.02)) as resident:
        run = asyncio.run(load(port, [Queries(kind, data, 3) for kind in KINDS], BESIDE, 60 * minutes))
    fifth = max(len(resident.mb) // 5, 1)
    first, last = statistics.median(resident.mb[:fifth]), statistics.median(resident.mb[-fifth:])
    return run | {"minutes": minutes, "first_mb": first, "last_mb": last, "growth": last / first - 1}


def run(
    folder: Path,
    n: int = 100_000,
    *,
    intrinsic: int = 128,
    queries: int = 1_000,
    clients: Sequence[int] = CLIENTS,
    seconds: float = 10.0,
    minutes: float = 10.0,
) -> dict[str, Any]:
    dim = xsearch.load_model("bundled").backend.fingerprint.dim
    data = cones(folder, Cones(n, dim, intrinsic, 0, queries))
    path = build(folder, data)
    rows = []
    with Collection(Store.open(path)) as collection:
        index = collection.summary()["index"]
        alone = {kind: in_process(collection, Queries(kind, data, 1), seconds) for kind in KINDS}
    with serving(path) as (port, server):
        for kind in KINDS:
            for number in clients:
                figures = asyncio.run(load(port, [Queries(kind, data, 2 + number)], number, seconds))
                rows.append({"kind": kind, "clients": number, **figures})
        grown = growth(port, server.pid, data, minutes)
    return {
        "machine": machine(), "n": n, "dim": dim, "index": index, "seconds": seconds,
        "in_process": alone, "rows": rows, "growth": grown,
    }  # fmt: skip


def markdown(result: dict[str, Any]) -> str:
    header = "query,clients,requests/s,of search_many,p50 ms,p99 ms,p50 ms of search,failed"
    lines = []
    for row in result["rows"]:
        alone = result["in_process"][row["kind"]]
        share = f"{row['requests_per_s'] / alone['many_per_s']:.0%} of {alone['many_per_s']:,.0f}/s"
        times = [f"{ms:.1f}" for ms in (row["p50_ms"], row["p99_ms"], alone["p50_ms"])]
        counts = row["kind"], str(row["clients"]), f"{row['requests_per_s']:,.0f}", share
        lines.append([*counts, *times, str(row["failed"])])
    about = (
        f"{result['machine']}; {result['n']:,} items, {result['dim']} dimensions, {result['index']}; "
        f"{result['seconds']:g} s each."
    )
    grown = result["growth"]
    memory = (
        f"{grown['minutes']:g} minutes of all three by {BESIDE} clients, {grown['requests']:,} requests, "
        f"{grown['failed']} failed: the server takes {grown['first_mb']:,.0f} MB in the first fifth and "
        f"{grown['last_mb']:,.0f} MB in the last, {grown['growth']:+.1%}."
    )
    return f"{about}\n\n{command.table(header.split(','), lines)}\n\n{memory}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors and the collection")
    parser.add_argument("--n", type=int, default=100_000, help="items; 100000")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each figure; 10")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the run that measures memory; 10")
    options = parser.parse_args()
    result = run(options.folder, options.n, seconds=options.seconds, minutes=options.minutes)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
