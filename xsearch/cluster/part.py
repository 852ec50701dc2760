"""Parts: the outcomes of a unit's files, one row per file, as a sealed Arrow file.

    key       of the file, see `units.keys`
    outcome   JSON: `sha256` ("" if it could not be read), and `rows`, `skip`, or neither for a copy; of a
              remote file also what it was identified as: `modality`, `mime`
    vectors   list of float16: those of the rows, one after the other

The file ends with the sha256 of all that precedes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from xsearch.decoders.wire import plain, with_dates
from xsearch.errors import MediaError, Reason
from xsearch.ingest.work import Embedded, Outcomes, Task, skipped
from xsearch.media import RemoteFile, Skipped
from xsearch.system.folder import Folder
from xsearch.system.objects import LocalObjects, Objects, objects_at
from xsearch.types import MediaFile, Modality

__all__ = ["FOLDER", "SUFFIX", "Part", "parts_of", "read", "replay"]

FOLDER, SUFFIX = "parts", ".part"
SCHEMA = pa.schema({"key": pa.string(), "outcome": pa.string(), "vectors": pa.large_list(pa.float16())})
SEAL = hashlib.sha256().digest_size


class Part:
    """Collects the outcomes of a unit. Claims are those of the ledger, as far as a unit decides them."""

    is_due = False

    def __init__(self, stored: Mapping[str, Set[str]]) -> None:
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

    def commit(self) -> None:
        """Do nothing: a part is written as a whole."""

    def content(self, tasks: Iterator[Task], keys: Sequence[str]) -> bytes:
        """Return the file of the part for these files, in their order."""
        names = [task.file.name for task in tasks]
        outcomes = [json.dumps(self._outcomes[name], default=plain) for name in names]
        empty = np.empty(0, np.float16)
        vectors = [self._vectors.get(name, empty).reshape(-1) for name in names]
        ends = np.cumsum([0, *map(len, vectors)])
        lists = pa.LargeListArray.from_arrays(ends, np.concatenate(vectors))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, SCHEMA) as file:
            file.write_batch(pa.record_batch([pa.array(keys), pa.array(outcomes), lists], schema=SCHEMA))
        body = sink.getvalue().to_pybytes()
        return body + hashlib.sha256(body).digest()


def parts_of(collection: Path, url: str | None) -> Objects:
    """Return the parts at a URL, by default those in the collection. Raises OSError, UsageError."""
    return objects_at(url) if url else LocalObjects(Folder(collection).open(FOLDER, create=True))


def read(parts: Objects, name: str) -> pa.RecordBatch | None:
    """Return the outcomes of a part, None if it is damaged. Raises FileNotFoundError."""
    content = parts.get(name)
    body, seal = content[:-SEAL], content[-SEAL:]
    return pa.ipc.open_file(body).get_batch(0) if hashlib.sha256(body).digest() == seal else None


def replay(part: pa.RecordBatch, tasks: Iterator[Task], ledger: Outcomes) -> list[int]:
    """Report the outcomes of a part's files to the ledger.

    Returns the rows of those that were copies when the part was written, and have to be embedded now.
    """
    values, ends = part["vectors"].values.to_numpy(), part["vectors"].offsets.to_numpy()
    spans = pairwise(ends)
    left: list[int] = []
    for row, (task, text, span) in enumerate(zip(tasks, part["outcome"].to_pylist(), spans, strict=True)):
        outcome = json.loads(text, object_hook=with_dates)
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
            path, reason, error = outcome["skip"]
            ledger.refuse(Skipped(path, reason, Reason(error)), task.file)
        elif "rows" in outcome:
            rows = outcome["rows"]
            ledger.add(Embedded(task, rows, list(values[slice(*span)].reshape(len(rows), -1))))
        else:
            left.append(row)
    return left
