"""Units of work: consecutive files of a survey, and the names of their parts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from xsearch.ingest.survey import Survey
from xsearch.ingest.work import Action, Task, tasks_of
from xsearch.media import RemoteFile
from xsearch.types import Fingerprint, MediaFile

__all__ = ["UNIT_BYTES", "UNIT_FILES", "Unit", "cut"]

UNIT_FILES, UNIT_BYTES = 256, 1 << 30  # of media; a unit is what a killed worker loses


@dataclass(frozen=True, slots=True, eq=False)
class Unit:
    """Files that a worker embeds in one call."""

    work: pa.Table  # schema WORK
    stored: dict[str, set[str]]  # name -> the sha256 by which a file is a copy of a stored one, if any
    name: str  # of its part

    def __str__(self) -> str:
        """The first and the last file."""
        first, *_, last = *self.tasks(), *self.tasks()
        return f"{first.file.name} to {last.file.name}"

    def tasks(self) -> Iterator[Task]:
        return tasks_of(self.work, {})


def cut(
    survey: Survey,
    candidates: Callable[[MediaFile | RemoteFile], set[str]],
    fingerprint: Fingerprint,
    parameters: dict[str, Any],
    *,
    files: int = UNIT_FILES,
) -> Iterator[Unit]:
    """Yield the files to embed as units of up to `files` files and UNIT_BYTES, in order.

    candidates: see `Ledger.candidates`. parameters: whatever else the outcomes depend on; JSON types.
    """
    work = survey.work.filter(pc.field("action") == Action.EMBED)
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
                digests[id(sums)] = sums, hashlib.sha256("".join(sorted(sums)).encode()).hexdigest()
        inputs = [rows.to_pylist(), {name: digests[id(sums)][1] for name, sums in stored.items()}]
        stated = json.dumps([*inputs, asdict(fingerprint), parameters])
        yield Unit(rows, stored, f"{hashlib.sha256(stated.encode()).hexdigest()}.part")
        start = stop
