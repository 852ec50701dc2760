"""Kill an ingest with SIGKILL, again and again, and compare what comes out with a run that nobody disturbed.

    python -m benchmarks.crash [--kills 200] [--seed 0] [--json out.json]

A process ingests a folder of small files, builds the index, prunes and compacts. It dies at a chosen point
(the n-th step of a commit or of a compaction, the n-th batch that is embedded) or at a random moment. After
every death the collection must open, answer a query, and hold nothing twice and nothing wrong; runs go on
until one ends by itself, and then every item and every vector must be that of the undisturbed run.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

import xsearch
from benchmarks import command
from xsearch.backend import Capabilities
from xsearch.collection import Collection
from xsearch.index import make_plan
from xsearch.store import Store, Writer
from xsearch.types import Fingerprint, Modality, Sample

DIM = 16
COMMIT_ITEMS = 12  # so that a run has many commits
Rows = dict[tuple[str, str, float], bytes]  # vector by path, kind and start


class Backend:
    """A vector is drawn from the bytes of its sample: as good as a model, to compare, and fast."""

    fingerprint = Fingerprint("bytes", "0", "1", DIM)

    def __init__(self, point: Point | None = None) -> None:
        self._point = point

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if self._point:
            self._point.reached("embed")
        seeds = [hash_of(sample) for sample in samples]
        vectors = np.stack([np.random.default_rng(seed).normal(size=DIM) for seed in seeds])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    def windows(self, text: str) -> Iterator[str]:
        yield text

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return self.embed(samples)

    def capabilities(self) -> Capabilities:
        return Capabilities(tuple(Modality), DIM, None, None, "cpu", "fp32")


def hash_of(sample: Sample) -> list[int]:
    data = sample.data.encode() if isinstance(sample.data, str) else np.asarray(sample.data).tobytes()
    return [*data[:64], len(data), round(100 * (sample.start_s or 0))]


class Point:
    """Where a process is to die: `count` times after something of this name."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.left = name, count

    def reached(self, name: str) -> None:
        if name == self.name:
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            self.left -= 1


class DyingStore(Store):
    """A store whose writer dies at a point."""

    point: Point

    @contextmanager
    def writer(self, **how) -> Iterator[Writer]:
        with super().writer(**how, step=self.point.reached) as writer:
            yield writer


def make_media(folder: Path, count: int, seed: int) -> None:
    """Pictures, texts and duplicates of both, and one broken file."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for i in range(count):
        if i % 3 == 0:
            pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:03}.png")
        elif i % 3 == 1:
            (folder / f"{i:03}.txt").write_text(f"note {rng.integers(10**9)} " * 5)
        else:
            older = folder / f"{i - 2:03}.png"
            (folder / f"{i:03}.png").write_bytes(older.read_bytes())
    (folder / "broken.png").write_bytes((folder / "000.png").read_bytes()[:50])


def work(index: Path, media: Path, point: Point) -> None:
    """What a process does; it dies at the point, or comes to the end."""
    import xsearch.ingest

    # An index for so few items, so that its building can be interrupted too.
    xsearch.ingest.make_plan = partial(make_plan, device="cpu", recipe="IVF1,Flat")
    store = DyingStore(index)
    store.point = point
    collection = Collection(store, backend=Backend(point))
    point.reached("start")
    xsearch.ingest.ingest(store, [media], collection.backend, prune=True, commit_items=COMMIT_ITEMS)
    point.reached("ingested")
    collection.compact()


def die(index: Path, media: Path, name: str, count: int, after_s: float | None) -> bool:
    """Run a process; whether it was killed."""
    return command.killed("crash", "--work", str(index), str(media), name, str(count), after_s=after_s)


def rows(index: Path) -> Rows:
    """Everything in the collection. AssertionError if something is there twice."""
    collection = Collection(Store.open(index), backend=Backend())
    snapshot = collection.snapshot()
    items = snapshot.items(snapshot.ids, ["path", "modality", "start_s"]).to_pylist()
    keys = [(item["path"], item["modality"], item["start_s"] or 0.0) for item in items]
    twice = [key for key, times in Counter(keys).items() if times > 1]
    assert not twice, f"there twice: {twice}"
    if keys:
        some = xsearch.vector(snapshot.vectors(snapshot.ids[:1])[0].astype(np.float32), keys[0][1])
        assert len(collection.search(some, top=3)) == min(3, len(keys)), "a query does not answer"
    return dict(zip(keys, (vector.tobytes() for vector in snapshot.vectors(snapshot.ids)), strict=True))


def run(kills: int, seed: int, files: int = 60) -> dict:
    rng = random.Random(seed)
    points: Counter[str] = Counter()
    collections = 0
    with tempfile.TemporaryDirectory() as scratch:
        media = Path(scratch) / "media"
        make_media(media, files, seed)
        Store.create(Path(scratch) / "undisturbed", Backend.fingerprint)
        start = time.perf_counter()
        assert not die(Path(scratch) / "undisturbed", media, "never", 0, None)
        usual_s = time.perf_counter() - start
        expected = rows(Path(scratch) / "undisturbed")
        names = [
            "start",
            "embed",
            "items",
            "vectors",
            "skipped",
            "manifest",
            "published",
            "garbage",
            "ingested",
        ]
        while sum(points.values()) < kills:
            collections += 1
            index = Path(scratch) / f"{collections}"
            Store.create(index, Backend.fingerprint)
            killed = True
            while killed:
                enough = sum(points.values()) >= kills
                name = "never" if enough else rng.choice([*names, "any moment", "any moment"])
                after_s = rng.uniform(0.1, usual_s) if name == "any moment" else None
                killed = die(index, media, name, rng.randrange(4), after_s)
                points[name] += killed
                now = rows(index)
                assert now.items() <= expected.items(), f"something wrong after {name}"
            assert now == expected, f"collection {collections} ended with {len(now)} of {len(expected)} items"
            skipped = Store.open(index).snapshot().skipped()["path"].to_pylist()
            assert skipped == [str(media / "broken.png")]
    return {"kills": dict(sorted(points.items())), "collections": collections, "items": len(expected)}


def markdown(result: dict) -> str:
    kills = {name: count for name, count in result["kills"].items() if count}
    lines = [command.table(["killed at", "times"], [[name, str(count)] for name, count in kills.items()])]
    lines += [
        "",
        f"{sum(kills.values())} kills while filling {result['collections']} collections of {result['items']} "
        "items: after each the collection opened and answered, and each collection ended with the items and "
        "vectors of an undisturbed run.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=4, metavar=("INDEX", "MEDIA", "POINT", "COUNT"), help="only this")
    options = parser.parse_args()
    if options.work:
        index, media, name, count = options.work
        work(Path(index), Path(media), Point(name, int(count)))
        return
    command.report(run(options.kills, options.seed), markdown, options.json)


if __name__ == "__main__":
    main()
