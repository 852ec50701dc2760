"""Index construction: train on a sample, then add vectors in blocks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.index.gpu import copy_for, to_gpu
from xsearch.index.index import Index
from xsearch.index.library import load_faiss
from xsearch.index.plan import Plan

__all__ = ["build", "failure", "fill", "train"]


def build(plan: Plan, sample: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Index:
    """Train and populate the index of `plan`; see `train` and `fill`."""
    return fill(train(plan, sample), blocks)


def train(plan: Plan, sample: np.ndarray) -> Index:
    """Return the trained index of `plan`, without items.

    sample: float32 [s, D], training vectors, unit rows drawn from all items; about `plan.sample` of them.

    Raises UsageError for a "Flat" plan, which has no index, and if there are too few samples.
    """
    faiss = load_faiss()

    if plan.recipe == "Flat":
        raise UsageError("a Flat plan has no index to build; scan the vectors with `exact`")
    # On unit vectors L2 ranks like cosine, even after PCA has subtracted the mean, which breaks inner product
    # (recall of cross-modal queries 0.59 instead of 0.80, measured)
    index = faiss.index_factory(plan.dim, plan.recipe, faiss.METRIC_L2)
    try:
        target = to_gpu(index, shared=False) if plan.device == "cuda" else index
        target.train(np.ascontiguousarray(sample, np.float32))
        if target is not index:
            index = faiss.index_gpu_to_cpu(target)
        _free_covariance(index)
    except (RuntimeError, MemoryError) as error:
        raise failure(plan, f"a sample of {len(sample):,}", error) from error
    trained = Index(plan, np.empty(0, np.int64), index)
    return trained.tuned(error=trained.error_of(sample))


def fill(trained: Index, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Index:
    """Add items to a trained index, and return it.

    blocks: (ids int64 [b], vectors float16 or float32 [b, D]), unique ids; one block at a time is in memory.

    Raises UsageError if there are no items.
    """
    faiss = load_faiss()
    plan, index = trained.plan, trained.faiss
    added = [np.empty(0, np.int64)]
    try:
        gpu = copy_for(plan.device, index)
        target = index if gpu is None else gpu
        for ids, vectors in blocks:
            target.add_with_ids(
                np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64)
            )
            added.append(ids)
        if gpu is not None:
            index = faiss.index_gpu_to_cpu(gpu)
    except (RuntimeError, MemoryError) as error:
        raise failure(plan, f"adding {sum(map(len, added)):,} items", error) from error
    if not index.ntotal:
        raise UsageError(f"recipe {plan.recipe}: no items to index; ingest some, or use Flat")
    return Index(plan, np.sort(np.concatenate(added)), index, gpu)


def failure(plan: Plan, what: str, error: Exception) -> UsageError:
    """Return the error to raise when FAISS fails on `what`."""
    reason = str(error).rsplit(": ", 1)[-1].strip() or "not enough memory"
    return UsageError(
        f"recipe {plan.recipe}: FAISS fails on {what} ({reason}); use fewer lists or a smaller code, or Flat"
    )


def _free_covariance(index: Any) -> None:
    """Free the D x D covariance matrix of a PCA, which is needed for training only."""
    faiss = load_faiss()
    if isinstance(index, faiss.IndexPreTransform):
        pca = faiss.downcast_VectorTransform(index.chain.at(0))
        if isinstance(pca, faiss.PCAMatrix):
            pca.PCAMat.resize(0)
