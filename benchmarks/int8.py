"""What int8 saves on a CPU: the towers of the published model against themselves in float32.

    python -m benchmarks.int8 FOLDER --pictures DIR [--tower vision ...] [--batch 1 ...] [--json out.json]

FOLDER keeps random weights of the full size, as for `benchmarks.towers`. Pictures are real, other inputs
random; every other text is short. The two take turns; seconds are the processor's, medians. alone: whether
every vector of the batch is that of its sample alone, to the last bit. MB: memory after one sample, with the
pages of the file that are mapped.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import command, footprint
from benchmarks.random_model import SHORT, batch_of
from benchmarks.towers import PICTURES, machine, pictures_of
from xsearch.models import HUGE, TOWERS, ImageBindConfig, Tower, load_tower
from xsearch.models.precision import COMPUTED

KINDS = ("fp32", "int8")


@torch.inference_mode()
def measure(
    name: str, inputs: Tensor, batches: list[int], folder: Path, rounds: int, config: ImageBindConfig
) -> dict:
    towers = {kind: load_tower(folder, name, config, dtype=COMPUTED[kind]) for kind in KINDS}
    rows = []
    for x in (inputs[:size] for size in batches):
        exact, rounded = (tower(x) for tower in towers.values())
        took = [[cpu_s(tower, x) for tower in towers.values()] for _ in range(rounds)]
        rows.append(
            {
                "batch": len(x),
                "cpu_s": dict(zip(KINDS, map(statistics.median, zip(*took, strict=True)), strict=True)),
                "cosine": F.cosine_similarity(exact, rounded).min().item(),
                "alone": torch.equal(torch.cat([towers["int8"](one) for one in x.split(1)]), rounded),
            }
        )
    memory = {kind: footprint.measure(name, folder, kind) for kind in KINDS}
    return {"tower": name, "rows": rows, "memory": memory}


def cpu_s(tower: Tower, x: Tensor) -> float:
    start = time.process_time()
    tower(x)
    return time.process_time() - start


def run(
    folder: Path,
    pictures: Path,
    towers: list[str],
    batches: list[int],
    *,
    rounds: int = 3,
    config: ImageBindConfig = HUGE,
) -> dict:
    inputs = {name: batch_of(name, max(batches), config) for name in towers}
    if "text" in towers:
        inputs["text"][1::2] = batch_of(SHORT, max(batches), config)[1::2]
    if "vision" in towers:
        inputs["vision"] = pictures_of(pictures, config)
    return {
        "machine": machine(torch.device("cpu")),
        "threads": torch.get_num_threads(),
        "towers": [measure(name, inputs[name], batches, folder, rounds, config) for name in towers],
    }


def markdown(result: dict) -> str:
    header = "tower,batch,float32: CPU s,int8: CPU s,times as fast,least cosine,alone,float32: MB,int8: MB"
    rows = [
        [
            tower["tower"],
            str(row["batch"]),
            *(f"{row['cpu_s'][kind]:.2f}" for kind in KINDS),
            f"{row['cpu_s']['fp32'] / row['cpu_s']['int8']:.2f}",
            f"{row['cosine']:.4f}",
            "equal" if row["alone"] else "differs",
            *(
                f"{tower['memory'][kind]['own_mb'] + tower['memory'][kind]['mapped_mb']:,.0f}"
                for kind in KINDS
            ),
        ]
        for tower in result["towers"]
        for row in tower["rows"]
    ]
    return f"{result['machine']}, {result['threads']} threads.\n\n{command.table(header.split(','), rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=Path, metavar="DIR", required=True)
    parser.add_argument("--tower", action="append", choices=TOWERS)
    parser.add_argument("--batch", action="append", type=int, choices=range(1, PICTURES + 1))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    result = run(
        options.folder,
        options.pictures,
        options.tower or list(TOWERS),
        options.batch or [1, 4, 8],
        rounds=options.rounds,
    )
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
