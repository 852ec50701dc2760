"""What loading one tower of the published model costs: seconds and memory.

    python -m benchmarks.footprint FOLDER [--json out.json]

FOLDER keeps random weights of the full size as a model folder (4.8 GB, written when it is not there). Each
tower is loaded and embeds one sample in a process of its own, as a query does; the file is in the system's
cache, as it is for a second query. Mapped memory is the file's own pages, which processes share and the
system takes back when it needs them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import command
from benchmarks.random_model import batch_of, write_model
from xsearch.models import HUGE, TOWERS, ImageBindConfig, load_config, load_tower
from xsearch.models.precision import COMPUTED


def measure(tower: str, folder: Path, dtype: str = "fp32") -> dict[str, float | str]:
    """In a fresh process."""
    options = ["--here", tower, "--dtype", dtype]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.footprint", str(folder), *options],
        capture_output=True,
        check=True,
    )
    return json.loads(done.stdout)


@torch.inference_mode()
def measure_here(name: str, folder: Path, dtype: str) -> dict[str, float | str]:
    config, _ = load_config(folder)
    x = batch_of(name, 1, config)
    before, start = command.memory_mb(), time.perf_counter()
    tower = load_tower(folder, name, config, dtype=COMPUTED[dtype])
    loaded, load_s = command.memory_mb(), time.perf_counter() - start
    tower(x)
    after, both_s = command.memory_mb(), time.perf_counter() - start
    return {
        "tower": name,
        "file_mb": (folder / f"{name}.safetensors").stat().st_size / 1e6,
        "load_s": load_s,
        "first_s": both_s - load_s,
        "loaded_mb": sum(loaded) - sum(before),
        "own_mb": after[0] - before[0],
        "mapped_mb": after[1] - before[1],
    }


def run(folder: Path, towers: Sequence[str] = TOWERS, config: ImageBindConfig = HUGE) -> dict:
    if not (folder / "config.json").exists():
        write_model(folder, config)
    return {"towers": [measure(name, folder) for name in towers]}


def markdown(result: dict) -> str:
    return command.table(
        [
            "tower",
            "file, MB",
            "load, s",
            "first sample, s",
            "loaded, MB",
            "own then, MB",
            "mapped then, MB",
        ],
        [
            [
                row["tower"],
                f"{row['file_mb']:,.0f}",
                f"{row['load_s']:.2f}",
                f"{row['first_s']:.2f}",
                *(f"{row[name]:,.0f}" for name in ("loaded_mb", "own_mb", "mapped_mb")),
            ]
            for row in result["towers"]
        ],
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--here", choices=TOWERS, help="only this tower, in this process, as JSON")
    parser.add_argument("--dtype", choices=COMPUTED, default="fp32", help="of the tower of --here")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure_here(options.here, options.folder, options.dtype)))
    else:
        command.report(run(options.folder), markdown, options.json)


if __name__ == "__main__":
    main()
