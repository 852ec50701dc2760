"""Verify a collection, also one that cannot be opened any more, and repair it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.derive import derive
from xsearch.errors import StoreError
from xsearch.query.calibration import Calibration
from xsearch.store import Finding, Store
from xsearch.store.verify import recover_manifest, verify_files

if TYPE_CHECKING:
    from xsearch.store import Manifest

__all__ = ["verify"]


def verify(path: str | Path, *, repair: bool = False) -> list[Finding]:
    """What is wrong with the collection at `path`; an empty list if nothing is. All its files are read.

    repair: also do what each finding says: move what is broken to the folder `quarantine`, commit without it,
        and make what is derived again. The rest stays as it is.

    Raises NoCollection where there is none, StoreError where no manifest can be read, and, for a repair,
    Locked while somebody is writing.
    """
    store = Store(Path(path))
    if repair:
        with store.writer(repair=True) as writer:
            _, found = _check(store.path)
            if found:
                paths = [finding.path for finding in found]
                broken = {name for name in writer.manifest.files() for path in paths if path.startswith(name)}
                index = f"index/{writer.manifest.index}"
                if index in broken:
                    writer.set_index(None)
                writer.quarantine(broken - {index})
                derive(writer)
        return found
    while True:
        manifest, found = _check(store.path)
        if not found or recover_manifest(store.path)[0].generation == manifest.generation:
            return found  # else the files may be gone because others have taken their place


def _check(path: Path) -> tuple[Manifest, list[Finding]]:
    manifest, found = recover_manifest(path)
    return manifest, [*found, *verify_files(path, manifest), *_verify_derived(path, manifest)]


def _verify_derived(path: Path, manifest: Manifest) -> Iterator[Finding]:
    try:
        usual = Calibration.from_dict(manifest.calibration).pairs.values()
        if not np.isfinite([(pair.centre, pair.spread, pair.count) for pair in usual]).all():
            raise ValueError("not finite")
    except (KeyError, TypeError, ValueError) as error:
        yield Finding("manifest.json", f"calibration: {error}", "measured again")
    if not manifest.index_digests:
        return  # there is no index, or one of format 1, which cannot be read without danger
    from xsearch.index import Index  # faiss: only where there is an index

    name = f"index/{manifest.index}"
    try:
        index = Index.load(path / name, manifest.index_digests)
        if index.plan.dim != manifest.fingerprint.dim or not np.array_equal(index.stored(), index.ids):
            raise StoreError("it does not hold the items that its plan.json says it covers")
    except StoreError as error:
        yield Finding(
            name, str(error.__cause__ or error), "dropped, and built again where there are enough items"
        )
