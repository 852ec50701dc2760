"""An index that is built: candidates for a query, from FAISS."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import StoreError, UsageError
from xsearch.index.gpu import GPU_MOST, to_gpu
from xsearch.index.plan import OperatingPoint, Plan
from xsearch.system.durable import digest

__all__ = ["SCAN", "Index", "Subset"]

INDEX, PLAN = "index.faiss", "plan.json"
SCAN = 1_000  # up to so many items a scan takes no longer than the lists of an index (measured)
MEASURED = 2_000  # vectors whose error is measured
OVERFETCH = 2  # times as many as hold k allowed ones on average, from a GPU


@dataclass(frozen=True, slots=True)
class Subset:
    """Some of the ids of an index, the only ones that a search may find."""

    ids: np.ndarray  # int64 [s], ascending
    selector: Any  # faiss.IDSelector
    lists: np.ndarray  # int64 [L], ascending: the inverted lists that hold them
    quantizer: Any  # faiss.IndexFlat of their centroids
    share: float  # of these lists that is theirs


class Index:
    """A trained and filled FAISS index, with the plan it follows and the ids it covers.

    Nothing changes while searching: any number of threads may share it. On a GPU they take turns.
    """

    def __init__(self, plan: Plan, ids: np.ndarray, index: Any, gpu: Any = None) -> None:
        """ids: int64 [n], ascending. index: a faiss.Index with these ids. gpu: the same on a GPU."""
        self.plan = plan
        self.ids = ids
        self.faiss = index
        self._gpu = gpu
        self._turn = threading.Lock()

    def tuned(self, **changes: Any) -> Index:
        """The same index with another `nprobe`, `refine`, and what was measured with them in its plan."""
        other = copy(self)
        other.plan = replace(self.plan, **changes)
        return other

    def covers(self, ids: np.ndarray) -> np.ndarray:
        """Which of `ids` are in the index: bool, of the shape of `ids`."""
        return self.ids[self._rows(ids)] == ids

    def _rows(self, ids: np.ndarray) -> np.ndarray:
        """Where `ids` are in `self.ids`, and some row for those that are not there."""
        first, last = self.ids[0], self.ids[-1]
        if last - first == len(self.ids) - 1:  # none is missing: no need to look for them
            return np.clip(ids, first, last) - first
        return np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)

    def subset(self, ids: np.ndarray) -> Subset:
        """Those of `ids` (int64, ascending) that are in the index, made ready to search among them."""
        faiss: Any = import_module("faiss")
        rows = self._rows(ids)
        covered = self.ids[rows] == ids
        ids, rows = ids[covered], rows[covered]
        bits = np.zeros(int(ids.max(initial=0)) + 1, bool)
        bits[ids] = True
        counts = np.bincount(self._list_of[rows], minlength=len(self._sizes))
        lists = np.flatnonzero(counts)
        share = len(ids) / max(self._sizes[lists].sum(), 1)
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
        quantizer = faiss.IndexFlat(self._ivf.d, self.faiss.metric_type)
        quantizer.add(self._centroids[lists])
        return Subset(ids, selector, lists, quantizer, float(share))

    def candidates(self, k: int) -> int:
        """How many to ask for, to have the k best among them, with a filter too."""
        return k * self.plan.refine

    def error_of(self, vectors: np.ndarray) -> float:
        """Mean squared distance of these vectors, float32 [n, D], to the centroids of their lists.

        That is what the codes describe: if it grows, they describe it worse.
        """
        some = np.asarray(vectors, np.float32)[:: -(-len(vectors) // MEASURED)]
        x = self._rotated(some)
        nearest = self._ivf.quantizer.search(x, 1)[1][:, 0]
        back = self._centroids[nearest]
        for transform in reversed(self._transforms):
            back = transform.reverse_transform(back)
        return float(((some - back) ** 2).sum(axis=1).mean())

    def search(
        self,
        queries: np.ndarray,
        k: int,
        *,
        allowed: Subset | np.ndarray | None = None,
        nprobe: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Up to k candidates for each query; ask for as many as `candidates` says and `rerank` them.

        queries: float32 [Q, D], unit rows. allowed: the only ids to find: int64, or a `subset`, which serves
        many searches. nprobe: instead of the plan's; among few allowed ids more lists are visited.
        Returns (scores float32 [Q, k], ids int64 [Q, k]): about cosines, best first, -inf and -1 where there
        are fewer than k to find. Removed items are found too: drop what the snapshot does not contain.

        Raises UsageError if the recipe cannot do this.
        """
        subset = self.subset(allowed) if isinstance(allowed, np.ndarray) else allowed
        return self.search_each(queries, k, [(subset, nprobe)])[0]

    def search_each(
        self, queries: np.ndarray, k: int, subsets: Sequence[tuple[Subset | None, int | None]]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """What `search` returns, for each of `subsets` with its nprobe."""
        queries = np.ascontiguousarray(queries, np.float32)
        rotated = cache(lambda: self._rotated(queries))
        try:
            with _alone() if len(queries) == 1 else nullcontext():
                return [
                    self._search(queries, rotated, k, nprobe or self.plan.nprobe, subset)
                    for subset, nprobe in subsets
                ]
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1]
            raise UsageError(f"index {self.plan.recipe}: {reason}; build it with another recipe") from error

    def _search(
        self,
        queries: np.ndarray,
        rotated: Callable[[], np.ndarray],
        k: int,
        nprobe: int,
        subset: Subset | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        there = min(k, len(self.ids) if subset is None else len(subset.ids))
        found = self._on_gpu(queries, k, there, nprobe, subset)
        if found is None:
            found = self._on_cpu(queries, rotated, k, nprobe, subset)
        short = np.flatnonzero((found[1] >= 0).sum(axis=1) < there)
        if len(short):  # the lists that were visited do not hold k
            rest = self._on_cpu(queries[short], lambda: rotated()[short], k, self.plan.lists, subset)
            for some, all in zip(found, rest, strict=True):
                some[short] = all
        return found

    def save(self, folder: Path) -> None:
        """Write `index.faiss` and `plan.json`. The store makes them durable and part of a collection."""
        import faiss

        faiss.write_index(self.faiss, str(folder / INDEX))
        self.save_plan(folder)

    def save_plan(self, folder: Path) -> None:
        """Write `plan.json` alone, beside an `index.faiss` that stays as it is."""
        ends = np.flatnonzero(np.diff(self.ids) != 1)  # ids come in runs
        runs = zip(self.ids[np.r_[0, ends + 1]].tolist(), self.ids[np.r_[ends, -1]].tolist(), strict=True)
        plan = {**asdict(self.plan), "covered": list(runs)}
        (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")

    def stored(self) -> np.ndarray:
        """The ids that are in the inverted lists, as the index itself has them: int64 [n], ascending."""
        return np.sort(np.concatenate(self._lists()))

    @staticmethod
    def load(folder: Path, sha256: Mapping[str, str] | None = None) -> Index:
        """Read what `save` wrote, onto the GPU if it was built on one.

        All of it: FAISS 1.15 copies 4-bit codes out of a memory map, so that they are there twice.
        sha256: of its files, by name: FAISS may crash on a damaged file, so that it is not given one.
        Without a GPU it is searched on the CPU. Raises StoreError where it is missing or damaged.
        """
        import faiss

        try:
            for name, wanted in (sha256 or {}).items():
                if digest(folder / name) != wanted:
                    raise ValueError(f"{name} has a wrong sha256")
            content = json.loads((folder / PLAN).read_text(encoding="utf-8"))
            runs = [np.arange(first, last + 1, dtype=np.int64) for first, last in content.pop("covered")]
            points = tuple(OperatingPoint(**point) for point in content.pop("points", ()))
            index = faiss.read_index(str(folder / INDEX))
            plan, ids = Plan(**content, points=points), np.concatenate(runs)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
            raise StoreError(f"cannot read the index in {folder}: {error}; build it again") from error
        if (index.ntotal, index.d) != (len(ids), plan.dim):
            raise StoreError(
                f"the index in {folder} has {index.ntotal} vectors of {index.d} dimensions, its plan says "
                f"{len(ids)} of {plan.dim}; build it again"
            )
        gpu = to_gpu(index) if plan.device == "cuda" and faiss.get_num_gpus() else None
        return Index(plan, ids, index, gpu)

    def _on_gpu(
        self, queries: np.ndarray, k: int, there: int, nprobe: int, subset: Subset | None
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """None where the GPU cannot: it has bounds, and no selector, but can find more than wanted."""
        wanted = k if subset is None else OVERFETCH * k * len(self.ids) // max(len(subset.ids), 1)
        if self._gpu is None or max(wanted, nprobe) > GPU_MOST:
            return None
        with self._turn:
            distances, ids = self._gpu.search(queries, wanted, params=_parameters(self._gpu, nprobe))
        scores = self._cosines(distances, ids)
        if subset is None:
            return scores, ids
        at = np.minimum(np.searchsorted(subset.ids, ids), len(subset.ids) - 1)
        good = subset.ids[at] == ids
        order = np.argsort(~good, axis=1, kind="stable")[:, :k]
        scores, ids = np.take_along_axis(scores, order, 1), np.take_along_axis(ids, order, 1)
        bad = ~np.take_along_axis(good, order, 1)
        scores[bad], ids[bad] = -np.inf, -1
        return None if ((ids >= 0).sum(axis=1) < there).any() else (scores, ids)

    def _on_cpu(
        self,
        queries: np.ndarray,
        rotated: Callable[[], np.ndarray],
        k: int,
        nprobe: int,
        subset: Subset | None,
    ) -> tuple[np.ndarray, np.ndarray]:
        if subset is None:
            distances, ids = self.faiss.search(queries, k, params=_parameters(self.faiss, nprobe))
            return self._cosines(distances, ids), ids
        x, Q, pointer = rotated(), len(queries), self._swig_ptr
        distances, ids = np.empty((Q, k), np.float32), np.empty((Q, k), np.int64)
        if not len(subset.lists):
            distances.fill(np.inf)
            ids.fill(-1)
            return self._cosines(distances, ids), ids
        # Lists without allowed ids are not visited: those of one modality are often far from queries of
        # another, so that the nearest lists hold none of them (recall 0.00 instead of 0.95, measured)
        more = max(subset.share, 1e-6) ** -self.plan.growth
        nprobe = min(math.ceil(nprobe * more), len(subset.lists))
        # without the checks of FAISS's wrappers, which take a third of the time of one query
        coarse, rows = np.empty((Q, nprobe), np.float32), np.empty((Q, nprobe), np.int64)
        subset.quantizer.search_c(Q, pointer(x), nprobe, pointer(coarse), pointer(rows))
        lists = subset.lists[rows]
        params = self._list_parameters(nprobe, subset.selector if subset.share < 1 else None)
        pointers = (pointer(array) for array in (lists, coarse, distances, ids))
        self._ivf.search_preassigned_c(Q, pointer(x), k, *pointers, False, params)
        return self._cosines(distances, ids), ids

    def _cosines(self, distances: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """|a - b|^2 = 2 - 2 cos for unit vectors."""
        cosines = distances if self._by_product else 1 - distances / 2
        cosines[ids < 0] = -np.inf
        return cosines

    @cached_property
    def _by_product(self) -> bool:
        """Indexes of earlier versions compare by inner product."""
        return self.faiss.metric_type == import_module("faiss").METRIC_INNER_PRODUCT

    @property
    def _transforms(self) -> list[Any]:
        faiss: Any = import_module("faiss")
        if not isinstance(self.faiss, faiss.IndexPreTransform):
            return []
        chain = self.faiss.chain
        return [faiss.downcast_VectorTransform(chain.at(at)) for at in range(chain.size())]

    @cached_property
    def _ivf(self) -> Any:
        return import_module("faiss").extract_index_ivf(self.faiss)

    @cached_property
    def _swig_ptr(self) -> Any:
        return import_module("faiss").swig_ptr

    @cached_property
    def _list_parameters(self) -> Callable[[int, Any], Any]:
        """Parameters of a search of the lists themselves: nprobe, and a selector or None."""
        kind: Any = import_module("faiss").SearchParametersIVF
        return lambda nprobe, selector: kind(nprobe=nprobe, sel=selector) if selector else kind(nprobe=nprobe)

    def _rotated(self, x: np.ndarray) -> np.ndarray:
        x = np.ascontiguousarray(x, np.float32)
        for transform in self._transforms:
            x = transform.apply(x)
        return x

    def _lists(self) -> list[np.ndarray]:
        """The ids in each inverted list."""
        faiss: Any = import_module("faiss")
        lists = self._ivf.invlists
        sizes = [lists.list_size(i) for i in range(lists.nlist)]
        none = np.empty(0, np.int64)
        return [faiss.rev_swig_ptr(lists.get_ids(i), size) if size else none for i, size in enumerate(sizes)]

    @cached_property
    def _sizes(self) -> np.ndarray:
        return np.array([len(ids) for ids in self._lists()])

    @cached_property
    def _list_of(self) -> np.ndarray:
        """The inverted list of each of `ids`: int32 [n]."""
        found = np.zeros(len(self.ids), np.int32)
        lists = self._lists()
        found[self._rows(np.concatenate(lists))] = np.repeat(np.arange(len(lists)), self._sizes)
        return found

    @cached_property
    def _centroids(self) -> np.ndarray:
        """float32 [lists, dimensions after the rotation]."""
        return self._ivf.quantizer.reconstruct_n(0, self.plan.lists)


@contextmanager
def _alone() -> Iterator[None]:
    """FAISS computes in this thread only, which the setting belongs to.

    With one query, to wait for others may take longer: 12 ms beside other work, instead of 0.2 (measured).
    """
    faiss: Any = import_module("faiss")
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)


def _parameters(index: Any, nprobe: int) -> Any:
    """Parameters of one call, nested as the index is; a shared index is never changed."""
    faiss: Any = import_module("faiss")  # untyped: its stubs do not know these keywords

    if isinstance(faiss.downcast_index(index), faiss.IndexPreTransform):
        inner = faiss.downcast_index(index).index
        return faiss.SearchParametersPreTransform(index_params=_parameters(inner, nprobe))
    return faiss.SearchParametersIVF(nprobe=nprobe)
