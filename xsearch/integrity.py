"""Verification and repair of collections, including ones that can no longer be opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xsearch.derive import derive
from xsearch.errors import StoreError
from xsearch.nearest import NAME
from xsearch.query.calibration import Calibration
from xsearch.store import Finding, Mirror, Store, origin
from xsearch.store.verify import Diagnosis, diagnose, largest, recover_manifest
from xsearch.words import WordIndex

if TYPE_CHECKING:
    from xsearch.store import Manifest

__all__ = ["verify"]


def verify(path: str | Path, *, repair: bool = False) -> list[Finding]:
    """Read all files of the collection at `path` and return the problems.

    repair: also apply the remedy of each finding: move damaged files to the folder `quarantine`, commit
        without them, and rebuild derived data. Everything else is left unchanged. At a URL, only the copies
        on this machine are read, and fetched again.

    Raises NoCollection if there is none, StoreError if no manifest can be read, and, for a repair, Locked
    while another process is writing.
    """
    if (url := origin(path)) is not None:
        return Mirror(url).verify(repair=repair)
    store = Store(Path(path))
    if repair:
        with store.writer(repair=True) as writer:
            _, diagnosis = _check(store.path)
            if diagnosis.findings:
                damaged = {finding.path for finding in diagnosis.findings}
                if NAME in damaged:
                    writer.set_calibration(None)
                if f"index/{writer.manifest.index}" in damaged:
                    writer.set_index(None)
                if writer.manifest.words_file in damaged - diagnosis.moves.keys():
                    writer.set_words(None)
                writer.repair(diagnosis.moves, diagnosis.rebuilt, diagnosis.aside, diagnosis.removed)
                derive(writer)
        return diagnosis.findings
    while True:
        manifest, diagnosis = _check(store.path)
        if not diagnosis.findings or recover_manifest(store.path)[0].generation == manifest.generation:
            return diagnosis.findings  # else a compaction may have replaced the files


def _check(path: Path) -> tuple[Manifest, Diagnosis]:
    manifest, findings = recover_manifest(path)
    return manifest, diagnose(path, manifest, findings, list(_verify_derived(path, manifest)))


def _verify_derived(path: Path, manifest: Manifest) -> Iterator[Finding]:
    try:
        Calibration.from_dict(manifest.calibration)
    except (KeyError, TypeError, ValueError) as error:
        yield Finding("manifest.json", f"calibration: {error}", "recalibrated")
    most = largest(manifest)
    if name := manifest.words_file:
        try:
            _check_size(path / name, most)
            WordIndex.open(path / name, manifest.digests.get(name, "")).verify()
        except StoreError as error:
            yield Finding(name, str(error.__cause__ or "a wrong sha256"), "dropped and rebuilt")
    if not manifest.index_digests:
        return  # no index, or an unverifiable one of format 1
    from xsearch.index import Index  # faiss: only where there is an index

    name = f"index/{manifest.index}"
    try:
        for file in manifest.index_digests:
            _check_size(path / name / file, most)
        index = Index.load(path / name, manifest.index_digests)
        if index.plan.dim != manifest.fingerprint.dim or not np.array_equal(index.stored(), index.ids):
            raise StoreError("its items differ from those listed in plan.json")
    except StoreError as error:
        yield Finding(name, str(error.__cause__ or error), "dropped, rebuilt if there are enough items")


def _check_size(file: Path, most: int) -> None:
    """Raise StoreError, with its cause, if a file is missing or larger than `most` bytes."""
    try:
        size = file.stat().st_size
    except OSError as error:
        raise StoreError(f"cannot read {file}") from error
    if size > most:
        raise StoreError(f"cannot read {file}") from ValueError(f"larger than {most:,} bytes")
