"""Tasks, and pure functions that process one file; all picklable, so that any engine can run them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa

from xsearch import media
from xsearch.errors import MediaError, ModelError, NotEmbedded, Reason, Transient, Unreadable
from xsearch.media import Remote, RemoteFile, Skipped, facts
from xsearch.metadata import TOO_LARGE, sidecar
from xsearch.types import PICTURES, MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = [
    "WORK",
    "Action",
    "Embedded",
    "Outcomes",
    "Task",
    "embed",
    "item",
    "pieces",
    "prepare",
    "replaced",
    "skipped",
    "skipped_sidecar",
    "table_of",
    "tasks_of",
]

MIN_FAILURES = 8  # if so many samples of a kind fail and none works, the model is at fault

# Columns of a task table. `path`: for a remote file, its local copy on the surveying machine; `remote`: the
# listed URL it comes from, null for local files; `keys`: remote paths of the file and its companion; `extra`:
# user columns as a JSON object.
_TEXTS = ["action", "path", "modality", "mime", "companion", "url", "remote", "extra", "sidecar_problem"]
_OTHERS = {"bytes": pa.int64(), "mtime_ns": pa.int64(), "keys": pa.list_(pa.string())}
WORK = pa.schema(dict.fromkeys(_TEXTS, pa.string()) | _OTHERS)


class Action(StrEnum):
    """What to do with a file."""

    EMBED = "embed"
    DESCRIBE = "describe"  # update user columns only


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """A file to process."""

    action: Action
    file: MediaFile | RemoteFile
    extra: Mapping[str, Any]  # user columns
    sidecar_problem: str | None = None  # why its sidecar is ignored
    sha256: str = ""  # set by `prepare`; with a companion, of both digests
    about: Mapping[str, Any] = field(default_factory=dict)  # of a duplicate: what its file states


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A file's items, without ids, and their vectors."""

    task: Task
    rows: Sequence[Mapping[str, Any]]
    vectors: Sequence[np.ndarray]


class Outcomes(Protocol):
    """What becomes of files: the ledger, or the part of it that a worker writes elsewhere."""

    def claim(self, task: Task) -> bool:
        """Return whether a prepared file must be embedded. Raises Transient."""
        ...

    def add(self, embedded: Embedded) -> None: ...

    def refuse(self, skip: Skipped, file: MediaFile | RemoteFile) -> None: ...

    @property
    def is_due(self) -> bool:
        """Whether to commit what there is."""
        ...

    def commit(self) -> None: ...


def prepare(task: Task) -> Task:
    """Return the task with a local MediaFile and its sha256, fetching it if remote. Raises MediaError."""
    file = task.file.fetch() if isinstance(task.file, RemoteFile) else task.file
    return replace(task, file=file, sha256=media.sha256(file.path, file.companion))


def pieces(sample: Sample, backend: Backend, *, captions: bool = True) -> Iterator[Sample]:
    """Yield the samples that are embedded: a decoded one, or the windows of a text.

    captions: a picture is followed by the windows of the texts that its file states about it.
    """
    texts = [sample.data]
    if sample.modality is not Modality.TEXT:
        yield sample
        texts = facts.words(sample.about) if captions and sample.modality in PICTURES else []
    known = backend.capabilities().vocabulary if texts else None
    for text in (window for whole in texts for window in backend.windows(whole)):
        unknown_share = None if known is None else known.unknown_share(text)
        yield Sample(Modality.TEXT, text, text=text, unknown_share=unknown_share, about=sample.about)


def embed(
    samples: Sequence[Sample], backend: Backend, *, verified: bool = False, works: bool = False
) -> list[np.ndarray | MediaError]:
    """Return a float32 [dim] vector or an error for each sample.

    samples: of one kind. verified: whether the model has embedded this kind before; if not, raises ModelError
    when each of MIN_FAILURES or more samples fails. works: whether it has embedded any kind; if so, that they
    all lack memory is no reason to.
    """
    try:
        vectors = backend.embed(samples)
    except ModelError:
        raise
    except Exception as error:  # models raise undocumented exceptions
        text = f"{type(error).__name__}: {str(error) or 'no message'}"
        problem = error if isinstance(error, MediaError) else NotEmbedded(f"unexpected {text}")
        if passing := media.passing(error):
            problem = Transient(f"cannot be embedded: {passing}")
    else:
        finite = np.isfinite(vectors).all(axis=1)
        return [
            vector if good else Unreadable("embedding is not finite")
            for vector, good in zip(vectors, finite, strict=True)
        ]
    # Out here, where the exception no longer holds what was computed
    if len(samples) == 1:
        return [problem]
    each = [embed([sample], backend)[0] for sample in samples]
    failures = [one for one in each if isinstance(one, MediaError)]
    if len(samples) >= MIN_FAILURES and not verified and len(failures) == len(samples):
        hint = passing or "check its files and the device, or use another model"
        if not (works and all(one.reason.is_passing for one in failures)):
            raise ModelError(
                f"the model fails for each of {len(samples)} {samples[0].modality} samples: {text}; {hint}"
            )
    return each


def item(task: Task, sample: Sample) -> dict[str, Any]:
    """Return the item row of a sample of a prepared file, without id and vector."""
    file = task.file
    of_file = {"path": file.name, "bytes": file.bytes, "mtime_ns": file.mtime_ns, "mime": file.mime}
    of_sample = ("modality", "start_s", "end_s", "width", "height", "duration_s", "text", "unknown_share")
    return {
        **of_file,
        "sha256": task.sha256,
        **{name: getattr(sample, name) for name in of_sample},
        **replaced(sample.about, task.extra),
    }


def replaced(about: Mapping[str, Any], extra: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts, with user columns in the place of those of the same name; an empty cell replaces none."""
    return {**dict.fromkeys(extra), **about, **{name: v for name, v in extra.items() if v is not None}}


def skipped(task: Task, problem: MediaError) -> Skipped:
    """Return the skip record of a file that failed."""
    return Skipped.of(task.file.name, task.file.path, problem)


def skipped_sidecar(task: Task) -> list[Skipped]:
    """Return the skip record of the sidecar of a file, if it cannot be used."""
    if not (problem := task.sidecar_problem):
        return []
    kind = Reason.LARGE_SIDECAR if problem.startswith(TOO_LARGE) else Reason.SIDECAR
    return [Skipped(sidecar(task.file.name), problem.removeprefix(TOO_LARGE), kind)]


def table_of(tasks: Iterable[Task]) -> pa.Table:
    """Convert unprepared tasks to a table of schema WORK."""
    tables, rows = [WORK.empty_table()], map(_row, tasks)
    while batch := list(islice(rows, 10_000)):
        tables.append(pa.Table.from_pylist(batch, WORK))
    return pa.concat_tables(tables)


def tasks_of(work: pa.Table, remotes: Mapping[str, Remote]) -> Iterator[Task]:
    """Yield the tasks of a WORK table, in order. remotes: by URL, on this machine."""
    for row in chain.from_iterable(batch.to_pylist() for batch in work.to_batches(max_chunksize=1000)):
        path, companion = Path(row["path"]), row["companion"] and Path(row["companion"])
        kind, stats = Modality(row["modality"]), (row["bytes"], row["mtime_ns"])
        file: MediaFile | RemoteFile = MediaFile(path, kind, *stats, row["mime"], companion, row["url"])
        if row["remote"]:
            remote = remotes[row["remote"]]
            path = remote.place(row["url"])
            companion = companion and path.with_name(companion.name)
            file = RemoteFile(row["url"], path, *stats, tuple(row["keys"]), remote, kind, companion=companion)
        yield Task(Action(row["action"]), file, json.loads(row["extra"]), row["sidecar_problem"])


def _row(task: Task) -> dict[str, Any]:
    file = task.file
    row = {name: getattr(file, name) for name in ("modality", "bytes", "mtime_ns", "mime", "url")}
    row |= {"path": str(file.path), "companion": str(file.companion) if file.companion else None}
    row |= {"action": task.action, "extra": json.dumps(task.extra), "sidecar_problem": task.sidecar_problem}
    return row | ({"remote": file.source.url, "keys": file.keys} if isinstance(file, RemoteFile) else {})
