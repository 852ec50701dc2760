"""Searches, and vectors of queries."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.datastructures import UploadFile
from starlette.responses import Response

from xsearch.serve.contract import (
    MAX_ID,
    MAX_PARTS,
    EmbedRequest,
    EmbedResponse,
    Part,
    SearchRequest,
    SearchResponse,
    Similar,
)
from xsearch.serve.inert import JSON, LINES, answer, wants_lines
from xsearch.serve.problems import Refusal
from xsearch.serve.security import Direct
from xsearch.serve.server import Chosen, Server, The
from xsearch.serve.uploads import chunks

__all__ = ["direct", "router"]

router = APIRouter()

FIELD = "query"  # of a form
_AS_FORM = {
    "schema": {
        "type": "object",
        "properties": {
            FIELD: {
                "type": "string",
                "description": "SearchRequest as JSON, in which `upload` may be the name of a file field. "
                "Files that no part names are added.",
            }
        },
        "additionalProperties": {"type": "string", "format": "binary"},
    }
}


def body(model: str, **more: Any) -> dict[str, Any]:
    """Return what the OpenAPI document says of a body that a route reads itself."""
    reference = {"schema": {"$ref": f"#/components/schemas/{model}"}}
    return {"requestBody": {"required": True, "content": {JSON: reference, **more}}}


@router.post(
    "/v1/search",
    response_model=SearchResponse,
    openapi_extra=body("SearchRequest", **{"multipart/form-data": _AS_FORM}),
)
async def search(request: Request, server: The, held: Chosen) -> Response:
    """Search with a sum of texts, uploads, items and vectors."""
    if request.headers.get("content-type", "").startswith("multipart/form-data"):
        sent = await _of_form(request, server)
    else:
        sent = SearchRequest.model_validate_json(await request.body())
    as_lines = wants_lines(request)
    found = await server.search.answer(held, sent, as_lines=as_lines)
    return Response(found, media_type=LINES if as_lines else JSON)


def direct(server: Server) -> dict[tuple[str, str], Direct]:
    """Return `search` as a route that the gate calls; see `Gate`."""

    async def answer(request: Request) -> Response:
        return await search(request, server, server.shelf.get(request.query_params.get("collection")))

    routes = [route for route in router.routes if isinstance(route, APIRoute) and route.endpoint is search]
    return {("POST", route.path): (route, answer) for route in routes}


async def _of_form(request: Request, server: Server) -> SearchRequest:
    """Read a form: its files become uploads, which the parts of its query name by their fields."""
    most = server.settings.body_bytes
    async with request.form(max_files=MAX_PARTS, max_fields=1, max_part_size=most) as form:
        text, files = form.get(FIELD, "{}"), dict[str, str]()
        try:
            query = from_json(text if isinstance(text, str) else await text.read(most))
        except ValueError:
            query = None
        if not isinstance(query, dict) or not isinstance(parts := query.setdefault("parts", []), list):
            what = f"field {FIELD}: expected a SearchRequest as JSON"
            raise Refusal(422, "invalid-request", "Not of the expected form", what)
        naming = [part for part in parts if isinstance(part, dict) and isinstance(part.get("upload"), str)]
        named = {part["upload"] for part in naming}
        for name, file in form.multi_items():
            if isinstance(file, UploadFile) and name != FIELD:
                stored = await server.uploads.receive(chunks(file), file.filename or name, None)
                files[name] = stored.id
                if name not in named:
                    parts.append({"upload": stored.id})
    for part in naming:
        part["upload"] = files.get(part["upload"], part["upload"])
    return SearchRequest.model_validate(query)


@router.get("/v1/items/{id}/similar", response_model=SearchResponse)
async def similar(
    id: Annotated[int, Path(ge=0, le=MAX_ID)],
    options: Annotated[Similar, Query()],
    request: Request,
    server: The,
    held: Chosen,
) -> Response:
    """Search with an item; those of its file and of copies are left out unless exclude_self is false."""
    sent = SearchRequest(parts=[Part.model_validate({"item": id})], **dict(options))
    as_lines = wants_lines(request)
    found = await server.search.answer(held, sent, as_lines=as_lines)
    return Response(found, media_type=LINES if as_lines else JSON)


@router.post("/v1/embed", response_model=EmbedResponse, openapi_extra=body("EmbedRequest"))
async def embed(request: Request, server: The, held: Chosen) -> Response:
    """Embed queries as a search would."""
    sent = EmbedRequest.model_validate_json(await request.body())
    embedded = await server.search.embed(held, sent.queries)
    fingerprint = held.collection.snapshot().fingerprint
    return answer(
        EmbedResponse(
            collection=held.name,
            model=fingerprint.name,
            dim=fingerprint.dim,
            vectors=[each.vector.tolist() for each in embedded],
        )
    )
