"""Units of work: consecutive files of a survey, and what they are named by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xsearch.cluster.part import SUFFIX
from xsearch.ingest.work import Task, tasks_of
from xsearch.media import Remote, RemoteFile
from xsearch.types import Fingerprint, MediaFile, Modality

__all__ = ["UNIT_BYTES", "UNIT_FILES", "Unit", "cut", "keys"]

UNIT_FILES, UNIT_BYTES = 256, 1 << 30  # of media; a unit is what a killed worker loses
TEXT_WEIGHT = 64  # of a byte of text, of which 300 are an item of 2 kB: a part has to fit the memory


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Files that a worker embeds in one call: copies of others only if `stored` is None."""

    work: pa.Table  # schema WORK
    keys: list[str]  # of its files, see `keys`
    stored: dict[str, set[str]] | None  # name -> the sha256 by which a file is a copy of a stored one, if any
    name: str  # of its part

    def __str__(self) -> str:
        """The first and the last file."""
        ends = self.work.take([0, len(self.work) - 1]).to_pylist()
        return " to ".join(row["url"] or row["path"] for row in ends)

    def tasks(self, remotes: Mapping[str, Remote]) -> Iterator[Task]:
        """remotes: see `tasks_of`."""
        return tasks_of(self.work, remotes)


def keys(work: pa.Table, fingerprint: Fingerprint, parameters: dict[str, Any]) -> list[str]:
    """Return a hash of all that the items of each file depend on.

    parameters: whatever does, besides file and model; JSON types.
    """
    others = json.dumps([asdict(fingerprint), parameters])
    rows = chain.from_iterable(batch.to_pylist() for batch in work.to_batches(max_chunksize=1000))
    elsewhere = {"path": None, "companion": None}  # where a remote file is copied to differs
    return [_hash(json.dumps(row | elsewhere if row["remote"] else row), others) for row in rows]


def cut(
    work: pa.Table,
    remotes: Mapping[str, Remote],
    candidates: Callable[[MediaFile | RemoteFile], set[str]] | None,
    fingerprint: Fingerprint,
    parameters: dict[str, Any],
    *,
    files: int = UNIT_FILES,
) -> Iterator[Unit]:
    """Yield the files to embed as units of up to `files` files and UNIT_BYTES, texts weighted, in order.

    remotes: see `tasks_of`. candidates: see `Ledger.candidates`; None: copies are embedded too.
    parameters: see `keys`.
    """
    is_text = pc.equal(work["modality"], Modality.TEXT).to_numpy()
    ends = np.cumsum(work["bytes"].to_numpy() * np.where(is_text, TEXT_WEIGHT, 1))
    digests: dict[int, tuple[set[str], str]] = {}  # of sets, by identity
    start = 0
    while start < len(work):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + UNIT_BYTES, side="right"))
        stop = min(start + files, max(fitting, start + 1), len(work))
        rows = work.take(np.arange(start, stop))  # a slice would be sent with the whole table
        start = stop
        inputs = keys(rows, fingerprint, parameters)
        if candidates is None:
            yield Unit(rows, inputs, None, _hash(*inputs, "copies") + SUFFIX)
            continue
        found = {task.file.name: candidates(task.file) for task in tasks_of(rows, remotes)}
        stored = {name: sums for name, sums in found.items() if sums}
        for sums in stored.values():
            if id(sums) not in digests:  # one for many files
                digests[id(sums)] = sums, _hash(*sorted(sums))
        known = [digests[id(sums)][1] for sums in stored.values()]
        yield Unit(rows, inputs, stored, _hash(*inputs, *stored, *known) + SUFFIX)


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
