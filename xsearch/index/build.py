"""Building: train on a sample, add the rest as it streams by."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.index.gpu import to_gpu
from xsearch.index.index import Index
from xsearch.index.plan import Plan

__all__ = ["build"]


def build(plan: Plan, sample: np.ndarray, blocks: Iterable[tuple[np.ndarray, np.ndarray]]) -> Index:
    """Train and fill the index of `plan`.

    sample: float32 [s, D], unit rows drawn from all items; about `plan.sample` of them.
    blocks: (ids int64 [b], vectors float16 or float32 [b, D]), each id once; one at a time is in memory.

    Raises UsageError for a "Flat" plan, which has no index, and where the sample or the items are too few.
    """
    import faiss

    if plan.recipe == "Flat":
        raise UsageError("a Flat plan has no index to build: scan the vectors with `exact`")
    # L2 puts unit vectors into the same order as the cosine, also after PCA has taken their mean away, which
    # spoils inner products (recall of queries of another kind 0.59 instead of 0.80, measured)
    index = faiss.index_factory(plan.dim, plan.recipe, faiss.METRIC_L2)
    seen = [np.empty(0, np.int64)]
    try:
        gpu = to_gpu(index) if plan.device == "cuda" else None
        target = index if gpu is None else gpu
        target.train(np.ascontiguousarray(sample, np.float32))
        for ids, vectors in blocks:
            target.add_with_ids(
                np.ascontiguousarray(vectors, np.float32), np.ascontiguousarray(ids, np.int64)
            )
            seen.append(ids)
        if gpu is not None:
            index = faiss.index_gpu_to_cpu(gpu)
        _forget_covariance(index)
    except RuntimeError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise UsageError(
            f"recipe {plan.recipe}, sample of {len(sample):,}: {reason}; use another recipe"
        ) from error
    if not index.ntotal:
        raise UsageError(f"recipe {plan.recipe}: there are no items to index")
    found = Index(plan, np.sort(np.concatenate(seen)), index, gpu)
    return found.tuned(error=found.error_of(sample))


def _forget_covariance(index: Any) -> None:
    """Drop what a PCA was computed from: D x D numbers that no search needs."""
    faiss: Any = import_module("faiss")
    if isinstance(index, faiss.IndexPreTransform):
        pca = faiss.downcast_VectorTransform(index.chain.at(0))
        if isinstance(pca, faiss.PCAMatrix):
            pca.PCAMat.resize(0)
