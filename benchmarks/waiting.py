"""Training an index beside other work, by how long the threads of OpenMP wait actively for each other.

    python -m benchmarks.waiting [--rounds 3] [--json out.json]

10,000 x 64 random vectors are trained into 128 lists with 4-bit codes on two threads, in a process of its
own, alone and beside as many busy processes as there are cores. libgomp's default is 300,000 spins, 3 ms.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import command
from benchmarks.search import machine
from xsearch.index.library import SPINS
from xsearch.system.cores import CORES

DEFAULT = "300000"
TRAIN = """
import time, numpy as np
from xsearch.index.library import load_faiss
faiss = load_faiss()
x = np.random.default_rng(0).standard_normal((10_000, 64), np.float32)
index = faiss.index_factory(64, "IVF128,PQ16x4fs", faiss.METRIC_L2)
start, cpu = time.perf_counter(), time.process_time()
index.train(x)
print(time.perf_counter() - start, time.process_time() - cpu)
"""
BUSY = "while True: pass"


def run(rounds: int, beside: Sequence[int] = (0, CORES)) -> dict[str, Any]:
    """beside: numbers of busy processes."""
    took: dict[tuple[int, str], list[list[float]]] = {}
    for busy in beside:
        with ExitStack() as others:
            for _ in range(busy):
                other = others.enter_context(subprocess.Popen([sys.executable, "-c", BUSY]))
                others.callback(other.kill)
            for _ in range(rounds):
                for spins in (DEFAULT, SPINS):
                    env = os.environ | {"OMP_NUM_THREADS": "2", "GOMP_SPINCOUNT": spins}
                    done = subprocess.run(
                        [sys.executable, "-c", TRAIN], env=env, capture_output=True, text=True, check=True
                    )
                    took.setdefault((busy, spins), []).append([float(word) for word in done.stdout.split()])
    rows = [
        {
            "busy": busy,
            "spins": int(spins),
            "wall_s": statistics.median(wall for wall, _ in some),
            "cpu_s": statistics.median(cpu for _, cpu in some),
        }
        for (busy, spins), some in took.items()
    ]
    return {"machine": machine(), "load": os.getloadavg()[0], "rows": rows}


def markdown(result: dict[str, Any]) -> str:
    header = ["busy processes beside it", "spins", "wall s", "CPU s"]
    rows = [
        [f"{row['busy']}", f"{row['spins']:,}", f"{row['wall_s']:.2f}", f"{row['cpu_s']:.2f}"]
        for row in result["rows"]
    ]
    about = f"{result['machine']}, 2 threads; load of the machine, with these, {result['load']:.0f}."
    return f"{about}\n\n{command.table(header, rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    command.report(run(options.rounds), markdown, options.json)


if __name__ == "__main__":
    main()
