"""Items and their media."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import Response

from xsearch import media as files
from xsearch import preview as drawing
from xsearch.errors import MediaError
from xsearch.serve import contract, items, media, previews
from xsearch.serve.contract import MAX_ID, MAX_TOP, MAX_WHERE, Form
from xsearch.serve.inert import LINES, answer, dumped, wants_lines
from xsearch.serve.problems import Refusal
from xsearch.serve.server import Chosen, Server, The
from xsearch.serve.shelf import Held
from xsearch.types import Hit, Modality, Sort

__all__ = ["SENT", "At", "Id", "Size", "check", "drawn", "router"]

router = APIRouter()

Id = Annotated[int, Path(ge=0, le=MAX_ID)]
Size = Annotated[int, Query(ge=16, le=4096, description="Pixels a side at most; rounded up to a few sizes.")]
At = Annotated[float | None, Query(ge=0, le=1e7, allow_inf_nan=False, description="Second of a video.")]
MINUTES = "private, max-age=300"
SENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"*/*": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get("/v1/items", response_model=contract.Items)
async def browse(
    request: Request,
    server: The,
    held: Chosen,
    modality: Annotated[list[Modality] | None, Query()] = None,
    where: Annotated[str | None, Query(max_length=MAX_WHERE)] = None,
    sort: Sort | None = None,
    top: Annotated[int, Query(ge=1, le=MAX_TOP)] = 50,
    offset: Annotated[int, Query(ge=0, le=1 << 40)] = 0,
) -> Response:
    """List items without a query."""

    def work() -> contract.Items:
        return items.browse(held, modality=modality, where=where, sort=sort, top=top, offset=offset)

    found = await server.work(work, pool=server.search.pool(where))
    if not wants_lines(request):
        return answer(found)
    lines = [dumped(found, exclude={"items"}), *map(dumped, found.items), b""]
    return Response(b"\n".join(lines), media_type=LINES)


@router.get("/v1/items/{id}", response_model=contract.ItemDetail)
async def item(id: Id, server: The, held: Chosen) -> Response:
    """Describe an item, its file, and the other items of that."""

    def work() -> contract.ItemDetail:
        view = held.view()
        hit = held.item(view.snapshot, id)
        problem, plays = "", False
        try:
            media.opened(hit, server.checked).close()
            plays = _plays(hit)
        except Refusal as refusal:
            problem = str(refusal)
        except MediaError:  # the decoder cannot read it, and a browser will not
            pass
        return items.detail(held, view, hit, plays=plays, problem=problem)

    return answer(await server.work(work))


def _plays(hit: Hit) -> bool:
    """Whether browsers show a file as it is. Raises MediaError."""
    if hit.modality is Modality.VIDEO:
        return bool(drawing.playable(FilePath(hit.path)))
    return media.media_type(str(hit.extra.get("mime") or "")) != media.DOWNLOAD


@router.get("/v1/items/{id}/media", response_class=Response, responses=SENT)
@router.head("/v1/items/{id}/media", include_in_schema=False)
async def item_media(id: Id, request: Request, server: The, held: Chosen) -> Response:
    """Send the file of an item, or a range of it."""

    def work() -> Response:
        hit = held.item(held.view().snapshot, id)
        file = media.opened(hit, server.checked)
        name, mime = hit.path.rpartition("/")[2], str(hit.extra.get("mime") or "")
        return media.send(file, name, media.media_type(mime), request)

    return await server.work(work)


@router.get("/v1/items/{id}/preview", response_class=Response, responses=SENT)
async def item_preview(
    id: Id,
    request: Request,
    server: The,
    held: Chosen,
    size: Size = 400,
    form: Form = "picture",
    at: At = None,
) -> Response:
    """Send a picture of an item, a drawing, a sound, or its text."""

    def work() -> Response:
        hit = held.item(held.view().snapshot, id)
        if form != "text":
            check(server, held, hit)
        state = [hit.extra.get(name) for name in ("bytes", "mtime_ns", "sha256")]
        return drawn(server.previews, request, hit, form, size, at, *state)

    return await server.work(work)


def check(server: Server, held: Held, hit: Hit) -> None:
    """Raise Refusal unless the file of an item may be opened."""
    if not (held.trust and files.is_url(hit.path)):
        media.opened(hit, server.checked).close()


def drawn(
    kept: previews.Previews | None,
    request: Request,
    piece: Hit | drawing.Item,
    form: Form,
    size: int,
    at_s: float | None,
    *state: object,
) -> Response:
    """Return a preview, from the cache if it is there. state: what it depends on besides the piece.

    kept: None for what may not outlive the server.
    """
    size = previews.fitting(size)
    at_s = None if at_s is None or piece.modality is not Modality.VIDEO else round(at_s, 1)
    key = previews.key(piece, form, size, at_s, *state)
    headers = {
        "etag": f'"{key}"',
        "cache-control": MINUTES,
        "content-security-policy": media.SANDBOX,
        "content-disposition": "inline",
    }
    if key in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    shown = kept.get(key) if kept else None
    if shown is None:
        shown = previews.draw(piece, form, size, at_s)
        if kept is not None:
            kept.put(key, shown)
    return Response(shown.data, headers=headers, media_type=shown.mime)


@router.get("/v1/items/{id}/signal", response_model=contract.Signal)
async def signal(id: Id, server: The, held: Chosen) -> Response:
    """Return the numbers to draw a sound, a motion, a depth map or a thermal picture by."""

    def work() -> contract.Signal:
        hit = held.item(held.view().snapshot, id)
        check(server, held, hit)
        return previews.signal(hit)

    response = answer(await server.work(work))
    response.headers["cache-control"] = MINUTES
    return response
