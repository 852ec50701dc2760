"""Searching more than the memory holds: a collection on the disk, and a process with a limit of memory.

    python -m benchmarks.disk --folder DIR [--n 5000000] [--dim 1024] [--memory-gb 4] [--json out.json]

Made-up vectors (see `benchmarks.vectors`) become a collection with the metadata that an ingest of pictures
writes and the index that it derives. Both are made once and stay in --folder: a run that was broken off goes
on there, and the next one only searches. Where the index's own nprobe and refine find less than 95 % of the
nearest ten of either kind of queries, the cheapest above them that find as many are taken.

The searching process is in a control group of its own, whose limit the page cache counts towards; without
the right to make one there is no limit, and the result says so. Queries are vectors, single ones of both
kinds in turns, each once in every state of the cache:

    cold     the collection is dropped from the page cache before every query
    filling  it was dropped once, before all of them
    warm     the same again after that

Opening and the first query are those of several processes, each of which begins with a dropped cache. Read:
what the process has had read from the disk, read-ahead included. MB and GB are powers of ten.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import math
import mmap
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command
from benchmarks.search import TARGET, machine, point_at
from benchmarks.systems import SYSTEMS, Inner, Setting
from benchmarks.vectors import ASKING, ITEM_KINDS, Cones, Data, cones

NAMES = "xsearch", "xsearch, index alone"
STATES = "cold", "filling", "warm"
ROUNDS = 3  # of batches
PAGE_READS = 500
LIMITS = (  # of control groups, version 1 and 2: folder, the limit, the most that was used
    ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.max", "memory.peak"),
)


# ---------------------------------------------------------------- what is searched


def made(data: Data) -> None:
    """Fill `collection` in the folder of the data, as far as that has not been done."""
    import pyarrow as pa

    from xsearch.derive import derive
    from xsearch.store import Store
    from xsearch.store.merging import SEGMENT_ROWS
    from xsearch.types import Fingerprint

    path = data.folder / "collection"
    if not path.exists():
        Store.create(path, Fingerprint("made up", "0", "1", data.dim))
    store = Store.open(path)
    if store.snapshot().manifest.calibration is not None:
        return
    with store.writer() as writer:
        for ids, vectors in data.blocks():
            if ids[0] >= writer.next_id:
                writer.add(pa.table(_metadata(data, ids)), vectors)
                if (ids[-1] + 1) % SEGMENT_ROWS == 0:
                    writer.commit()
        writer.commit()
        derive(writer)


def _metadata(data: Data, ids: np.ndarray) -> dict[str, Any]:
    """Columns as of pictures, and the shelf."""
    rng = np.random.default_rng(int(ids[0]))
    return {
        "path": [f"pictures/{id // 1000:05}/IMG_{id:09}.jpg" for id in ids],
        "modality": np.array(ITEM_KINDS)[data.kinds[ids]],
        "bytes": rng.integers(100_000, 8_000_000, len(ids)),
        "mtime_ns": rng.integers(1 << 60, 1 << 61, len(ids)),
        "sha256": [hashlib.sha256(id.tobytes()).hexdigest() for id in ids],
        "mime": ["image/jpeg"] * len(ids),
        "width": np.full(len(ids), 4032, np.int32),
        "height": np.full(len(ids), 3024, np.int32),
        "shelf": data.shelves[ids],
    }


def prepared(folder: Path, recipe: Cones, threads: int) -> tuple[Path, dict[str, Any]]:
    """The folder of the data, with the collection, and the points of its index.

    In a process of its own: what one maps no other can drop from the page cache.
    """
    data = cones(folder, recipe)
    made(data)
    return data.folder, chosen(data, threads)


def chosen(data: Data, threads: int) -> dict[str, Any]:
    """The recipe of the index, its own point and the one to search at (see `search.point_at`), kept."""
    kept = data.folder / "points.json"
    if not kept.exists():
        system = Inner(threads, "cpu")
        recipe, own = system.open(data.folder, data), system.planned()
        others = [each for each in system.settings() if each != own]
        dearer = [each for each in others if all(a >= b for a, b in zip(each, own, strict=True))]
        points = []
        for setting in (own, *sorted(dearer, key=math.prod)):
            points.append(point_at(system, data, setting))
            if min(points[-1][f"recall_{asking}"] for asking in ASKING) >= TARGET:
                break
        kept.write_text(json.dumps({"recipe": recipe, "planned": points[0], "point": points[-1]}))
    return json.loads(kept.read_text())


# ---------------------------------------------------------------- the searching process


class Cache:
    """The page cache, as far as it holds the files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self._files = [os.open(file, os.O_RDONLY) for file in folder.rglob("*") if file.is_file()]
        self._madvise = ctypes.CDLL(None).madvise
        self._madvise.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

    def drop(self) -> None:
        """Leave nothing of them in memory; what this process maps would stay, so it is unmapped before."""
        for line in Path("/proc/self/maps").read_text().splitlines():
            if self._folder in line:
                start, end = (int(word, 16) for word in line.split()[0].split("-"))
                self._madvise(start, end - start, mmap.MADV_DONTNEED)
        for file in self._files:
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)

    def page_us(self) -> float:
        """Median time of reading a page at random of the largest file, which is not in memory."""
        self.drop()
        file = max(self._files, key=lambda file: os.fstat(file).st_size)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_RANDOM)
        pages = os.fstat(file).st_size // mmap.PAGESIZE
        took = []
        for page in np.random.default_rng(0).integers(pages, size=PAGE_READS).tolist():
            start = time.perf_counter()
            os.pread(file, mmap.PAGESIZE, page * mmap.PAGESIZE)
            took.append(time.perf_counter() - start)
        os.posix_fadvise(file, 0, 0, os.POSIX_FADV_NORMAL)
        return 1e6 * statistics.median(took)


class Meter:
    """Seconds, bytes read from the disk (None where the system does not say) and major faults of calls."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, int | None, int]] = []

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        before, start = self._counts(), time.perf_counter()
        answer = function(*arguments)
        took, after = time.perf_counter() - start, self._counts()
        read = None if before[0] is None or after[0] is None else after[0] - before[0]
        self.rows.append((took, read, after[1] - before[1]))
        return answer

    def _counts(self) -> tuple[int | None, int]:
        faults = resource.getrusage(resource.RUSAGE_SELF).ru_majflt
        try:
            lines = Path("/proc/self/io").read_text().splitlines()
        except OSError:
            return None, faults
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes")), faults

    def figures(self) -> dict[str, Any]:
        took, read, faults = zip(*self.rows, strict=True)
        known = None not in read
        return {
            "p50_ms": 1000 * float(np.median(took)),
            "p99_ms": 1000 * float(np.quantile(took, 0.99)),
            "read_mb": sum(read) / 1e6 / len(read) if known else None,
            "read_mb_per_s": sum(read) / 1e6 / sum(took) if known else None,
            "major_faults": sum(faults) / len(faults),
        }


def here(name: str, folder: Path, setting: Setting, threads: int, *, is_whole: bool) -> dict[str, Any]:
    """Figures of one system in this process; not `is_whole`: of opening it and the first query alone."""
    data, system, cache = Data(folder), SYSTEMS[name](threads, "cpu"), Cache(folder / "collection")
    queries = np.stack(list(data.queries.values()), axis=1)  # [Q, ASKING, dim]: kinds in turns
    queries = queries.reshape(-1, data.dim)
    cache.drop()
    opening, first = Meter(), Meter()
    opening(system.open, folder, data)
    first(system.search, queries[:1], setting)
    result: dict[str, Any] = {"open": opening.figures(), "first": first.figures()}
    if not is_whole:
        return result
    answers: dict[str, list[list[int]]] = {}
    for state in STATES:
        meter, answers[state] = Meter(), []
        if state == "filling":
            cache.drop()
        for row in range(len(queries)):
            if state == "cold":
                cache.drop()
            answers[state] += meter(system.search, queries[row : row + 1], setting).tolist()
        result[state] = meter.figures()
    assert answers["cold"] == answers["filling"] == answers["warm"], "answers differ"
    for state in ("cold", "warm"):
        meter = Meter()
        for _ in range(ROUNDS):
            if state == "cold":
                cache.drop()
            meter(system.search, queries, setting)
        figures = meter.figures()
        rate = 1000 * len(queries) / figures["p50_ms"]
        result[f"batch_{state}"] = {"queries_per_s": rate, "read_mb_per_s": figures["read_mb_per_s"]}
    own, mapped = command.memory_mb()
    ids = np.array(answers["cold"]).reshape(-1, len(ASKING), len(answers["cold"][0])).swapaxes(0, 1)
    return result | {
        "own_mb": own,
        "mapped_mb": mapped,
        "page_us": cache.page_us(),
        "ids": dict(zip(ASKING, ids.tolist(), strict=True)),
    }


# ---------------------------------------------------------------- all of it


@contextmanager
def limited(memory_gb: float) -> Iterator[tuple[Path, str, str] | None]:
    """A control group with a limit of memory, the names of its limit and of the most that was used.

    None, with a message, where this user may not make one.
    """
    for root, limit, most in LIMITS:
        group = Path(root) / f"xsearch-disk-{os.getpid()}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            if not (group / limit).exists():  # a plain folder, or a group without this controller
                continue
            (group / limit).write_text(str(int(memory_gb * 1e9)))
            yield group, limit, most
            return
        finally:
            group.rmdir()
    print("no right to make a control group: memory is not limited", file=sys.stderr)
    yield None


def run(
    folder: Path,
    n: int,
    *,
    dim: int = 1024,
    queries: int = 500,
    threads: int = 2,
    memory_gb: float = 4,
    openings: int = 4,
) -> dict[str, Any]:
    recipe = Cones(n, dim, min(128, dim), 0, queries)
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        made_in, points = pool.submit(prepared, folder, recipe, threads).result()
    data = Data(made_in)
    files = [file for file in (made_in / "collection").rglob("*") if file.is_file()]
    sizes = {file: file.stat().st_size for file in files}
    rows = []
    with limited(memory_gb) as group:
        for name in NAMES:
            *others, row = [
                _process(group, name, data, points, threads, is_whole=at == openings)
                for at in range(1, openings + 1)
            ]
            ids = row.pop("ids")
            recalls = {f"recall_{asking}": data.recall(asking, np.array(ids[asking])) for asking in ASKING}
            for part in ("open", "first"):
                found = [each[part] for each in (*others, row)]
                row[part] = {"ms": [each["p50_ms"] for each in found], "read_mb": found[0]["read_mb"]}
            rows.append({"system": name, **recalls, **row})
        limit = None
        if group is not None:
            path, limit_name, most = group
            limit = {"by": limit_name, "gb": memory_gb}
            if (path / most).exists():
                limit["most_gb"] = int((path / most).read_text()) / 1e9
    return {
        "machine": machine(),
        "threads": threads,
        "n": n,
        "dim": dim,
        "queries": len(ASKING) * queries,
        "limit": limit,
        "collection_gb": sum(sizes.values()) / 1e9,
        "vectors_gb": sum(size for file, size in sizes.items() if file.name == "vectors.arrow") / 1e9,
        **points,
        "rows": rows,
    }


def _process(
    group: tuple[Path, str, str] | None, name: str, data: Data, points: dict, threads: int, *, is_whole: bool
) -> dict[str, Any]:
    """`here`, in a process that is in the group before it starts Python."""
    setting = json.dumps(points["point"]["setting"])
    words = [sys.executable, "-m", "benchmarks.disk", "--folder", str(data.folder), "--here", name, setting]
    words += ["--threads", str(threads), *(["--whole"] if is_whole else [])]
    if group is not None:
        words = ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group[0] / "cgroup.procs"), *words]
    env = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    return json.loads(subprocess.run(words, env=env, check=True, stdout=subprocess.PIPE).stdout)


def markdown(result: dict[str, Any]) -> str:
    def shown(figure: float | None, form: str = ",.1f") -> str:
        return "" if figure is None else format(figure, form)

    def line(row: dict, state: str) -> Sequence[str]:
        figures, batch = row[state], row.get(f"batch_{state}", {})
        return [
            row["system"],
            state,
            f"{figures['p50_ms']:.1f}",
            f"{figures['p99_ms']:.1f}",
            shown(figures["read_mb"], ",.2f"),
            shown(figures["major_faults"]),
            shown(batch.get("queries_per_s"), ",.0f"),
            shown(batch.get("read_mb_per_s"), ",.0f"),
        ]

    header = [
        "system",
        "cache",
        "p50 ms",
        "p99 ms",
        "MB read",
        "major faults",
        "queries/s in a batch",
        "MB/s read",
    ]
    limit, point, planned = result["limit"], result["point"], result["planned"]
    where = f"at most {limit['gb']:g} GB of memory ({limit['by']})" if limit else "**no limit of memory**"
    setting = "".join(f", {knob} {value}" for knob, value in zip(Inner.knobs, point["setting"], strict=False))
    lines = [
        f"{result['machine']}, {result['threads']} threads, {where}. {result['n']:,} vectors of "
        f"{result['dim']:,} dimensions: {result['vectors_gb']:.1f} GB, with all else "
        f"{result['collection_gb']:.1f} GB on the disk. {result['recipe']}{setting} (planned: "
        f"{planned['setting']}, recall {planned['recall_same']:.3f} and {planned['recall_cross']:.3f}). "
        f"{result['queries']:,} queries.",
        command.table(header, [line(row, state) for row in result["rows"] for state in STATES]),
    ]
    for row in result["rows"]:
        opened, first = row["open"], row["first"]
        lines.append(
            f"{row['system']}: recall {row['recall_same']:.3f} for queries of the items' kinds, "
            f"{row['recall_cross']:.3f} of another. The slowest of {len(first['ms'])} processes opened it in "
            f"{max(opened['ms']) / 1000:.2f} s ({shown(opened['read_mb'])} MB read) and answered the first "
            f"query in {max(first['ms']):,.0f} ms ({shown(first['read_mb'])} MB). At the end "
            f"{row['own_mb']:,.0f} MB of its own memory, {row['mapped_mb']:,.0f} MB of mapped files. The "
            f"disk reads a page at random in {row['page_us']:,.0f} us."
        )
    return "\n\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--n", type=int, default=5_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--queries", type=int, default=500, help="of each kind")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-gb", type=float, default=4)
    parser.add_argument("--here", nargs=2, metavar=("SYSTEM", "SETTING"), help="only this, in this process")
    parser.add_argument("--whole", action="store_true", help="with --here: not opening alone")
    options = parser.parse_args()
    if options.here:
        name, setting = options.here[0], tuple(json.loads(options.here[1]))
        print(json.dumps(here(name, options.folder, setting, options.threads, is_whole=options.whole)))
        return
    choices = {name: getattr(options, name) for name in ("dim", "queries", "threads", "memory_gb")}
    command.report(run(options.folder, options.n, **choices), markdown, options.json)


if __name__ == "__main__":
    main()
