"""Searches: requests to queries, queries of the same options to one batch, hits to answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from xsearch import gallery, media, query
from xsearch.errors import BadFilter, Unavailable, XsearchError
from xsearch.query import Embedded, Hits, Options, Query, View
from xsearch.serve import items
from xsearch.serve.batching import Batches
from xsearch.serve.contract import Part, PartAnswer, QueryAnswer, SearchRequest, SearchResponse
from xsearch.serve.inert import dumped
from xsearch.serve.metrics import Metrics
from xsearch.serve.problems import Refusal, without_paths
from xsearch.serve.recent import Recent
from xsearch.serve.shelf import Held, no_item
from xsearch.serve.uploads import Stored, Uploads
from xsearch.system.cores import CORES
from xsearch.types import Modality

__all__ = ["Search"]

T = TypeVar("T")

VECTORS = 512  # of uploads, that are kept
SLOW = 8  # threads for what may take seconds, such as drawing
READING = 64  # and for those that wait for decoders, whose samples are then embedded together
FILTERS = 4  # and for filters, of which the time is limited


class _Known(NamedTuple):
    """The vector of an upload, float32 [dim], and of how many windows it is the mean."""

    vector: np.ndarray
    windows: int


@dataclass(frozen=True, slots=True, eq=False)
class _Asked:
    """A request whose files are read: its query, and what its answer needs to say."""

    request: SearchRequest
    query: Query
    uploads: Sequence[Stored | None]  # of each part
    windows: Sequence[int | None]  # of those whose vector was known
    start: float
    as_lines: bool


class Search:
    """Answers searches of any number of requests; thread pools bound what runs at once."""

    def __init__(self, uploads: Uploads, metrics: Metrics) -> None:
        self.fast = ThreadPoolExecutor(CORES + 2, "search")
        self.slow = ThreadPoolExecutor(SLOW, "slow")
        self.reading = ThreadPoolExecutor(READING, "reading")
        self.filters = ThreadPoolExecutor(FILTERS, "filter")
        self._uploads, self._metrics = uploads, metrics
        self._batches: Batches[tuple[Held, Options], _Asked, bytes] = Batches(self._run)
        self._vectors: Recent[tuple[Any, ...], _Known] = Recent(VECTORS)

    def close(self) -> None:
        for pool in (self.fast, self.slow, self.reading, self.filters):
            pool.shutdown(wait=False, cancel_futures=True)

    async def answer(self, held: Held, request: SearchRequest, *, as_lines: bool = False) -> bytes:
        """Return the answer to a request, as JSON or as JSON lines. Raises XsearchError or Refusal."""
        start = time.perf_counter()
        options = _options(request)
        uploads, parts, windows = await self._parts(held, request.parts)
        asked = _Asked(request, Query(tuple(parts)), uploads, windows, start, as_lines)
        return await self._batches.submit(self.pool(request.where), (held, options), asked)

    def pool(self, where: str | None) -> ThreadPoolExecutor:
        """Where a search with this filter runs, so that slow filters delay no others."""
        return self.fast if where is None else self.filters

    async def embed(
        self, held: Held, queries: Sequence[Sequence[Part]], *, anyway: bool = True
    ) -> list[Embedded]:
        """Return queries as vectors; see `query.embed`. Raises XsearchError or Refusal."""
        sums, names = [], dict[Path, str]()
        for parts in queries:
            uploads, read, _ = await self._parts(held, parts)
            sums.append(Query(tuple(read)))
            names |= _names(uploads)
        return await _in(self.slow, self._embed, held, sums, names, anyway)

    def _embed(
        self, held: Held, queries: Sequence[Query], names: dict[Path, str], anyway: bool
    ) -> list[Embedded]:
        snapshot = held.view().snapshot
        _check_items(held, snapshot, queries)
        try:
            return query.embed(queries, held.backend(snapshot), snapshot=snapshot, anyway=anyway)
        except XsearchError as problem:
            raise without_paths(problem, names) from problem

    async def _parts(
        self, held: Held, parts: Sequence[Part]
    ) -> tuple[list[Stored | None], list[query.Part], list[int | None]]:
        """Return the upload of each part, the part itself, and of how many windows it is, where known."""
        uploads = [None if part.upload is None else self._uploads.get(part.upload) for part in parts]
        if not any(uploads):
            return uploads, [_part(part) for part in parts], [None] * len(parts)
        read = await _in(self.reading, self._read, held, parts, uploads)
        return uploads, [part for part, _ in read], [windows for _, windows in read]

    def _read(
        self, held: Held, parts: Sequence[Part], uploads: Sequence[Stored | None]
    ) -> list[tuple[query.Part, int | None]]:
        return [
            (_part(part), None) if stored is None else self._of_upload(held, part, stored)
            for part, stored in zip(parts, uploads, strict=True)
        ]

    def _of_upload(self, held: Held, part: Part, stored: Stored) -> tuple[query.Part, int | None]:
        """Return a part of an upload: its vector, or the file if the collection has its content.

        So no batch waits for a decoder, and a weight that changes does not decode the file once more.
        """
        kind = part.kind or stored.kind
        of_file = query.Part(kind, stored.path, part.weight)
        snapshot = held.view().snapshot
        if kind is Modality.TEXT or len(snapshot.of_content(stored.bytes, lambda: stored.sha256)):
            return of_file, None
        key = stored.id, kind, snapshot.fingerprint
        if (known := self._vectors.get(key)) is None:
            try:
                (embedded,) = query.embed([Query((replace(of_file, weight=1.0),))], held.backend(snapshot))
            except XsearchError as problem:
                raise without_paths(problem, {stored.path: stored.name}) from problem
            known = _Known(embedded.vector, embedded.windows[0])
            self._vectors.put(key, known)
        return query.Part(kind, known.vector, part.weight), known.windows

    def _run(self, key: tuple[Held, Options], batch: list[_Asked]) -> list[bytes | Exception]:
        """Answer requests of the same options from one view, together; each alone if one of them fails.

        All fail by a filter that is none, and by a shard for which each would wait again.
        """
        (held, options), start = key, time.perf_counter()
        try:
            view = held.view()
            queries = [asked.query for asked in batch]
            _check_items(held, view.snapshot, queries)
            answers = query.answer(view, queries, held.backend(view.snapshot), options)
            results = [_answered(held, view, *each) for each in zip(batch, answers, strict=True)]
        except Exception as problem:
            if len(batch) > 1 and not isinstance(problem, BadFilter | Unavailable):
                return [result for asked in batch for result in self._run(key, [asked])]
            if isinstance(problem, XsearchError):
                problem = without_paths(problem, _names(batch[0].uploads))
            return [problem] * len(batch)
        self._metrics.observe("search_batch_seconds", time.perf_counter() - start, collection=held.name)
        self._metrics.count("searches_total", len(batch), collection=held.name)
        return results


async def _in(pool: ThreadPoolExecutor, function: Callable[..., T], *args: object) -> T:
    return await asyncio.get_running_loop().run_in_executor(pool, function, *args)


def _options(request: SearchRequest) -> Options:
    top = request.offset + request.top
    return Options(
        top=request.among or top if request.sort else top,
        modality=None if request.modality is None else tuple(request.modality),
        **request.model_dump(
            include={
                "where",
                "rank",
                "match",
                "min_cosine",
                "max_expected",
                "unique",
                "sort",
                "exclude_self",
                "anyway",
            }
        ),
    )


def _part(part: Part) -> query.Part:
    """Return a part that needs no file. Raises Refusal for a URL, EmptyQuery for a blank text."""
    if part.text is not None:
        words = part.text.strip()
        if not any(map(str.isspace, words)) and media.is_url(words):
            raise Refusal(422, "url", "URLs are not fetched", "download the file and upload it")
        (one,) = query.text(part.text).parts
    elif part.item is not None:
        (one,) = query.item(part.item).parts
    else:
        assert part.vector is not None
        assert part.kind is not None
        (one,) = query.vector(np.array(part.vector, np.float32), part.kind).parts
    return replace(one, weight=part.weight)


def _check_items(held: Held, snapshot: Any, queries: Sequence[Query]) -> None:
    """Raise Refusal for a part that is an item which the collection lacks."""
    ids = [part.source for each in queries for part in each.parts if isinstance(part.source, int)]
    for id, is_there in zip(ids, snapshot.contains(np.array(ids, np.int64)).tolist(), strict=True):
        if not is_there:
            no_item(id, held.name)


def _names(uploads: Sequence[Stored | None]) -> dict[Path, str]:
    return {stored.path: stored.name for stored in uploads if stored is not None}


def _answered(held: Held, view: View, asked: _Asked, hits: Hits) -> bytes | Exception:
    if hits.problem is not None:
        return hits.problem
    request = asked.request
    shown = [held.trusted(hit) for hit in hits[request.offset : request.offset + request.top]]
    answer = SearchResponse(
        collection=held.name,
        generation=view.snapshot.manifest.generation,
        query=_understood(view, asked, hits),
        hits=[items.hit(held, hit) for hit in shown],
        offset=request.offset,
        more=len(hits) >= request.offset + request.top,
        found=hits.found,
        remark=hits.remark,
        nearest_expected=hits.nearest_expected,
        kinds=hits.kinds,
        missing_shards=list(hits.missing_shards),
        took_ms=round(1000 * (time.perf_counter() - asked.start), 3),
    )
    if not asked.as_lines:
        return dumped(answer)
    return b"\n".join([dumped(answer, exclude={"hits"}), *map(dumped, answer.hits), b""])


def _understood(view: View, asked: _Asked, hits: Hits) -> QueryAnswer:
    embedded = hits.query
    parts = (embedded.query if embedded else asked.query).parts
    paths: dict[int, str] = {}
    if ids := [part.source for part in parts if isinstance(part.source, int)]:
        rows = view.snapshot.items(np.array(ids, np.int64), ["path"])
        paths = dict(zip(ids, rows["path"].to_pylist(), strict=True))
    answers, named = [], []
    for at, (part, sent, stored) in enumerate(zip(parts, asked.request.parts, asked.uploads, strict=True)):
        kind = part.modality or Modality.TEXT
        label, shown = "vector", part
        if sent.text is not None:
            label = sent.text
        elif stored is not None or sent.item is not None:
            label = stored.name if stored else Path(paths[int(sent.item or 0)]).name
            shown = replace(part, source=Path(label))
        named.append(shown)
        windows = asked.windows[at] or (embedded.windows[at] if embedded else None)
        answers.append(
            PartAnswer(
                kind=kind,
                label=label,
                weight=part.weight,
                cosine=float(embedded.cosines[at]) if embedded else None,
                windows=windows,
                text=sent.text,
                upload=sent.upload,
                item=sent.item,
            )
        )
    return QueryAnswer(
        name=gallery.name(Query(tuple(named))),
        parts=answers,
        norm=float(embedded.norm) if embedded else None,
        left_out=list(embedded.left_out) if embedded else [],
        by_words=embedded is None,
    )
