"""From queries to vectors: every part is read, embedded, normalised and weighted, and the sum normalised.

ImageBind composes in the same way (arXiv:2305.05665, section 4.4). A file that the collection has is neither
decoded nor embedded: its stored vectors are used, and no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cache, partial, reduce
from hashlib import sha256
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xsearch import decoders, media
from xsearch.errors import EmptyQuery, MediaError, UsageError
from xsearch.query.expression import Part, Query
from xsearch.query.stored import NONE, Vector, of_file, of_item
from xsearch.query.texts import read_text
from xsearch.system import scratch
from xsearch.types import Ingested, MediaFile, Modality, Sample, Url

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Snapshot

__all__ = ["Embedded", "Read", "check", "embed", "read"]

BATCH = 16  # samples of a recording that are in memory at once
CANCELLED = 1e-3  # a sum this short, relative to the sum of its weights, points nowhere: float16 noise

Read = Callable[[MediaFile], Iterable[Sample]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A query as vectors, all float32.

    query: with the modality of every part.
    vector: [dim], length 1.
    parts: [P, dim], rows of length 1, in the order of `query.parts`.
    norm: length of the weighted sum before it was normalised; near 0, the parts cancel out.
    own: int64, ascending: the ids of all items of the files of its parts, and of copies of these files.
    windows: of each part, how many pieces its vector is the mean of; of a stored one 1.
    left_out: words of its texts that the model has not learned, and has not read.
    is_unread: whether it has a text of such words only, so that its vector says nothing.
    """

    query: Query
    vector: np.ndarray
    parts: np.ndarray
    norm: float
    own: np.ndarray = field(default_factory=lambda: NONE)
    windows: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    is_unread: bool = False

    @property
    def cosines(self) -> np.ndarray:
        """float32 [P]: how much the result agrees with each part."""
        return np.clip(self.parts @ self.vector, -1, 1)

    @property
    def itself(self) -> np.ndarray:
        """The ids of the items that are the query: `own`, but none for a sum."""
        return self.own if len(self.parts) == 1 else NONE


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """A part that has been read: samples, or a vector [dim]; its items, and the words that are left out.

    windows: of how many samples the vector is the mean; a stored one counts as 1.
    """

    modality: Modality
    own: np.ndarray
    samples: Sequence[Sample] = ()
    vector: np.ndarray | None = None
    windows: int = 1
    left_out: Sequence[str] = ()
    is_unread: bool = False


class _File(NamedTuple):
    """The file of a part."""

    state: tuple[str, int, int]  # name, size and mtime_ns
    digest: Callable[[], str]
    samples: Callable[[], Iterator[Sample]]


def embed(
    queries: Sequence[Query],
    backend: Backend,
    *,
    snapshot: Snapshot | None = None,
    target: Modality | None = None,
    decode: Read | None = None,
    anyway: bool = False,
) -> list[Embedded]:
    """Embed all parts of all queries in one call of the backend; long recordings in batches.

    snapshot: where stored items and files are looked up. target: the only modality that may answer.
    decode: reads files, by default in another process. anyway: also embed a text of which the model has
    learned no word.
    Raises UnknownWords for such a text, MediaError for a part that cannot be decoded as its kind, and
    EmptyQuery when nothing is left of a sum: a direction made of rounding errors would be a random answer.
    """
    if not all(query.parts for query in queries):
        raise EmptyQuery("the query is empty: give a text or a media file")
    parts = [part for query in queries for part in query.parts]
    if not parts:
        return []
    decode = decode or partial(_elsewhere, backend)
    taken = [_taken(part, backend, snapshot, decode, target, anyway=anyway) for part in parts]
    units = _units(parts, _vectors(taken, backend, target))
    embedded, first = [], 0
    for query in queries:
        span = slice(first, first := first + len(query.parts))
        embedded.append(_sum(query, taken[span], units[span]))
    return embedded


def _taken(
    part: Part,
    backend: Backend,
    snapshot: Snapshot | None,
    decode: Read,
    target: Modality | None,
    *,
    anyway: bool,
) -> _Taken:
    match part.source:
        case int() as id:
            own, (kind, vector) = of_item(part, id, snapshot)
            return _Taken(kind, own, vector=vector)
        case np.ndarray():
            kind, vector = _given(part, part.source, backend.fingerprint.dim)
            return _Taken(kind, NONE, vector=vector)
        case Ingested(name, size, mtime_ns):
            return _ingested(part, (name, size, mtime_ns), snapshot)
        case str() | tuple():
            return _sampled(iter(read(part)), NONE, backend, target, anyway=anyway)
    with _opened(part, decode, snapshot) as file:
        own, stored = NONE, None
        if snapshot is not None:
            own, stored = of_file(part, snapshot, file.state, file.digest)
        if stored is not None:
            return _Taken(stored[0], own, vector=stored[1])
        return _sampled(file.samples(), own, backend, target, anyway=anyway)


def _ingested(part: Part, state: tuple[str, int, int], snapshot: Snapshot | None) -> _Taken:
    """Take a part that nothing opens: its items, if the collection has the file in this state."""
    if snapshot is None or not len(snapshot.of_file(*state)):
        raise UsageError(f"{part.label}: not in the collection as it is")
    own, stored = of_file(part, snapshot, state, lambda: "")
    if stored is None:
        raise UsageError(f"{part.label}: the collection has nothing of kind {part.modality} of it")
    return _Taken(stored[0], own, vector=stored[1])


def _sampled(
    decoded: Iterator[Sample], own: np.ndarray, backend: Backend, target: Modality | None, *, anyway: bool
) -> _Taken:
    """Take the samples of a part; those of a long recording are embedded while it is decoded."""
    samples = list(islice(decoded, BATCH))
    kind = samples[0].modality
    if kind is Modality.TEXT:
        reading = read_text([*samples, *decoded], backend, anyway=anyway)
        return _Taken(kind, own, **reading._asdict(), windows=len(reading.samples))
    if len(samples) < BATCH:
        return _Taken(kind, own, samples, windows=len(samples))
    mean, count = _mean(chain(samples, decoded), backend, target)
    return _Taken(kind, own, vector=mean, windows=count)


def _mean(samples: Iterator[Sample], backend: Backend, target: Modality | None) -> tuple[np.ndarray, int]:
    """Embed samples in batches; return the mean vector [dim] and the number of samples."""
    total, count = np.zeros(backend.fingerprint.dim), 0
    while batch := list(islice(samples, BATCH)):
        total += backend.embed_query(batch, target).sum(axis=0, dtype=np.float64)
        count += len(batch)
    return (total / count).astype(np.float32), count


def _given(part: Part, vector: np.ndarray, dim: int) -> Vector:
    if len(vector) != dim:
        raise UsageError(f"vector query: expected {dim} numbers, got {len(vector)}")
    assert part.modality is not None
    return part.modality, vector


def _elsewhere(backend: Backend | None, file: MediaFile) -> Iterator[Sample]:
    """Decode a file in another process, which starts while the model is loaded."""
    pool = decoders.shared()
    if file.modality is not Modality.TEXT:
        pool.warm()
    return pool.read(file, side=backend.capabilities().image_side if backend else None)


def read(part: Part) -> list[Sample]:
    """The samples of a part that is a text or a medium, at least one, all of one modality; a text is one."""
    match part.source:
        case str():
            return [Sample(Modality.TEXT, part.source)]
        case tuple():
            return list(part.source)
    with _opened(part, partial(_elsewhere, None), None) as file:
        return list(file.samples())


def check(part: Part, file: MediaFile) -> None:
    """Decode the first sample of the file of a part. Raises MediaError as a search with it would."""
    try:
        decoders.shared().check(file)
    except MediaError as problem:
        raise _of_query(part, file.path, problem) from problem


@contextmanager
def _opened(part: Part, decode: Read, snapshot: Snapshot | None) -> Iterator[_File]:
    """The file of a part, to be read while the block lasts; identified, or fetched, when it is needed."""
    match part.source:
        case Path() as path:
            file = cache(lambda: _identified(part, path))
            yield _File(
                _stored_state(path, snapshot) or (str(file().path), file().bytes, file().mtime_ns),
                lambda: media.sha256(file().path, file().companion),
                lambda: _decoded(part, file(), decode),
            )
        case Url(address):
            with media.listed(address, decoders.identify) as remote:
                copy = cache(lambda: media.fetched(remote))
                yield _File(
                    (remote.name, remote.bytes, remote.mtime_ns),
                    lambda: media.sha256(copy().path, copy().companion),
                    lambda: _decoded(part, _identified(part, copy().path), decode),
                )
        case bytes() as content:

            def samples() -> Iterator[Sample]:
                with scratch.file(content) as path:
                    yield from _decoded(part, _identified(part, path), decode)

            yield _File(("", len(content), 0), lambda: sha256(content).hexdigest(), samples)


def _stored_state(path: Path, snapshot: Snapshot | None) -> tuple[str, int, int] | None:
    """The state of a file that is stored as it is, without a companion, so that it need not be opened."""
    with suppress(OSError):
        status = path.stat()
        state = str(media.absolute(path)), status.st_size, status.st_mtime_ns
        if snapshot is not None and len(snapshot.of_file(*state)):
            return state
    return None


def _identified(part: Part, path: Path) -> MediaFile:
    """A file taken as the kind of its part, if it has one."""
    if not path.is_file():
        raise UsageError(media.why_no_file(path))
    try:
        return decoders.identify(path.absolute(), kinds=[(part.modality, "*")] if part.modality else ())
    except MediaError as problem:
        raise _of_query(part, path, problem) from problem


def _decoded(part: Part, file: MediaFile, decode: Read) -> Iterator[Sample]:
    """Yield the samples of a file that are of the kind of its part, at least one."""
    kind, is_empty = part.modality or file.modality, True
    try:
        for sample in decode(file):
            if sample.modality == kind:
                is_empty = False
                yield sample
            elif not is_empty:  # the pictures of a video precede its sound
                return
    except MediaError as problem:
        raise _of_query(part, file.path, problem) from problem
    if is_empty:
        raise EmptyQuery(f"{part.label}: there is no {kind} in this file to search with")


def _of_query(part: Part, path: Path, problem: MediaError) -> MediaError:
    """The same problem, without the advice that only an ingest can follow."""
    with suppress(MediaError, OSError):
        kind = decoders.identify(path.absolute()).modality
        if part.modality not in (None, kind) and not (
            kind is Modality.VIDEO and part.modality in (Modality.AUDIO, Modality.IMU)
        ):
            return type(problem)(f"{part.label}: is of kind {kind} and cannot be read as {part.modality}")
    message = str(problem).partition(", or name its kind with --as")[0].partition("; the next ingest")[0]
    if isinstance(part.source, bytes):
        message = message.replace(str(path), part.label)
    return type(problem)(message)


def _vectors(taken: Sequence[_Taken], backend: Backend, target: Modality | None) -> np.ndarray:
    """The mean over the samples of each part: float32 [P, dim]."""
    samples = [sample for each in taken for sample in each.samples]
    vectors = iter(backend.embed_query(samples, target) if samples else ())
    return np.stack(
        [
            np.mean([next(vectors) for _ in each.samples], axis=0) if each.vector is None else each.vector
            for each in taken
        ]
    )


def _units(parts: Sequence[Part], vectors: np.ndarray) -> np.ndarray:
    """The directions of all parts: float32 [P, dim]."""
    norms = np.linalg.norm(vectors, axis=1)
    if norms.min() < CANCELLED:
        label = parts[int(norms.argmin())].label
        raise EmptyQuery(f"{label}: its windows cancel out and nothing is left to search for")
    return np.asarray(vectors / norms[:, None], np.float32)


def _sum(query: Query, taken: Sequence[_Taken], parts: np.ndarray) -> Embedded:
    """parts: float32 [P, dim], unit rows."""
    kinds = [each.modality for each in taken]
    if kinds != [part.modality for part in query.parts]:
        resolved = zip(query.parts, kinds, strict=True)
        query = Query(tuple(replace(part, modality=kind) for part, kind in resolved))
    if len(parts) == 1 and np.float32(weight := query.parts[0].weight):
        vector, norm = parts[0] if weight > 0 else -parts[0], abs(weight)
    else:
        weights = np.array([part.weight for part in query.parts], np.float32)  # [P]
        total = weights @ parts  # [dim]
        norm = float(np.linalg.norm(total))
        if norm <= CANCELLED * float(np.abs(weights).sum()):
            raise EmptyQuery(f"{query!r}: the parts cancel out and nothing is left to search for")
        vector = total / norm
    return Embedded(
        query,
        vector,
        parts,
        norm,
        own=reduce(np.union1d, [each.own for each in taken]),
        windows=tuple(each.windows for each in taken),
        left_out=tuple(dict.fromkeys(word for each in taken for word in each.left_out)),
        is_unread=any(each.is_unread for each in taken),
    )
