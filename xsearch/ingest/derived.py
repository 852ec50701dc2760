"""What is computed from the items and follows them: the calibration, and the index where it is worth one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xsearch.errors import StoreError
from xsearch.index import make_plan
from xsearch.query.calibrate import Calibration, calibrate

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["derive"]

STALE = 0.1  # share of items outside the index at which it is built anew; until then they are scanned


def derive(writer: Writer) -> None:
    """Bring both up to date, and commit."""
    snapshot = writer.snapshot
    plan = make_plan(len(snapshot), snapshot.stamp.dim)
    if plan.recipe == "Flat":
        writer.set_index(None)
    elif _share_outside(snapshot) > STALE:
        from xsearch.index import build  # faiss: only where there is an index

        ids = np.random.default_rng(0).permutation(snapshot.ids)[: plan.sample]
        folder = writer.new_index_folder()
        build(plan, snapshot.vectors(np.sort(ids)), snapshot.blocks()).save(folder)
        writer.set_index(folder)
    if Calibration.from_dict(snapshot.manifest.calibration).next_id != snapshot.manifest.next_id:
        writer.set_calibration(calibrate(snapshot).to_dict())  # items have come since
    writer.commit()


def _share_outside(snapshot: Snapshot) -> float:
    """Share of the items that the index does not cover: all, if there is none that can be read."""
    from xsearch.index import Index

    if snapshot.index_path is None:
        return 1.0
    try:
        index = Index.load(snapshot.index_path, snapshot.manifest.index_digests)
        return 1 - float(index.covers(snapshot.ids).mean())
    except StoreError:
        return 1.0
