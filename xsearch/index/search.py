"""An index that is built: candidates for a query, from FAISS."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from copy import copy
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.disk import digest
from xsearch.errors import StoreError, UsageError
from xsearch.index.plan import GPU_MOST, Plan

__all__ = ["Index", "to_gpu"]

INDEX, PLAN = "index.faiss", "plan.json"


class Index:
    """A trained and filled FAISS index, with the plan it follows and the ids it covers.

    Nothing changes while searching: any number of threads may share it. On a GPU they take turns.
    """

    def __init__(self, plan: Plan, ids: np.ndarray, index: Any, gpu: Any = None) -> None:
        """ids: int64 [n], ascending. index: a faiss.Index with these ids. gpu: the same on a GPU."""
        self.plan = plan
        self.ids = ids
        self._index = index
        self._gpu = gpu
        self._turn = threading.Lock()

    def tuned(self, *, nprobe: int, refine: int, recall: float | None = None) -> Index:
        """The same index with other parameters; `recall` is what was measured with them."""
        other = copy(self)
        other.plan = replace(self.plan, nprobe=nprobe, refine=refine, recall=recall)
        return other

    def covers(self, ids: np.ndarray) -> np.ndarray:
        """Which of `ids` are in the index: bool, of the shape of `ids`."""
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        return self.ids[at] == ids

    def search(
        self, queries: np.ndarray, k: int, *, allowed: np.ndarray | None = None, nprobe: int | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Up to k candidates for each query; take k x `plan.refine` and `rerank` them.

        queries: float32 [Q, D], unit rows. allowed: int64 ids, the only ones to find.
        nprobe: instead of the plan's.
        Returns (scores float32 [Q, k], ids int64 [Q, k]): about cosines, best first, -inf and -1 where there
        are fewer. Removed items are found too: drop what the snapshot does not contain.

        Raises UsageError if the recipe cannot do this.
        """
        queries = np.ascontiguousarray(queries, np.float32)
        nprobe = nprobe or self.plan.nprobe
        try:
            # the GPU's search has no selector, and bounds (FAISS wiki, "Faiss on the GPU")
            if self._gpu is not None and allowed is None and max(k, nprobe) <= GPU_MOST:
                with self._turn:
                    scores, ids = self._gpu.search(queries, k, params=_parameters(self._gpu, nprobe, None))
            else:
                scores, ids = self._index.search(queries, k, params=_parameters(self._index, nprobe, allowed))
        except RuntimeError as error:
            reason = str(error).rsplit(": ", 1)[-1]
            raise UsageError(f"index {self.plan.recipe}: {reason}; build it with another recipe") from error
        scores[ids < 0] = -np.inf
        return scores, ids

    def save(self, folder: Path) -> None:
        """Write `index.faiss` and `plan.json`. The store makes them durable and part of a collection."""
        import faiss

        faiss.write_index(self._index, str(folder / INDEX))
        ends = np.flatnonzero(np.diff(self.ids) != 1)  # ids come in runs
        runs = zip(self.ids[np.r_[0, ends + 1]].tolist(), self.ids[np.r_[ends, -1]].tolist(), strict=True)
        plan = {**asdict(self.plan), "covered": list(runs)}
        (folder / PLAN).write_text(json.dumps(plan), encoding="utf-8")

    def stored(self) -> np.ndarray:
        """The ids that are in the inverted lists, as the index itself has them: int64 [n], ascending."""
        faiss: Any = import_module("faiss")

        lists = faiss.extract_index_ivf(self._index).invlists
        sizes = [lists.list_size(i) for i in range(lists.nlist)]
        ids = [faiss.rev_swig_ptr(lists.get_ids(i), size) for i, size in enumerate(sizes) if size]
        return np.sort(np.concatenate(ids))

    @staticmethod
    def load(folder: Path, sha256: Mapping[str, str] | None = None, *, mmap: bool = True) -> Index:
        """Read what `save` wrote, memory-mapped unless `mmap` is false, onto the GPU if it was built on one.

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
            index = faiss.read_index(str(folder / INDEX), faiss.IO_FLAG_MMAP_IFC if mmap else 0)
            plan, ids = Plan(**content), np.concatenate(runs)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
            raise StoreError(f"cannot read the index in {folder}: {error}; build it again") from error
        if (index.ntotal, index.d) != (len(ids), plan.dim):
            raise StoreError(
                f"the index in {folder} has {index.ntotal} vectors of {index.d} dimensions, its plan says "
                f"{len(ids)} of {plan.dim}; build it again"
            )
        gpu = to_gpu(index) if plan.device == "cuda" and faiss.get_num_gpus() else None
        return Index(plan, ids, index, gpu)


def to_gpu(index: Any) -> Any:
    """A copy of an IVF-PQ index on the first GPU; float16 tables, as 56 sub-quantisers and more need them."""
    import faiss

    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    return faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index, options)


def _parameters(index: Any, nprobe: int, allowed: np.ndarray | None) -> Any:
    """Parameters of one call, nested as the index is; a shared index is never changed."""
    faiss: Any = import_module("faiss")  # untyped: its stubs do not know these keywords

    index = faiss.downcast_index(index)
    if isinstance(index, faiss.IndexPreTransform):
        return faiss.SearchParametersPreTransform(index_params=_parameters(index.index, nprobe, allowed))
    selector = None
    if allowed is not None:
        bits = np.zeros(int(allowed.max(initial=0)) + 1, bool)
        bits[allowed] = True
        selector = faiss.IDSelectorBitmap(np.packbits(bits, bitorder="little"))
    return faiss.SearchParametersIVF(nprobe=nprobe, sel=selector)
