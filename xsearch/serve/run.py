"""Where an application listens, and the server that runs it."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable
from dataclasses import replace

import uvicorn
from fastapi import FastAPI

from xsearch.errors import UsageError
from xsearch.serve.security import patient
from xsearch.serve.settings import Settings

__all__ = ["listen", "uvicorn_server"]

ENDING_S = 3  # that requests may take when the server is stopped


def listen(settings: Settings) -> tuple[socket.socket, Settings]:
    """Return a socket at the address of the settings, and the settings with its port. Raises UsageError."""
    host = settings.host.strip("[]")
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.create_server(
            address, family=family, dualstack_ipv6=family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        )
        # asyncio sets it for sockets that name their protocol only; an answer would wait 40 ms for an ACK.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as problem:
        if problem.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {settings.port} of {host} is in use; choose another with --port"
            ) from None
        raise UsageError(f"cannot listen on {host}:{settings.port}: {problem.strerror}") from None
    return listening, replace(settings, port=listening.getsockname()[1])


def uvicorn_server(app: FastAPI, settings: Settings, started: Callable[[], None]) -> uvicorn.Server:
    """Return a server of an application, to be run on a listening socket.

    started: called when the first request would be answered.
    """
    for name in ("uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=patient(settings),
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=ENDING_S,
    )
    return _Uvicorn(config, app, started)


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._app, self._started = app, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._app.state.server.events.close()  # streams, which would not end by themselves
        await super().shutdown(sockets)
