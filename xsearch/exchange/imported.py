"""Import: the new items of a source, added to a collection."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from xsearch.backend import full_name, load_backend, model_source
from xsearch.backend.loading import NAMED
from xsearch.derive import derive
from xsearch.errors import ModelError, NoCollection, UsageError
from xsearch.exchange.source import GROUP_ROWS, IDENTITY, MAX_COLUMNS, Progress, Source, read
from xsearch.nearest import folder_of
from xsearch.store import Store
from xsearch.store.segments import conform
from xsearch.store.writer import UNIT_TOLERANCE
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.store import Snapshot, Writer

__all__ = ["Imported", "import_", "load"]

COMMIT_ROWS = 4 * GROUP_ROWS  # per commit: upper bound on the work that an interrupted import repeats
STATE = pa.schema([IDENTITY.field(name) for name in ("path", "bytes", "mtime_ns")])
SHORTEST = 1e-6  # vector length below which rounding errors dominate


@dataclass(frozen=True, slots=True)
class Imported:
    """Result of an import or, for a dry run, its expected result."""

    new: Mapping[Modality, int]  # items added, by modality
    known: int  # rows that already are items
    other: int  # rows whose file exists with other content or time; skipped
    unusable: int  # rows whose vector is missing, not finite or of length 0
    scaled: int  # vectors that were normalised
    seconds: float


def import_(
    source: str | Path,
    path: str | Path,
    model: str | None = None,
    *,
    trust_paths: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Imported:
    """Add the new items of an export, or of other vectors, to the collection at `path`; create it if needed.

    source: as for `read`. model: the model of the vectors, if the source does not record it.
    trust_paths: whether previews and pages may open the files and URLs that the source names, and a search
        the folder of its model. Else the items have the name of the source in their column `imported_from`
        until an ingest has read their files.
    progress: called with rows done and rows in total.
    An interrupted import can be rerun. Raises UsageError if `source` cannot be read, ModelError if its
    vectors come from another model than the collection's.
    """
    path = folder_of(path)
    content = read(Path(source))
    try:
        store = Store.open(path)
    except NoCollection:
        store = None
    snapshot = store.snapshot() if store else None
    stored = None if snapshot is None else snapshot.fingerprint
    expected = content.fingerprint
    location = content.model if trust_paths or content.model in NAMED else None
    if model is not None:
        location = model_source(model)
        expected = load_backend(location, device="cpu").fingerprint
    if expected is None:
        raise UsageError(f"{source} does not record the model of its vectors; specify --model NAME")
    for where, actual in ((source, content.fingerprint), (path, stored)):
        if actual not in (None, expected):
            raise ModelError(
                f"{where} was embedded with {full_name(actual, expected)!r}, not with "
                f"{full_name(expected, actual)!r}; omit --model, or import into another collection"
            )
    if content.dim not in (None, expected.dim):
        raise ModelError(
            f"{source}: vectors of {content.dim} dimensions, those of {expected.name} have {expected.dim}; "
            "specify their model: --model NAME"
        )
    if dry_run:
        return load(content, snapshot, progress=progress)
    store = store or Store.create(path, expected, location, exist_ok=True)
    with store.writer() as writer:
        origin = None if trust_paths else Path(source).absolute().name
        imported = load(content, writer.snapshot, writer, origin=origin, progress=progress)
        derive(writer)
    return imported


def load(
    source: Source,
    snapshot: Snapshot | None,
    writer: Writer | None = None,
    *,
    origin: str | None = None,
    progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
) -> Imported:
    """Add the new items of `source`, committing about every `commit_rows` rows.

    snapshot: existing items, None for an empty collection. writer: None for a dry run.
    origin: value of their column `imported_from`; None for items whose files may be opened.
    Items whose path, modality, window and text exist already are skipped, so an interrupted import can be
    rerun. Duplicate rows within one file of the source all become items. Rows of a file that exists with
    other content or time are skipped.
    """
    start_s = time.perf_counter()
    existing, new, states = _Existing(snapshot), Counter[Modality](), Counter[str]()
    done = pending = scaled = 0
    names = set[str]()
    for part in source.parts:
        existing.begin_part()
        for items, vectors in part():
            done += len(items)
            names.update(items.column_names)
            if len(names) > MAX_COLUMNS:
                raise UsageError(f"more than {MAX_COLUMNS:,} columns in all; import fewer at once")
            vectors, usable, rescaled = _normalise(vectors)
            scaled += rescaled
            items, vectors = _marked(items.filter(pa.array(usable)), origin), vectors[usable]
            batch = existing.states(items)
            states.update(batch)
            rows = [row for row, state in enumerate(batch) if state == "new"]
            items, vectors = items.take(pa.array(rows, pa.int64())), vectors[rows]
            new.update(map(Modality, items["modality"].to_pylist()))
            if writer:
                writer.add(items, vectors)
                pending += len(rows)
                if pending >= commit_rows:
                    writer.commit()
                    pending = 0
            if progress:
                progress(done, source.rows)
    if writer:
        writer.commit()
    unusable = source.rows - states.total()
    return Imported(new, states["known"], states["other"], unusable, scaled, time.perf_counter() - start_s)


def _marked(items: pa.Table, origin: str | None) -> pa.Table:
    """With the column `imported_from` in the place of whatever the source says there.

    Without an origin, files of which the source states no size get those that they have now.
    """
    if origin is None:
        state = conform(items, STATE).to_pylist()
        rows = [row if row["bytes"] is not None else row | _state(row["path"]) for row in state]
        columns = {field.name: pa.array([row[field.name] for row in rows], field.type) for field in STATE}
    else:
        columns = {"path": items["path"]}
    columns["imported_from"] = pa.array([origin] * len(items), pa.string())
    replaced = [name for name in items.column_names if name.lower() in columns]
    rest = items.drop_columns(replaced)
    return pa.table(columns | dict(zip(rest.column_names, rest.columns, strict=True)))


def _state(path: str) -> dict[str, int]:
    with suppress(OSError, ValueError):  # ValueError: no path
        status = Path(path).stat()
        return {"bytes": status.st_size, "mtime_ns": status.st_mtime_ns}
    return {}


class _Existing:
    """Digests of the files and items of a collection, including those added during the import."""

    def __init__(self, snapshot: Snapshot | None) -> None:
        self._files: dict[bytes, bytes] = {}  # by path
        self._items: Counter[bytes] = Counter()
        self._matched: Counter[bytes] = Counter()
        if snapshot is None:
            return
        for start in range(0, len(snapshot), GROUP_ROWS):
            items = snapshot.items(snapshot.ids[start : start + GROUP_ROWS], IDENTITY.names)
            for path, file, item in _digests(items):
                self._files[path] = file
                self._items[item] += 1

    def begin_part(self) -> None:
        """Start a file of the source; duplicate rows within it are not matched with each other."""
        self._matched.clear()

    def states(self, items: pa.Table) -> list[str]:
        """Return per row "new", "known", or "other" if its file exists with other content."""
        return [self._state(*digests) for digests in _digests(conform(items, IDENTITY))]

    def _state(self, path: bytes, file: bytes, item: bytes) -> str:
        if self._files.setdefault(path, file) != file:
            return "other"
        self._matched[item] += 1
        if self._matched[item] <= self._items[item]:
            return "known"
        self._items[item] += 1
        return "new"


def _digests(items: pa.Table) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield digests of path, file state and item for each row of IDENTITY's columns."""
    for path, sha256, size, mtime_ns, *item in zip(*(c.to_pylist() for c in items.columns), strict=True):
        yield _digest(path), _digest(sha256, size, mtime_ns), _digest(path, *item)


def _digest(*values: Any) -> bytes:
    return blake2b(repr(values).encode(), digest_size=16).digest()


def _normalise(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return vectors as float32 of length 1, which are usable (bool [n]), and the number of rescaled ones."""
    with np.errstate(over="ignore", invalid="ignore"):  # overflow becomes inf
        vectors = vectors.astype(np.float32)
        lengths = np.linalg.norm(vectors, axis=1)
        usable = np.isfinite(lengths) & (lengths > SHORTEST)
        rescaled = usable & (np.abs(lengths - 1) > UNIT_TOLERANCE)
    vectors[rescaled] /= lengths[rescaled, None]
    return vectors, usable, int(rescaled.sum())
