"""The public face: open a collection, fill it, search it.

collection = xsearch.open("indexes/default")
hits = collection.search(xsearch.image("bird.jpg") + xsearch.audio("sea.wav"), top=10)
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from xsearch import exchange, integrity, media
from xsearch.derive import derive
from xsearch.errors import ModelError, ModelMismatch, NoCollection, StoreError, UsageError
from xsearch.ingest import Progress, Report, ingest
from xsearch.query import Embedded, Query, parse, search_many
from xsearch.query.searcher import as_modalities
from xsearch.store import Snapshot, Store
from xsearch.types import DEFAULT_COLLECTION, HIT_COLUMNS, Fingerprint, Hit, Modality, Rank

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from xsearch.backend import Backend
    from xsearch.exchange import Imported
    from xsearch.index import Index
    from xsearch.store import Compaction, Finding

__all__ = ["Collection", "Hits", "open"]

NAMED = ("bundled", "imagebind")  # models that need no folder
LOG = logging.getLogger("xsearch")

Kinds = Modality | str | Sequence[Modality | str]


def open(
    path: str | Path = DEFAULT_COLLECTION,
    model: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
) -> Collection:
    """Open the collection at `path`.

    model: None for the one that embedded it; another one is refused as soon as something has to be embedded.
    device, dtype: what it computes on and with, such as "cuda" and "bf16"; "auto" takes the fastest.
    Raises NoCollection where there is none.
    """
    return Collection(Store.open(Path(path)), model=model, device=device, dtype=dtype)


class Hits(Sequence[Hit]):
    """The answer to a query, best first; immutable."""

    def __init__(self, hits: Iterable[Hit], query: Embedded | None = None) -> None:
        self._hits = tuple(hits)
        self.query = query  # what was searched for, as vectors

    def __len__(self) -> int:
        return len(self._hits)

    @overload
    def __getitem__(self, at: int) -> Hit: ...
    @overload
    def __getitem__(self, at: slice) -> Hits: ...
    def __getitem__(self, at: int | slice) -> Hit | Hits:
        return Hits(self._hits[at], self.query) if isinstance(at, slice) else self._hits[at]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and self._hits == other._hits

    __hash__ = None  # type: ignore[assignment]  # hits hold dictionaries

    def __repr__(self) -> str:
        lines = [f"{hit.rank:>3}  {hit.score:.3f}  {hit.modality:<7}  {hit.path}" for hit in self._hits]
        return "\n".join(lines) or "no hits"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dictionary per hit: its own fields, then its other columns."""
        rows = []
        for hit in self._hits:
            own = asdict(hit)
            extra = own.pop("extra")
            rows.append(own | {name: value for name, value in extra.items() if name not in own})
        return rows

    def to_arrow(self) -> pa.Table:
        """The same as an Arrow table; what a hit lacks is null."""
        import pyarrow as pa

        rows = self.to_dicts()
        names = dict.fromkeys([*HIT_COLUMNS, *(name for row in rows for name in row)])
        types = dict.fromkeys(("score", "cosine", "balanced", "start_s", "end_s"), pa.float64())
        types |= {"rank": pa.int64(), "id": pa.int64()}
        types |= {"path": pa.string(), "modality": pa.string(), "text": pa.string()}
        return pa.table({name: pa.array([row.get(name) for row in rows], types.get(name)) for name in names})

    def to_pandas(self) -> pd.DataFrame:
        """The same as a pandas data frame."""
        try:
            import pandas  # noqa: F401  pyarrow's own message does not say what to do
        except ImportError:
            raise UsageError("to_pandas needs pandas, which is not installed: pip install pandas") from None
        return self.to_arrow().to_pandas()

    def _repr_html_(self) -> str:
        from xsearch import gallery

        return gallery.table(self._hits)


class Collection:
    """A collection and the model that embedded it. The model is loaded when something has to be embedded.

    Reading methods see the last commit, also of other processes; one search sees one state.
    """

    def __init__(
        self,
        store: Store,
        *,
        model: str | None = None,
        backend: Backend | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> None:
        """`backend` takes the place of the model that would be loaded."""
        self.store = store
        self._model = model
        self._computing = device, dtype
        self._embedder = backend
        self._version: tuple[int, int] | None = None
        self._snapshot = self.snapshot()
        self._index: tuple[Path, Index | None] | None = None
        if backend is not None:
            self._check(backend.fingerprint)

    @staticmethod
    def create(
        path: str | Path = DEFAULT_COLLECTION,
        model: str | None = None,
        *,
        backend: Backend | None = None,
        device: str = "auto",
        dtype: str = "auto",
    ) -> Collection:
        """Make an empty collection for the vectors of `model`. Raises StoreError if the folder is taken."""
        source = None
        if backend is None:
            source = _source(model)
            backend = _load(source, device, dtype)
        return Collection(Store.create(Path(path), backend.fingerprint, source), backend=backend)

    @staticmethod
    def import_(
        source: str | Path,
        path: str | Path = DEFAULT_COLLECTION,
        model: str | None = None,
        *,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Imported:
        """Add what is new of an export, or of other vectors, to the collection at `path`; make it if need be.

        source: what `xsearch.exchange.read` takes. model: what made the vectors, if they do not say so.
        progress: called with the rows done, and with how many there are.
        May be interrupted and run again. Raises UsageError for what cannot be read, ModelError where the
        vectors are not of the collection's model.
        """
        found = exchange.read(Path(source))
        try:
            store = Store.open(Path(path))
        except NoCollection:
            store = None
        before = store.snapshot() if store else None
        made_by, home = found.fingerprint, found.model
        if model is not None:
            home = _source(model)
            made_by = _load(home, "cpu", "auto").fingerprint
        if made_by is None:
            raise UsageError(f"{source} does not say which model made its vectors; name it: --model NAME")
        for where, theirs in (
            (source, found.fingerprint),
            (path, None if before is None else before.fingerprint),
        ):
            if theirs not in (None, made_by):
                raise ModelError(
                    f"{where} was embedded with {_full_name(theirs, made_by)!r}, not with "
                    f"{_full_name(made_by, theirs)!r}; leave --model out, or import into another collection"
                )
        if found.dim not in (None, made_by.dim):
            raise ModelError(
                f"{source}: vectors of {found.dim} dimensions, those of {made_by.name} have {made_by.dim}; "
                "say which model made them: --model NAME"
            )
        if dry_run:
            return exchange.load(found, before, progress=progress)
        store = store or Store.create(Path(path), made_by, home)
        with store.writer() as writer:
            done = exchange.load(found, writer.snapshot, writer, progress=progress)
            derive(writer)
        return done

    @property
    def path(self) -> Path:
        return self.store.path

    @property
    def backend(self) -> Backend:
        """The model at work. Raises ModelMismatch if it is not the one of the stored vectors."""
        if self._embedder is None:
            if self._model is None:
                manifest = self._snapshot.manifest
                self._embedder = _load_stamped(self._snapshot.fingerprint, manifest.source, *self._computing)
            else:
                backend = _load(self._model, *self._computing)
                self._check(backend.fingerprint)
                self._embedder = backend
        return self._embedder

    def snapshot(self) -> Snapshot:
        """The collection as of its last commit."""
        status = (self.path / "manifest.json").stat()  # replaced, never rewritten
        version = status.st_ino, status.st_mtime_ns
        if version != self._version:
            self._snapshot, self._version = self.store.snapshot(), version
        return self._snapshot

    def __len__(self) -> int:
        return len(self.snapshot())

    def __repr__(self) -> str:
        return f"<Collection {self.path}: {len(self)} items, model {self._snapshot.fingerprint.name}>"

    def ingest(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        kinds: Sequence[tuple[Modality, str]] = (),
        metadata: str | Path | None = None,
        prune: bool = False,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
    ) -> Report:
        """Bring the collection in step with the media below `paths`; see `xsearch.ingest.ingest`."""
        return ingest(
            self.store,
            [paths] if isinstance(paths, str | Path) else paths,
            None if dry_run else self.backend,
            kinds=kinds,
            metadata=metadata,
            prune=prune,
            dry_run=dry_run,
            progress=progress,
        )

    def search(
        self,
        query: Query | str | Path,
        top: int = 10,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        rank: Rank | str = Rank.BALANCED,
        min_cosine: float | None = None,
        unique: bool = False,
    ) -> Hits:
        """The `top` items nearest to a `Query`, a path, or a text; see `xsearch.query.search_many`."""
        (hits,) = self.search_many(
            [query],
            top,
            modality=modality,
            where=where,
            rank=rank,
            min_cosine=min_cosine,
            unique=unique,
        )
        return hits

    def search_many(
        self,
        queries: Sequence[Query | str | Path],
        top: int = 10,
        **how: Any,
    ) -> list[Hits]:
        """`search`, with its options, for many queries: the index and the metadata are asked once for all."""
        embedded = [parse(query).embed(self.backend) for query in queries]
        snapshot = self.snapshot()
        found = search_many(snapshot, self._index_of(snapshot), embedded, top=top, **how)
        return [Hits(hits, query) for hits, query in zip(found, embedded, strict=True)]

    def remove(
        self,
        ids: Iterable[int] | None = None,
        *,
        paths: Iterable[str | Path] | None = None,
        where: str | None = None,
        dry_run: bool = False,
    ) -> int:
        """Remove the items with these ids and those of these files or below these folders.

        paths: one that is no file's or folder's is a glob; `*` stays in its folder, `**` crosses folders.
        where: of these only the ones that fit; without ids and paths (None, not empty) all that fit.
        Returns how many that is. The media themselves are not touched.
        """
        if dry_run:
            return len(self._chosen(self.snapshot(), ids, paths, where))
        with self.store.writer() as writer:
            removed = writer.remove(self._chosen(writer.snapshot, ids, paths, where))
            writer.commit()
        return removed

    def items(
        self,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The items as an Arrow table, by id."""
        snapshot = self.snapshot()
        return snapshot.items(snapshot.select(where, as_modalities(modality))[:limit], columns)

    def duplicates(self, *, modality: Kinds | None = None, where: str | None = None) -> list[dict[str, Any]]:
        """Files with the same content, a group each: sha256, bytes, paths."""
        items = self.items(modality=modality, where=where, columns=["sha256", "bytes", "path"])
        found = items.drop_null().group_by(["sha256", "bytes"]).aggregate([("path", "distinct")]).to_pylist()
        groups = [
            {"sha256": row["sha256"], "bytes": row["bytes"], "paths": sorted(row["path_distinct"])}
            for row in found
            if len(row["path_distinct"]) > 1
        ]
        return sorted(groups, key=lambda group: group["paths"])

    def export(
        self,
        path: str | Path,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        float32: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write items and vectors to a Parquet file, or a folder of them; see `xsearch.exchange.export`."""
        snapshot = self.snapshot()
        ids = snapshot.select(where, as_modalities(modality))
        return exchange.export(snapshot, Path(path), ids, float32=float32, progress=progress)

    def skipped(self) -> pa.Table:
        """The files that could not be read: path, reason, error, when."""
        return self.snapshot().skipped()

    def stats(self) -> dict[str, Any]:
        """Counts and sizes: path, items, modalities, files, skipped, model, dim, index, bytes, generation."""
        snapshot = self.snapshot()
        index = self._index_of(snapshot)
        return {
            "path": str(self.path),
            "items": len(snapshot),
            "modalities": {str(kind): count for kind, count in snapshot.counts().items()},
            "files": len(snapshot.files()),
            "skipped": len(snapshot.skipped()),
            "model": snapshot.fingerprint.name,
            "dim": snapshot.fingerprint.dim,
            "index": index.plan.recipe if index else "Flat",
            "bytes": sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file()),
            "generation": snapshot.manifest.generation,
        }

    def compact(self) -> Compaction:
        """Merge small segments, drop removed items, delete files that nothing refers to."""
        with self.store.writer() as writer:
            return writer.compact()

    def verify(self, *, repair: bool = False) -> list[Finding]:
        """What is wrong with it; see `xsearch.integrity.verify`, also for one that does not open."""
        return integrity.verify(self.path, repair=repair)

    def _check(self, given: Fingerprint) -> None:
        stored = self._snapshot.fingerprint
        if given != stored:
            raise ModelMismatch(
                stored=_full_name(stored, given),
                given=_full_name(given, stored),
                choice=self._snapshot.manifest.source,
            )

    def _index_of(self, snapshot: Snapshot) -> Index | None:
        """None where there is none, or none that can be read: then everything is scanned."""
        path = snapshot.index_path
        if path is None:
            return None
        if self._index is None or self._index[0] != path:
            from xsearch.index import Index  # faiss: a small collection does without

            try:
                self._index = path, Index.load(path, snapshot.manifest.index_digests)
            except StoreError as problem:
                LOG.warning("%s with the next ingest; until then everything is scanned", problem)
                self._index = path, None
        return self._index[1]

    @staticmethod
    def _chosen(
        snapshot: Snapshot,
        ids: Iterable[int] | None,
        paths: Iterable[str | Path] | None,
        where: str | None,
    ) -> np.ndarray:
        fits = snapshot.ids[:0] if where is None else snapshot.select(where)
        if ids is None and paths is None:
            return fits
        chosen = [snapshot.ids[np.isin(snapshot.ids, np.fromiter(ids or (), np.int64))]]
        if wanted := list(paths or ()):
            files = snapshot.files().select(["path", "ids"]).to_pylist()
            parts = [_parts(file["path"]) for file in files]
            for given in wanted:
                glob = _parts(given)
                inside = [own[: len(glob)] == glob for own in parts]
                if not any(inside):
                    inside = [_fits(own, glob) for own in parts]
                found = [file["ids"] for file, yes in zip(files, inside, strict=True) if yes]
                chosen += [np.array(ids, np.int64) for ids in found]
        named = np.unique(np.concatenate(chosen))
        return named if where is None else np.intersect1d(named, fits)


def _parts(name: str | Path) -> tuple[str, ...]:
    """The folders and the file of a path, absolute, or of a URL."""
    return tuple(str(name).rstrip("/").split("/")) if media.is_url(name) else media.absolute(name).parts


def _fits(path: Sequence[str], glob: Sequence[str]) -> bool:
    """Whether the parts of a path are those of a glob, where `**` stands for any number of them.

    >>> _fits(("a", "b.jpg"), ("a", "*.jpg")), _fits(("a", "b", "c.jpg"), ("a", "*.jpg"))
    (True, False)
    >>> _fits(("a", "b", "c.jpg"), ("a", "**", "*.jpg")), _fits(("a", "c.jpg"), ("a", "**", "*.jpg"))
    (True, True)
    """
    if not path or not glob:
        return not path and set(glob) <= {"**"}
    if glob[0] == "**":
        return _fits(path, glob[1:]) or _fits(path[1:], glob)
    return fnmatchcase(path[0], glob[0]) and _fits(path[1:], glob[1:])


def _source(model: str | None) -> str:
    """The `--model` value that finds this model from everywhere."""
    from xsearch.models.registry import resolve

    choice = resolve(model)
    return choice.name if choice.name in NAMED else str(media.absolute(choice.folder))


def _load(model: str | None, device: str, dtype: str) -> Backend:
    from xsearch.backend.imagebind import (
        ImageBindBackend,  # torch: a second that only embedding has to wait for
    )

    return ImageBindBackend.load(model, device, dtype)


def _load_stamped(wanted: Fingerprint, source: str | None, device: str, dtype: str) -> Backend:
    """The model that made the vectors, if it is here: at its source, the default one, or one with a name."""
    found = []
    for choice in dict.fromkeys((source, None, *NAMED)):
        try:
            found.append(_load(choice, device, dtype))
        except ModelError:
            continue
        if found[-1].fingerprint == wanted:
            return found[-1]
    given = ", ".join(dict.fromkeys(_full_name(backend.fingerprint, wanted) for backend in found))
    raise ModelMismatch(
        stored=_full_name(wanted, found[0].fingerprint) if found else wanted.name,
        given=given or "none",
    )


def _full_name(fingerprint: Fingerprint, other: Fingerprint) -> str:
    """The name, and where that is not what differs, what does."""
    if fingerprint.name != other.name:
        return fingerprint.name
    return f"{fingerprint.name} (weights {fingerprint.digest[:8]}, preprocessing {fingerprint.preprocessing})"
