"""xsearch against what people would use instead: same vectors, same queries, same cores.

    python -m benchmarks.search --folder DIR [--n 10000 --n 100000] [--intrinsic 128] [--json out.json]
    python -m benchmarks.search --folder DIR --content clusters --intrinsic 96 --intrinsic 400
    python -m benchmarks.search --folder DIR --content scenes --n 50000
    python -m benchmarks.search --folder DIR --n 1000000 --limit-s 7200 --plot out.svg
    python -m benchmarks.search --folder DIR --n 10000000 --device cuda

A system runs in processes of its own, one after the other, on --threads cores: one builds, from vectors in a
file to files on the disk; one searches; one loads, answers 200 single queries and has its memory looked at.
The searching one tries the settings of its system (ef, nprobe ...) from cheap to dear, a batch of all queries
each, until they find 99 %, and goes on with the fastest at which recall@10 is at least 0.95 for queries of
the same modality and of another (see `benchmarks.vectors`). A filter keeps a random 10 %, 1 % or 0.1 % of
the items and is asked one query at a time, with that same setting.

own: memory of the process beyond that of its packages. mapped: pages of the index's files in memory, and
after the + those of the vectors that only a re-rank reads; the system takes these back when it needs them.
What was measured stays in --folder and is not measured again without --fresh; a system that failed or ran
past --limit-s or --memory-gb is shown with its reason.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import re
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import command, vectors
from benchmarks.systems import ON_GPU, SYSTEMS, Setting, System
from benchmarks.vectors import ASKING, LIMITS, SHELVES, Clusters, Cones, Data

TARGET, ENOUGH = 0.95, 0.99  # recall to reach; recall from which dearer settings are not tried
SINGLES, FILTERED = 500, 50  # single queries of each kind, of all and of filtered items
MANY = (500, 990)  # further filters `shelf < limit` that are prepared, but not searched with
ROUNDS = 3
TRIED, BATCH_S = 50, 5.0  # queries that show how long a batch takes; the longest that one may take
LOOP_S = 30.0  # the longest that single queries go on
BATCHES_CUDA = (1, 32, 1024, 10_000)
AHEAD = (100_000_000, 1_000_000_000)
STEPS = ("build", "search", "memory")
MAPPING = re.compile(r"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ *(.*)")  # first line of each in /proc/PID/smaps


# ---------------------------------------------------------------- one step of one system, in its own process


def here(step: str, name: str, folder: Path, threads: int, device: str, memory_gb: float) -> None:
    """What a process does. What it has measured is in the folder at every moment."""
    if device == "cpu":  # CUDA reserves addresses without end
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory_gb * 1e9),) * 2)
    data = Data(folder)
    record = Record(folder, device, name)
    system = (ON_GPU if device == "cuda" else SYSTEMS)[name](threads, device)
    scratch = folder / f"{device}-{name}"
    if step == "build":
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        with Watch() as watch:
            start = time.perf_counter()
            system.build(scratch, data)
            record.add(build_s=time.perf_counter() - start)
        record.add(
            build_peak_bytes=watch.all_bytes,
            build_peak_own_bytes=watch.own_bytes,
            disk_bytes=sum(file.stat().st_size for file in scratch.rglob("*") if file.is_file()),
        )
    elif step == "search":
        search(system, data, scratch, record, device)
    else:
        record.add(**memory(system, data, scratch, tuple(record.values["setting"])))


class Record:
    """Figures of one system in a file, complete after every `add`."""

    def __init__(self, folder: Path, device: str, name: str) -> None:
        self.path = folder / f"{device}-{name}.json"
        self.values: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def add(self, **figures: Any) -> None:
        self.values |= figures
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(self.values, indent=1))
        part.replace(self.path)


def search(system: System, data: Data, folder: Path, record: Record, device: str) -> None:
    start = time.perf_counter()
    record.add(what=system.open(folder, data), knobs=system.knobs, open_s=time.perf_counter() - start)
    if device == "cuda":
        import torch

        free, whole = torch.cuda.mem_get_info()
        record.add(device_name=torch.cuda.get_device_name(), device_bytes=whole - free)
    curve: list[dict[str, Any]] = []
    for setting in system.settings():
        dear = [point["setting"] for point in curve if _lower_recall(point) >= ENOUGH]
        if not any(all(a >= b for a, b in zip(setting, other, strict=True)) for other in dear):
            curve.append(point_at(system, data, setting))
            record.add(curve=curve)
    good = [point for point in curve if _lower_recall(point) >= TARGET]
    best = max(good, key=lambda point: point["queries_per_s"], default=None) or max(curve, key=_lower_recall)
    setting = tuple(best["setting"])
    rounds = [point_at(system, data, setting) for _ in range(ROUNDS)]
    median = sorted(rounds, key=lambda point: point["queries_per_s"])[ROUNDS // 2]
    record.add(**median, **latencies(system, data, setting, SHELVES, SINGLES))
    if device == "cuda":
        record.add(**batches(system, data, setting))
    for limit in LIMITS[1:]:
        try:
            found = latencies(system, data, setting, limit, FILTERED)
        except NotImplementedError:
            break
        record.add(**{f"{key}_at_{limit}": value for key, value in found.items()})
    if hasattr(system, "where"):
        for limit in (*LIMITS[1:], *MANY):
            took = [_timed(system.where, limit)[1] for _ in range(10)]
            record.add(**{f"where_ms_at_{limit}": 1000 * statistics.median(took)})


def point_at(system: System, data: Data, setting: Setting) -> dict[str, Any]:
    """Both kinds of queries, each in one batch; of a slow system only as many as there is time for."""
    _, took = _timed(system.search, data.queries["same"][:TRIED], setting)
    Q = max(min(data.about["queries"], int(TRIED * BATCH_S / took)), TRIED)
    answers = {asking: _timed(system.search, data.queries[asking][:Q], setting) for asking in ASKING}
    return {
        "setting": setting,
        "queries_per_s": len(ASKING) * len(answers["same"][0]) / sum(took for _, took in answers.values()),
        **{f"recall_{asking}": data.recall(asking, ids) for asking, (ids, _) in answers.items()},
    }


def _lower_recall(point: dict[str, Any]) -> float:
    return min(point[f"recall_{asking}"] for asking in ASKING)


def latencies(system: System, data: Data, setting: Setting, limit: int, most: int) -> dict[str, float]:
    """Single queries, `most` of each kind in turns, or as many as there is time for."""
    ids: dict[str, list[np.ndarray]] = defaultdict(list)
    took = []
    start = time.perf_counter()
    for row in range(min(most, data.about["queries"])):
        for asking in ASKING:
            found, seconds = _timed(system.search, data.queries[asking][row : row + 1], setting, limit)
            ids[asking].append(found)
            took.append(1000 * seconds)
        if time.perf_counter() - start > LOOP_S:
            break
    figures = {
        "p50_ms": float(np.median(took)),
        "p99_ms": float(np.quantile(took, 0.99)),
        "singles": len(took),
    }
    if limit < SHELVES:
        for asking in ASKING:
            figures[f"recall_{asking}"] = data.recall(asking, np.concatenate(ids[asking]), limit)
    return figures


def batches(system: System, data: Data, setting: Setting) -> dict[str, Any]:
    """Queries per second by size of a batch; what share of the memory's speed a scan of all vectors is."""
    import torch

    queries = np.concatenate(list(data.queries.values()))
    rates = {}
    for size in BATCHES_CUDA:
        batch = np.resize(queries, (size, data.dim))
        system.search(batch, setting)
        took = [_timed(system.search, batch, setting)[1] for _ in range(max(ROUNDS, 20 // size))]
        rates[size] = size / statistics.median(took)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    copies = []
    for _ in range(10):
        torch.cuda.synchronize()
        start = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        copies.append(time.perf_counter() - start)
    bytes_per_s = 2 * len(source) / min(copies)  # reads and writes
    scan = rates[1] * 2 * data.n * data.dim / bytes_per_s
    return {"queries_per_s_by_batch": rates, "device_bytes_per_s": bytes_per_s, "scan_share": scan}


def _timed(function: Callable[..., Any], *given: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    answer = function(*given)
    return answer, time.perf_counter() - start


# ---------------------------------------------------------------- memory


def memory(system: System, data: Data, folder: Path, setting: Setting) -> dict[str, int]:
    """What the process has grown by after loading and 200 single queries; mapped pages by whose they are."""
    before, _ = _resident(folder)
    system.open(folder, data)
    for row in range(min(100, data.about["queries"])):
        for asking in ASKING:
            system.search(data.queries[asking][row : row + 1], setting)
    own, mapped = _resident(folder)
    vectors = sum(size for name, size in mapped.items() if system.re_ranks == name)
    return {
        "own_bytes": own - before,
        "mapped_index_bytes": sum(mapped.values()) - vectors,
        "mapped_vectors_bytes": vectors,
    }


def _resident(folder: Path) -> tuple[int, dict[str, int]]:
    """Anonymous bytes of this process and its children; of the files in `folder`, mapped bytes by name."""
    own, mapped = 0, defaultdict(int)
    for process in _family():
        name = ""
        for line in Path(f"/proc/{process}/smaps").read_text().splitlines():
            if found := MAPPING.match(line):
                path = Path(found[1])
                name = path.name if path.is_relative_to(folder.resolve()) else ""
            elif line.startswith("Anonymous:"):
                own += 1024 * int(line.split()[1])
            elif name and line.startswith("Rss:"):
                mapped[name] += 1024 * int(line.split()[1])
    return own, mapped


def _family() -> Iterator[int]:
    """This process and those that it started, and they."""
    todo = [os.getpid()]
    while todo:
        process = todo.pop()
        yield process
        for thread in Path(f"/proc/{process}/task").iterdir():
            todo += map(int, (thread / "children").read_text().split())


class Watch(command.Sampler):
    """The most that the memory of this process and its children grew by; looks 20 times a second."""

    def __init__(self) -> None:
        self.all_bytes = self.own_bytes = 0
        self._before = self._look()

    def sample(self) -> None:
        whole, own = self._look()
        self.all_bytes = max(self.all_bytes, whole - self._before[0])
        self.own_bytes = max(self.own_bytes, own - self._before[1])

    def _look(self) -> tuple[int, int]:
        whole = own = 0
        for process in _family():
            try:
                pages = [int(word) for word in Path(f"/proc/{process}/statm").read_text().split()]
            except OSError:
                continue  # it has just ended
            whole += pages[1] * resource.getpagesize()
            own += (pages[1] - pages[2]) * resource.getpagesize()  # without what is of files or shared
        return whole, own


# ---------------------------------------------------------------- all of them


def run(
    folders: list[Path], systems: list[str], *, threads: int = 2, device: str = "cpu", limit_s: float = 3600,
    memory_gb: float = 8, fresh: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Every system on the data of every folder; what is known already is taken as it is, unless `fresh`."""
    rows = []
    for folder, name in itertools.product(folders, systems):
        record = Record(folder, device, name)
        if fresh:
            record.path.unlink(missing_ok=True)
        if fresh or not record.values.get("ended"):
            record = _measured(folder, name, threads, device, limit_s, memory_gb)
        about = json.loads((folder / "about.json").read_text())
        rows.append({"system": name, **about, **record.values})
    return {"machine": machine(), "threads": threads, "device": device, "rows": rows}


def _measured(folder: Path, name: str, threads: int, device: str, limit_s: float, memory_gb: float) -> Record:
    record = Record(folder, device, name)
    record.path.unlink(missing_ok=True)
    cores = sorted(os.sched_getaffinity(0))[:threads]
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "RAYON_NUM_THREADS",
        "TOKIO_WORKER_THREADS",
    )
    env = os.environ | dict.fromkeys(names, str(threads))
    problem = None
    for step in STEPS if device == "cpu" else STEPS[:2]:
        print(f"{folder.name}: {name}: {step}", file=sys.stderr)
        given = [step, name, str(folder), str(threads), device, str(memory_gb)]
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.search", "--here", *given],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            os.sched_setaffinity(process.pid, cores)
            try:
                _, said = process.communicate(timeout=limit_s)
                lines = [line for line in said.splitlines() if line.strip()]
                if process.returncode < 0:
                    problem = f"{step}: {signal.Signals(-process.returncode).name}"
                elif process.returncode:
                    problem = f"{step}: {lines[-1][:200] if lines else f'exit {process.returncode}'}"
            except subprocess.TimeoutExpired:
                problem = f"{step}: not done after {limit_s:g} s"
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # it, and servers that it has started
        if problem:
            break
    shutil.rmtree(folder / f"{device}-{name}", ignore_errors=True)
    record = Record(folder, device, name)
    record.add(ended=True, problem=problem)
    return record


def machine() -> str:
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.processor()


# ---------------------------------------------------------------- what people see


def markdown(result: dict) -> str:
    rows = result["rows"]
    made = _cuda_table(rows) if result["device"] == "cuda" else _table(rows)
    problems = [f"{row['system']}, {row['n']:,} vectors: {row['problem']}." for row in rows if row["problem"]]
    machine = f"{result['machine']}, {result['threads']} threads; {_about(rows)}."
    grown = growth(rows) if len({_data(row) for row in rows}) == 1 else ""
    return "\n\n".join(part for part in (machine, made, " ".join(problems), grown) if part)


def _about(rows: list[dict]) -> str:
    kinds = {(row["dim"], _data(row), row["seed"], row["queries"]) for row in rows}
    return "; ".join(
        f"{dim} dimensions, {data}, seed {seed}, 2 x {queries:,} queries"
        for dim, data, seed, queries in sorted(kinds)
    )


def _data(row: dict) -> str:
    if "intrinsic" not in row:
        return "scenes"
    kind = "" if row.get("content", "cones") == "cones" else f"{row['content']}, "
    return f"{kind}intrinsic {row['intrinsic']}"


def _table(rows: list[dict]) -> str:
    header = (
        "vectors,system,setting,build s,peak MB,own B/vector,mapped B/vector,disk B/vector,recall same,"
        "recall cross,queries/s,queries/s for same alone,p50 ms,p99 ms,10 %: recall; p50 ms,1 %,0.1 %"
    )
    made = []
    several = len({_data(row) for row in rows}) > 1
    for row in rows:
        per = 1 / row["n"]
        mapped = [_figure(row, f"mapped_{what}_bytes", ".0f", per) for what in ("index", "vectors")]
        made.append([
            f"{row['n']:,}{f', {_data(row)}' if several else ''}",
            row["system"],
            _setting(row),
            _figure(row, "build_s", ",.1f"),
            _figure(row, "build_peak_bytes", ",.0f", 1e-6),
            _figure(row, "own_bytes", ",.0f", per),
            " + ".join(part for part in mapped if part),
            _figure(row, "disk_bytes", ",.0f", per),
            *(_figure(row, f"recall_{asking}", ".3f") for asking in ASKING),
            _figure(row, "queries_per_s", ",.0f"),
            _same_alone(row),
            _figure(row, "p50_ms", ",.2f"),
            _figure(row, "p99_ms", ",.2f"),
            *(_filtered(row, limit) for limit in LIMITS[1:]),
        ])  # fmt: skip
    where = [row for row in rows if f"where_ms_at_{LIMITS[1]}" in row]
    note = "".join(
        f"\n\n{row['system']}, {row['n']:,} vectors: finding what passes `shelf < ...` takes "
        + ", ".join(f"{row[f'where_ms_at_{limit}']:.1f}" for limit in LIMITS[1:])
        + " ms"
        + "".join(
            f", where {limit / SHELVES:.0%} pass {row[key]:.1f} ms"
            for limit in MANY
            if (key := f"where_ms_at_{limit}") in row
        )
        + ", once for each filter."
        for row in where
    )
    return command.table(header.split(","), made) + note


def _same_alone(row: dict) -> str:
    """Batched, at the fastest setting that reaches the target for queries of the items' own modalities."""
    good = [point["queries_per_s"] for point in row.get("curve", []) if point["recall_same"] >= TARGET]
    return f"{max(good):,.0f}" if good else ""


def _cuda_table(rows: list[dict]) -> str:
    header = ["vectors", "system", "setting", "build s", "device GB", "recall same", "recall cross"]
    header += [f"queries/s, {size:,} at once" for size in BATCHES_CUDA]
    header += ["of the memory's speed"]
    made = []
    for row in rows:
        rates = row.get("queries_per_s_by_batch", {})
        made.append([
            f"{row['n']:,}",
            row["system"],
            _setting(row),
            _figure(row, "build_s", ",.1f"),
            _figure(row, "device_bytes", ",.1f", 1e-9),
            *(_figure(row, f"recall_{asking}", ".3f") for asking in ASKING),
            *(f"{rates[str(size)]:,.0f}" if str(size) in rates else "" for size in BATCHES_CUDA),
            _figure(row, "scan_share", ".0%") if row["system"] == "flat" else "",
        ])  # fmt: skip
    return command.table(header, made)


def _figure(row: dict, key: str, form: str, scale: float = 1) -> str:
    return f"{scale * row[key]:{form}}" if key in row else ""


def _setting(row: dict) -> str:
    pairs = zip(row.get("knobs", ()), row.get("setting", ()), strict=False)
    return ", ".join([row.get("what", ""), *(f"{knob} {value}" for knob, value in pairs)])


def _filtered(row: dict, limit: int) -> str:
    if f"p50_ms_at_{limit}" not in row:
        return ""
    recall = min(row[f"recall_{asking}_at_{limit}"] for asking in ASKING)
    return f"{recall:.3f}; {row[f'p50_ms_at_{limit}']:,.2f}"


def growth(rows: list[dict]) -> str:
    """What the figures say of 100 million and a billion vectors, if they go on as they grew."""
    header = ["system", "measured at", "build ~ n^", "p50 ~ n^"]
    header += [f"{what}, {n / 1e6:,.0f} M" for n in AHEAD for what in ("memory GB", "build h", "p50 ms")]
    made = []
    for name in dict.fromkeys(row["system"] for row in rows):
        known = [row for row in rows if row["system"] == name and not row["problem"] and "own_bytes" in row]
        known = [row for row in known if _lower_recall(row) >= TARGET]
        knobs = max((len(row["setting"]) for row in known), default=0)  # a scan is not yet an index
        known = sorted((row for row in known if len(row["setting"]) == knobs), key=lambda row: row["n"])
        if len({row["n"] for row in known}) < 2:
            continue
        last = known[-1]
        slope = {key: _slope(known, key) for key in ("build_s", "p50_ms")}
        resident = (last["own_bytes"] + last["mapped_index_bytes"]) / last["n"]
        cells = [name, f"{known[0]['n']:,} - {last['n']:,}", *(f"{power:.2f}" for power in slope.values())]
        for n in AHEAD:
            build_s, p50_ms = (last[key] * (n / last["n"]) ** power for key, power in slope.items())
            cells += [f"{resident * n / 1e9:,.0f}", f"{build_s / 3600:,.1f}", f"{p50_ms:,.1f}"]
        made.append(cells)
    if not made:
        return ""
    return (
        f"{command.table(header, made)}\n\nExtrapolated, not measured. Assumed: bytes per vector (own and "
        "mapped index) stay those of the largest n; build time and the median of a single query go on with "
        "the power of n fitted to the measured ones, at the same recall, with all of the index in memory and "
        "as many cores."
    )


def _slope(rows: list[dict], key: str) -> float:
    """The power of n with which a figure grows: least squares on logarithms."""
    x, y = np.log([row["n"] for row in rows]), np.log([row[key] for row in rows])
    return float(np.polyfit(x, y, 1)[0])


def plot(result: dict, path: Path) -> None:
    """Recall, the lower of the two kinds of queries, against queries/s. path: an SVG or a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "xsearch"  # the same file for the same figures
    matplotlib.rcParams["svg.fonttype"] = "none"  # letters, not their outlines
    from matplotlib import pyplot as plt

    sizes = sorted({row["n"] for row in result["rows"]})
    names = list(dict.fromkeys(row["system"] for row in result["rows"]))
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(5.5 * len(sizes), 4.5), squeeze=False, sharex=True, sharey=True
    )
    for ax, n in zip(axes[0], sizes, strict=True):
        for colour, name in enumerate(names):
            rows = [row for row in result["rows"] if row["n"] == n and row["system"] == name]
            points = [
                (_lower_recall(point), point["queries_per_s"])
                for row in rows
                for point in row.get("curve", [])
            ]
            if best := [p for p in sorted(points) if not any(q[0] >= p[0] and q[1] > p[1] for q in points)]:
                ax.plot(*zip(*best, strict=True), marker="o", markersize=4, color=f"C{colour}", label=name)
        ax.axvline(TARGET, color="grey", linewidth=0.8, linestyle=":")
        ax.set(title=f"{n:,} vectors", xlabel="recall@10, lower of same and cross", yscale="log")
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("queries/s, batched")
    fullest = max(axes[0], key=lambda ax: len(ax.get_legend_handles_labels()[1]))
    fullest.legend(loc="lower left")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(figure)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, help="for vectors and results; a gigabyte for 300,000 vectors")
    parser.add_argument("--n", type=int, action="append", help="how many vectors; again for more; 100000")
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--intrinsic", type=int, action="append", help="dimensions of the content; 128")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--queries", type=int, default=1_000, help="of each kind")
    parser.add_argument("--content", choices=["cones", "clusters", "scenes"], default="cones")
    parser.add_argument("--systems", nargs="+", choices=sorted({*SYSTEMS, *ON_GPU}))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--limit-s", type=float, default=3600, help="for each step of a system")
    parser.add_argument("--memory-gb", type=float, default=8, help="for each process, without mapped files")
    parser.add_argument("--fresh", action="store_true", help="measure again what has been measured")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--here", nargs=6, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        step, name, folder, threads, device, memory_gb = options.here
        here(step, name, Path(folder), int(threads), device, float(memory_gb))
        return
    if options.folder is None:
        parser.error("--folder is needed")
    folders = []
    for n in options.n or [100_000]:
        if options.content == "scenes":
            data = vectors.scenes(options.folder, n, options.queries, options.seed, options.device)
            folders.append(data.folder)
            continue
        kind = Clusters if options.content == "clusters" else Cones
        for intrinsic in options.intrinsic or [128]:
            recipe = kind(n, options.dim, intrinsic, options.seed, options.queries)
            folders.append(vectors.cones(options.folder, recipe, options.device).folder)
    names = options.systems or list(ON_GPU if options.device == "cuda" else SYSTEMS)
    result = run(
        folders,
        names,
        threads=options.threads,
        device=options.device,
        limit_s=options.limit_s,
        memory_gb=options.memory_gb,
        fresh=options.fresh,
    )
    command.report(result, markdown, options.json)
    if options.plot:
        plot(result, options.plot)


if __name__ == "__main__":
    main()
