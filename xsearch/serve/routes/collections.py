"""What is served, counts, maps, and what changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from xsearch.serve import contract
from xsearch.serve.contract import MAX_WHERE, PositionRequest
from xsearch.serve.events import EVENTS, Stream
from xsearch.serve.facets import facets
from xsearch.serve.inert import answer
from xsearch.serve.info import info
from xsearch.serve.maps import MOST, Method
from xsearch.serve.problems import Refusal
from xsearch.serve.routes.search import body
from xsearch.serve.server import Chosen, The
from xsearch.types import Modality

__all__ = ["router"]

router = APIRouter()

Kinds = Annotated[list[Modality] | None, Query()]
Where = Annotated[str | None, Query(max_length=MAX_WHERE)]


@router.get("/v1/info", response_model=contract.Info)
async def get_info(server: The, held: Chosen) -> Response:
    """Describe a collection: kinds, columns, model, counts; and the server."""
    return answer(await server.work(info, server, held))


@router.get("/v1/facets", response_model=contract.Facets)
async def get_facets(
    server: The,
    held: Chosen,
    column: Annotated[list[str] | None, Query(max_length=32)] = None,
    modality: Kinds = None,
    where: Where = None,
    values: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """Count the items that pass the filters, by kind, month, folder, or columns."""

    def work() -> contract.Facets:
        columns = column or ["kind", "month", "folder"]
        return facets(held, columns, modality=modality, where=where, values=values)

    return answer(await server.work(work, pool=server.search.pool(where)))


@router.get("/v1/map", response_model=contract.MapPoints)
async def get_map(
    server: The,
    held: Chosen,
    limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
    modality: Kinds = None,
    where: Where = None,
    method: Method | None = None,
) -> Response:
    """Return items as points of a plane."""

    def work() -> Response:
        return answer(server.maps.points(held, limit=limit, modality=modality, where=where, method=method))

    return await server.work(work, pool=server.search.filters if where else None)


@router.post("/v1/map/position", response_model=contract.Position, openapi_extra=body("PositionRequest"))
async def get_position(request: Request, server: The, held: Chosen, method: Method | None = None) -> Response:
    """Return where a query lies on the map."""
    sent = PositionRequest.model_validate_json(await request.body())
    (embedded,) = await server.search.embed(held, [sent.parts])
    return answer(await server.work(server.maps.position, held, embedded, method))


@router.get("/v1/events", response_class=StreamingResponse, responses={200: {"content": {EVENTS: {}}}})
async def get_events(server: The) -> Response:
    """Stream the state of all collections as server-sent events, at first and whenever it changes."""
    if server.events.streams >= server.settings.streams:
        busy = "too many pages are open; close some"
        raise Refusal(503, "busy", "Busy", busy, headers={"Retry-After": "30"})
    return Stream(server.events)
