"""Where in the picture of an item a query is."""

from __future__ import annotations

from dataclasses import asdict

from fastapi import APIRouter, Request
from starlette.responses import Response

from xsearch.serve.contract import Box, Located, LocateRequest
from xsearch.serve.inert import answer
from xsearch.serve.routes.items import Id, check
from xsearch.serve.routes.search import body
from xsearch.serve.server import Chosen, The

__all__ = ["router"]

router = APIRouter()

DIGITS = 3  # of a heat map


@router.post("/v1/items/{id}/locate", response_model=Located, openapi_extra=body("LocateRequest"))
async def locate(id: Id, request: Request, server: The, held: Chosen) -> Response:
    """Locate a query in the picture of an item: boxes, or none if it is not there, and a heat map."""
    sent = LocateRequest.model_validate_json(await request.body())
    (embedded,) = await server.search.embed(held, [sent.parts], anyway=sent.anyway)

    def work() -> Located:
        snapshot = held.view().snapshot
        hit = held.item(snapshot, id)
        check(server, held, hit)
        located = held.backend(snapshot).locator.in_hit(hit, embedded, false_alarms=sent.false_alarms)
        return Located(
            collection=held.name,
            generation=snapshot.manifest.generation,
            id=id,
            boxes=[Box(**asdict(box)) for box in located.boxes],
            score=located.score,
            threshold=located.threshold,
            false_alarms=located.false_alarms,
            heat=located.heat.astype(float).round(DIGITS).tolist(),
        )

    return answer(await server.work(work))
