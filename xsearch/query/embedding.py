"""From queries to vectors: every part is read, embedded, normalised and weighted, and the sum normalised.

So ImageBind composes (arXiv:2305.05665, section 4.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from xsearch import media
from xsearch.errors import EmptyQuery, MediaError, UsageError
from xsearch.query.expression import Part, Query, Url
from xsearch.types import MediaFile, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Snapshot

__all__ = ["Embedded", "Read", "embed", "read"]

CANCELLED = 1e-3  # a sum this short, relative to the sum of its weights, points nowhere: float16 noise

Read = Callable[[MediaFile], Iterable[Sample]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A query as vectors, all float32.

    query: with the modality of every part.
    vector: [dim], length 1.
    parts: [P, dim], rows of length 1, in the order of `query.parts`.
    norm: length of the weighted sum before it was normalised; near 0, the parts cancel out.
    """

    query: Query
    vector: np.ndarray
    parts: np.ndarray
    norm: float

    @property
    def cosines(self) -> np.ndarray:
        """float32 [P]: how much the result agrees with each part."""
        return np.asarray(self.parts @ self.vector)


def embed(
    queries: Sequence[Query],
    backend: Backend,
    *,
    snapshot: Snapshot | None = None,
    target: Modality | None = None,
    guarded: Read = media.read,
) -> list[Embedded]:
    """Embed all parts of all queries in one call of the backend.

    snapshot: where parts that are stored items are looked up. target: the only modality that may answer.
    guarded: decodes the parts that are bytes, which may come from anybody.
    Raises MediaError for a part that is not what it is said to be, and EmptyQuery when nothing is left of a
    sum: a direction made of rounding errors would be a random answer.
    """
    if not all(query.parts for query in queries):
        raise EmptyQuery("the query is empty: give a text or a media file")
    parts = [part for query in queries for part in query.parts]
    samples: list[Sample] = []
    pieces: list[np.ndarray | slice] = []  # of each part: its vector, or its samples
    kinds: list[Modality] = []
    for part in parts:
        if isinstance(part.source, np.ndarray | int):
            kind, vector = _stored(part, backend, snapshot)
            pieces.append(vector)
        else:
            some = read(part, guarded)
            kind = some[0].modality
            pieces.append(slice(len(samples), len(samples) + len(some)))
            samples += some
        kinds.append(kind)
    vectors = backend.embed_query(samples, target) if samples else np.empty((0, 0), np.float32)
    units = iter(
        [
            _unit(part, piece if isinstance(piece, np.ndarray) else vectors[piece].mean(axis=0))
            for part, piece in zip(parts, pieces, strict=True)
        ]
    )
    modalities = iter(kinds)
    return [
        _sum(
            Query(tuple(replace(part, modality=next(modalities)) for part in query.parts)),
            np.stack([next(units) for _ in query.parts]),
        )
        for query in queries
    ]


def read(part: Part, guarded: Read = media.read) -> list[Sample]:
    """The embeddable pieces of a part that is a text or a medium, at least one, all of one modality."""
    match part.source:
        case str():
            return [Sample(Modality.TEXT, part.source, text=part.source)]
        case tuple():
            return list(part.source)
    with _at_hand(part) as path:
        if not path.is_file():
            raise UsageError(f"{path}: no such file to search with")
        try:
            file = media.identify(path.absolute(), kinds=[(part.modality, "*")] if part.modality else ())
            kind = part.modality or file.modality
            decode = guarded if isinstance(part.source, bytes) else media.read
            samples = [sample for sample in decode(file) if sample.modality == kind]
        except MediaError as problem:  # without the advice that only an ingest can follow
            message = str(problem).partition(", or name its kind with --as")[0]
            if isinstance(part.source, bytes):
                message = message.replace(str(path), part.label)
            raise type(problem)(message) from problem
    if not samples:
        raise EmptyQuery(f"{part.label}: there is no {kind} in this file to search with")
    return samples


@contextmanager
def _at_hand(part: Part) -> Iterator[Path]:
    """A path where the file of a part can be read while the block lasts."""
    match part.source:
        case bytes():
            with TemporaryDirectory(prefix="xsearch-", ignore_cleanup_errors=True) as scratch:
                path = Path(scratch).resolve() / "upload"
                path.write_bytes(part.source)
                yield path
        case Path() | Url():
            place = part.source.address if isinstance(part.source, Url) else part.source
            with media.at_hand(place) as path:
                yield path


def _stored(part: Part, backend: Backend, snapshot: Snapshot | None) -> tuple[Modality, np.ndarray]:
    """The modality and vector of a part that is embedded already."""
    if isinstance(part.source, int):
        if snapshot is None:
            raise UsageError(f"{part.label}: stored items are known to collections only")
        id = np.array([part.source])
        if not snapshot.contains(id).all():
            raise UsageError(f"{part.label}: no such item in {snapshot.path}")
        return tuple(Modality)[int(snapshot.kinds_of(id)[0])], snapshot.vectors(id)[0]
    assert isinstance(part.source, np.ndarray)
    assert part.modality is not None
    if len(part.source) != backend.fingerprint.dim:
        raise UsageError(f"vector query: expected {backend.fingerprint.dim} numbers, got {len(part.source)}")
    return part.modality, part.source


def _unit(part: Part, vector: np.ndarray) -> np.ndarray:
    """The direction of a part, float32 [dim]."""
    norm = float(np.linalg.norm(vector))
    if norm < CANCELLED:
        raise EmptyQuery(f"{part.label}: its windows cancel out and nothing is left to search for")
    return np.asarray(vector / norm, np.float32)


def _sum(query: Query, parts: np.ndarray) -> Embedded:
    """parts: float32 [P, dim], unit rows."""
    weights = np.array([part.weight for part in query.parts], np.float32)  # [P]
    total = weights @ parts  # [dim]
    norm = float(np.linalg.norm(total))
    if norm <= CANCELLED * float(np.abs(weights).sum()):
        raise EmptyQuery(f"{query!r}: the parts cancel out and nothing is left to search for")
    return Embedded(query, total / norm, parts, norm)
