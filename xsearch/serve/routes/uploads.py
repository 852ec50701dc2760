"""Files that clients bring."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.datastructures import UploadFile
from starlette.responses import Response

from xsearch import preview
from xsearch.serve import contract, media
from xsearch.serve.contract import Form
from xsearch.serve.inert import answer
from xsearch.serve.problems import Refusal
from xsearch.serve.routes.items import SENT, At, Size, drawn
from xsearch.serve.server import The
from xsearch.serve.uploads import chunks
from xsearch.system.durable import open_file
from xsearch.types import Modality

__all__ = ["router"]

router = APIRouter()

Id = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"schema": {"type": "object", "properties": {"file": _BINARY["schema"]}, "required": ["file"]}}
_BODY = {"requestBody": {"content": {media.DOWNLOAD: _BINARY, "multipart/form-data": _FORM}}}


@router.post("/v1/uploads", status_code=201, response_model=contract.Upload, openapi_extra=_BODY)
async def upload(
    request: Request,
    server: The,
    name: Annotated[str, Query(max_length=1000, description="Of the file, if it is the body.")] = "file",
    kind: Modality | None = None,
) -> Response:
    """Keep a file, the body or the field of a form, so that queries can have it as a part."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return answer(server.uploads.answer(await server.uploads.receive(request.stream(), name, kind)), 201)
    async with request.form(max_files=1, max_fields=0) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise Refusal(
                422, "invalid-request", "Not of the expected form", "expected a file in the field `file`"
            )
        stored = await server.uploads.receive(chunks(file), file.filename or name, kind)
    return answer(server.uploads.answer(stored), 201)


@router.get("/v1/uploads/{id}", response_model=contract.Upload)
async def uploaded(id: Id, server: The) -> Response:
    """Describe an upload."""
    return answer(server.uploads.answer(server.uploads.get(id)))


@router.delete("/v1/uploads/{id}", status_code=204, response_class=Response)
async def remove(id: Id, server: The) -> Response:
    """Delete an upload."""
    server.uploads.remove(id)
    return Response(status_code=204)


@router.get("/v1/uploads/{id}/media", response_class=Response, responses=SENT)
@router.head("/v1/uploads/{id}/media", include_in_schema=False)
async def upload_media(id: Id, request: Request, server: The) -> Response:
    """Send an upload back, or a range of it."""
    stored = server.uploads.get(id)
    return media.send(open_file(stored.path), stored.name, media.media_type(stored.mime), request)


@router.get("/v1/uploads/{id}/preview", response_class=Response, responses=SENT)
async def upload_preview(
    id: Id, request: Request, server: The, size: Size = 400, form: Form = "picture", at: At = None
) -> Response:
    """Send a picture of an upload, a drawing, a sound, or its text."""
    stored = server.uploads.get(id)
    piece = preview.Item(stored.kind, str(stored.path))
    return await server.work(drawn, None, request, piece, form, size, at, id)
