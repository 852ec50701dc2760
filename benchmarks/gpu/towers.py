"""How fast towers are in bfloat16, as a share of what the device multiplies at best."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.part import Part
from benchmarks.random_model import SHORT, batch_of, random_tower, tower_of
from benchmarks.towers import gflop_of
from xsearch.models import HUGE, TOWERS, ImageBindConfig

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
OTHERS = (1, 32, 256)  # of other towers than the one for pictures
COMPILED = (("default", 64), ("reduce-overhead", 1))  # modes of torch.compile, which need minutes
COMPILE_S = 45.0
SIDE = 8192  # of the square matrices whose product is the peak

Run = Callable[[], Tensor]


def towers(part: Part) -> None:
    config = HUGE
    if part.tiny:
        small: dict[str, Any] = {name: {"width": 16, "depth": 2, "heads": 2} for name in TOWERS}
        for name in ("vision", "depth", "thermal"):
            small[name]["image_size"] = 2 * getattr(HUGE, name).patch
        config = replace(
            HUGE, embed_dim=8, **{name: replace(getattr(HUGE, name), **small[name]) for name in TOWERS}
        )
    peak = part.measure(partial(_peak, part), tower="matrix product").get("TFLOP/s", float("nan"))
    made: dict[str, torch.nn.Module] = {}

    def load(name: str) -> dict:
        made[name] = random_tower(config, name, part.device, torch.bfloat16)
        return {"MB": torch.cuda.memory_allocated() / 1e6 if part.on_gpu else None}

    for case in (*TOWERS, SHORT):
        name = tower_of(case)
        if name not in made and "error" in part.measure(partial(load, name), tower=case):
            continue
        tower = made[name]
        sizes = BATCHES[:2] if part.tiny else BATCHES if name == "vision" else OTHERS
        for size in sizes:
            eager = partial(_figures, part, config, case, size, peak, partial(_eager, tower))
            part.measure(eager, tower=case, batch=size, way="eager", least_s=3)
        for size in sizes if name == "vision" else ():  # a text is cut at its end, for which the CPU waits
            graph = partial(_figures, part, config, case, size, peak, partial(_graph, part, tower))
            part.measure(graph, tower=case, batch=size, way="graph", least_s=3)
    for mode, size in [("default", 2)] if part.tiny else COMPILED:
        way = partial(_compiled, part, made["vision"], mode)
        compiled = partial(_figures, part, config, "vision", size, peak, way)
        part.measure(compiled, tower="vision", batch=size, way=f"compiled, {mode}", least_s=COMPILE_S)


def _peak(part: Part) -> dict:
    side = 64 if part.tiny else SIDE
    a, b = (torch.randn(side, side, device=part.device).bfloat16() for _ in range(2))
    return {"TFLOP/s": 2 * side**3 / part.seconds(lambda: a @ b) / 1e12}


def _figures(
    part: Part,
    config: ImageBindConfig,
    case: str,
    size: int,
    peak: float,
    prepared: Callable[[Tensor], tuple[Run, dict]],
) -> dict[str, Any]:
    """Speed by the products that the tower computes if nothing is left out, see `benchmarks.towers`."""
    x = batch_of(case, size, config).to(part.device)
    x = x.bfloat16() if x.is_floating_point() else x
    if part.on_gpu:
        torch.cuda.reset_peak_memory_stats(part.device)
    run, figures = prepared(x)
    took = part.seconds(run)
    tflops = size * gflop_of(case, config) / took / 1e3
    figures = {
        "ms": 1000 * took,
        "items/s": size / took,
        "TFLOP/s": tflops,
        "of the peak": tflops / peak,
    } | figures
    if part.on_gpu:
        figures["MB"] = torch.cuda.max_memory_allocated(part.device) / 1e6
    return figures


def _eager(tower: torch.nn.Module, x: Tensor) -> tuple[Run, dict]:
    def run() -> Tensor:
        with torch.inference_mode():
            return tower(x)

    return run, {}


def _graph(part: Part, tower: torch.nn.Module, x: Tensor) -> tuple[Run, dict]:
    """The same kernels, launched at once. A CPU has none."""
    run, _ = _eager(tower, x)
    if not part.on_gpu:
        return run, {}
    expected = run()
    side = torch.cuda.Stream(part.device)
    side.wait_stream(torch.cuda.current_stream(part.device))
    with torch.cuda.stream(side):
        for _ in range(3):  # libraries allocate on first use, which a capture forbids
            run()
    torch.cuda.current_stream(part.device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = run()

    def replay() -> Tensor:
        graph.replay()
        return y

    return replay, {"least cosine": _least_cosine(replay(), expected)}


def _compiled(part: Part, tower: torch.nn.Module, mode: str, x: Tensor) -> tuple[Run, dict]:
    expected = _eager(tower, x)[0]()
    how: dict[str, Any] = {"backend": "eager"} if part.tiny else {"mode": mode}
    compiled, _ = _eager(torch.compile(tower, dynamic=False, **how), x)
    start = time.perf_counter()
    for _ in range(3):  # a graph is captured by the second call
        found = compiled()
    return compiled, {
        "compile s": time.perf_counter() - start,
        "least cosine": _least_cosine(found, expected),
    }


def _least_cosine(a: Tensor, b: Tensor) -> float:
    return F.cosine_similarity(a.float(), b.float()).min().item()
