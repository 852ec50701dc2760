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
from xsearch.errors import EmptyQuery, MediaError, UnknownWords, UsageError
from xsearch.query.expression import Part, Query
from xsearch.types import MediaFile, Modality, Sample, Url

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.store import Snapshot

__all__ = ["Embedded", "Read", "embed", "knows", "read", "readable"]

CANCELLED = 1e-3  # a sum this short, relative to the sum of its weights, points nowhere: float16 noise
NAMED = 5  # words of a text for which known words are looked up, and known words that are named

Read = Callable[[MediaFile], Iterable[Sample]]


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """A query as vectors, all float32.

    query: with the modality of every part.
    vector: [dim], length 1.
    parts: [P, dim], rows of length 1, in the order of `query.parts`.
    norm: length of the weighted sum before it was normalised; near 0, the parts cancel out.
    windows: of each part, how many pieces its vector is the mean of.
    left_out: words of its texts that the model has not learned, and has not read.
    """

    query: Query
    vector: np.ndarray
    parts: np.ndarray
    norm: float
    windows: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def cosines(self) -> np.ndarray:
        """float32 [P]: how much the result agrees with each part."""
        return np.asarray(self.parts @ self.vector)


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """A part that has been read: samples, or a vector [dim], and the words that are left out."""

    modality: Modality
    samples: Sequence[Sample] = ()
    vector: np.ndarray | None = None
    left_out: Sequence[str] = ()


def embed(
    queries: Sequence[Query],
    backend: Backend,
    *,
    snapshot: Snapshot | None = None,
    target: Modality | None = None,
    guarded: Read = media.read,
    anyway: bool = False,
) -> list[Embedded]:
    """Embed all parts of all queries in one call of the backend.

    snapshot: where parts that are stored items are looked up. target: the only modality that may answer.
    guarded: decodes the parts that are bytes, which may come from anybody. anyway: embed a text too of which
    the model has learned no word.
    Raises UnknownWords for such a text, MediaError for a part that is not what it is said to be, and
    EmptyQuery when nothing is left of a sum: a direction made of rounding errors would be a random answer.
    """
    if not all(query.parts for query in queries):
        raise EmptyQuery("the query is empty: give a text or a media file")
    parts = [part for query in queries for part in query.parts]
    if not parts:
        return []
    taken: list[_Taken] = []
    for part in parts:
        if isinstance(part.source, np.ndarray | int):
            kind, vector = _stored(part, backend, snapshot)
            taken.append(_Taken(kind, vector=vector))
            continue
        samples = read(part, guarded)
        kind = samples[0].modality
        left_out = _unknown(samples, backend, anyway=anyway) if kind is Modality.TEXT else []
        taken.append(_Taken(kind, readable(samples, backend), left_out=left_out))
    units = _units(parts, _vectors(taken, backend, target))
    embedded, first = [], 0
    for query in queries:
        own = slice(first, first + len(query.parts))
        first = own.stop
        of_query = taken[own]
        resolved = tuple(
            _resolved(part, each.modality) for part, each in zip(query.parts, of_query, strict=True)
        )
        total = _sum(query if resolved == query.parts else Query(resolved), units[own])
        windows = tuple(max(len(each.samples), 1) for each in of_query)
        words = dict.fromkeys(word for each in of_query for word in each.left_out)
        embedded.append(replace(total, windows=windows, left_out=tuple(words)))
    return embedded


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


def read(part: Part, guarded: Read = media.read) -> list[Sample]:
    """The samples of a part that is a text or a medium, at least one, all of one modality; a text is one."""
    match part.source:
        case str():
            return [Sample(Modality.TEXT, part.source)]
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


def _unknown(samples: Sequence[Sample], backend: Backend, *, anyway: bool) -> list[str]:
    """The words of texts that the model has not learned. Raises UnknownWords for all, unless `anyway`."""
    known = backend.capabilities().vocabulary
    if known is None:
        return []
    text = "\n".join(sample.data for sample in samples)
    words = known.unknown(text)
    if known.unknown_share(text) < 1:
        return words
    if anyway:
        return []  # it is embedded as it is
    near = dict.fromkeys(near for word in words[:NAMED] for near in known.near(word))
    raise UnknownWords(text, words=words, near=list(near)[:NAMED], model=backend.fingerprint.name)


def knows(backend: Backend, text: str) -> bool:
    """Whether the model has learned any word of a text, so that its vector says something."""
    known = backend.capabilities().vocabulary
    return known is None or known.unknown_share(text) < 1


def readable(samples: Sequence[Sample], backend: Backend) -> list[Sample]:
    """Samples that the model reads whole: of a long text its windows, without those of unknown words only."""
    if samples[0].modality is not Modality.TEXT:
        return list(samples)
    texts = [text for sample in samples for text in backend.windows(sample.data)]
    if (known := backend.capabilities().vocabulary) is not None and len(texts) > 1:
        texts = [text for text in texts if known.unknown_share(text) < 1] or texts
    return [Sample(Modality.TEXT, text, text=text) for text in texts]


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


def _resolved(part: Part, modality: Modality) -> Part:
    return part if part.modality == modality else replace(part, modality=modality)


def _units(parts: Sequence[Part], vectors: np.ndarray) -> np.ndarray:
    """The directions of all parts: float32 [P, dim]."""
    norms = np.linalg.norm(vectors, axis=1)
    if norms.min() < CANCELLED:
        label = parts[int(norms.argmin())].label
        raise EmptyQuery(f"{label}: its windows cancel out and nothing is left to search for")
    return np.asarray(vectors / norms[:, None], np.float32)


def _sum(query: Query, parts: np.ndarray) -> Embedded:
    """parts: float32 [P, dim], unit rows."""
    if len(parts) == 1 and (weight := query.parts[0].weight):
        return Embedded(query, parts[0] if weight > 0 else -parts[0], parts, abs(weight))
    weights = np.array([part.weight for part in query.parts], np.float32)  # [P]
    total = weights @ parts  # [dim]
    norm = float(np.linalg.norm(total))
    if norm <= CANCELLED * float(np.abs(weights).sum()):
        raise EmptyQuery(f"{query!r}: the parts cancel out and nothing is left to search for")
    return Embedded(query, total / norm, parts, norm)
