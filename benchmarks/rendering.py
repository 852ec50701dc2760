"""How many scenes a second one core renders, and what each modality costs.

python -m benchmarks.rendering [--scenes 200] [--json out.json]
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from benchmarks import command
from xsearch.scenes import Scene, caption, motion, picture, sample, sound

PARTS: dict[str, Callable[[Scene], object]] = {
    "picture, depth, thermal (112 px)": picture.render,
    "sound (5 s)": sound.render,
    "motion (5 s)": motion.render,
    "caption": caption.render,
}


def run(scenes: int) -> dict[str, float]:
    """Median CPU milliseconds of each part; `scenes_per_s` for all of them together."""
    median_ms = {}
    for name, render in PARTS.items():
        times = []
        for scene in sample(scenes, seed=0):
            start = time.process_time()
            render(scene)
            times.append((time.process_time() - start) * 1e3)
        median_ms[name] = statistics.median(times)
    return median_ms | {"scenes_per_s": 1e3 / sum(median_ms.values())}


def markdown(result: dict[str, float]) -> str:
    rows = [f"| {name} | {result[name]:.2f} |" for name in PARTS]
    speed = f"{result['scenes_per_s']:.0f} scenes/s on one core"
    return "\n".join(["| part | CPU ms, median |", "|---|---|", *rows, "", speed])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--scenes", type=int, default=200)
    options = parser.parse_args()
    result = run(options.scenes)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
