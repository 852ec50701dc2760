"""From queries to vectors: every part is read, embedded, normalised and weighted, and the sum normalised.

So ImageBind composes (arXiv:2305.05665, section 4.4). Of a file that the collection has, the stored vectors
are taken: it is neither decoded nor embedded, and no model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, reduce
from hashlib import sha256
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

KINDS = tuple(Modality)
NONE = np.empty(0, np.int64)
Read = Callable[[MediaFile], Iterable[Sample]]
Vector = tuple[Modality, np.ndarray]  # what it is of, and float32 [dim]


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
    """

    query: Query
    vector: np.ndarray
    parts: np.ndarray
    norm: float
    own: np.ndarray = field(default_factory=lambda: NONE)
    windows: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def cosines(self) -> np.ndarray:
        """float32 [P]: how much the result agrees with each part."""
        return np.asarray(self.parts @ self.vector)


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """A part that has been read: samples, or a vector [dim]; its items, and the words that are left out."""

    modality: Modality
    own: np.ndarray
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

    snapshot: where stored items and files are looked up. target: the only modality that may answer.
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
    taken = [_taken(part, backend, snapshot, guarded, anyway=anyway) for part in parts]
    units = _units(parts, _vectors(taken, backend, target))
    embedded, first = [], 0
    for query in queries:
        span = slice(first, first := first + len(query.parts))
        each = taken[span]
        resolved = tuple(
            _resolved(part, piece.modality) for part, piece in zip(query.parts, each, strict=True)
        )
        total = _sum(query if resolved == query.parts else Query(resolved), units[span])
        embedded.append(
            replace(
                total,
                own=reduce(np.union1d, [piece.own for piece in each]),
                windows=tuple(max(len(piece.samples), 1) for piece in each),
                left_out=tuple(dict.fromkeys(word for piece in each for word in piece.left_out)),
            )
        )
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
        return _decoded(part, _identified(part, path), guarded)


def _taken(part: Part, backend: Backend, snapshot: Snapshot | None, guarded: Read, *, anyway: bool) -> _Taken:
    own, content = _content(part, backend, snapshot, guarded)
    if isinstance(content, tuple):
        return _Taken(content[0], own, vector=content[1])
    kind = content[0].modality
    left_out = _unknown(content, backend, anyway=anyway) if kind is Modality.TEXT else []
    return _Taken(kind, own, readable(content, backend), left_out=left_out)


def _content(
    part: Part, backend: Backend, snapshot: Snapshot | None, guarded: Read
) -> tuple[np.ndarray, Vector | list[Sample]]:
    """The ids of a part's items, and its vector if that is stored, else its samples."""
    match part.source:
        case np.ndarray() | int():
            return _stored(part, backend, snapshot)
        case Path() if snapshot is not None:
            file = _identified(part, part.source)
            state = str(file.path), file.bytes, file.mtime_ns
            own, vector = _known(part, snapshot, state, lambda: media.sha256(file.path, file.companion))
            return own, vector or _decoded(part, file, guarded)
        case Url(address) if snapshot is not None:
            with media.listed(address) as remote:
                state = remote.name, remote.bytes, remote.mtime_ns
                copy = cache(lambda: media.fetched(remote))
                own, vector = _known(
                    part, snapshot, state, lambda: media.sha256(copy().path, copy().companion)
                )
                return own, vector or _decoded(part, _identified(part, copy().path), guarded)
        case bytes() as content if snapshot is not None:
            state = "", len(content), 0
            own, vector = _known(part, snapshot, state, lambda: sha256(content).hexdigest())
            return own, vector or read(part, guarded)
    return NONE, read(part, guarded)


def _known(
    part: Part, snapshot: Snapshot, state: tuple[str, int, int], digest: Callable[[], str]
) -> tuple[np.ndarray, Vector | None]:
    """The ids of the items of a file and of its copies, and the mean of its vectors of the part's kind.

    state: name, size and mtime, by which ingest too takes a file for unchanged. digest: the sha256, computed
    only if these are not those of a stored file, and some stored file has that size.
    """
    name, size, _ = state
    same = snapshot.of_file(*state)
    copies = _copies(snapshot, same[0]) if len(same) else snapshot.of_content(size, digest)
    vector = _mean(part, snapshot, same if len(same) else copies)
    unknown = snapshot.of_file(name, None, None) if name else NONE  # imported without the state of its file
    return np.union1d(copies, unknown), vector


def _copies(snapshot: Snapshot, id: int) -> np.ndarray:
    """The ids of all items of the file of an item, and of its copies."""
    (item,) = snapshot.items(np.array([id]), ["path", "bytes", "mtime_ns", "sha256"]).to_pylist()
    same = snapshot.of_file(item["path"], item["bytes"], item["mtime_ns"])
    if not item["sha256"] or item["bytes"] is None:  # unknown, which equals nothing
        return same
    return np.union1d(same, snapshot.of_content(item["bytes"], lambda: item["sha256"]))


def _mean(part: Part, snapshot: Snapshot, ids: np.ndarray) -> Vector | None:
    """The mean of the vectors of the first file among these items, of the part's kind or else the file's."""
    if not len(ids):
        return None
    kinds = snapshot.kinds_of(ids)
    video = KINDS.index(Modality.VIDEO)  # the file's kind, even though it has a sound track too
    code = KINDS.index(part.modality) if part.modality else video if video in kinds else kinds[0]
    ids = ids[kinds == code]
    if not len(ids):
        return None
    paths = snapshot.items(ids, ["path"])["path"].to_pylist()
    first = ids[[path == paths[0] for path in paths]]
    return KINDS[code], snapshot.vectors(first).mean(axis=0)


def _identified(part: Part, path: Path) -> MediaFile:
    """A file taken as the kind of its part, if it has one."""
    if not path.is_file():
        raise UsageError(media.why_no_file(path))
    try:
        return media.identify(path.absolute(), kinds=[(part.modality, "*")] if part.modality else ())
    except MediaError as problem:
        raise _of_query(part, path, problem) from problem


def _decoded(part: Part, file: MediaFile, guarded: Read) -> list[Sample]:
    """The samples of a file that are of the kind of its part, at least one."""
    kind = part.modality or file.modality
    decode = guarded if isinstance(part.source, bytes) else media.read
    try:
        samples = [sample for sample in decode(file) if sample.modality == kind]
    except MediaError as problem:
        raise _of_query(part, file.path, problem) from problem
    if not samples:
        raise EmptyQuery(f"{part.label}: there is no {kind} in this file to search with")
    return samples


def _of_query(part: Part, path: Path, problem: MediaError) -> MediaError:
    """The same problem, without the advice that only an ingest can follow."""
    message = str(problem).partition(", or name its kind with --as")[0]
    if isinstance(part.source, bytes):
        message = message.replace(str(path), part.label)
    return type(problem)(message)


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


def _stored(part: Part, backend: Backend, snapshot: Snapshot | None) -> tuple[np.ndarray, Vector]:
    """The ids, modality and vector of a part that is embedded already."""
    if isinstance(part.source, int):
        if snapshot is None:
            raise UsageError(f"{part.label}: stored items are known to collections only")
        id = np.array([min(part.source, np.iinfo(np.int64).max)])
        if not snapshot.contains(id).all():
            raise UsageError(f"{part.label}: no such item in {snapshot.path}")
        return _copies(snapshot, part.source), (KINDS[snapshot.kinds_of(id)[0]], snapshot.vectors(id)[0])
    assert isinstance(part.source, np.ndarray)
    assert part.modality is not None
    if len(part.source) != backend.fingerprint.dim:
        raise UsageError(f"vector query: expected {backend.fingerprint.dim} numbers, got {len(part.source)}")
    return NONE, (part.modality, part.source)


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
