"""JSON in which texts of anybody are harmless, in a terminal and in a page."""

from __future__ import annotations

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from xsearch.system.terminal import json_escaped

__all__ = ["JSON", "LINES", "PROBLEM", "answer", "dumped", "wants_lines"]

JSON, LINES, PROBLEM = "application/json", "application/x-ndjson", "application/problem+json"
_MARKUP = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


def dumped(model: BaseModel, *, exclude: set[str] | None = None) -> bytes:
    """Return JSON on one line with escapes for markup, control and bidirectional characters."""
    text = json_escaped(model.model_dump_json(exclude=exclude))
    for mark, escape in _MARKUP.items():  # `translate` takes many times as long
        text = text.replace(mark, escape)
    return text.encode()


def wants_lines(request: Request) -> bool:
    """Whether a client asks for JSON lines."""
    return LINES in request.headers.get("accept", "")


def answer(model: BaseModel, status: int = 200) -> Response:
    """Return a model as a response."""
    return Response(dumped(model), status, media_type=JSON)
