"""How fast each tower of the published model is, against what the machine can multiply.

    python -m benchmarks.towers FOLDER [--tower vision ...] [--batch 2 ...] [--device cuda] [--json out.json]

FOLDER keeps random weights of the full size as a model folder (4.8 GB, written when it is not there).
Ceiling: the matrix products of the tower's own blocks, alone. Then, in turns, the tower as xsearch runs it
and the same weights run plainly in float32 (`plain`: torch's MultiheadAttention, every token, both frames,
all 77 ids). bf16 is timed where the device is fast with it. GFLOP counts what the plain tower computes, so
that work left out shows as speed. `--pictures DIR` compares bf16 with float32 on eight real pictures.
"""

from __future__ import annotations

import math
import platform
import statistics
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import command
from benchmarks.plain import PlainTower
from benchmarks.random_model import SHORT, batch_of, tower_of, write_model
from xsearch.media import read, walk
from xsearch.models import HUGE, TOWERS, ImageBindConfig, Preprocess, load_tower
from xsearch.models.precision import DTYPES, has_fast_bf16
from xsearch.types import MediaFile, Modality

CASES = (*TOWERS, SHORT)
# Seconds of the official code for a batch of 2 in float32, 2 threads, on another AMD EPYC (with AVX-512).
OFFICIAL_S = {"imu": 0.142, "depth": 0.144, "thermal": 0.466, "text": 0.69, "audio": 1.62, "vision": 3.95}
PICTURES = 8


class Timer:
    """Medians of functions that take turns, so that a busy moment of the machine hits all of them."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self.device, self.seconds = device, seconds

    def medians(self, functions: dict[str, Callable[[], object]]) -> dict[str, float]:
        """At least three rounds after one to warm up, `seconds` for each function."""
        rounds: list[dict[str, float]] = []
        start = time.perf_counter()
        while len(rounds) < 4 or time.perf_counter() - start < self.seconds * len(functions):
            rounds.append({name: self._once(function) for name, function in functions.items()})
        return {name: statistics.median(took[name] for took in rounds[1:]) for name in functions}

    def _once(self, function: Callable[[], object]) -> float:
        self._wait()
        start = time.perf_counter()
        function()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def tokens_of(case: str, config: ImageBindConfig) -> int:
    """Tokens of one sample, all its clips together, if nothing is left out."""
    name = tower_of(case)
    part = getattr(config, name)
    match name:
        case "text":
            return part.context
        case "audio":
            return part.clips * (1 + math.prod(part.grid))
        case "imu":
            return 1 + part.samples // part.kernel
    return 1 + (part.image_size // part.patch) ** 2


def gflop_of(case: str, config: ImageBindConfig) -> float:
    """Of one sample, run plainly: the products of the blocks and of attention, which are over 99 %."""
    name = tower_of(case)
    part, tokens = getattr(config, name), tokens_of(case, config)
    at_once = tokens // (part.clips if name == "audio" else 1)  # attend to each other
    return part.depth * tokens * (24 * part.width**2 + 4 * at_once * part.width) / 1e9


def ceiling(case: str, size: int, dtype: torch.dtype, timer: Timer, config: ImageBindConfig) -> float:
    """GFLOP/s of the four products of a block, one after the other."""
    D = getattr(config, tower_of(case)).width
    rows = size * (10 if case == SHORT else tokens_of(case, config))

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=timer.device).to(dtype)

    narrow, wide = draw(rows, D), draw(rows, 4 * D)
    pairs = [(narrow, draw(3 * D, D)), (narrow, draw(D, D)), (narrow, draw(4 * D, D)), (wide, draw(D, 4 * D))]
    took = timer.medians({"products": lambda: [F.linear(x, weight) for x, weight in pairs]})
    return 24 * rows * D * D / 1e9 / took["products"]


@torch.inference_mode()
def measure(case: str, size: int, folder: Path, timer: Timer, config: ImageBindConfig) -> dict:
    name, device = tower_of(case), timer.device
    x = batch_of(case, size, config).to(device)
    tower = load_tower(folder, name, config).to(device)
    plain = PlainTower(tower)
    functions: dict[str, Callable[[], Tensor]] = {"plain": lambda: plain(x), "fp32": lambda: tower(x)}
    if has_fast_bf16(device):
        half = load_tower(folder, name, config, dtype=torch.bfloat16).to(device)
        narrow = x.bfloat16() if x.is_floating_point() else x
        functions["bf16"] = lambda: half(narrow)
    outputs = {kind: function() for kind, function in functions.items()}
    row = {
        "case": case,
        "batch": size,
        "gflop": size * gflop_of(case, config),
        "error": (outputs["fp32"] - outputs["plain"]).abs().max().item(),
        "s": timer.medians(functions),
        "ceiling_gflops": {
            kind: ceiling(case, size, DTYPES[kind], timer, config) for kind in outputs.keys() - {"plain"}
        },
    }
    if "bf16" in outputs:
        row["cosine"] = F.cosine_similarity(outputs["fp32"], outputs["bf16"]).min().item()
    return row


def pictures_of(pictures: Path, config: ImageBindConfig) -> Tensor:
    """The first pictures of a folder, [PICTURES, 3, H, W]."""
    files = (file for file in walk([pictures]) if isinstance(file, MediaFile))
    samples = (sample for file in files if file.modality is Modality.IMAGE for sample in read(file))
    return Preprocess(config)(list(islice(samples, PICTURES)))


@torch.inference_mode()
def compare(folder: Path, pictures: Path, device: torch.device, config: ImageBindConfig) -> dict[str, float]:
    """Vectors of real pictures in bf16 against float32; and, as a scale, against each other."""
    x = pictures_of(pictures, config).to(device)
    exact = load_tower(folder, "vision", config).to(device)(x)
    half = load_tower(folder, "vision", config, dtype=torch.bfloat16).to(device)(x.bfloat16())
    others = (exact @ exact.T)[~torch.eye(len(x), dtype=torch.bool)]
    return {
        "pictures": len(x),
        "bf16_cosine_min": F.cosine_similarity(exact, half).min().item(),
        "others_cosine_mean": others.mean().item(),
    }


def run(
    folder: Path,
    cases: list[str],
    batches: list[int],
    *,
    device: str = "cpu",
    seconds: float = 10.0,
    pictures: Path | None = None,
    config: ImageBindConfig = HUGE,
) -> dict:
    if not (folder / "config.json").exists():
        write_model(folder, config)
    timer = Timer(torch.device(device), seconds)
    result = {
        "machine": machine(timer.device),
        "threads": torch.get_num_threads(),
        "rows": [measure(case, size, folder, timer, config) for case in cases for size in batches],
    }
    if pictures:
        result["pictures"] = compare(folder, pictures, timer.device, config)
    return result


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    bf16 = "with" if has_fast_bf16(device) else "without"
    name = names[0] if names else platform.processor()
    return f"{name} ({torch.backends.cpu.get_cpu_capability()}, {bf16} products of bf16)"


def markdown(result: dict) -> str:
    def row_of(row: dict, kind: str) -> list[str]:
        took, ceiling = row["s"][kind], row["ceiling_gflops"][kind]
        official = OFFICIAL_S.get(row["case"]) if row["batch"] == 2 and kind == "fp32" else None
        return [
            row["case"],
            str(row["batch"]),
            kind,
            f"{took * 1e3:,.0f}",
            f"{row['batch'] / took:.2f}",
            f"{row['gflop'] / took:.0f}",
            f"{row['gflop'] / took / ceiling:.0%} of {ceiling:.0f}",
            f"{row['s']['plain'] * 1e3:,.0f}",
            f"{row['s']['plain'] / took:.2f}",
            f"{official * 1e3:,.0f}" if official else "",
        ]

    rows = [row_of(row, kind) for row in result["rows"] for kind in row["s"] if kind != "plain"]
    header = "tower,batch,type,ms,samples/s,GFLOP/s,of the ceiling,plain: ms,times as fast,official: ms"
    lines = [f"{result['machine']}, {result['threads']} threads.", "", command.table(header.split(","), rows)]
    if about := result.get("pictures"):
        lines += [
            "",
            f"{about['pictures']} real pictures: cosine of bf16 with fp32 at least "
            f"{about['bf16_cosine_min']:.5f}; of two different pictures {about['others_cosine_mean']:.2f}.",
        ]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tower", action="append", choices=CASES)
    parser.add_argument("--batch", action="append", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="torch's own number if not given")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each function that is timed")
    parser.add_argument("--pictures", type=Path, metavar="DIR")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    result = run(
        options.folder,
        options.tower or list(CASES),
        options.batch or [1, 2, 8],
        device=options.device,
        seconds=options.seconds,
        pictures=options.pictures,
    )
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
