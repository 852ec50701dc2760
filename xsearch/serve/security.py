"""What stands before every request: host, token, origin, size and pace; and headers behind every answer.

A page of another site may send requests to a server on this machine through the user's browser, but browsers
say so: in Origin and Sec-Fetch-Site, and after DNS rebinding in Host.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from hashlib import sha256
from ipaddress import ip_address
from typing import TYPE_CHECKING

import h11
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from xsearch.serve.problems import Refusal, respond
from xsearch.serve.settings import Settings, is_loopback

if TYPE_CHECKING:
    from xsearch.serve.server import Server

__all__ = ["CSP", "SANDBOX", "Direct", "Doors", "Gate", "patient"]

Direct = tuple[APIRoute, Callable[[Request], Awaitable[Response]]]

LOG = logging.getLogger("xsearch")

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "media-src 'self' blob:; connect-src 'self'; font-src 'self'; worker-src 'self' blob:; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SANDBOX = (
    "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'self'"  # of media and drawings
)
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"microphone=(self), camera=(self), geolocation=()"),
    (b"cache-control", b"no-store"),
]
OPEN = {"/healthz", "/login", "/v1/login"}  # without a token
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
FORM = 1 << 20  # bytes of a form besides its files
CLOSE = {"Connection": "close"}
CODE_S = 600.0  # that a one-time link lasts


class Doors:
    """Who may use the server: holders of its token, or of a cookie, for the token or a one-time code."""

    def __init__(self, settings: Settings) -> None:
        self.token = settings.token
        self.cookie = f"xsearch-{settings.port}"  # cookies are the same for all ports of a host
        self._session = secrets.token_urlsafe(32)
        self._code: tuple[str, float] | None = None
        self._any_address = not is_loopback(settings.host)
        names = {settings.host, *settings.names}
        if self._any_address:
            names |= {socket.gethostname(), f"{socket.gethostname()}.local"}
        self._names = {name.strip("[]").rstrip(".").lower() for name in names}

    def new_code(self) -> str:
        """Return a code that opens the door once, for CODE_S seconds."""
        self._code = secrets.token_urlsafe(24), time.monotonic() + CODE_S
        return self._code[0]

    def takes_code(self, code: str) -> bool:
        """Whether it is the code, which is void from now on."""
        expected, self._code = self._code, None
        if expected is not None and _equal(code, expected[0]):
            return time.monotonic() < expected[1]
        self._code = expected
        return False

    def takes_token(self, token: str) -> bool:
        return self.token is not None and _equal(token, self.token)

    def set_cookie(self, headers: MutableHeaders, *, is_secure: bool) -> None:
        """Give the browser that is answered the cookie."""
        attributes = "HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000" + "; Secure" * is_secure
        headers.append("set-cookie", f"{self.cookie}={self._session}; {attributes}")

    def is_open(self, headers: Headers) -> bool:
        """Whether a request has the token or the cookie, or needs none."""
        if self.token is None:
            return True
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self.takes_token(token.strip()):
            return True
        return _equal(cookie_parser(headers.get("cookie", "")).get(self.cookie, ""), self._session)

    def knows_host(self, host: str) -> bool:
        """Whether a Host header names this server.

        An address does if the server listens on more than this machine: what is rebound is a name.
        """
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdecimal() else host
        name = name.strip("[]").rstrip(".").lower()
        if name in self._names or is_loopback(name):
            return True
        try:
            ip_address(name)
        except ValueError:
            return False
        return self._any_address


def _equal(one: str, other: str) -> bool:
    """Compare in a time that says nothing of either."""
    return hmac.compare_digest(
        *(sha256(text.encode(errors="surrogatepass")).digest() for text in (one, other))
    )


class Gate:
    """ASGI middleware that lets requests in.

    direct: by method and path, routes and what answers their requests without the layers that FastAPI puts
        around them, which take as long as a search.
    """

    def __init__(self, app: ASGIApp, server: Server, direct: Mapping[tuple[str, str], Direct]) -> None:
        self._app, self._doors = app, server.doors
        self._settings, self._metrics = server.settings, server.metrics
        self._direct = direct
        self._bodies: set[_Body] = set()  # of requests that are not answered yet

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        status, start, body = 0, time.perf_counter(), _Body(receive, self._settings, self._bodies)

        async def guarded(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = list(message.get("headers", ()))
                present = {name for name, _ in headers}
                headers += [header for header in HEADERS if header[0] not in present]
                message["headers"] = headers
            await send(message)

        try:
            headers = Headers(scope=scope)
            self._check(scope, headers)
            self._bound(body, scope, headers)
            if (direct := self._direct.get((scope["method"], scope["path"]))) is None:
                await self._app(scope, body, guarded)
            else:
                scope["route"], answer = direct
                response = await answer(Request(scope, body))
                await response(scope, body, guarded)
        except Exception as problem:
            if status:  # the client notices that the answer ends too early
                raise
            await respond(Request(scope), problem)(scope, receive, guarded)
        finally:
            self._bodies.discard(body)
            route = str(getattr(scope.get("route"), "path", "other"))
            is_known = scope["method"] in (getattr(scope.get("route"), "methods", None) or ())
            method = scope["method"] if is_known else "any"
            self._metrics.count("requests_total", method=method, route=route, status=str(status))
            self._metrics.observe("request_seconds", time.perf_counter() - start, method=method, route=route)

    def _bound(self, body: _Body, scope: Scope, headers: Headers) -> None:
        """Limit the body of a request, and how many are answered at once. Raises Refusal."""
        if len(self._bodies) >= self._settings.requests:
            detail = "too many requests are being answered; send it again later"
            raise Refusal(503, "busy", "Busy", detail, headers={**CLOSE, "Retry-After": "5"})
        is_form = headers.get("content-type", "").startswith("multipart/form-data")
        if scope["path"] == "/v1/uploads" or (scope["path"] == "/v1/search" and is_form):
            body.limit = self._settings.upload_bytes + FORM
        if int(headers.get("content-length") or 0) > body.limit:
            raise body.too_large()
        self._bodies.add(body)

    def _check(self, scope: Scope, headers: Headers) -> None:
        """Raise Refusal if a request may not come in."""
        host = headers.get("host", "")
        if not self._doors.knows_host(host):
            hint = "; a proxy's is added with --name" if self._doors.token else ""
            raise Refusal(421, "wrong-host", "Not this server", f"this server is not called {host!r}{hint}")
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        is_write = scope["method"] in WRITES
        is_link = headers.get("sec-fetch-mode") == "navigate" and not is_write
        if (site not in (None, "same-origin", "none") and not is_link) or (
            is_write and origin is not None and origin.partition("://")[2].lower() != host.lower()
        ):
            raise Refusal(403, "cross-site", "From another site", "requests of other sites are not answered")
        is_local = scope["server"][1] is None  # a Unix socket, which only the user of this process can open
        is_free = is_local or scope["path"] in OPEN or scope["path"].startswith("/static/")
        if not is_free and not self._doors.is_open(headers):
            raise Refusal(
                401,
                "no-token",
                "A token is needed",
                "send Authorization: Bearer TOKEN, or open the link that xsearch serve has printed",
                headers={"WWW-Authenticate": "Bearer"},
            )


class _Body:
    """The body of a request, of at most `limit` bytes, which come at a least rate.

    all: those of all requests, which are bounded together.
    """

    def __init__(self, receive: Receive, settings: Settings, all: set[_Body]) -> None:
        self._receive, self._settings, self._all = receive, settings, all
        self.limit = settings.body_bytes
        self.received, self._start, self._is_over = 0, 0.0, False

    async def __call__(self) -> Message:
        if self._is_over:  # waits for the end of the connection
            return await self._receive()
        self._start = self._start or time.monotonic()
        allowed_s = self._settings.body_s + self.received / self._settings.least_rate
        try:
            message = await asyncio.wait_for(self._receive(), self._start + allowed_s - time.monotonic())
        except TimeoutError:
            raise Refusal(408, "too-slow", "Too slow", "the request came too slowly", headers=CLOSE) from None
        self.received += len(message.get("body", b""))
        if self.received > self.limit:
            raise self.too_large()
        if sum(body.received for body in self._all) > max(self._settings.uploads_bytes, self.limit):
            detail = "too much is being sent at once; send it again later"
            raise Refusal(503, "busy", "Busy", detail, headers={**CLOSE, "Retry-After": "30"})
        self._is_over = not message.get("more_body", False)
        return message

    def too_large(self) -> Refusal:
        detail = f"more than {self.limit:,} bytes in one request"
        return Refusal(413, "too-large", "Too large", detail, headers=CLOSE)


def patient(settings: Settings) -> type[H11Protocol]:
    """Return uvicorn's protocol, which hangs up on clients that do not go on.

    One may take `head_s` seconds for the head of a request, and for the rest of one that is answered already,
    and has to read some of an answer every `stall_s` seconds.
    """
    return type("Patient", (_Patient,), {"head_s": settings.head_s, "stall_s": settings.stall_s})


class _Patient(H11Protocol):
    head_s: float
    stall_s: float
    _head: asyncio.TimerHandle | None = None
    _look: asyncio.TimerHandle | None = None
    _unread = 0  # bytes of answers at the last look, if none was read since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_request()
        self._look = self.loop.call_later(self.stall_s, self._look_at_answers)

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._head, self._look):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._await_request()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            self._await_request()

    def resume_writing(self) -> None:
        self._unread = 0
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP as all other requests are refused."""
        refused = Refusal(400, "invalid-request", "Not HTTP", "the request cannot be read", headers=CLOSE)
        response = refused.response()
        headers = [*response.raw_headers, *HEADERS]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    @property
    def _is_waiting(self) -> bool:
        """Whether the client has to go on before anything else happens."""
        is_answered = self.cycle is not None and self.cycle.response_complete
        return self.conn.their_state is h11.IDLE or is_answered

    def _await_request(self) -> None:
        if self._head is not None and not self._is_waiting:
            self._head.cancel()
            self._head = None
        elif self._head is None and self._is_waiting:
            self._head = self.loop.call_later(self.head_s, self._hang_up)

    def _hang_up(self) -> None:
        self._head = None
        if self._is_waiting and not self.transport.is_closing():
            self.transport.close()

    def _look_at_answers(self) -> None:
        unread = self.transport.get_write_buffer_size()
        if unread and unread == self._unread:
            self.transport.abort()
            return
        self._unread = unread
        self._look = self.loop.call_later(self.stall_s, self._look_at_answers)
