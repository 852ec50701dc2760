"""Units of work: consecutive files of a survey, and what they are named by."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from xsearch.cluster.part import SUFFIX
from xsearch.ingest.work import Task, tasks_of
from xsearch.media import RemoteFile
from xsearch.types import Fingerprint, MediaFile

__all__ = ["UNIT_BYTES", "UNIT_FILES", "Unit", "cut", "keys"]

UNIT_FILES, UNIT_BYTES = 256, 1 << 30  # of media; a unit is what a killed worker loses


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Files that a worker embeds in one call."""

    work: pa.Table  # schema WORK
    keys: list[str]  # of its files, see `keys`
    stored: dict[str, set[str]]  # name -> the sha256 by which a file is a copy of a stored one, if any
    name: str  # of its part

    def __str__(self) -> str:
        """The first and the last file."""
        first, *_, last = *self.tasks(), *self.tasks()
        return f"{first.file.name} to {last.file.name}"

    def tasks(self) -> Iterator[Task]:
        return tasks_of(self.work, {})


def keys(work: pa.Table, fingerprint: Fingerprint, parameters: dict[str, Any]) -> list[str]:
    """Return a hash of all that the items of each file depend on.

    parameters: whatever does, besides file and model; JSON types.
    """
    others = json.dumps([asdict(fingerprint), parameters])
    rows = chain.from_iterable(batch.to_pylist() for batch in work.to_batches(max_chunksize=1000))
    return [_hash(json.dumps(row), others) for row in rows]


def cut(
    work: pa.Table,
    candidates: Callable[[MediaFile | RemoteFile], set[str]],
    fingerprint: Fingerprint,
    parameters: dict[str, Any],
    *,
    files: int = UNIT_FILES,
) -> Iterator[Unit]:
    """Yield the files to embed as units of up to `files` files and UNIT_BYTES, in order.

    candidates: see `Ledger.candidates`. parameters: see `keys`.
    """
    ends = np.cumsum(work["bytes"].to_numpy())
    digests: dict[int, tuple[set[str], str]] = {}  # of sets, by identity
    start = 0
    while start < len(work):
        before = ends[start - 1] if start else 0
        fitting = int(np.searchsorted(ends, before + UNIT_BYTES, side="right"))
        stop = min(start + files, max(fitting, start + 1), len(work))
        rows = work.take(np.arange(start, stop))  # a slice would be sent with the whole table
        found = {task.file.name: candidates(task.file) for task in tasks_of(rows, {})}
        stored = {name: sums for name, sums in found.items() if sums}
        for sums in stored.values():
            if id(sums) not in digests:  # one for many files
                digests[id(sums)] = sums, _hash(*sorted(sums))
        inputs, known = (
            keys(rows, fingerprint, parameters),
            [digests[id(sums)][1] for sums in stored.values()],
        )
        yield Unit(rows, inputs, stored, _hash(*inputs, *stored, *known) + SUFFIX)
        start = stop


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()
