"""Numerical libraries beside other work, by how their threads wait for each other.

    python -m benchmarks.waiting [--rounds 3] [--json out.json]

On two threads, in a process of its own, alone and beside one busy process and as many as there are cores:
10,000 x 64 random vectors are trained into 128 lists with 4-bit codes (FAISS); one picture, and 32, are
embedded by the bundled model (torch); 200 vectors are multiplied with 2,048 of 1,024 dimensions (NumPy). By
default libgomp waits for 300,000 spins, 3 ms, and OpenBLAS, in NumPy, computes on all cores; xsearch asks for
1,000 spins, and for products by the calling thread.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks import command
from benchmarks.search import machine
from xsearch.system.cores import CORES

WAITS = {
    "the library": {"GOMP_SPINCOUNT": "300000", "OPENBLAS_NUM_THREADS": "2"},
    "xsearch": {"OPENBLAS_NUM_THREADS": "1"},
}
TRAIN = """
from xsearch.index.library import load_faiss
faiss = load_faiss()
x = np.random.default_rng(0).standard_normal((10_000, 64), np.float32)
index = faiss.index_factory(64, "IVF128,PQ16x4fs", faiss.METRIC_L2)
report(lambda: index.train(x), 1)
"""
EMBED = """
from PIL import Image
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.types import Modality, Sample
noise = np.random.default_rng(0).integers(0, 255, ({count}, 224, 224, 3), np.uint8)
pictures = [Sample(Modality.IMAGE, Image.fromarray(each)) for each in noise]
model = ImageBindBackend.load()
model.embed(pictures)
report(lambda: model.embed(pictures), {times})
"""
MULTIPLY = """
x = np.random.default_rng(0).standard_normal((2048, 1024), np.float32)
report(lambda: x[:200] @ x.T, 49)
"""
TIMED = """
import statistics, time, numpy as np, xsearch
def report(work, times):
    took = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    print(statistics.median(took))
"""
WORK = {
    "training": TRAIN,
    "one picture": EMBED.format(count=1, times=9),
    "32 pictures": EMBED.format(count=32, times=3),
    "a product": MULTIPLY,
}
BUSY = "while True: pass"


def run(
    rounds: int, beside: Sequence[int] = (0, 1, CORES), works: Sequence[str] = (*WORK,)
) -> dict[str, Any]:
    """beside: numbers of busy processes."""
    rows = []
    for work, busy in itertools.product(works, beside):
        with ExitStack() as others:
            for _ in range(busy):  # in sessions of their own, as programs that have their share of the cores
                other = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
                others.enter_context(other)
                others.callback(other.kill)
            took = [[wall_s(work, changes) for changes in WAITS.values()] for _ in range(rounds)]
        medians = map(statistics.median, zip(*took, strict=True))
        rows += [
            {"work": work, "busy": busy, "waits": waits, "wall_s": median}
            for waits, median in zip(WAITS, medians, strict=True)
        ]
    return {"machine": machine(), "rows": rows}


def wall_s(work: str, changes: dict[str, str]) -> float:
    """In a process with these changes of the environment."""
    env = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    env |= {"OMP_NUM_THREADS": "2"} | changes
    done = subprocess.run(
        [sys.executable, "-c", TIMED + WORK[work]], env=env, stdout=subprocess.PIPE, check=True
    )
    return float(done.stdout)


def markdown(result: dict[str, Any]) -> str:
    header = ["work", "busy processes beside it", "as asked by", "wall s"]
    rows = [[row["work"], f"{row['busy']}", row["waits"], f"{row['wall_s']:.3f}"] for row in result["rows"]]
    return f"{result['machine']}, 2 threads.\n\n{command.table(header, rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    command.report(run(options.rounds), markdown, options.json)


if __name__ == "__main__":
    main()
