"""From the items of a collection to an index of them, and later to one that has the new items too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np

from xsearch.index.build import build
from xsearch.index.gpu import to_gpu
from xsearch.index.index import MEASURED, Index
from xsearch.index.plan import FLAT_BELOW, Device, Plan, make_plan

__all__ = ["Items", "draw", "new_index", "plan_for", "update"]

STALE = 0.05  # share of the items outside the index, or removed from under it, that is left alone
GROWN = 2.0  # items / items at the training: then there are too few lists, and no longer the right ones
DRIFT = 1.25  # error of the new items / of those that it was trained on
SEED = 0


class Items(Protocol):
    """What is to be indexed; a `store.Snapshot` is one."""

    @property
    def ids(self) -> np.ndarray:
        """int64 [N], ascending."""

    @property
    def modalities(self) -> np.ndarray:
        """The name of the kind of each, [N]."""

    def vectors(self, ids: np.ndarray) -> np.ndarray:
        """float32 [n, D] of these ids."""

    def blocks(self, ids: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(ids int64 [b], vectors float16 [b, D]) of these ids, ascending, or of all."""


def draw(kinds: np.ndarray, count: int) -> np.ndarray:
    """Rows of a sample, int64 ascending: half of it shared equally by the kinds, the rest as they are.

    kinds: of all rows, [N]. A small kind is taken whole: none is missing from what is trained on the sample.
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
    """The plan for these items, or for `n` like them, after their spectrum. Arguments as of `make_plan`."""
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
    """An index of all items, trained on a sample of them; None where they are to be scanned.

    The arguments are those of `make_plan`.
    """
    n = len(items.ids)
    if n == 0:
        return None
    dim = items.vectors(items.ids[:1]).shape[1]
    plan = make_plan(n, dim, device=device, recipe=recipe, memory_bytes=memory_bytes)
    if plan.recipe == "Flat":
        return None
    sample = items.vectors(items.ids[draw(items.modalities, plan.sample)])
    plan = make_plan(n, dim, device=device, recipe=recipe, sample=sample, memory_bytes=memory_bytes)
    return build(plan, sample, items.blocks())


def update(index: Index | None, items: Items) -> Index | None:
    """The index that these items should have: `index` itself while it serves, one with the new items added,
    one without those that are gone, a newly trained one, or None where they are to be scanned.

    `index` is not changed. It is trained again where there are GROWN times as many items as when it was
    trained, or where its lists fit the new ones worse by DRIFT.
    """
    n = len(items.ids)
    given = index.plan if index is not None and index.plan.given else None
    if n < FLAT_BELOW and given is None:
        return None
    if index is None:
        return new_index(items)
    new = items.ids[~index.covers(items.ids)]
    gone = len(index.ids) - (n - len(new))
    if max(len(new), gone) <= STALE * n:
        return index
    if n > GROWN * index.plan.n or _drifted(index, items, new):
        recipe, device = (given.recipe, given.device) if given else (None, "auto")
        trained = new_index(items, recipe=recipe, device=cast(Device, device))
        return _as_tuned(trained, index.plan) if trained else None
    return _filled(index, items, new, again=gone > STALE * n)


def _as_tuned(index: Index, before: Plan) -> Index:
    """With the parameters that `tune` had found for the one before; what they give now is not known."""
    if before.recall is None:
        return index
    nprobe = min(max(round(before.nprobe * index.plan.lists / before.lists), 1), index.plan.lists)
    return index.tuned(nprobe=nprobe, refine=before.refine, growth=before.growth)


def _drifted(index: Index, items: Items, new: np.ndarray) -> bool:
    """Whether the lists fit the new items worse than what they were trained on; also if that is not known."""
    if index.plan.error is None:
        return True
    if not len(new):
        return False
    some = new[:: -(-len(new) // MEASURED)]
    return index.error_of(items.vectors(some)) > DRIFT * index.plan.error


def _filled(index: Index, items: Items, new: np.ndarray, *, again: bool) -> Index:
    """A copy with the new items or, `again`, with all of them and nothing else."""
    faiss: Any = import_module("faiss")
    copy = faiss.clone_index(index.faiss)  # readers go on with the old one
    if again:  # FAISS 1.15 adds into what remove_ids has left in lists of 4-bit codes, and spoils them
        copy.reset()
    for ids, vectors in items.blocks(None if again else new):
        copy.add_with_ids(np.ascontiguousarray(vectors, np.float32), ids)
    ids = items.ids if again else np.sort(np.concatenate([index.ids, new]))
    gpu = to_gpu(copy) if index.plan.device == "cuda" and faiss.get_num_gpus() else None
    return Index(index.plan, ids, copy, gpu)
