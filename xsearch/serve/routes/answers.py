"""The door of the command line and of `xsearch.connect`: answers as `Collection` returns them.

They are what a search in the client's process would find, to the last digit: a query is not embedded together
with those of others, which moves its vector by a rounding error. They are not part of the OpenAPI document.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response, StreamingResponse

from xsearch import query
from xsearch.errors import UnknownWords, UsageError, XsearchError
from xsearch.query.stored import of_file
from xsearch.query.wire import to_wire
from xsearch.serve import contract
from xsearch.serve.contract import MAX_ID, MAX_PARTS, Id, Number
from xsearch.serve.inert import JSON
from xsearch.serve.problems import Refusal, refusal, without_paths
from xsearch.serve.server import Chosen, Server, The
from xsearch.system import identity
from xsearch.types import Ingested, Modality, Sort

if TYPE_CHECKING:
    from xsearch.serve.shelf import Held
    from xsearch.store import Snapshot

__all__ = ["router"]

MAX_QUERIES = 256
MAX_NAME = 10_000  # letters of a path
MAX_COLUMNS = 1_000
ROWS = 16_384  # of a batch of a table
ARROW = "application/vnd.apache.arrow.stream"

router = APIRouter(include_in_schema=False)


class State(contract.Request):
    """A file by the state that an ingest has recorded; it is looked up, and not opened."""

    name: Annotated[str, Field(max_length=MAX_NAME)]
    bytes: Id
    mtime_ns: Annotated[int, Field(ge=-MAX_ID, le=MAX_ID)]


class Local(contract.Request):
    """A part that is a file of the client's."""

    kind: Modality | None = None
    weight: Number = 1.0
    file: State


class AnswersRequest(contract.Request):
    """Queries that have the same options."""

    queries: Annotated[
        list[Annotated[list[contract.Part | Local], Field(max_length=MAX_PARTS)]],
        Field(min_length=1, max_length=MAX_QUERIES),
    ]
    options: contract.Options


class TableRequest(contract.Request):
    """Items without a query, as `Collection.items` takes them."""

    modality: list[Modality] | None = None
    where: Annotated[str, Field(max_length=contract.MAX_WHERE)] | None = None
    sort: Sort | None = None
    columns: Annotated[list[str], Field(max_length=MAX_COLUMNS)] | None = None
    limit: Id | None = None


@router.get("/v1/identity")
def identify(server: The) -> Response:
    """Return which xsearch this is, and which collections it serves with which options."""
    return _json(
        {
            "version": version("xsearch"),
            "code": identity.code(),
            "settings": identity.settings(),
            "user": identity.user(),
            "collections": server.shelf.each(_identity),
        }
    )


def _identity(held: Held) -> dict[str, Any]:
    collection = held.collection
    path, status = collection.path.absolute(), collection.path.stat()
    return {
        "name": held.name,
        "path": str(path),
        "folder": [status.st_dev, status.st_ino],
        "source": collection.snapshot().manifest.source,
        **collection.requested,
    }


@router.post("/v1/answers")
async def answers(request: Request, server: The, held: Chosen) -> Response:
    """Return the answers to queries, all of one state of the collection."""
    sent = AnswersRequest.model_validate_json(await request.body())
    is_decoded = any(getattr(part, "upload", None) for parts in sent.queries for part in parts)
    pool = server.search.slow if is_decoded else server.search.pool(sent.options.where)
    return await server.work(_answered, server, held, sent, pool=pool)


def _answered(server: Server, held: Held, request: AnswersRequest) -> Response:
    view, path = held.view(), str(held.collection.path)
    snapshot = view.snapshot
    uploads: dict[Path, str] = {}
    queries = [_query(server, snapshot, parts, uploads) for parts in request.queries]
    model = held.backend(snapshot).model
    try:
        options = query.Options(**request.options.model_dump(exclude={"offset", "among"}))
        hits = query.answer(view, queries, model, options)
    except XsearchError as problem:
        raise _refused(problem, path, uploads) from problem
    if not view.is_whole:
        why = f"the index of {held.name} is being started, or damaged: xsearch verify reports where"
        raise Refusal(503, "collection", "Not as the collection answers", why)
    return _json(
        {
            "answers": list(map(to_wire, hits)),
            "generation": snapshot.manifest.generation,
            "items": len(snapshot),
            "model": snapshot.fingerprint.name,
            "path": path,
        }
    )


def _query(
    server: Server, snapshot: Snapshot, parts: Sequence[contract.Part | Local], uploads: dict[Path, str]
) -> query.Query:
    """Return the query of a request; add the names of its uploads by their paths. Raises Refusal."""
    total = query.Query()
    for part in parts:
        if isinstance(part, Local):
            one = query.Query((query.Part(part.kind, _ingested(snapshot, part)),))
        elif part.upload is not None:
            stored = server.uploads.get(part.upload)
            uploads[stored.path] = stored.name
            one = query.Query((query.Part(part.kind or stored.kind, stored.path),))
        elif part.text is not None:
            one = query.text(part.text)
        elif part.item is not None:
            one = query.item(part.item)
        else:
            assert part.vector is not None
            assert part.kind is not None
            one = query.vector(part.vector, part.kind)
        total += part.weight * one
    return total


def _ingested(snapshot: Snapshot, part: Local) -> Ingested:
    """Return the file of a part. Raises Refusal unless the collection has its vector."""
    file = Ingested(**part.file.model_dump())
    state = file.name, file.bytes, file.mtime_ns
    if len(snapshot.of_file(*state)) and of_file(query.Part(part.kind, file), snapshot, state, str)[1]:
        return file
    # an upload is not known by its name: that it is an item is lost
    type = "imported-files" if len(snapshot.of_file(file.name, None, None)) else "new-files"
    raise Refusal(409, type, "Not in the collection as it is", f"upload {file.name}")


def _refused(error: XsearchError, path: str, uploads: Mapping[Path, str]) -> Refusal:
    """Return the refusal for an error of a search, from which the client makes the error again.

    exact: the path of the collection, if the error would have been the same there; it may name this path.
    """
    refused = refusal(without_paths(error, uploads))
    more: dict[str, Any] = {"message": str(without_paths(error, uploads))}
    if isinstance(error, UnknownWords):
        more |= {"text": error.text, "model": error.model}
    if isinstance(error, UsageError) and not uploads:
        more["exact"] = path
    refused.problem = contract.Problem(**refused.problem.model_dump(), **more)
    return refused


@router.post("/v1/table")
async def table(request: Request, server: The, held: Chosen) -> Response:
    """Return items as an Arrow stream."""
    sent = TableRequest.model_validate_json(await request.body())
    work = partial(held.collection.items, **sent.model_dump())
    items = await server.work(work, pool=server.search.filters if sent.where else None)
    return StreamingResponse(_stream(items), media_type=ARROW)


def _stream(table: pa.Table) -> Iterator[bytes]:
    sink = BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        for batch in table.to_batches(max_chunksize=ROWS):
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _json(content: Any) -> Response:
    return Response(json.dumps(content).encode(), media_type=JSON)
