"""The application: routes, errors, gate."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from xsearch.errors import XsearchError
from xsearch.serve import contract, pages
from xsearch.serve.inert import PROBLEM
from xsearch.serve.problems import Refusal, respond
from xsearch.serve.routes import ROUTERS, search
from xsearch.serve.security import Gate
from xsearch.serve.server import Server
from xsearch.serve.settings import Settings

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.generate import Decoder

__all__ = ["create_app"]

_HANDLED = (Refusal, XsearchError, ValidationError, RequestValidationError, HTTPException, ClientDisconnect)
_BODIES = (
    contract.SearchRequest,
    contract.EmbedRequest,
    contract.DrawingRequest,
    contract.LocateRequest,
    contract.PositionRequest,
    contract.Login,
    contract.Problem,
)
_PROBLEM = {
    "description": "What is wrong and what to do",
    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}},
}


def create_app(
    collections: Sequence[Collection], settings: Settings | None = None, decoder: Decoder | None = None
) -> FastAPI:
    """Return the application that serves these collections, the first by default; at least one.

    decoder: draws pictures of queries, see `xsearch.load_decoder`; None: nothing does.
    """
    server = Server(collections, settings or Settings(), decoder)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with server.running():
            yield

    app = FastAPI(
        title="xsearch",
        version=version("xsearch"),
        docs_url=None,  # pages that load scripts of others
        redoc_url=None,
        lifespan=lifespan,
        responses=dict.fromkeys(("4XX", 422, "5XX"), _PROBLEM),
    )
    app.state.server = server
    for router in ROUTERS:
        app.include_router(router)
    app.include_router(pages.router)
    app.mount("/static", pages.Static(directory=Path(__file__).parent / "static"))
    for kind in _HANDLED:
        app.add_exception_handler(kind, respond)
    app.add_middleware(Gate, server=server, direct=search.direct(server))
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the bodies that routes read themselves."""
    if app.openapi_schema is None:
        document = FastAPI.openapi(app)
        models = [(model, "validation") for model in _BODIES]
        _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        document["components"]["schemas"] |= schemas["$defs"]
    return app.openapi_schema or {}
