"""Errors as problem details (RFC 9457): a stable type, a status, and a message with the next step.

urn:xsearch:   status
invalid-request   422   the request is not of the form that the OpenAPI document states: `errors`
usage             422   options that do not go together
empty-query       422   nothing is left to search for
unknown-words     422   the model has learned none of the words: `words`, `near`
bad-filter        422   `where`
url               422   URLs are not fetched
unreadable-media  422   damaged, or decoding it took too long
unsupported-media 415
too-large         413
too-slow          408
no-token          401
not-opened        403   only an import or a URL names the file
cross-site        403   another site has sent the request
wrong-host        421   the Host header is not a name of this server
not-found, no-item, no-upload, no-collection, no-drawing, no-decoder   404
method            405
file-changed      409   since it was ingested
file-gone         410
busy, model, collection, shards   503
fault             500   an error of the server, which its log has
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from xsearch import errors
from xsearch.errors import UnknownWords, XsearchError
from xsearch.serve.contract import Problem
from xsearch.serve.inert import PROBLEM, dumped

__all__ = ["Refusal", "invalid", "refusal", "respond", "without_paths"]

LOG = logging.getLogger("xsearch")

MOST_ERRORS = 20  # of a request that are listed
_OF_ERRORS: tuple[tuple[type[XsearchError], int, str, str], ...] = (  # the first that fits
    (errors.UnknownWords, 422, "unknown-words", "The model has learned none of these words"),
    (errors.EmptyQuery, 422, "empty-query", "Nothing is left to search for"),
    (errors.BadFilter, 422, "bad-filter", "Not a filter"),
    (errors.UsageError, 422, "usage", "Not possible"),
    (errors.TooLarge, 413, "too-large", "Too large"),
    (errors.Unsupported, 415, "unsupported-media", "Unsupported media"),
    (errors.NotMedia, 415, "unsupported-media", "Unsupported media"),
    (errors.MediaError, 422, "unreadable-media", "Media that cannot be decoded"),
    (errors.ModelError, 503, "model", "The model cannot be used"),
    (errors.Unavailable, 503, "shards", "A part of the index does not answer"),
    (errors.StoreError, 503, "collection", "The collection cannot be read"),
)


class Refusal(Exception):
    """A request that is answered by a problem."""

    def __init__(
        self,
        status: int,
        type: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """more: further members of the problem."""
        super().__init__(detail)
        self.problem = Problem(type=f"urn:xsearch:{type}", title=title, status=status, detail=detail, **more)
        self.headers = dict(headers or {})

    def response(self) -> Response:
        return Response(dumped(self.problem), self.problem.status, self.headers, PROBLEM)


def refusal(error: XsearchError) -> Refusal:
    """Return the refusal for an error; one of the server's own doing is logged."""
    status, type, title = next(row[1:] for row in (*_OF_ERRORS, _REST) if isinstance(error, row[0]))
    more: dict[str, Any] = {}
    if isinstance(error, UnknownWords):
        more = {"words": list(error.words), "near": list(error.near)}
    if status >= 500:
        LOG.error("%s", error)
        more["headers"] = {"Retry-After": "5"}
    return Refusal(status, type, title, _online(str(error)), **more)


_REST: tuple[type[XsearchError], int, str, str] = (XsearchError, 500, "fault", "An error of the server")


def fault() -> Refusal:
    """Return the refusal after an error that was not expected, and is in the log."""
    return Refusal(*_REST[1:], "see the log of the server")


def invalid(problems: Sequence[Any]) -> Refusal:
    """Return the refusal of a request that is not of its form. problems: pydantic's."""
    listed = [
        {"at": ".".join(map(str, each["loc"])), "problem": str(each["msg"]).replace("Value error, ", "")}
        for each in problems[:MOST_ERRORS]
    ]
    first = f"{listed[0]['at'] or 'the request'}: {listed[0]['problem']}" if listed else "not of its form"
    return Refusal(422, "invalid-request", "Not of the expected form", first, errors=listed)


def respond(request: Request, error: Exception) -> Response:
    """The handler of all exceptions of the application."""
    match error:
        case Refusal():
            return error.response()
        case XsearchError():
            return refusal(error).response()
        case ValidationError() | RequestValidationError():
            return invalid(error.errors()).response()
        case HTTPException():
            return _of_http(error).response()
        case ClientDisconnect():
            return Response(status_code=400)  # which nobody reads
    LOG.error("%s %s failed", request.method, request.scope.get("raw_path", b"").decode(), exc_info=error)
    return fault().response()


def _of_http(error: HTTPException) -> Refusal:
    """Return the refusal for what Starlette raises: no such route, no such method, a form that is none."""
    types = {404: ("not-found", "Not found"), 405: ("method", "Not allowed")}
    type, title = types.get(error.status_code, ("invalid-request", "Not of the expected form"))
    return Refusal(error.status_code, type, title, str(error.detail), headers=error.headers)


def without_paths(error: XsearchError, names: Mapping[Path, str]) -> XsearchError:
    """Return the error with names in place of paths that say nothing to a client."""
    message = str(error)
    for path, name in names.items():
        message = message.replace(str(path), name)
    if message != str(error) and not isinstance(error, UnknownWords | errors.Damaged | errors.ModelMismatch):
        return type(error)(message)
    return error


def _online(message: str) -> str:
    """Return a message without advice for the command line."""
    return message.replace(
        "--anyway (anyway=True) searches all the same", "anyway: true searches all the same"
    )
