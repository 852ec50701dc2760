"""How long the command line takes to say something: help, and queries with the bundled model.

    python -m benchmarks.startup [--rounds 7] [--json out.json]

The commands take turns, so that a busy moment of the machine hits all of them. The yardstick is
`python -c "import torch, faiss, duckdb"`; the queries are of a collection of a few rendered scenes, which a
server serves meanwhile.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import xsearch
from benchmarks import command
from benchmarks.serve import serving
from xsearch.scenes import sample, write


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run(rounds: int) -> dict:
    with tempfile.TemporaryDirectory() as scratch:
        media, collection = Path(scratch) / "media", Path(scratch) / "collection"
        write(sample(2, seed=0), media, width=160, height=120)
        xsearch.Collection.create(collection, "bundled").ingest(media)
        program = [sys.executable, "-m", "xsearch"]
        photo = str(next(media.rglob("*.jpg")))
        write(sample(1, seed=1), others := Path(scratch) / "others", width=160, height=120)
        new = next(others.rglob("*.jpg"))
        asked = [*program, "query", "--collection", str(collection)]
        alone = [*asked, "--server", "off"]
        commands = {
            "import torch, faiss, duckdb": [sys.executable, "-c", "import torch, faiss, duckdb"],
            "xsearch --help": [*program, "--help"],
            "xsearch query TEXT": [*alone, "a dog on the beach"],
            "xsearch query FILE, of the collection": [*alone, photo],
            "xsearch query TEXT, by a server": [*asked, "a dog on the beach"],
            "xsearch query FILE, by a server": [*asked, str(new)],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        with serving(collection):
            for _ in range(rounds):
                for name, command in commands.items():
                    times[name].append(seconds(command))
    medians = {
        name: {"wall_s": statistics.median(w for w, _ in t), "cpu_s": statistics.median(c for _, c in t)}
        for name, t in times.items()
    }
    yardstick, query = medians["import torch, faiss, duckdb"], medians["xsearch query TEXT"]
    return {"commands": medians, "query_over_imports": query["wall_s"] / yardstick["wall_s"]}


def markdown(result: dict) -> str:
    lines = ["| command | wall s, median | CPU s, median |", "|---|---|---|"]
    for name, took in result["commands"].items():
        lines.append(f"| `{name}` | {took['wall_s']:.2f} | {took['cpu_s']:.2f} |")
    ratio = result["query_over_imports"]
    return "\n".join([*lines, "", f"A text query takes {ratio:.2f} times as long as the imports."])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    result = run(options.rounds)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
