"""The plan: which index suits n vectors of d dimensions on this machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from xsearch.errors import UsageError
from xsearch.index import gpu
from xsearch.index.spectrum import GOOD, Code, Spectrum, best_code, codes
from xsearch.types import Device

__all__ = ["FLAT_BELOW", "Device", "OperatingPoint", "Plan", "make_plan"]

FLAT_BELOW = 20_000  # items; below, an exact scan is as fast
PER_LIST = 40  # training vectors per list: FAISS's ClusteringParameters.min_points_per_centroid is 39
LEAST_SAMPLE = 10_000  # 39 for each of the 256 centroids of an 8-bit quantiser
PROBED = 16  # one list in so many is visited, until `tune` has measured
REFINE = 8  # candidates per wanted item; likewise
GROWTH = 0.5  # of nprobe with a filter, until tuned; enough for 512 equal dimensions (measured)
EASY = 0.3  # the same where the codes are GOOD (measured)
CODE_BYTES = 64  # of an item at most; longer codes cost more than they save in the re-rank (measured)
ID_BYTES = 8


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What one choice of parameters gives, re-rank included."""

    nprobe: int
    refine: int
    recall: float  # recall@k, 0..1, of the worse sort of queries
    ms_per_query: float  # in batches
    latency_ms: float = 0.0  # of one query alone, median
    recalls: dict[str, float] = field(default_factory=dict)  # by sort: same, cross


@dataclass(frozen=True, slots=True)
class Plan:
    """How to index and search n vectors; stored with the index."""

    recipe: str  # "Flat", or a FAISS factory string
    n: int  # items when it was trained
    dim: int
    device: str  # "cpu" or "cuda"
    lists: int  # that the vectors are divided into; 1 where they are not
    nprobe: int  # lists to visit per query
    refine: int  # candidates per wanted item, for the exact re-rank with the stored vectors
    sample: int  # vectors to train on
    why: str  # one paragraph for people
    recall: float | None = None  # recall@10 as `tune` measured it, of the worse sort of queries
    error: float | None = None  # `Index.error_of` the sample that it was trained on
    points: tuple[OperatingPoint, ...] = ()  # what `tune` measured
    # With a filter that leaves some share of the lists that hold any, nprobe is share ** -growth times as
    # large: the nearest of few items are farther away, in more lists. They need no deeper re-rank (measured)
    growth: float = 0.5
    filtered: float | None = None  # recall@10 with filters, likewise
    given: bool = False  # the recipe was not our choice: it stays when the index is built again


def make_plan(
    n: int,
    dim: int,
    *,
    device: Device = "auto",
    recipe: str | None = None,
    sample: np.ndarray | None = None,
    memory_bytes: int | None = None,
) -> Plan:
    """Choose an index for n vectors of `dim` dimensions.

    device: "auto" takes an NVIDIA GPU if FAISS sees one that can hold the index.
    recipe: a FAISS factory string with IVF instead of our choice, on the CPU unless `device` is "cuda"; or
        "Flat", an exact scan without an index.
    sample: float32 [s, dim], some of the vectors: the rotation follows their spectrum.
    memory_bytes: what the codes and ids of all items may take.
    Raises UsageError for a device that FAISS does not see or that cannot hold the index, and for a recipe
    that it does not know.
    """
    if recipe == "Flat" or (recipe is None and n < FLAT_BELOW):
        why = "as given" if recipe else f"fewer than {FLAT_BELOW:,} items are scanned exactly"
        return Plan("Flat", n, dim, "cpu", 1, 1, 1, 0, f"Flat on cpu for {n:,} items: {why}.")
    import faiss

    gpus = faiss.get_num_gpus() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise UsageError(
            "device cuda: FAISS sees no NVIDIA GPU; use cpu, or install faiss-gpu and the driver"
        )
    on, why = "cuda" if device == "cuda" else "cpu", "as given"
    given, growth = recipe is not None, GROWTH
    if recipe is None:
        # 4,096 for a million. Twice as many take thrice the training; half as many make filtered searches a
        # third slower, which read the codes of more lists (measured)
        lists = 2 ** round(math.log2(4 * math.sqrt(n)))
        spectrum = None if sample is None else Spectrum.of(sample)
        budget = CODE_BYTES if memory_bytes is None else min(memory_bytes // n - ID_BYTES, CODE_BYTES)
        on, code, why = _choose(n, dim, lists, spectrum, budget, gpus)
        if spectrum is not None and spectrum.error(code) <= GOOD:
            growth = EASY
        if device == "cuda" and on == "cpu":
            raise UsageError(f"device cuda: {why}; use cpu, or give a recipe")
        rotation = f"PCAR{code.kept}," if on == "cpu" or code.kept < dim else ""
        recipe = f"{rotation}IVF{lists},PQ{code.sub}" + ("x4fs" if on == "cpu" else "")
    lists = _lists(dim, recipe)
    nprobe = max(lists // PROBED, 1)
    why = (
        f"{recipe} on {on} for {n:,} items: {why}. A search visits {nprobe:,} of {lists:,} lists and "
        f"compares k x {REFINE} candidates with their stored vectors, until it is tuned."
    )
    least = max(PER_LIST * lists, LEAST_SAMPLE)
    return Plan(recipe, n, dim, on, lists, nprobe, REFINE, min(n, least), why, growth=growth, given=given)


def _choose(
    n: int, dim: int, lists: int, spectrum: Spectrum | None, budget: int, gpus: int
) -> tuple[str, Code, str]:
    """Device, code, and why."""
    said = ""
    if gpus:
        choices = [code for code in codes(dim, 8, gpu.GPU_SUBS) if code.kept // code.sub in gpu.GPU_SUB_DIMS]
        code, why = _code(dim, choices, spectrum, budget)
        problem = gpu.obstacle(n, code.kept, code.sub, lists, free=gpu.free_bytes())
        if problem is None:
            return "cuda", code, why
        said = f"the GPU cannot hold it ({problem}), "
    choices = codes(dim, 4, {min(2**power, dim) for power in range(2, 8)})
    code, why = _code(dim, choices, spectrum, budget)
    return "cpu", code, said + why


def _code(dim: int, choices: list[Code], spectrum: Spectrum | None, budget: int) -> tuple[Code, str]:
    if spectrum is None:
        fitting = [code for code in choices if code.kept <= 128 and code.rate == 2] or choices
        code = max(fitting, key=lambda code: code.kept)
        return (
            code,
            f"{dim} dimensions rotated to {code.kept}, {code.bytes} bytes an item; no sample was seen",
        )
    code = best_code(choices, spectrum, budget)
    return code, (
        f"{dim} dimensions rotated to {code.kept}, which hold {spectrum.share(code.kept):.1%} of the "
        f"variance, take {code.bytes} bytes an item at {code.rate:g} bits each; the error is "
        f"{spectrum.error(code):.2f} of the squared distance between neighbours"
    )


def _lists(dim: int, recipe: str) -> int:
    """How many lists an index of `recipe` has."""
    import faiss

    try:
        index = faiss.index_factory(dim, recipe, faiss.METRIC_L2)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise UsageError(
            f"recipe {recipe!r}: FAISS does not know it for {dim} dimensions ({reason})"
        ) from None
    ivf = faiss.try_extract_index_ivf(index)  # a part of `index`
    if ivf is None:
        raise UsageError(f"recipe {recipe!r} has no inverted lists; give one with IVF, or Flat")
    return int(ivf.nlist)
