"""The public face: open a collection, fill it, search it.

collection = xsearch.open("indexes/default")
hits = collection.search(xsearch.image("bird.jpg") + xsearch.audio("sea.wav"), top=10)
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch import decoders, exchange, integrity, media
from xsearch.backend import full_name, load_backend, load_matching, model_source
from xsearch.derive import build_shards, keep_index, load_index, remedy
from xsearch.errors import MediaError, ModelMismatch, NoCollection, Reason, StoreError, UsageError
from xsearch.ingest import Engine, Progress, Removal, Report, ingest
from xsearch.nearest import default_collection, folder_of
from xsearch.query import Embedded, Hits, Options, Query, View, answer, as_modalities, embed, parse_each
from xsearch.store import ITEM_COLUMNS, Published, Pushed, Snapshot, Store, open_store
from xsearch.types import (
    DEFAULT_COLLECTION,
    FALSE_ALARMS,
    KEPT_GENERATIONS,
    Box,
    Fingerprint,
    Match,
    Modality,
    Rank,
    Sample,
    Sort,
)
from xsearch.words import WordReader, load

if TYPE_CHECKING:
    import pyarrow as pa

    from xsearch.backend import Backend, Capabilities
    from xsearch.exchange import Imported
    from xsearch.generate import Decoder, Drawn
    from xsearch.index import Capacity, Device, Index, Plan, Run
    from xsearch.locate import Locator
    from xsearch.store import Compaction, Finding

__all__ = ["Collection", "open"]

LOG = logging.getLogger("xsearch")

Kinds = Modality | str | Sequence[Modality | str]


def open(
    path: str | Path | None = None,
    model: str | None = None,
    *,
    create: bool = False,
    device: str = "auto",
    dtype: str = "auto",
) -> Collection:
    """Open the collection in a folder or at a URL, by default the nearest: see `xsearch.nearest`.

    model: None for the one that embedded it; another one is refused as soon as something has to be embedded.
    create: make an empty one where there is none.
    device, dtype: what it computes on and with, such as "cuda" and "bf16"; "auto" takes the fastest.
    Raises NoCollection where there is none.
    """
    path = default_collection() if path is None else path
    if create:
        path = folder_of(path)
    try:
        store = open_store(path)
    except NoCollection:
        if not create:
            raise
        return Collection.create(path, model, device=device, dtype=dtype, exist_ok=True)
    return Collection(store, model=model, device=device, dtype=dtype)


class Collection:
    """A collection and the model that embedded it. The model is loaded when something has to be embedded.

    Reading methods see the last commit, also of other processes; a call sees one state from beginning to end.
    May be shared by threads. A context manager that ends what it has started.
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
        self._options = {"device": device, "dtype": dtype}
        self._lock = RLock()
        self._backend = backend
        self._state: tuple[bytes, Snapshot] | None = None
        self._view: View | None = None
        self._index: tuple[Path | None, Index | None] = None, None
        self._locator: Locator | None = None
        self._words: tuple[str | None, WordReader] = None, WordReader()
        fingerprint = self.snapshot().fingerprint
        if backend is not None:
            self._check(backend.fingerprint, fingerprint)

    @staticmethod
    def create(
        path: str | Path = DEFAULT_COLLECTION,
        model: str | None = None,
        *,
        backend: Backend | None = None,
        device: str = "auto",
        dtype: str = "auto",
        exist_ok: bool = False,
    ) -> Collection:
        """Create an empty collection for the vectors of `model`. Raises StoreError if the folder is taken.

        exist_ok: open the collection that another process has created there meanwhile.
        """
        source = None
        if backend is None:
            source = model_source(model)
            backend = load_backend(source, device=device, dtype=dtype)
        store = Store.create(folder_of(path), backend.fingerprint, source, exist_ok=exist_ok)
        return Collection(store, backend=backend)

    @staticmethod
    def import_(
        source: str | Path,
        path: str | Path | None = None,
        model: str | None = None,
        *,
        trust_paths: bool = False,
        dry_run: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Imported:
        """Add items with vectors from an export or from clip-retrieval; see `xsearch.exchange.import_`."""
        path = default_collection() if path is None else path
        return exchange.import_(
            source, path, model, trust_paths=trust_paths, dry_run=dry_run, progress=progress
        )

    @property
    def path(self) -> Path:
        """Its folder; for one at a URL, that of the copies on this machine."""
        return self.store.path

    @property
    def place(self) -> str:
        """Its folder or URL."""
        return self.store.place

    @property
    def requested(self) -> dict[str, str | None]:
        """The model, device and dtype that it was opened with."""
        return {"model": self._model, **self._options}

    @property
    def backend(self) -> Backend:
        """The model at work. Raises ModelMismatch if it is not the one of the stored vectors."""
        with self._lock:
            if self._backend is None:
                snapshot = self.snapshot()
                if self._model is None:
                    source = snapshot.manifest.source
                    self._backend = load_matching(snapshot.fingerprint, source, **self._options)
                else:
                    backend = load_backend(self._model, **self._options)
                    self._check(backend.fingerprint, snapshot.fingerprint)
                    self._backend = backend
                able = self._backend.capabilities()
                name = self._backend.fingerprint.name
                LOG.info("loaded model %s, %s on %s", name, able.dtype, able.device)
            return self._backend

    def snapshot(self) -> Snapshot:
        """The items as of the last commit."""
        version, state = self.store.version(), self._state
        if state is None or state[0] != version:
            with self._lock:
                version, state = self.store.version(), self._state
                if state is None or state[0] != version:
                    snapshot = self.store.snapshot(state[1] if state else None)
                    self._state = state = version, snapshot
        return state[1]

    def view(self) -> View:
        """The same with the index, ready to be searched."""
        snapshot, view = self.snapshot(), self._view
        if view is None or view.snapshot is not snapshot:
            with self._lock:
                snapshot, view = self.snapshot(), self._view
                if view is None or view.snapshot is not snapshot:
                    self._view = view = self._ready(snapshot)
        return view

    def warm(self, modalities: Kinds | None = None) -> None:
        """Load what queries of these modalities need: index, towers of the model, a filter process."""
        self.view().warm()
        if (load := getattr(self.backend, "warm", None)) is not None:
            load(as_modalities(modalities) or list(Modality))

    def close(self) -> None:
        """End the decoder processes that are idle; they start again when needed."""
        decoders.shared().rest()

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.snapshot())

    def __repr__(self) -> str:
        snapshot = self.snapshot()
        return f"<Collection {self.place}: {len(snapshot)} items, model {snapshot.fingerprint.name}>"

    def ingest(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        kinds: Sequence[tuple[Modality, str]] = (),
        exclude: str | Sequence[str] = (),
        metadata: str | Path | None = None,
        prune: bool | Sequence[str | Path] = False,
        captions: bool = True,
        dry_run: bool = False,
        progress: Callable[[Progress], None] | None = None,
        engine: Engine | None = None,
    ) -> Report:
        """Bring the collection in step with the media below `paths`; see `xsearch.ingest.ingest`."""
        return ingest(
            self.store,
            [paths] if isinstance(paths, str | Path) else paths,
            None if dry_run else self.backend,
            kinds=kinds,
            exclude=[exclude] if isinstance(exclude, str) else exclude,
            metadata=metadata,
            prune=prune,
            captions=captions,
            dry_run=dry_run,
            progress=progress,
            engine=engine,
        )

    def embed(self, queries: Sequence[Query | str | Path]) -> np.ndarray:
        """The vectors that these queries are searched with: float32 [N, dim], rows of length 1.

        Also those of texts of which the model has learned no word.
        """
        snapshot = self.snapshot()
        backend = self._on_demand(snapshot)
        embedded = embed(parse_each(queries), backend, snapshot=snapshot, anyway=True)
        return np.stack([query.vector for query in embedded])

    def search(
        self,
        query: Query | str | Path,
        top: int = 10,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        rank: Rank | str = Rank.BALANCED,
        match: Match | str | None = None,
        min_cosine: float | None = None,
        max_expected: float | None = None,
        unique: bool = False,
        sort: Sort | str | None = None,
        exclude_self: bool = False,
        anyway: bool = False,
    ) -> Hits:
        """The `top` items nearest to a `Query`, a path, or a text; see `xsearch.query.Options`.

        A text of which the model has learned no word is answered by its words alone. Raises UnknownWords if
        no item has enough of them, unless `anyway`.
        """
        (hits,) = self.search_many(
            [query],
            top,
            modality=modality,
            where=where,
            rank=rank,
            match=match,
            min_cosine=min_cosine,
            max_expected=max_expected,
            unique=unique,
            sort=sort,
            exclude_self=exclude_self,
            anyway=anyway,
        )
        if hits.problem is not None:
            raise hits.problem
        return hits

    def search_many(self, queries: Sequence[Query | str | Path], top: int = 10, **options: Any) -> list[Hits]:
        """`search` for many queries in one batch, with its options.

        Unknown words are the `problem` of the hits of their query alone.
        """
        view, requested = self.view(), Options(top=top, **options)
        return answer(view, parse_each(queries), self._on_demand(view.snapshot), requested)

    def generate(
        self,
        query: Query | str | Path,
        *,
        decoder: Decoder | str | Path | None = None,
        anyway: bool = False,
        **settings: Any,
    ) -> list[Drawn]:
        """Draw pictures of what a query means; for count, seed, size and others see `generate.draw`.

        decoder: a loaded one, or see `xsearch.load_decoder`. anyway: also draw a text of which the model has
        learned no word.
        """
        from xsearch.generate import draw, load_decoder, nearest_in

        view = self.view()
        artist = load_decoder(decoder, device=self._options["device"])
        artist.check(view.snapshot.fingerprint)
        backend = self._on_demand(view.snapshot)
        (embedded,) = embed(parse_each([query]), backend, snapshot=view.snapshot, anyway=anyway)
        return draw(embedded, artist, backend, nearest=nearest_in(view), **settings)

    def locate(self, hits: Hits, *, false_alarms: float = FALSE_ALARMS) -> Hits:
        """The same hits with boxes: where in each picture the query is; see `xsearch.Locator.locate`.

        The boxes of an item that is no picture, or cannot be read, are None; so are all of an answer that
        was found by its words alone. Raises UsageError for an answer of a server, which has no vectors.
        """
        from xsearch.locate import Locator

        if hits.query is None:
            return hits
        if not isinstance(hits.query, Embedded):
            raise UsageError("locate: the answer of a server has no vectors; search the collection itself")
        with self._lock:
            if self._locator is None:
                self._locator = Locator(self.backend)
        boxes: list[tuple[Box, ...] | None] = []
        for hit in hits:
            try:
                boxes.append(self._locator.in_hit(hit, hits.query, false_alarms=false_alarms).boxes)
            except MediaError:
                boxes.append(None)
        return hits.located(boxes)

    def _on_demand(self, snapshot: Snapshot) -> _OnDemand:
        return _OnDemand(snapshot.fingerprint, lambda: self.backend)

    def remove(
        self,
        ids: Iterable[int] | None = None,
        *,
        paths: Iterable[str | Path] | None = None,
        where: str | None = None,
        ignore: bool = False,
        dry_run: bool = False,
    ) -> int:
        """Remove the items with these ids and those of these files or below these folders.

        paths: of a recording of several files any of them; one that is no file's or folder's is a glob; `*`
        stays in its folder, `**` crosses folders.
        where: of these only the ones that fit; without ids and paths (None, not empty) all that fit.
        ignore: no ingest brings back the files that are left without items, and those of `paths` that have
            none, unless it names the file itself.
        Returns how many items that is. The media themselves are not touched.
        """
        removal = Removal.of(ids, paths, where)
        if dry_run:
            return len(removal.chosen(self.snapshot()))
        with self.store.writer() as writer:
            snapshot = writer.snapshot
            if ignore:
                record = {"reason": media.REMOVED, "error": Reason.REMOVED}
                writer.skip({"path": name, **record} for name in removal.emptied(snapshot))
            removed = writer.remove(removal.chosen(snapshot))
            writer.commit()
        return removed

    def emptied(
        self,
        ids: Iterable[int] | None = None,
        *,
        paths: Iterable[str | Path] | None = None,
        where: str | None = None,
    ) -> list[str]:
        """The files that `remove` leaves without items, sorted: those that `ignore` keeps out."""
        return Removal.of(ids, paths, where).emptied(self.snapshot())

    def items(
        self,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        sort: Sort | str | None = None,
        columns: Sequence[str] | None = None,
        limit: int | None = None,
    ) -> pa.Table:
        """The items as an Arrow table, by id, or by `taken_at`: "date", the newest first, or "-date"."""
        snapshot = self.snapshot()
        ids = snapshot.select(where, as_modalities(modality))
        if sort is not None and "taken_at" in snapshot.schema.names:
            from pyarrow.compute import sort_indices

            order = "descending" if Sort(sort) is Sort.DATE else "ascending"
            ids = ids[sort_indices(snapshot.items(ids, ["taken_at"]), [("taken_at", order)]).to_numpy()]
        return snapshot.items(ids[:limit], columns)

    def duplicates(self, *, modality: Kinds | None = None, where: str | None = None) -> pa.Table:
        """Files with the same content, one row per content: sha256, bytes, paths (a sorted list)."""
        import pyarrow as pa

        items = self.items(modality=modality, where=where, columns=["sha256", "bytes", "path"])
        groups = items.drop_null().group_by(["sha256", "bytes"]).aggregate([("path", "distinct")]).to_pylist()
        rows = [
            {"sha256": row["sha256"], "bytes": row["bytes"], "paths": sorted(row["path_distinct"])}
            for row in groups
            if row["sha256"] and len(row["path_distinct"]) > 1  # an empty one is unknown
        ]
        schema = {"sha256": pa.string(), "bytes": pa.int64(), "paths": pa.list_(pa.string())}
        return pa.Table.from_pylist(sorted(rows, key=lambda row: row["paths"]), pa.schema(schema))

    def skipped(self, *, everything: bool = False) -> pa.Table:
        """The files that could not be read: path, reason, error, when, kind (see `errors.SkipKind`).

        everything: also those that are not media, excluded, or removed with `ignore`. Of many of a type the
            first ones are listed, and the others counted in a row with the path `folder/**/*.type`.
        """
        import pyarrow as pa

        rows = self.snapshot().skipped(everything=everything).drop_columns("state")
        kinds = (Reason.recorded(row["error"], row["reason"]).kind for row in rows.to_pylist())
        return rows.append_column("kind", pa.array(kinds, pa.string()))

    def export(
        self,
        path: str | Path,
        *,
        modality: Kinds | None = None,
        where: str | None = None,
        float32: bool = False,
        keep_formulas: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Write items and vectors to a Parquet file, or a folder of them; see `xsearch.exchange.export`."""
        snapshot = self.snapshot()
        ids = snapshot.select(where, as_modalities(modality))
        return exchange.export(
            snapshot, Path(path), ids, float32=float32, keep_formulas=keep_formulas, progress=progress
        )

    def summary(self) -> dict[str, Any]:
        """Facts that cost nothing to know: path, items, modalities, model, dim, index, generation."""
        return self._summary(self.view())

    def _summary(self, view: View) -> dict[str, Any]:
        return {
            "path": self.place,
            "items": len(view.snapshot),
            "modalities": {str(kind): count for kind, count in view.snapshot.counts().items()},
            "model": view.snapshot.fingerprint.name,
            "dim": view.snapshot.fingerprint.dim,
            "index": view.index.plan.recipe if view.index else "Flat",
            "generation": view.snapshot.manifest.generation,
        }

    def stats(self) -> dict[str, Any]:
        """The `summary`, and what takes longer: files, skipped, bytes, columns of metadata."""
        view = self.view()
        return self._summary(view) | {
            "files": len(view.snapshot.files()),
            "skipped": len(view.snapshot.skipped()),
            "bytes": _bytes_below(view.snapshot.path),
            "columns": [name for name in view.snapshot.schema.names if name not in ITEM_COLUMNS],
        }

    def plan_index(
        self,
        *,
        items: int | None = None,
        recipe: str | None = None,
        device: Device = "auto",
        memory_bytes: int | None = None,
    ) -> Plan:
        """The index that the items would get, or `items` like them; see `xsearch.index.make_plan`."""
        from xsearch.index import plan_for

        return plan_for(self.snapshot(), items, recipe=recipe, device=device, memory_bytes=memory_bytes)

    def capacity(
        self,
        plan: Plan,
        *,
        hours: float,
        embed_ms: float | None = None,
        decode_ms: float | None = None,
        media_bytes: float | None = None,
    ) -> Capacity:
        """The machines for `plan.n` items like the collection's; see `xsearch.index.capacity`.

        embed_ms: by default that of the model. media_bytes: by default what the files have, per item.
        """
        from xsearch.index import EMBED_MS, Capacity, Costs

        snapshot, costs = self.snapshot(), Costs()
        if n := len(snapshot):
            stored = sum(path.stat().st_size for path in (snapshot.path / "segments").glob("*/items.parquet"))
            read = sum(filter(None, snapshot.files()["bytes"].to_pylist()))
            costs = Costs(media_bytes=read / n or costs.media_bytes, row_bytes=stored / n)
        requested = {"embed_ms": embed_ms, "decode_ms": decode_ms, "media_bytes": media_bytes}
        if embed_ms is None:
            requested["embed_ms"] = EMBED_MS.get(snapshot.fingerprint.name)
        changes = {name: value for name, value in requested.items() if value is not None}
        return Capacity(plan, replace(costs, **changes), hours)

    def build_index(
        self,
        *,
        recipe: str | None = None,
        device: Device = "auto",
        memory_bytes: int | None = None,
        shards: int | None = None,
        merge: bool = False,
        run: Run | None = None,
    ) -> Plan:
        """Train an index on a sample of the items, add all of them, and use it from now on.

        Searches go on with the old one meanwhile. A recipe that is given is kept for later builds.

        shards: write so many files, each with a range of the items; searched here, they are one index.
            An ingest leaves such an index as it is. merge: join them into one file at the end.
        run: writes the shards elsewhere; None: here, one after the other.
        """
        from xsearch.index import in_turn, new_index, plan_for

        options: dict[str, Any] = {"recipe": recipe, "device": device, "memory_bytes": memory_bytes}
        with self.store.writer() as writer:
            snapshot = writer.snapshot
            if shards is None:
                index = new_index(snapshot, **options)
                keep_index(writer, index)
                plan = None if index is None else index.plan
            else:
                plan = build_shards(writer, shards, run or in_turn, merge=merge, **options)
        return plan or plan_for(snapshot, **options)

    def tune_index(self, *, recall: float = 0.95, latency_ms: float | None = None) -> Plan:
        """Measure recall@10 against the exact answer, and keep the fastest parameters that reach `recall`.

        Items are the queries: for each modality, some of it and some of the others. latency_ms: the most that
        one query alone may take; comes before the recall. The plan's `points` are all that was measured.
        """
        from xsearch.index import tune_on

        with self.store.writer() as writer:
            tuned = tune_on(
                self._required_index(writer.snapshot), writer.snapshot, target=recall, latency_ms=latency_ms
            )[0]
            keep_index(writer, tuned)
        return tuned.plan

    def index_info(self) -> dict[str, Any]:
        """Recipe, parameters, measured recall, coverage and size of the index."""
        view = self.view()
        snapshot = view.snapshot
        if snapshot.index_path is None:
            return {"recipe": "Flat", "why": "everything is scanned exactly"}
        index = view.index or self._required_index(snapshot)  # which says what is wrong with it
        names = ("recipe", "device", "lists", "nprobe", "refine", "recall", "filtered", "growth", "sample")
        covered = int(index.covers(snapshot.ids).sum())
        return {name: getattr(index.plan, name) for name in (*names, "error", "why")} | {
            "trained_for": index.plan.n,
            "items": len(snapshot),
            "covered": covered,
            "removed": len(index.ids) - covered,
            "shards": len(index.shards) or 1,
            "bytes": _bytes_below(snapshot.index_path),
        }

    def compact(self) -> Compaction:
        """Merge small segments, drop removed items, delete files that nothing refers to."""
        with self.store.writer() as writer:
            return writer.compact()

    def verify(self, *, repair: bool = False) -> list[Finding]:
        """What is wrong with it; see `xsearch.integrity.verify`, also for one that does not open."""
        return integrity.verify(self.place, repair=repair)

    def push(
        self,
        url: str,
        *,
        keep: int = KEPT_GENERATIONS,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Pushed:
        """Publish the collection at a URL, where others open it; see `xsearch.store.published`.

        Files that are there are not sent again. keep: generations that stay. progress: called with bytes that
        are there, of how many. Raises StoreError if it is not possible, or another has published there.
        """
        return Published(url).push(self.store.snapshot(), keep=keep, progress=progress)

    def _check(self, ours: Fingerprint, stored: Fingerprint) -> None:
        if ours != stored:
            raise ModelMismatch(
                stored=full_name(stored, ours),
                given=full_name(ours, stored),
                choice=self.snapshot().manifest.source,
            )

    def _ready(self, snapshot: Snapshot) -> View:
        """A view of `snapshot`, or of a later one if a compaction has deleted its indexes before that.

        Where the index is damaged, everything is scanned; words that are missing are read from the items.
        """
        try:
            if self._words[0] != snapshot.manifest.words:
                self._words = snapshot.manifest.words, WordReader(load(snapshot))
        except StoreError as problem:
            if (later := self.snapshot()) is not snapshot:
                return self._ready(later)
            LOG.warning("%s with the next ingest", problem)
            self._words = snapshot.manifest.words, WordReader()
        if self._index[0] != snapshot.index_path:
            try:
                self._index = snapshot.index_path, self._load_index(snapshot)
            except StoreError as problem:
                if (later := self.snapshot()) is not snapshot:
                    return self._ready(later)
                LOG.warning("%s with %s; until then everything is scanned", problem, remedy(snapshot))
                self._index = snapshot.index_path, None
        return View(snapshot, self._index[1], self._words[1])

    def _load_index(self, snapshot: Snapshot) -> Index | None:
        return load_index(snapshot)

    @staticmethod
    def _required_index(snapshot: Snapshot) -> Index:
        if (index := load_index(snapshot)) is None:
            raise StoreError(
                f"{snapshot.path} has no index, everything is scanned exactly; to have one all the same: "
                "xsearch index build --recipe IVF64,Flat"
            )
        return index


@dataclass(frozen=True, slots=True)
class _OnDemand:
    """The backend of a collection, which is loaded when something has to be embedded."""

    fingerprint: Fingerprint
    load: Callable[[], Backend]

    def capabilities(self) -> Capabilities:
        return self.load().capabilities()

    def windows(self, text: str) -> Iterator[str]:
        return self.load().windows(text)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        return self.load().embed(samples)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return self.load().embed_query(samples, target)


def _bytes_below(folder: Path) -> int:
    """The size of all files below `folder`; a writer may delete some meanwhile."""
    total = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                total += Path(where, name).stat().st_size
    return total
