"""Search on a GPU: a scan, the index that xsearch plans for it, and the re-rank; and the indexes of cuVS."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.gpu.part import Part
from benchmarks.gpu.vectors import Host, draw, nearest
from benchmarks.vectors import K
from xsearch.index import Index, best_of, cosines, fill, make_plan, recall_by_score
from xsearch.index.build import train
from xsearch.index.gpu import GPU_MOST
from xsearch.index.library import load_faiss
from xsearch.query.device_vectors import DeviceVectors

SIZES = (10_000_000, 5_000_000, 2_000_000, 1_000_000, 200_000)
DIM, QUERIES = 1024, 1_000  # queries of each kind
BATCHES = (1, 32, 1024, 10_000)
TARGET = 0.95
PROBES = (8, 16, 32, 64, 128, 256, 512, 1024, 2048)
REFINES = (4, 8, 16, 32)
EXTRA = 4  # times as many of a scan in float16 are compared in float32
SAMPLE = 700_000  # vectors to train on, at most
LARGE_S = 90.0  # time for which the largest size is tried
OWN = 8 << 30  # bytes of FAISS's working memory and of blocks on their way
ENDLESS = 1 << 62
CAGRA_SEARCH = (32, 64, 128, 256, 512)


def search(part: Part) -> None:
    dim, count = (32, 20) if part.tiny else (DIM, QUERIES)
    n = 4_000 if part.tiny else _size(part, dim)
    batches = BATCHES[:2] if part.tiny else BATCHES
    on_device: dict[str, Tensor] = {}
    made: dict[str, Any] = {}

    def draw_vectors() -> dict:
        took, drawn = _timed(part, lambda: draw(n, dim, count, part.device))
        truth_s, (truth, _) = _timed(part, lambda: nearest(*drawn))
        on_device.update(zip(("table", "queries"), drawn, strict=True))
        made["truth"] = truth.cpu().numpy()
        return {"s": took + truth_s}

    if "error" in part.measure(draw_vectors, what=f"{n:,} x {dim}: vectors, answers"):
        return
    speed = part.measure(partial(_copy, part), what="copy on the device").get("GB/s")
    for size in batches[:3]:
        figures = partial(_scan, part, **on_device, size=size, truth=made["truth"], copy_gb_per_s=speed)
        part.measure(figures, what="scan, float16", batch=size, least_s=10)

    def build() -> dict:
        took, host = _timed(part, lambda: Host(on_device["table"].cpu().numpy()))
        rows = np.random.default_rng(0).choice(n, min(n, SAMPLE), replace=False)
        sample = host.stored(np.sort(rows)).astype(np.float32)
        recipe = "IVF16,PQ16" + ("" if part.on_gpu else "x4fs") if part.tiny else None
        plan = make_plan(n, dim, device="cuda" if part.on_gpu else "cpu", sample=sample, recipe=recipe)
        train_s, trained = _timed(part, lambda: train(plan, sample[: plan.sample]))
        fill_s, index = _timed(part, lambda: fill(trained, host.blocks()))
        made.update(host=host, index=index, asked=on_device["queries"].cpu().numpy())
        about = {"recipe": plan.recipe, "on the GPU": str(index.on_gpu)}
        return about | {"copy s": took, "train s": train_s, "fill s": fill_s}

    if "error" not in part.measure(build, what="build", least_s=30):
        on_device.clear()  # the re-rank takes its place
        del figures
        _index(part, **made, batches=batches)


def _index(
    part: Part, *, index: Index, host: Host, asked: np.ndarray, truth: np.ndarray, batches: tuple[int, ...]
) -> None:
    """The index and the re-rank, with the fastest parameters that reach TARGET for both kinds of queries."""
    vectors = DeviceVectors(host, part.device)

    def load() -> dict:
        some = np.zeros((len(asked), -(-len(host) // len(asked))), np.int64)  # so many that it takes them all
        took, _ = _timed(part, lambda: vectors.cosines(asked, some))
        return {"s": took, "MB": torch.cuda.memory_allocated() / 1e6 if part.on_gpu else None}

    part.measure(load, what="vectors to the device")
    best: dict[str, Any] = {}
    margin_s = part.left_s / 3  # for what follows

    def tuned() -> dict:
        for nprobe in (probe for probe in PROBES if probe <= index.plan.lists):
            for refine in (each for each in REFINES if K * each < GPU_MOST):
                scores, _ = answer(index, vectors.cosines, asked, nprobe, refine)
                took, _ = _timed(part, lambda n=nprobe, r=refine: answer(index, vectors.cosines, asked, n, r))
                recalls = [
                    recall_by_score(*half)
                    for half in zip(np.split(scores, 2), np.split(truth, 2), strict=True)
                ]
                point = {"nprobe": nprobe, "refine": refine, "queries/s": len(asked) / took}
                point |= dict(zip(("recall, same", "recall, cross"), recalls, strict=True))
                reached = min(recalls) >= TARGET
                better = (reached, point["queries/s"] if reached else min(recalls))
                if better > best.get("key", (False, -1.0)):
                    best.update(key=better, point=point)
                if reached or part.left_s < margin_s:
                    break  # a deeper re-rank is only slower
            if part.left_s < margin_s or (
                best["key"][0] and point["queries/s"] < best["point"]["queries/s"] / 2
            ):
                break
        return best["point"]

    if "error" in part.measure(tuned, what="tuned", batch=len(asked)):
        return
    nprobe, refine = best["point"]["nprobe"], best["point"]["refine"]
    for size in batches:
        batch = np.resize(asked, (size, asked.shape[1]))
        run = partial(answer, index, vectors.cosines, batch, nprobe, refine)
        part.measure(
            lambda r=run, s=size: {"queries/s": s / part.seconds(r)}, what="search", batch=size, least_s=5
        )
    largest = np.resize(asked, (batches[-1], asked.shape[1]))
    found = index.search(largest, K * refine, nprobe=nprobe)[1]
    moved = DeviceVectors(Host(host.table, ENDLESS), part.device)
    ways: dict[str, Callable[[], np.ndarray]] = {
        "candidates alone": lambda: index.search(largest, K * refine, nprobe=nprobe)[1],
        "re-rank, on the device": lambda: vectors.cosines(largest, found),
        "re-rank, moved": lambda: moved.cosines(largest, found),
        "re-rank, on the CPU": lambda: cosines(largest, found, host.stored),
    }
    expected = ways["re-rank, on the CPU"]()
    for what, way in ways.items():

        def figures(way: Callable[[], np.ndarray] = way, what: str = what) -> dict:
            figure = {"queries/s": len(largest) / part.seconds(way)}
            if what.startswith("re-rank"):
                figure["difference"] = float(np.abs(way()[found >= 0] - expected[found >= 0]).max())
            return figure

        part.measure(figures, what=what, batch=len(largest), least_s=5)


def answer(
    index: Index, compare: Callable[..., np.ndarray], queries: np.ndarray, nprobe: int, refine: int
) -> tuple[np.ndarray, np.ndarray]:
    """Candidates of the index, re-ranked: cosines and ids [Q, K]."""
    _, ids = index.search(queries, K * refine, nprobe=nprobe)
    return best_of(compare(queries, ids), ids, K)


def _size(part: Part, dim: int) -> int:
    """The most vectors that the memory holds twice, beside codes, or that there is time for."""
    free = torch.cuda.mem_get_info(part.device)[0] if part.on_gpu else 4 << 30
    fitting = [n for n in SIZES if 2 * 2 * n * dim + 100 * n + OWN <= free]
    fitting = [n for n in fitting if n <= 1_000_000 or part.left_s >= LARGE_S] or [SIZES[-1]]
    return fitting[0]


def _copy(part: Part) -> dict:
    """How fast the device's memory is, bytes read and written."""
    source = torch.empty(1 << (20 if part.tiny else 32), dtype=torch.uint8, device=part.device)
    target = torch.empty_like(source)
    return {"GB/s": 2 * len(source) / part.seconds(lambda: target.copy_(source)) / 1e9}


def _scan(
    part: Part, table: Tensor, queries: Tensor, size: int, truth: np.ndarray, copy_gb_per_s: float | None
) -> dict:
    """A scan in float16 for so many queries, some of them several times; the best again in float32."""
    batch = queries[torch.arange(size, device=queries.device) % len(queries)]
    half = batch.half()

    def run() -> Tensor:
        rows = nearest(table, half, EXTRA * K)[1]  # [Q, EXTRA * K]
        return (table[rows].float() @ batch[:, :, None])[:, :, 0].topk(K, dim=1).values

    took = part.seconds(run)
    count = min(size, len(truth))
    figures = {
        "queries/s": size / took,
        "recall": recall_by_score(run()[:count].cpu().numpy(), truth[:count]),
    }
    if size == 1 and copy_gb_per_s:
        figures["of the copy's speed"] = 2.0 * table.numel() / took / 1e9 / copy_gb_per_s
    return figures


def _timed(part: Part, function: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    made = function()
    if part.on_gpu:
        torch.cuda.synchronize(part.device)
    return time.perf_counter() - start, made


def cuvs(part: Part) -> None:
    """CAGRA and IVF-PQ of cuVS, without a re-rank. FAISS has them in the build `faiss-gpu-cuvs` alone."""
    faiss = load_faiss()
    if not hasattr(faiss, "GpuIndexCagra") or not part.on_gpu:
        part.measure(lambda: {"recall": None}, what="faiss-gpu-cuvs: not installed, or no GPU")
        return
    n = min(SIZES[3], _size(part, DIM))
    table, queries = draw(n, DIM, QUERIES, part.device)
    truth = nearest(table, queries)[0].cpu().numpy()
    vectors, asked = table.float().cpu().numpy(), queries.cpu().numpy()
    del table, queries
    torch.cuda.empty_cache()
    resources = faiss.StandardGpuResources()

    def cagra() -> Any:
        return faiss.GpuIndexCagra(resources, DIM, faiss.METRIC_L2, faiss.GpuIndexCagraConfig())

    def ivfpq() -> Any:
        config = faiss.GpuIndexIVFPQConfig()
        config.use_cuvs = config.interleavedLayout = config.useFloat16LookupTables = True
        return faiss.GpuIndexIVFPQ(resources, DIM, 4096, 64, 8, faiss.METRIC_L2, config)

    def probing(nprobe: int) -> Any:
        return faiss.SearchParametersIVF(nprobe=nprobe)

    def walking(size: int) -> Any:
        params = faiss.SearchParametersCagra()
        params.itopk_size = size
        return params

    for name, make, settings, choose in (
        ("CAGRA", cagra, CAGRA_SEARCH, walking),
        ("IVF-PQ", ivfpq, PROBES, probing),
    ):
        made: dict[str, Any] = {}

        def build(
            make: Callable[[], Any] = make, made: dict[str, Any] = made, graph: bool = name == "CAGRA"
        ) -> dict:
            index = made["index"] = make()
            took, _ = _timed(part, lambda: index.train(vectors))
            add_s = 0.0 if graph else _timed(part, lambda: index.add(vectors))[0]
            return {"train s": took, "fill s": add_s}

        if "error" in part.measure(build, what=f"{name}, {n:,}: build", least_s=10):
            continue
        for setting, size in itertools.product(settings, BATCHES[1:3]):
            batch = np.resize(asked, (size, DIM))

            def figures(
                index: Any = made["index"], how: Any = choose(setting), batch: np.ndarray = batch
            ) -> dict:
                ids = index.search(asked, K, params=how)[1]
                scores = cosines(asked, ids, lambda some: vectors[some])
                took = part.seconds(lambda: index.search(batch, K, params=how))
                return {
                    "recall": recall_by_score(-np.sort(-scores, axis=1), truth),
                    "queries/s": len(batch) / took,
                }

            part.measure(figures, what=f"{name}, {setting}", batch=size, least_s=3)
