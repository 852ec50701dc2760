"""What is done to one file, wherever that happens: values and pure functions, all of which can be pickled."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xsearch import media
from xsearch.errors import MediaError, ModelError, NotEmbedded, Unreadable
from xsearch.media import Remote, RemoteFile, Skipped
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = [
    "WORK",
    "Action",
    "Embedded",
    "Task",
    "embed",
    "item",
    "prepare",
    "skipped",
    "table_of",
    "tasks_of",
]

FAIR = 8  # samples of a kind of which none can be embedded: then it is not the files, but the model

# The columns of a table of tasks. `path`: of a remote file where its copy would be on the surveying machine;
# `remote`: the URL in whose listing it is, null for a local file; `keys`: what its file system calls it and
# its companion; `extra`: user columns as a JSON object.
_TEXTS = ["action", "path", "modality", "mime", "companion", "url", "remote", "extra", "sidecar_problem"]
_OTHERS = {"bytes": pa.int64(), "mtime_ns": pa.int64(), "keys": pa.list_(pa.string())}
WORK = pa.schema(dict.fromkeys(_TEXTS, pa.string()) | _OTHERS)


class Action(StrEnum):
    """What is to be done with a file."""

    EMBED = "embed"
    DESCRIBE = "describe"  # its items get other user columns


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A file to do."""

    action: Action
    file: MediaFile | RemoteFile
    extra: Mapping[str, Any]  # user columns
    sidecar_problem: str | None = None  # what is wrong with its sidecar, which does not count then
    sha256: str = ""  # once it is prepared; of two files: of their two digests


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A file's items, without ids, and a vector for each."""

    task: Task
    rows: Sequence[Mapping[str, Any]]
    vectors: Sequence[np.ndarray]


def prepare(task: Task) -> Task:
    """The task with its file on this machine, a MediaFile, and with its sha256. Raises MediaError."""
    file = task.file.fetch() if isinstance(task.file, RemoteFile) else task.file
    sha256 = media.sha256(file.path)
    if file.companion:
        sha256 = hashlib.sha256(f"{sha256} {media.sha256(file.companion)}".encode()).hexdigest()
    return replace(task, file=file, sha256=sha256)


def embed(
    samples: Sequence[Sample], backend: Backend, *, proven: bool = False
) -> list[np.ndarray | MediaError]:
    """Per sample its vector, float32 [dim], or what is wrong with it.

    samples: of one kind. proven: whether any of that kind has been embedded before; if not, and if not one
    of FAIR samples can be, that is a ModelError.
    """
    try:
        vectors = backend.embed(samples)
    except (ModelError, MemoryError):
        raise
    except Exception as problem:  # the boundary: what models raise is not documented
        text = f"{type(problem).__name__}: {str(problem) or 'no reason given'}"
        if len(samples) == 1:
            return [problem if isinstance(problem, MediaError) else NotEmbedded(f"unexpected {text}")]
        each = [embed([sample], backend)[0] for sample in samples]
        if len(samples) >= FAIR and not proven and all(isinstance(one, MediaError) for one in each):
            raise ModelError(
                f"the model fails for each of {len(samples)} {samples[0].modality} samples: {text}; "
                "check its files and the device, or use another one"
            ) from problem
        return each
    finite = np.isfinite(vectors).all(axis=1)
    return [
        vector if good else Unreadable("the model finds no direction in it: not finite")
        for vector, good in zip(vectors, finite, strict=True)
    ]


def item(task: Task, sample: Sample) -> dict[str, Any]:
    """What is stored of a sample of a prepared file besides its id and its vector."""
    file = task.file
    of_file = {"path": file.name, "bytes": file.bytes, "mtime_ns": file.mtime_ns, "mime": file.mime}
    of_sample = ("modality", "start_s", "end_s", "width", "height", "duration_s", "text")
    return {
        **of_file,
        "sha256": task.sha256,
        **{name: getattr(sample, name) for name in of_sample},
        **task.extra,
    }


def skipped(task: Task, problem: MediaError) -> Skipped:
    """What is recorded of a file that gives no items."""
    text = " ".join(str(problem).removeprefix(f"{task.file.path}: ").split())
    return Skipped(task.file.name, text or "no reason given", problem.reason)


def table_of(tasks: Iterable[Task]) -> pa.Table:
    """One row of WORK for each task that is not prepared yet."""
    tables, rows = [WORK.empty_table()], map(_row, tasks)
    while some := list(islice(rows, 10_000)):
        tables.append(pa.Table.from_pylist(some, WORK))
    return pa.concat_tables(tables)


def tasks_of(work: pa.Table, remotes: Mapping[str, Remote]) -> Iterator[Task]:
    """The tasks in rows of WORK, in their order. remotes: by URL, of this machine."""
    for row in chain.from_iterable(batch.to_pylist() for batch in work.to_batches(max_chunksize=1000)):
        path, companion = Path(row["path"]), row["companion"] and Path(row["companion"])
        kind, facts = Modality(row["modality"]), (row["bytes"], row["mtime_ns"])
        file: MediaFile | RemoteFile = MediaFile(path, kind, *facts, row["mime"], companion, row["url"])
        if row["remote"]:
            remote = remotes[row["remote"]]
            path = remote.place(row["url"])
            companion = companion and path.with_name(companion.name)
            file = RemoteFile(row["url"], path, *facts, tuple(row["keys"]), remote, kind, companion=companion)
        yield Task(Action(row["action"]), file, json.loads(row["extra"]), row["sidecar_problem"])


def _row(task: Task) -> dict[str, Any]:
    file = task.file
    row = {name: getattr(file, name) for name in ("modality", "bytes", "mtime_ns", "mime", "url")}
    row |= {"path": str(file.path), "companion": str(file.companion) if file.companion else None}
    row |= {"action": task.action, "extra": json.dumps(task.extra), "sidecar_problem": task.sidecar_problem}
    return row | ({"remote": file.source.url, "keys": file.keys} if isinstance(file, RemoteFile) else {})
