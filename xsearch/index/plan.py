"""Index selection: the FAISS recipe and parameters for n vectors of d dimensions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from xsearch.errors import UsageError
from xsearch.index import gpu
from xsearch.index.library import load_faiss
from xsearch.index.spectrum import GOOD, Code, Spectrum, best_code, codes
from xsearch.types import Device

__all__ = ["FLAT_BELOW", "Device", "OperatingPoint", "Plan", "make_plan"]

FLAT_BELOW = 20_000  # items below which an exact scan is as fast
PER_LIST = 40  # training vectors per list: FAISS's ClusteringParameters.min_points_per_centroid is 39
LEAST_SAMPLE = 10_000  # 39 for each of the 256 centroids of an 8-bit quantiser
PROBED = 16  # nprobe = lists / PROBED until tuned
REFINE = 8  # candidates per result, until tuned
EASY_REFINE = 4  # the same if the codes are GOOD: 8 find 0.002 more, at half the speed (measured)
GROWTH = 0.5  # `Plan.growth` until tuned; sufficient for 512 equal dimensions (measured)
EASY = 0.3  # `Plan.growth` if the codes are GOOD (measured)
MOST = 1 << 53  # of any number
MOST_REFINE, MOST_GROWTH, MOST_TEXT = 1_000, 10, 10_000  # more than any plan has; indexes are shared
CODE_BYTES = 64  # maximum per item; longer codes cost more than they save in the re-rank (measured)


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """Measured recall and speed of one choice of parameters, re-rank included."""

    nprobe: int
    refine: int
    recall: float  # recall@k, 0..1, minimum over the sorts of queries
    ms_per_query: float  # batched
    latency_ms: float = 0.0  # single query, median
    recalls: dict[str, float] = field(default_factory=dict)  # by sort of query: same, cross, all, balanced

    def __post_init__(self) -> None:
        _check_numbers(self, "nprobe", "refine", whole=True, least=1)
        _check_numbers(self, "recall", "ms_per_query", "latency_ms")


@dataclass(frozen=True, slots=True)
class Plan:
    """Index type and search parameters for n vectors; stored with the index as `plan.json`."""

    recipe: str  # "Flat", or a FAISS factory string
    n: int  # items at training time
    dim: int
    device: str  # "cpu" or "cuda"
    lists: int  # inverted lists; 1 without IVF
    nprobe: int  # lists to visit per query
    refine: int  # candidates per result, for the exact re-rank with the stored vectors
    sample: int  # training vectors
    why: str  # human-readable explanation
    recall: float | None = None  # recall@10 measured by `tune`, minimum over the sorts of queries
    error: float | None = None  # `Index.error_of` the training sample
    points: tuple[OperatingPoint, ...] = ()  # measured by `tune`
    # A filter that selects a fraction `share` of the lists it touches multiplies nprobe by share ** -growth:
    # the nearest of few items are spread over more lists. The re-rank need not be deeper (measured)
    growth: float = GROWTH
    filtered: float | None = None  # recall@10 with filters, likewise
    given: bool = False  # user-specified recipe, kept on rebuild

    def __post_init__(self) -> None:
        """Raise ValueError for values that no index has: a plan may come from anybody's collection."""
        _check_numbers(self, "n", "sample", whole=True)
        _check_numbers(self, "dim", "lists", "nprobe", "refine", whole=True, least=1)
        _check_numbers(self, "recall", "filtered", "error", "growth")
        if not isinstance(self.why, str) or len(self.why) > MOST_TEXT:
            raise ValueError(f"why is not a text of at most {MOST_TEXT:,} characters")
        if not isinstance(self.recipe, str) or len(self.recipe) > MOST_TEXT:
            raise ValueError(f"recipe is not a text of at most {MOST_TEXT:,} characters")
        if self.device not in ("cpu", "cuda") or not isinstance(self.given, bool):
            raise ValueError(f"device {self.device!r}, given {self.given!r}")
        if self.nprobe > self.lists or self.refine > MOST_REFINE or self.growth > MOST_GROWTH:
            raise ValueError(f"nprobe {self.nprobe:,}, refine {self.refine:,}, growth {self.growth:g}")


def _check_numbers(plan: Plan | OperatingPoint, *names: str, whole: bool = False, least: int = 0) -> None:
    """Raise ValueError unless these fields are finite numbers of at least `least`, or None by default."""
    for name in names:
        value = getattr(plan, name)
        kind = int if whole else int | float
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if not (is_number and least <= value < MOST) and (whole or value is not None):
            raise ValueError(f"{name} is {str(value)[:40]}")


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

    device: "auto" uses an NVIDIA GPU if FAISS supports one that can hold the index.
    recipe: overrides the choice: a FAISS factory string with IVF, on the CPU unless `device` is "cuda", or
        "Flat" for an exact scan without an index.
    sample: float32 [s, dim], a sample of the vectors, whose spectrum determines the code.
    memory_bytes: limit for the codes and ids of all items.
    Raises UsageError for a device that is unavailable or cannot hold the index, and for an unknown recipe.
    """
    if recipe == "Flat" or (recipe is None and n < FLAT_BELOW):
        why = "as requested" if recipe else f"fewer than {FLAT_BELOW:,} items are scanned exactly"
        return Plan("Flat", n, dim, "cpu", 1, 1, 1, 0, f"Flat on cpu for {n:,} items: {why}.")
    faiss = load_faiss()

    gpus = faiss.get_num_gpus() if device != "cpu" else 0
    if device == "cuda" and not gpus:
        raise UsageError(
            "device cuda: FAISS found no NVIDIA GPU; use cpu, or install faiss-gpu and the driver"
        )
    on, why = "cuda" if device == "cuda" else "cpu", "as requested"
    given, growth, refine = recipe is not None, GROWTH, REFINE
    if recipe is None:
        # 4,096 for a million. Twice as many triple the training time; half as many make filtered searches a
        # third slower, because they read more codes (measured)
        lists = 2 ** round(math.log2(4 * math.sqrt(n)))
        spectrum = None if sample is None else Spectrum.of(sample)
        budget = CODE_BYTES if memory_bytes is None else min(memory_bytes // n - gpu.ID_BYTES, CODE_BYTES)
        on, code, why = _choose(n, dim, lists, spectrum, budget, gpus)
        if spectrum is not None and spectrum.error(code) <= GOOD:
            growth, refine = EASY, EASY_REFINE
        if device == "cuda" and on == "cpu":
            raise UsageError(f"device cuda: {why}; use cpu, or specify a recipe")
        rotation = f"PCAR{code.kept}," if on == "cpu" or code.kept < dim else ""
        recipe = f"{rotation}IVF{lists},PQ{code.sub}" + ("x4fs" if on == "cpu" else "")
    lists = _lists(dim, recipe)
    nprobe = max(lists // PROBED, 1)
    why = (
        f"{recipe} on {on} for {n:,} items: {why}. A search visits {nprobe:,} of {lists:,} lists and "
        f"compares k x {refine} candidates with their stored vectors, until it is tuned."
    )
    least = max(PER_LIST * lists, LEAST_SAMPLE)
    return Plan(recipe, n, dim, on, lists, nprobe, refine, min(n, least), why, growth=growth, given=given)


def _choose(
    n: int, dim: int, lists: int, spectrum: Spectrum | None, budget: int, gpus: int
) -> tuple[str, Code, str]:
    """Return device, code and explanation."""
    note = ""
    if gpus:
        choices = [code for code in codes(dim, 8, gpu.GPU_SUBS) if code.kept // code.sub in gpu.GPU_SUB_DIMS]
        code, why = _code(dim, choices, spectrum, budget)
        problem = gpu.obstacle(n, code.kept, code.sub, lists, free=gpu.free_bytes())
        if problem is None:
            return "cuda", code, why
        note = f"the GPU cannot hold it ({problem}), "
    choices = codes(dim, 4, {min(2**power, dim) for power in range(2, 8)})
    code, why = _code(dim, choices, spectrum, budget)
    return "cpu", code, note + why


def _code(dim: int, choices: list[Code], spectrum: Spectrum | None, budget: int) -> tuple[Code, str]:
    if spectrum is None:
        fitting = [code for code in choices if code.kept <= 128 and code.rate == 2] or choices
        code = max(fitting, key=lambda code: code.kept)
        return code, f"{dim} dimensions rotated to {code.kept}, {code.bytes} bytes an item, without a sample"
    code = best_code(choices, spectrum, budget)
    return code, (
        f"{dim} dimensions rotated to {code.kept}, which hold {spectrum.share(code.kept):.1%} of the "
        f"variance, take {code.bytes} bytes an item at {code.rate:g} bits each; the error is "
        f"{spectrum.error(code):.2f} of the squared distance between neighbours"
    )


def _lists(dim: int, recipe: str) -> int:
    """Return the number of inverted lists of `recipe`."""
    faiss = load_faiss()

    try:
        index = faiss.index_factory(dim, recipe, faiss.METRIC_L2)
    except (RuntimeError, MemoryError) as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise UsageError(
            f"recipe {recipe!r}: FAISS does not know it for {dim} dimensions ({reason}); "
            "use one such as IVF64,Flat, or none for the default"
        ) from None
    ivf = faiss.try_extract_index_ivf(index)  # owned by `index`
    if ivf is None or not ivf.nlist:
        raise UsageError(
            f"recipe {recipe!r} has no inverted lists; use one with IVF, such as IVF64,Flat, or Flat"
        )
    return int(ivf.nlist)
