"""Parts: the outcomes of a unit's files, one row per file, as a sealed Arrow file.

    key       of the file, see `units.keys`
    outcome   JSON: `sha256` ("" if it could not be read), and `rows`, `skip`, or neither for a copy; of a
              remote file also what it was identified as: `modality`, `mime`; of a local one that the worker
              could not open, its machine: `unreached_by`
    vectors   list of float16: those of the rows, one after the other

The file ends with the sha256 of all that precedes it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from platform import node
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from xsearch.decoders.wire import plain, with_dates
from xsearch.errors import MediaError, Reason, StoreError
from xsearch.ingest.work import Embedded, Outcomes, Task, skipped
from xsearch.media import RemoteFile, Skipped
from xsearch.media.files import has_changed
from xsearch.system.folder import Folder
from xsearch.system.objects import Objects
from xsearch.types import MediaFile, Modality

__all__ = ["FOLDER", "SUFFIX", "Part", "marked", "place_of", "read", "replay"]

FOLDER, SUFFIX = "parts", ".part"
SCHEMA = pa.schema({"key": pa.string(), "outcome": pa.string(), "vectors": pa.large_list(pa.float16())})
SEAL = hashlib.sha256().digest_size


class Part:
    """Collects the outcomes of a unit. Claims are those of the ledger, as far as a unit can know them."""

    is_due = False

    def __init__(self, stored: Mapping[str, Set[str]] | None) -> None:
        """stored: see `Unit`."""
        self._stored = stored
        self._first: set[tuple[str, Modality]] = set()
        self._outcomes: dict[str, dict[str, Any]] = {}  # by name of the file
        self._vectors: dict[str, np.ndarray] = {}

    def claim(self, task: Task) -> bool:
        name, content = task.file.name, (task.sha256, task.file.modality)
        self._outcomes[name] = {"sha256": task.sha256}
        if task.file.url:
            self._outcomes[name] |= {"modality": task.file.modality, "mime": task.file.mime}
        if self._stored is None:
            return True
        if task.sha256 in self._stored.get(name, ()) or content in self._first:
            return False
        self._first.add(content)
        return True

    def add(self, embedded: Embedded) -> None:
        name = embedded.task.file.name
        self._outcomes[name]["rows"] = embedded.rows
        self._vectors[name] = np.stack(embedded.vectors).astype(np.float16)

    def refuse(self, skip: Skipped, file: MediaFile | RemoteFile) -> None:
        outcome = self._outcomes.setdefault(file.name, {"sha256": ""})
        outcome["skip"] = [skip.path, skip.reason, skip.error]
        if skip.error.is_passing and not file.url and not _is_readable(file):
            outcome["unreached_by"] = node()

    def commit(self) -> None:
        """Do nothing: a part is written as a whole."""

    def content(self, tasks: Iterator[Task], keys: Sequence[str]) -> bytes:
        """Return the file of the part for these files, in their order."""
        names = [task.file.name for task in tasks]
        outcomes = [json.dumps(self._outcomes[name], default=plain) for name in names]
        empty = np.empty(0, np.float16)
        vectors = [self._vectors.get(name, empty).reshape(-1) for name in names]
        ends = np.cumsum([0, *map(len, vectors)])
        lists = pa.LargeListArray.from_arrays(ends, np.concatenate([empty, *vectors]))
        columns = [pa.array(keys, pa.string()), pa.array(outcomes, pa.string()), lists]
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as file:
            file.write_batch(pa.record_batch(columns, schema=SCHEMA))
        body = sink.getvalue().to_pybytes()
        return body + hashlib.sha256(body).digest()


def place_of(collection: Path, parts: str | None) -> str:
    """Return the URL or absolute path of the parts, by default a folder of the collection, which is created.

    Raises OSError, StoreError.
    """
    if parts:
        return parts if "://" in parts else str(Path(parts).absolute())
    return str(Folder(collection.absolute()).open(FOLDER, create=True).path)


@contextmanager
def marked(parts: Objects) -> Iterator[str]:
    """Yield the name of an empty part that is there until the block ends: who finds it has the same parts."""
    name = 2 * uuid4().hex + SUFFIX
    parts.put(name, Part({}).content(iter(()), ()))
    try:
        yield name
    finally:
        parts.remove(name)


def read(parts: Objects, name: str) -> pa.RecordBatch | None:
    """Return the outcomes of a part, None if it is damaged or gone."""
    try:
        content = parts.get(name)
    except FileNotFoundError:
        return None
    body, seal = content[:-SEAL], content[-SEAL:]
    return pa.ipc.open_file(body).get_batch(0) if hashlib.sha256(body).digest() == seal else None


def replay(
    part: pa.RecordBatch, tasks: Iterator[Task], ledger: Outcomes, *, again: bool = False
) -> list[int]:
    """Report the outcomes of a part's files to the ledger.

    again: leave out those that failed. Returns their rows, and those of files that only the worker took for
    copies. Raises StoreError if the worker could not open a file that this machine can.
    """
    values, ends = part["vectors"].values.to_numpy(), part["vectors"].offsets.to_numpy()
    spans = pairwise(ends)
    left: list[int] = []
    for row, (task, text, span) in enumerate(zip(tasks, part["outcome"].to_pylist(), spans, strict=True)):
        outcome = json.loads(text, object_hook=with_dates)
        if again and "skip" in outcome:
            left.append(row)
            continue
        if sha256 := outcome["sha256"]:
            file = task.file
            if isinstance(file, RemoteFile):
                file = replace(file.as_modality(Modality(outcome["modality"])), mime=outcome["mime"])
            task = replace(task, file=file, sha256=sha256)
            try:
                if not ledger.claim(task):
                    continue
            except MediaError as problem:
                ledger.refuse(skipped(task, problem), task.file)
                continue
        if "skip" in outcome:
            if "unreached_by" in outcome and _is_here(task.file):
                raise StoreError(
                    f"{outcome['unreached_by']} cannot open {task.file.name}, which is here; every node "
                    "needs the media at the same paths: mount them there, then ingest again"
                )
            path, reason, error = outcome["skip"]
            ledger.refuse(Skipped(path, reason, Reason(error)), task.file)
        elif "rows" in outcome:
            rows = outcome["rows"]
            ledger.add(Embedded(task, rows, list(values[slice(*span)].reshape(len(rows), -1))))
        else:
            left.append(row)
    return left


def _is_readable(file: MediaFile | RemoteFile) -> bool:
    return all(os.access(path, os.R_OK) for path in (file.path, file.companion) if path)


def _is_here(file: MediaFile | RemoteFile) -> bool:
    """Whether this machine can open a local file, which is as it was surveyed."""
    return isinstance(file, MediaFile) and _is_readable(file) and not has_changed(file)
