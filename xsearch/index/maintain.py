"""Index maintenance: build an index of a collection's items and keep it up to date."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np

from xsearch.index.build import failure, fill, train
from xsearch.index.gpu import copy_for
from xsearch.index.index import MEASURED, Index
from xsearch.index.library import load_faiss
from xsearch.index.plan import FLAT_BELOW, Device, Plan, make_plan

__all__ = ["STALE", "Items", "draw", "new_index", "new_trained", "plan_for", "update"]

STALE = 0.05  # tolerated fraction of items that are not indexed, or indexed but removed
GROWN = 2.0  # items relative to training time above which the index is retrained, with more lists
DRIFT = 1.25  # quantisation error of new items relative to the training sample that triggers retraining
SEED = 0


class Items(Protocol):
    """Items to index; implemented by `store.Snapshot`."""

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], ascending."""

    @property
    def modalities(self) -> np.ndarray:
        """Modality name of each item: [N]."""

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """Return the vectors of these ids: float32 [n, D]."""

    def blocks(self, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Stream (ids int64 [b], vectors float16 [b, D]) of these ids, ascending, or of all items."""


def draw(kinds: np.ndarray, count: int) -> np.ndarray:
    """Draw a stratified sample: rows, int64 ascending. Half is split equally by kind, half proportionally.

    kinds: kind of every row, [N]. Small kinds are taken completely, so that training covers every kind.
    """
    if count >= len(kinds):
        return np.arange(len(kinds))
    _, codes, sizes = np.unique(kinds, return_inverse=True, return_counts=True)
    take = np.minimum(sizes, count // (2 * len(sizes)))
    rest = sizes - take
    take += rest * (count - take.sum()) // rest.sum()
    rng = np.random.default_rng(SEED)
    rows = [
        rng.choice(np.flatnonzero(codes == code), size, replace=False, shuffle=False)
        for code, size in enumerate(take)
    ]
    return np.sort(np.concatenate(rows))


def plan_for(
    items: Items,
    n: int | None = None,
    *,
    device: Device = "auto",
    recipe: str | None = None,
    memory_bytes: int | None = None,
) -> Plan:
    """Plan an index of these items, or of `n` similar ones, from their spectrum; arguments as `make_plan`."""
    n, ids = n or len(items.ids), items.ids
    dim = items.vectors(ids[:1]).shape[1]
    plan = make_plan(n, dim, device=device, recipe=recipe, memory_bytes=memory_bytes)
    if recipe is not None or plan.recipe == "Flat" or not len(ids):
        return plan
    sample = items.vectors(ids[draw(items.modalities, plan.sample)])
    return make_plan(n, dim, device=device, sample=sample, memory_bytes=memory_bytes)


def new_index(
    items: Items, *, device: Device = "auto", recipe: str | None = None, memory_bytes: int | None = None
) -> Index | None:
    """Build an index of all items; None if a scan is preferable.

    Arguments as for `make_plan`.
    """
    trained = new_trained(items, device=device, recipe=recipe, memory_bytes=memory_bytes)
    return None if trained is None else fill(trained, items.blocks())


def new_trained(
    items: Items, *, device: Device = "auto", recipe: str | None = None, memory_bytes: int | None = None
) -> Index | None:
    """`new_index` as far as it is trained on a sample of the items; it has none."""
    n = len(items.ids)
    if n == 0:
        return None
    dim = items.vectors(items.ids[:1]).shape[1]
    plan = make_plan(n, dim, device=device, recipe=recipe, memory_bytes=memory_bytes)
    if plan.recipe == "Flat":
        return None
    sample = items.vectors(items.ids[draw(items.modalities, plan.sample)])
    plan = make_plan(n, dim, device=device, recipe=recipe, sample=sample, memory_bytes=memory_bytes)
    return train(plan, sample)


def update(index: Index | None, items: Items) -> Index | None:
    """Return an up-to-date index of these items, or None if a scan is preferable.

    That is `index` itself while it is less than STALE out of date, else a copy with items added and removed,
    or a retrained one if the number of items grew by GROWN or the error of new items by DRIFT.
    """
    n = len(items.ids)
    requested = index.plan if index is not None and index.plan.given else None
    if n < FLAT_BELOW and requested is None:
        return None
    if index is None:
        return new_index(items)
    new = items.ids[~index.covers(items.ids)]
    removed = len(index.ids) - (n - len(new))
    if max(len(new), removed) <= STALE * n:
        return index
    if n > GROWN * index.plan.n or _drifted(index, items, new):
        recipe, device = (requested.recipe, requested.device) if requested else (None, "auto")
        trained = new_index(items, recipe=recipe, device=cast(Device, device))
        return _as_tuned(trained, index.plan) if trained else None
    return _refilled(index, items, new, reset=removed > STALE * n)


def _as_tuned(index: Index, previous: Plan) -> Index:
    """Carry over the parameters tuned for the previous index; their recall is no longer known."""
    if previous.recall is None:
        return index
    nprobe = min(max(round(previous.nprobe * index.plan.lists / previous.lists), 1), index.plan.lists)
    return index.tuned(nprobe=nprobe, refine=previous.refine, growth=previous.growth)


def _drifted(index: Index, items: Items, new: np.ndarray) -> bool:
    """Whether the error of new items exceeds the training error by DRIFT; True if that is unknown."""
    if index.plan.error is None:
        return True
    if not len(new):
        return False
    sample = new[:: -(-len(new) // MEASURED)]
    return index.error_of(items.vectors(sample)) > DRIFT * index.plan.error


def _refilled(index: Index, items: Items, new: np.ndarray, *, reset: bool) -> Index:
    """Return a copy with the new items added or, with `reset`, refilled with exactly these items."""
    faiss = load_faiss()
    try:
        copy = faiss.clone_index(index.faiss)  # readers keep using the original
        if reset:  # FAISS 1.15 corrupts 4-bit lists when adding after remove_ids
            copy.reset()
        for ids, vectors in items.blocks(None if reset else new):
            copy.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)
        gpu = copy_for(index.plan.device, copy)
    except (RuntimeError, MemoryError) as error:
        raise failure(index.plan, f"adding {len(new):,} items", error) from error
    ids = items.ids if reset else np.sort(np.concatenate([index.ids, new]))
    return Index(index.plan, ids, copy, gpu)
