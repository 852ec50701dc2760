"""Whether a GPU finds and embeds what the CPU does."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.gpu.part import Part
from benchmarks.gpu.vectors import draw
from xsearch.index import Index, build, make_plan
from xsearch.index.gpu import GPU_MOST
from xsearch.index.library import load_faiss

if TYPE_CHECKING:
    from xsearch.collection import Collection

TIE = 1e-3  # of cosines
TOP = 10
QUERIES = ("a dog on the beach", "rain at night", "a red car in the city")


def indexes(part: Part) -> None:
    """FAISS's GPU indexes against those of the same codes on the CPU; then the index that xsearch builds."""
    faiss = load_faiss()
    n, dim, count, k = (1_500, 32, 10, 20) if part.tiny else (200_000, 256, 500, 100)
    drawn, asked = draw(n, dim, count, part.device)
    vectors, queries = drawn.float().cpu().numpy(), asked.cpu().numpy()
    lists, code = (16, "PQ8np") if part.tiny else (1024, "PQ32np")  # polysemous codes take minutes to train

    def copy(index: Any, float16: bool) -> Any:
        if not part.on_gpu:
            return faiss.clone_index(index)
        options = faiss.GpuClonerOptions()
        options.useFloat16 = float16
        return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)

    def compare(index: Any, float16: bool, k: int, nprobe: int | None) -> dict:
        how = None
        if nprobe:
            how = faiss.SearchParametersIVF(nprobe=nprobe)
            if isinstance(index, faiss.IndexPreTransform):
                how = faiss.SearchParametersPreTransform(index_params=how)
        right = index.search(queries, k, params=how)
        return agreement(copy(index, float16).search(queries, k, params=how), right)

    for recipe in ("Flat", f"IVF{lists},Flat", f"IVF{lists},{code}", f"PCAR{dim // 2},IVF{lists},{code}"):
        index = faiss.index_factory(dim, recipe, faiss.METRIC_L2)
        index.train(vectors)
        index.add(vectors)
        nprobe = None if recipe == "Flat" else lists // 8
        for float16 in (False, True) if recipe == "Flat" or code in recipe else (False,):
            figures = partial(compare, index, float16, k, nprobe)
            part.measure(figures, index=recipe, float16=str(float16), k=k, nprobe=nprobe)
        if nprobe and code in recipe:  # as many as a GPU allows
            figures = partial(compare, index, True, min(GPU_MOST, n), min(GPU_MOST, lists))
            part.measure(
                figures, index=recipe, float16="True", k=min(GPU_MOST, n), nprobe=min(GPU_MOST, lists)
            )

    def planned() -> dict:
        recipe = f"IVF{lists},{code}" if part.tiny else None
        device = "cuda" if part.on_gpu else "cpu"
        plan = make_plan(n, dim, device=device, recipe=recipe, sample=vectors[: n // 2])
        start = time.perf_counter()
        on_device = build(plan, vectors[: plan.sample], [(np.arange(n), vectors)])
        took = time.perf_counter() - start
        on_cpu = Index(plan, on_device.ids, on_device.faiss)
        found, right = (each.search(queries, k) for each in (on_device, on_cpu))
        about = {"plan": plan.recipe, "on the GPU": str(on_device.on_gpu), "build s": took}
        return about | agreement(found, right, distances=False)

    part.measure(planned, index="as planned and built", k=k)


def agreement(
    found: tuple[np.ndarray, np.ndarray], right: tuple[np.ndarray, np.ndarray], *, distances: bool = True
) -> dict[str, float]:
    """Two answers, scores and ids [Q, k], best first. distances: squared ones of unit vectors, else cosines.

    same: share of the ids that both have; or as near: these, and those no farther than the last by TIE.
    """
    (scores, ids), (right_scores, right_ids) = found, right
    if distances:
        scores, right_scores = 1 - scores / 2, 1 - right_scores / 2
    same = np.stack([np.isin(*rows) for rows in zip(ids, right_ids, strict=True)]) & (ids >= 0)
    near = same | (scores >= right_scores[:, -1:] - TIE)
    both = (ids >= 0) & (right_ids >= 0)
    return {
        "same": float(same.sum() / max((right_ids >= 0).sum(), 1)),
        "or as near": float((near & (ids >= 0)).sum() / max((right_ids >= 0).sum(), 1)),
        "difference of cosines": float(np.abs(scores - right_scores)[both].max(initial=0)),
    }


def collections(part: Part) -> None:
    """The vectors of rendered scenes and answers by them, embedded on the device, against the CPU's."""
    from xsearch.collection import Collection  # decoders, which a machine for numbers may lack
    from xsearch.scenes import sample, write

    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write(sample(1 if part.tiny else 40, seed=0), folder / "media", width=320, height=240)
        made: dict[str, tuple[Collection, dict[Any, np.ndarray]]] = {}

        def ingest(name: str, device: str, dtype: str) -> dict:
            collection = Collection.create(folder / name, "bundled", device=device, dtype=dtype)
            start = time.perf_counter()
            collection.ingest(folder / "media")
            took = time.perf_counter() - start
            snapshot = collection.snapshot()
            rows = snapshot.items(snapshot.ids, ["path", "start_s"]).to_pylist()
            keys = [(row["path"], row["start_s"]) for row in rows]
            made[name] = collection, dict(zip(keys, snapshot.vectors(snapshot.ids), strict=True))
            figures = {"items": len(rows), "items/s": len(rows) / took}
            return (
                figures if name == "cpu" else figures | _compared(made[name], made["cpu"], folder / "media")
            )

        runs = [("cpu", "cpu", "auto"), ("device", part.device.type, "auto")]
        for name, device, dtype in runs if part.tiny else [*runs, ("bf16", part.device.type, "bf16")]:
            part.measure(partial(ingest, name, device, dtype), device=device, dtype=dtype)


def _compared(
    one: tuple[Collection, dict[Any, np.ndarray]],
    other: tuple[Collection, dict[Any, np.ndarray]],
    media: Path,
) -> dict[str, float]:
    """Vectors of the same items, and answers: how far apart the items of the same rank are, at worst."""
    (collection, vectors), (right, expected) = one, other
    assert vectors.keys() == expected.keys(), "other items"
    pairs = np.array([(vectors[key], expected[key]) for key in vectors])  # [N, 2, dim]
    unit = pairs / np.linalg.norm(pairs, axis=2, keepdims=True)  # of length 1 only up to float16
    files = sorted(path for kind in ("photos", "sounds") for path in (media / kind).iterdir())
    worst = 0.0
    for query in (*QUERIES, *files[:: max(len(files) // 6, 1)]):
        hits = right.search(query, len(expected), rank="cosine", match="meaning", anyway=True)
        cosines = {_key(hit): hit.cosine for hit in hits}
        for hit, same in zip(
            collection.search(query, TOP, rank="cosine", match="meaning", anyway=True), hits, strict=False
        ):
            worst = max(worst, abs(cosines[_key(hit)] - cosines[_key(same)]))
    return {
        "difference of components": float(np.abs(pairs[:, 0] - pairs[:, 1]).max()),
        "least cosine": float(np.vecdot(unit[:, 0], unit[:, 1]).min()),
        "difference of ranks, in cosines": worst,
    }


def _key(hit: Any) -> tuple[str, float | None]:
    return hit.path, hit.start_s
