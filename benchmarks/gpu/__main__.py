"""What xsearch does on a GPU: whether it is right there, and how fast.

    python -m benchmarks.gpu --json out.json                  # at most 9 minutes on one NVIDIA GPU
    python -m benchmarks.gpu --device cpu --tiny              # every part, on as little as it works with
    python -m benchmarks.gpu --part towers --part search

Parts run one after the other in processes of their own, in the order of their worth. Time that one does not
need goes to the others; one that fails or takes too long leaves the rows that it has measured, and the next
one runs. With --json, the file has every row as soon as it is measured.

faiss      candidates of FAISS's GPU indexes against those of the same indexes on the CPU
ingest     a folder of rendered scenes, embedded and searched on the GPU, against the CPU
towers     towers of the size of the published model, random weights, bf16: eagerly, as a graph, compiled
search     10 million vectors, less if memory or time are short: scan, build, search, re-rank
cuvs       a million vectors in the indexes of faiss-gpu-cuvs, where it is installed
training   training steps of the recipe of the bundled model
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.gpu.part import Part, write

# Module, function and relative time of each part
PARTS = {
    "faiss": ("agreement", "indexes", 50),
    "ingest": ("agreement", "collections", 70),
    "towers": ("towers", "towers", 130),
    "search": ("search", "search", 180),
    "cuvs": ("search", "cuvs", 30),
    "training": ("training", "training", 60),
}
LIMIT_S = 500.0
GRACE_S = 15.0  # for what has been started when the time of a part ends


def measure(name: str, device: str, *, tiny: bool, limit_s: float, path: Path | None = None) -> list[dict]:
    """The rows of a part, measured in this process."""
    module, function, _ = PARTS[name]
    part = Part(name, device, tiny=tiny, limit_s=limit_s, path=path)
    getattr(import_module(f"benchmarks.gpu.{module}"), function)(part)
    return part.rows


def run(names: list[str], path: Path, *, device: str, tiny: bool, limit_s: float) -> dict[str, Any]:
    """Measure the parts in processes of their own. path: of the JSON file."""
    write({"requested": device, "tiny": tiny, "parts": {}}, path)
    end = time.monotonic() + limit_s
    for at, name in enumerate(names):
        whole = sum(PARTS[other][2] for other in names[at:])
        share_s = max(end - time.monotonic(), 0.0) * PARTS[name][2] / whole
        print(f"{name}: at most {share_s:.0f} s", file=sys.stderr, flush=True)
        start = time.monotonic()
        result = json.loads(path.read_text())
        result["parts"][name] = {"rows": []}
        write(result, path)
        problem = _in_a_process(name, path, device, tiny, share_s)
        result = json.loads(path.read_text())
        result["parts"][name] |= {"seconds": time.monotonic() - start, "problem": problem}
        write(result, path)
    return json.loads(path.read_text())


def _in_a_process(name: str, path: Path, device: str, tiny: bool, limit_s: float) -> str | None:
    """Why the part has not come to its end, None if it has."""
    given = ["--here", name, "--device", device, "--limit-s", str(limit_s), "--json", str(path)]
    program = [sys.executable, "-m", "benchmarks.gpu", *given, *(["--tiny"] if tiny else [])]
    with tempfile.TemporaryFile("w+") as said:
        try:
            code = subprocess.run(program, stderr=said, timeout=limit_s + GRACE_S, check=False).returncode
        except subprocess.TimeoutExpired:
            return f"not done after {limit_s:.0f} s"
        said.seek(0)
        lines = [line for line in said.read().splitlines() if line.strip()]
    return None if code == 0 else f"exit {code}: {lines[-1][:300] if lines else ''}"


def markdown(result: dict[str, Any]) -> str:
    texts = []
    for name, part in result["parts"].items():
        columns = list(dict.fromkeys(key for row in part["rows"] for key in row))
        rows = [[_cell(row.get(column)) for column in columns] for row in part["rows"]]
        about = f"## {name}: {part.get('device', result['requested'])}, {part.get('seconds', 0):.0f} s"
        texts += [about, *([command.table(columns, rows)] if rows else [])]
        if part.get("problem"):
            texts.append(f"Not complete: {part['problem']}")
    return "\n\n".join(texts)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
    return "" if value is None else f"{value:,}" if type(value) is int else str(value)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--part", action="append", choices=PARTS)
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="for all parts together; 500")
    parser.add_argument("--here", choices=PARTS, help="measure this part in this process")
    options = parser.parse_args()
    if options.here:
        measure(options.here, options.device, tiny=options.tiny, limit_s=options.limit_s, path=options.json)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.json or Path(folder) / "figures.json"
        names = options.part or list(PARTS)
        result = run(names, path, device=options.device, tiny=options.tiny, limit_s=options.limit_s)
    print(markdown(result))


if __name__ == "__main__":
    main()
