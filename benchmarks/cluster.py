"""Kill workers, nodes and drivers of ingests on Ray, and compare its speed with that of the local engine.

    python -m benchmarks.cluster [--files 20000] [--kills 30] [--nodes 3] [--pictures 20000] [--json out.json]

The nodes are processes of this machine, of one core each. A driver ingests --files small texts and pictures,
again and again into new collections, while at random moments a worker, a node or the driver dies of SIGKILL
(a node is replaced, a driver started again), until --kills are done. At the end of each ingest every file
must be in its collection exactly once, with the vector that the local engine gives it. There is no model:
vectors are drawn by content, and each is noted with the process that embedded it. What a process had embedded
when it died, and neither part nor collection has, is lost; whatever else is embedded again is waste. Both are
counted over the files without duplicates: of those, one in each unit may be embedded.

The speed is that of the bundled model on --pictures rendered scenes (0: not measured), with both engines on
all cores of this machine, from the first file that is done to the last.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import command
from xsearch import media
from xsearch.backend import Backend, Capabilities
from xsearch.cluster import Ray, part
from xsearch.cluster.connection import LOOPBACK, TRIES, connected, module
from xsearch.ingest import Progress, ingest
from xsearch.store import Store
from xsearch.system.objects import objects_at
from xsearch.types import Fingerprint, Modality, Sample

KINDS = ("worker", "node", "driver")
UNIT_FILES = 64  # two batches of each kind; small, so that there is much to kill
OBJECTS_BYTES = 100 << 20
DIM = 16
ORPHANS_S = 120.0  # that workers may take to end after their driver
NOTE = np.dtype([("process", "<i4"), ("vector", "<u8")])  # of an embedded sample


class Drawn:
    """A backend that draws vectors by content, and appends a NOTE per sample to the file `tally`."""

    fingerprint = Fingerprint("drawn", "0", "1", DIM)

    def __init__(self, tally: Path) -> None:
        self.tally = tally

    def capabilities(self) -> Capabilities:
        return Capabilities(tuple(Modality), DIM, 32, None, "cpu", "fp32")

    def windows(self, text: str) -> Iterator[str]:
        return media.windows(text, lambda texts: [len(each.split()) for each in texts], 60)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        vectors = np.stack([_drawn(sample.data) for sample in samples])
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        notes = np.zeros(len(samples), NOTE)
        notes["process"], notes["vector"] = os.getpid(), _key(vectors)
        with self.tally.open("ab", buffering=0) as file:
            file.write(notes.tobytes())
        return vectors

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return self.embed(samples)


def _drawn(data: str | Image.Image) -> np.ndarray:
    content = data.encode() if isinstance(data, str) else data.tobytes()
    return np.random.default_rng(zlib.crc32(content)).standard_normal(DIM).astype(np.float32)


def _key(vectors: np.ndarray) -> np.ndarray:
    """Return a number for each vector, as stored."""
    return np.ascontiguousarray(vectors.astype(np.float16)[:, :4]).view(np.uint64)[:, 0]


def make_files(folder: Path, count: int) -> None:
    """Write texts and pictures, every eighth a duplicate of an earlier one."""
    rng = np.random.default_rng(0)
    for i in range(count):
        inside = folder / f"{i // 1000:03}"
        inside.mkdir(parents=True, exist_ok=True)
        content = i - 4 if i % 8 == 7 else i
        if content % 2:
            (inside / f"{i:06}.txt").write_text(f"text {content}")
        else:
            colour = np.random.default_rng(content).integers(0, 256, 3)
            noise = rng.integers(0, 2, (24, 32, 1)) if content == i else 0
            Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8)).save(inside / f"{i:06}.png")


class Nodes:
    """A cluster of processes on this machine: a head without cores, and nodes of one core each."""

    def __init__(self, count: int) -> None:
        os.environ.setdefault(*LOOPBACK)
        module("auto")
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        self._add(num_cpus=0)
        self._nodes = [self._add(num_cpus=1) for _ in range(count)]

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def kill(self, kind: str, rng: random.Random, stopped: Callable[[list[int]], object]) -> bool:
        """Kill a worker, or a node with all its processes and add another; return whether there was one.

        stopped: called with the ids of the workers' processes, which have come to a halt, before they die.
        """
        node = self._nodes.pop(rng.randrange(len(self._nodes))) if kind == "node" else None
        workers = _workers(node) if node else self.workers()
        victims = _halted(workers if node else [rng.choice(workers)] if workers else [])
        stopped(victims)
        if node:
            self._cluster.remove_node(node, allow_graceful=False)
        for process in victims:
            os.kill(process, signal.SIGKILL)
        if node:
            self._nodes.append(self._add(num_cpus=1))
        return bool(victims or node)

    def workers(self) -> list[int]:
        """The ids of the processes of all workers, ascending."""
        return sorted(chain.from_iterable(map(_workers, self._nodes)))

    def _add(self, **resources: float) -> Any:
        options = {"include_dashboard": False, "object_store_memory": OBJECTS_BYTES, **resources}
        for tries_left in reversed(range(TRIES)):
            try:
                return self._cluster.add_node(**options)
            except Exception:  # it was not there within Ray's 30 s
                if not tries_left:
                    raise
        raise AssertionError


def _workers(node: Any) -> list[int]:
    """The ids of the processes of a node's workers, which are children of its raylet."""
    raylet, workers = node.all_processes["raylet"][0].process.pid, []
    for thread in Path(f"/proc/{raylet}/task").glob("*/children"):
        for child in thread.read_text().split():
            with suppress(OSError):
                if Path(f"/proc/{child}/cmdline").read_bytes().startswith(b"ray::Actor"):
                    workers.append(int(child))
    return workers


def _halted(processes: list[int]) -> list[int]:
    """Stop processes; return those that had not ended."""
    halted = []
    for process in processes:
        with suppress(OSError):
            os.kill(process, signal.SIGSTOP)
            while (state := _state(process)) not in "TZ":
                time.sleep(0.001)
            halted += [process] * (state == "T")
    return halted


def _state(process: int) -> str:
    """The letter that /proc has for it: T stopped, Z ended."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0]


class Ingest:
    """An ingest in processes of its own, started again when they are killed."""

    def __init__(self, folder: Path, collection: Path, address: str) -> None:
        self._arguments = ["--ingest", str(folder), str(collection), address]
        self._store = Store.create(collection, Drawn.fingerprint)
        self.tally = _tally(collection)
        self.tally.touch()
        self.lost = Counter[int]()  # vectors
        self.start()

    def start(self) -> None:
        self._has_ended = False
        self._driver = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cluster", *self._arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def kill(self, workers: Callable[[], list[int]]) -> bool:
        """Kill the driver, and start another once its workers have ended; return whether it was at work."""
        if self.has_ended:
            return False
        of_driver = workers()
        self.close()
        end_s = time.monotonic() + ORPHANS_S
        while workers():
            assert time.monotonic() < end_s, "workers outlive their driver"
            time.sleep(0.02)
        self.note_lost(of_driver)
        self._store.snapshot()  # it opens
        self.start()
        return True

    def close(self) -> None:
        """Kill the driver."""
        if not self._has_ended:
            self._driver.kill()
            self._driver.communicate()

    @property
    def has_ended(self) -> bool:
        """Whether the driver has done it all. AssertionError if it failed."""
        if self._has_ended or self._driver.poll() is None:
            return self._has_ended
        self._has_ended = True
        _, problem = self._driver.communicate()
        assert self._driver.returncode == 0, problem.decode()
        return True

    def notes(self) -> np.ndarray:
        """What has been embedded."""
        return np.fromfile(self.tally, NOTE)

    def note_lost(self, processes: list[int]) -> None:
        """Note what these processes, which do no more, had embedded and did not leave."""
        notes = self.notes()
        mine = notes["vector"][np.isin(notes["process"], processes)]
        self.lost.update(mine[~np.isin(mine, self._kept())].tolist())

    def _kept(self) -> np.ndarray:
        """The vectors in parts and in the collection; parts first: they go there."""
        kept, parts = [], objects_at(part.place_of(self._store.path, None))
        for name in parts.names():
            if (outcomes := part.read(parts, name)) is None:
                assert name not in parts.names(), f"{name} is damaged"
            else:
                kept.append(_key(outcomes["vectors"].values.to_numpy().reshape(-1, DIM)))
        snapshot = self._store.snapshot()
        return np.concatenate([*kept, _key(snapshot.vectors(snapshot.ids))])

    def content(self) -> Counter[tuple[str, str]]:
        return content(self._store)


def content(store: Store) -> Counter[tuple[str, str]]:
    """Count the items by path and vector."""
    snapshot = store.snapshot()
    vectors = [vector.tobytes().hex() for vector in snapshot.vectors(snapshot.ids)]
    return Counter(zip(snapshot.items(snapshot.ids, ["path"])["path"].to_pylist(), vectors, strict=True))


def torture(
    files: int,
    kills: int,
    nodes: int,
    seed: int = 0,
    *,
    kinds: Sequence[str] = KINDS,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Kill until `kills` are done, first of each kind. AssertionError if an ingest is not right."""
    rng, done = random.Random(seed), Counter[str]()
    spacing = max(2 * files // kills, 2)  # samples between two kills, at most
    ingests = lost = again = 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "media"
        make_files(folder, files)
        local = Store.create(Path(scratch) / "local", Drawn.fingerprint)
        ingest(local, [folder], Drawn(_tally(local.path)), decoders=1)
        expected = content(local)
        snapshot = local.snapshot()
        vectors, files_with = np.unique(_key(snapshot.vectors(snapshot.ids)), return_counts=True)
        alone = vectors[files_with == 1]
        with Nodes(nodes) as cluster:
            while done.total() < kills:
                ingests += 1
                run = Ingest(folder, Path(scratch) / f"{ingests}", cluster.address)
                due = rng.randrange(1, spacing)
                try:
                    while not run.has_ended:
                        embedded = len(run.notes())
                        if embedded >= due and done.total() < kills:
                            kind = kinds[done.total()] if done.total() < len(kinds) else rng.choice(kinds)
                            if kind == "driver":
                                hit = run.kill(cluster.workers)
                            else:
                                hit = cluster.kill(kind, rng, run.note_lost)
                            done[kind] += hit
                            due = embedded + rng.randrange(1, spacing)
                            say(f"{kind} killed" if hit else f"no {kind} to kill")
                        time.sleep(0.02)
                finally:
                    run.close()
                assert run.content() == expected, f"ingest {ingests}: not every file exactly once"
                notes = run.notes()["vector"]
                repeated = int(np.isin(notes, alone).sum()) - len(alone)
                lost_now = sum(count for vector, count in run.lost.items() if vector in alone)
                lost, again = lost + lost_now, again + repeated
                say(f"ingest {ingests}: every file exactly once, {repeated} embedded again, {lost_now} lost")
    return {
        "files": files,
        "nodes": nodes,
        "unit_files": UNIT_FILES,
        "kills": dict(done),
        "ingests": ingests,
        "lost": lost,
        "embedded_again": again,
        "beyond_lost": again - lost,
    }


def work(folder: Path, collection: Path, address: str) -> None:
    """Ingest, as far as it goes."""
    ingest(
        Store.open(collection),
        [folder],
        Drawn(_tally(collection)),
        decoders=1,
        engine=Ray(address, unit_files=UNIT_FILES),
    )


def _tally(collection: Path) -> Path:
    return collection.with_name(f"{collection.name}.tally")


def overhead(pictures: int, model: str = "bundled") -> dict[str, Any]:
    """Seconds per item of both engines on the same pictures, without start and end."""
    from benchmarks.ingest import make_pictures
    from xsearch.backend import load_backend

    engines = {"local": None, "ray": Ray()}
    result: dict[str, Any] = {"pictures": pictures}
    with tempfile.TemporaryDirectory() as scratch, connected(None):
        folder = Path(scratch) / "media"
        make_pictures(folder, pictures, 320, 240)
        for name, engine in engines.items():
            backend: Backend = load_backend(model, device="cpu")
            store, times = Store.create(Path(scratch) / name, backend.fingerprint), list[tuple[float, int]]()

            def note(progress: Progress, times: list[tuple[float, int]] = times) -> None:
                times.append((progress.seconds, progress.done))

            report = ingest(store, [folder], backend, engine=engine, progress=note)
            (first_s, first), (last_s, last) = times[0], times[-1]
            result[name] = {
                "s": report.seconds,
                "ms_per_item": 1000 * (last_s - first_s) / max(last - first, 1),
            }
    result["overhead"] = result["ray"]["ms_per_item"] / result["local"]["ms_per_item"] - 1
    return result


def markdown(result: dict[str, Any]) -> str:
    lines = []
    if torn := result.get("torture"):
        kills = ", ".join(f"{count} {kind}s" for kind, count in sorted(torn["kills"].items()))
        lost = torn["lost"]
        beyond = torn["beyond_lost"] / max(lost, 1)
        lines.append(
            f"Ingests: {torn['ingests']}, of {torn['files']:,} files on {torn['nodes']} nodes, in units of "
            f"{torn['unit_files']}; killed: {kills}. Every file was in the collection exactly once, with the "
            f"vector of the local engine. Processes died with {lost:,} embedded samples; "
            f"{torn['embedded_again']:,} were embedded again, {beyond:.1%} beyond what was lost."
        )
    if speed := result.get("speed"):
        rows = [
            [name, f"{speed[name]['ms_per_item']:.2f}", f"{speed[name]['s']:.1f}"]
            for name in ("local", "ray")
        ]
        lines.append(command.table(["engine", "ms/item", "whole run, s"], rows))
        lines.append(f"{speed['pictures']:,} pictures; overhead {100 * speed['overhead']:.0f} %.")
    return "\n\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--ingest", nargs=3, metavar=("SOURCE", "COLLECTION", "ADDRESS"), help="only this")
    options = parser.parse_args()
    if options.ingest:
        source, collection, address = options.ingest
        from benchmarks import cluster  # whose classes workers can import, unlike those of __main__

        cluster.work(Path(source), Path(collection), address)
        return
    result: dict[str, Any] = {}
    if options.kills:
        say = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
        result["torture"] = torture(options.files, options.kills, options.nodes, options.seed, say=say)
    if options.pictures:
        result["speed"] = overhead(options.pictures)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
