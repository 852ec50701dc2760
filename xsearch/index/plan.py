"""The plan: which index suits n vectors of d dimensions on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from xsearch.errors import UsageError

__all__ = ["FLAT_BELOW", "GPU_MOST", "GPU_SUB_DIMS", "Plan", "make_plan"]

FLAT_BELOW = 20_000  # items; below, an exact scan is as fast
PCA_DIM = 128  # measured on 100,000 x 1024: the most queries/s at a recall of 0.98
PER_LIST = 40  # training vectors per list: FAISS's ClusteringParameters.min_points_per_centroid is 39
# Those that FAISS's classic GPU code allows, up to 64 bytes a vector
GPU_QUANTISERS = (64, 56, 48, 40, 32, 28, 24, 20, 16, 12, 8, 4, 3, 2, 1)
GPU_SUB_DIMS = (1, 2, 3, 4, 6, 8, 10, 12, 16, 20, 24, 28, 32)  # FAISS wiki "Faiss on the GPU", Limitations
GPU_MOST = 2048  # k and nprobe; the same page
LEAST_SAMPLE = 10_000  # 39 for each of the 256 centroids of an 8-bit quantiser
MOST_PROBES = 256  # measured: enough for a recall of 0.98 at 100,000 items
REFINE = 8  # candidates per wanted item; measured with the above

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Plan:
    """How to index and search n vectors; stored with the index."""

    recipe: str  # "Flat", or a FAISS factory string
    n: int
    dim: int
    device: str  # "cpu" or "cuda"
    lists: int  # that the vectors are divided into; 1 where they are not
    nprobe: int  # lists to visit per query
    refine: int  # candidates per wanted item, for the exact re-rank with the stored vectors
    sample: int  # vectors to train on
    why: str  # one line for people
    recall: float | None = None  # recall@10 as `tune` measured it


def make_plan(n: int, dim: int, *, device: Device = "auto", recipe: str | None = None) -> Plan:
    """Choose an index for n vectors of `dim` dimensions.

    device: "auto" takes an NVIDIA GPU if FAISS sees one.
    recipe: a FAISS factory string with IVF instead of our choice, on the CPU unless `device` is "cuda"; or
        "Flat", an exact scan without an index.
    Raises UsageError for a device that FAISS does not see or a recipe that it does not know.
    """
    if recipe == "Flat" or (recipe is None and n < FLAT_BELOW):
        why = "as given" if recipe else f"fewer than {FLAT_BELOW:,} items are scanned exactly"
        return Plan("Flat", n, dim, "cpu", 1, 1, 1, 0, f"Flat on cpu: {why}")
    import faiss

    gpus = faiss.get_num_gpus() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise UsageError(
            "device cuda: FAISS sees no NVIDIA GPU; use cpu, or install faiss-gpu and the driver"
        )
    lists = 2 ** round(math.log2(2 * math.sqrt(max(n, 1))))  # 512 for 100,000
    sub = next((m for m in GPU_QUANTISERS if dim % m == 0 and dim // m in GPU_SUB_DIMS), None)
    if recipe is not None:
        on, why = "cuda" if device == "cuda" else "cpu", "as given"
    elif gpus and sub:
        on, recipe, why = "cuda", f"IVF{lists},PQ{sub}", f"{sub} bytes an item in the memory of the GPU"
    else:
        kept = max(min(dim, PCA_DIM) // 2 * 2, 1)
        codes = max(kept // 2, 1)  # 4 bits for every 2 dimensions
        on, recipe = "cpu", f"PCAR{kept},IVF{lists},PQ{codes}x4fs"
        why = f"{dim} dimensions rotated to {kept}, {math.ceil(codes / 2)} bytes an item"
        why += f"; no GPU quantiser divides {dim} dimensions" if gpus else ""
    try:
        index = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise UsageError(
            f"recipe {recipe!r}: FAISS does not know it for {dim} dimensions ({reason})"
        ) from None
    ivf = faiss.try_extract_index_ivf(index)  # a part of `index`
    if ivf is None:
        raise UsageError(f"recipe {recipe!r} has no inverted lists; give one with IVF, or Flat")
    return Plan(
        recipe,
        n,
        dim,
        on,
        ivf.nlist,
        nprobe=max(min(ivf.nlist // 2, MOST_PROBES), 1),
        refine=REFINE,
        sample=min(n, max(PER_LIST * ivf.nlist, LEAST_SAMPLE)),
        why=f"{recipe} on {on} for {n:,} items: {why}; exact re-rank of k x {REFINE}",
    )
