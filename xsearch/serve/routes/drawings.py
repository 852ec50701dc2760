"""Pictures drawn of queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from xsearch.serve import contract
from xsearch.serve.contract import MAX_PICTURES
from xsearch.serve.inert import answer
from xsearch.serve.problems import Refusal
from xsearch.serve.routes.search import body
from xsearch.serve.server import Chosen, The

__all__ = ["router"]

router = APIRouter()

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
PNG = "image/png"
_BINARY = {"schema": {"type": "string", "format": "binary"}}


@router.post(
    "/v1/drawings", status_code=202, response_model=contract.Drawing, openapi_extra=body("DrawingRequest")
)
async def draw(request: Request, server: The, held: Chosen) -> Response:
    """Begin to draw pictures of a query; ask for the drawing until it is done."""
    sent = contract.DrawingRequest.model_validate_json(await request.body())
    view = held.view()
    server.drawings.decoder(view.snapshot.fingerprint)  # before anything is embedded
    (embedded,) = await server.search.embed(held, [sent.parts], anyway=sent.anyway)
    named = [
        part
        if asked.upload is None
        else replace(part, source=FilePath(server.uploads.get(asked.upload).name))
        for part, asked in zip(embedded.query.parts, sent.parts, strict=True)
    ]
    query = replace(embedded, query=replace(embedded.query, parts=tuple(named)))
    return answer(server.drawings.start(sent, query, view, held.backend(view.snapshot)).answer(), 202)


@router.get("/v1/drawings/{id}", response_model=contract.Drawing)
async def drawing(id: Id, server: The) -> Response:
    """Return how far a drawing is, and links to the pictures that are ready."""
    return answer(server.drawings.get(id).answer())


@router.get(
    "/v1/drawings/{id}/picture", response_class=Response, responses={200: {"content": {PNG: _BINARY}}}
)
async def picture(id: Id, server: The, number: Annotated[int, Query(ge=0, lt=MAX_PICTURES)] = 0) -> Response:
    """Send a picture, whose file states the query, the seed and the model."""
    pictures = server.drawings.get(id).pictures
    if number >= len(pictures):
        raise Refusal(404, "no-drawing", "No such drawing", "it is not ready: ask for the drawing")
    return Response(pictures[number].png, media_type=PNG, headers={"cache-control": "private, max-age=3600"})


@router.delete("/v1/drawings/{id}", status_code=204, response_class=Response)
async def cancel(id: Id, server: The) -> Response:
    """Cancel a drawing, or delete its pictures."""
    server.drawings.remove(id)
    return Response(status_code=204)
