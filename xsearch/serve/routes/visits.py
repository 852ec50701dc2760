"""Whether the server is well, what it has done, and how a browser gets in."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response

from xsearch.serve.contract import Health, Login
from xsearch.serve.inert import answer
from xsearch.serve.problems import Refusal
from xsearch.serve.routes.search import body
from xsearch.serve.server import The

__all__ = ["router"]

router = APIRouter()


@router.get("/healthz", response_model=Health)
async def health() -> Response:
    """Say that the server is up."""
    return answer(Health(status="ok"))


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(server: The) -> Response:
    """Return counters for Prometheus."""
    figures = await server.work(server.gauges)
    return PlainTextResponse(server.metrics.text(figures), media_type="text/plain; version=0.0.4")


@router.get("/login", response_class=RedirectResponse, status_code=303)
async def enter(request: Request, server: The, code: Annotated[str, Query(max_length=100)] = "") -> Response:
    """Let a browser in by the link that was printed when the server started; it works once."""
    if not server.doors.takes_code(code):
        raise _wrong("the link has been used or is too old")
    response = RedirectResponse("/", 303)
    server.doors.set_cookie(response.headers, is_secure=request.url.scheme == "https")
    return response


@router.post("/v1/login", status_code=204, response_class=Response, openapi_extra=body("Login"))
async def log_in(request: Request, server: The) -> Response:
    """Let a browser in by the token."""
    if not server.doors.takes_token(Login.model_validate_json(await request.body()).token):
        raise _wrong("this is not the token")
    response = Response(status_code=204)
    server.doors.set_cookie(response.headers, is_secure=request.url.scheme == "https")
    return response


def _wrong(what: str) -> Refusal:
    detail = f"{what}; start xsearch serve again for another link, or send its token"
    return Refusal(401, "no-token", "A token is needed", detail)
