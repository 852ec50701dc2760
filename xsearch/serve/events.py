"""What changes while the server runs: commits of any process, and who is writing."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from anyio import to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from xsearch.serve.contract import State, Writer
from xsearch.serve.inert import dumped
from xsearch.serve.shelf import Held, Shelf
from xsearch.store.store import HOLDER
from xsearch.system.durable import read_file

__all__ = ["EVENTS", "Events", "Stream", "state", "writer"]

LOG = logging.getLogger("xsearch")

EVENTS = "text/event-stream"
TICK_S = 1.0
SILENCE_S = 15.0  # after which a stream sends a comment, so that nothing on the way closes it


def writer(folder: Path) -> Writer | None:
    """Return who is writing to a collection now, as it says itself; None if nobody is."""
    try:
        who: dict[str, Any] = json.loads(read_file(folder / HOLDER, 1 << 12))
        stated = Writer(pid=who["pid"], host=str(who["host"])[:100], since=str(who["since"])[:40])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if stated.host == socket.gethostname():  # else it is not known whether it lives
        try:
            os.kill(stated.pid, 0)
        except PermissionError:  # it lives, as another user's
            pass
        except (OSError, OverflowError):
            return None
    return stated


def state(held: Held) -> State:
    """Return the state of a collection."""
    snapshot = held.collection.snapshot()
    return State(
        collection=held.name,
        generation=snapshot.manifest.generation,
        items=len(snapshot),
        writer=writer(held.collection.path),
    )


class Events:
    """Streams of the states of all collections, from one look at them each second."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._states: dict[str, State] = {}
        self._changed = asyncio.Condition()
        self._is_over = False
        self.streams = 0

    async def watch(self) -> None:
        """Look at the collections until cancelled."""
        while True:
            for held in self._shelf:
                try:
                    now = await to_thread.run_sync(state, held)
                except Exception as problem:  # deleted, or damaged: requests report it
                    LOG.debug("%s: %s", held.name, problem)
                    continue
                if self._states.get(held.name) != now:
                    self._states[held.name] = now
                    async with self._changed:
                        self._changed.notify_all()
            await asyncio.sleep(TICK_S)

    async def close(self) -> None:
        """End all streams."""
        self._is_over = True
        async with self._changed:
            self._changed.notify_all()

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield server-sent events: the state of each collection, at first and whenever it has changed."""
        sent: dict[str, State] = {}
        while not self._is_over:
            news = [now for name, now in self._states.items() if sent.get(name) != now]
            for now in news:
                sent[now.collection] = now
                yield b"event: state\ndata: " + dumped(now) + b"\n\n"
            if not news and not await self._waited():
                yield b": \n\n"

    async def _waited(self) -> bool:
        """Wait for a change; return whether there was one within SILENCE_S."""
        try:
            async with asyncio.timeout(SILENCE_S), self._changed:
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


class Stream(StreamingResponse):
    """A response of events, which is one of the streams from now to its end."""

    def __init__(self, events: Events) -> None:
        super().__init__(events.stream(), media_type=EVENTS)
        self._events = events
        events.streams += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._events.streams -= 1
