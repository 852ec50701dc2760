"""What the routes of a server share."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, TypeVar
from weakref import WeakKeyDictionary

from fastapi import Depends, Request

from xsearch.errors import XsearchError
from xsearch.serve import contract
from xsearch.serve.drawings import Drawings
from xsearch.serve.events import Events
from xsearch.serve.maps import Maps
from xsearch.serve.media import Checked
from xsearch.serve.metrics import Metrics, labelled
from xsearch.serve.previews import Previews
from xsearch.serve.recent import Recent
from xsearch.serve.search import Search
from xsearch.serve.security import Doors
from xsearch.serve.settings import Settings
from xsearch.serve.shelf import Held, Shelf
from xsearch.serve.uploads import Uploads
from xsearch.store import Snapshot
from xsearch.system import scratch
from xsearch.types import Modality

if TYPE_CHECKING:
    from xsearch.collection import Collection
    from xsearch.generate import Decoder

__all__ = ["Chosen", "Server", "The"]

LOG = logging.getLogger("xsearch")

T = TypeVar("T")
CHECKED = 4096  # files whose state is remembered


class Server:
    """Collections and what is made of them, for the time that the server runs."""

    uploads: Uploads
    search: Search

    def __init__(
        self, collections: Sequence[Collection], settings: Settings, decoder: Decoder | None
    ) -> None:
        self.settings = settings
        self.shelf = Shelf(collections, trust=settings.trust_paths)
        self.doors = Doors(settings)
        self.metrics = Metrics()
        self.previews = Previews(settings.cache / "previews", settings.cache_bytes)
        self.maps = Maps(settings.cache / "maps")
        self.drawings = Drawings(decoder)
        self.checked: Checked = Recent(CHECKED)
        self.events = Events(self.shelf)
        self.facets = WeakKeyDictionary[Snapshot, list[contract.Facet]]()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start what runs beside the requests; end it with the block."""
        with scratch.folder() as folder:
            self.uploads = Uploads(folder, self.settings)
            self.search = Search(self.uploads, self.metrics)
            self.search.slow.submit(self._warm)
            beside = [asyncio.create_task(each) for each in (self.events.watch(), self.uploads.tidy())]
            try:
                yield
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.wait(beside)
                await self.events.close()
                self.search.close()
                self.maps.close()
                self.drawings.close()
                for held in self.shelf:
                    held.collection.close()

    def _warm(self) -> None:
        """Load what a first text query and a first filter need, which takes seconds."""
        for held in self.shelf:
            try:
                held.view().warm()
                model = held.backend(held.view().snapshot).model
                if (load := getattr(model, "warm", None)) is not None:
                    load([Modality.TEXT])
            except XsearchError as problem:  # which requests report
                LOG.warning("%s: %s", held.name, problem)

    async def work(self, function: Callable[..., T], *args: object, pool: Executor | None = None) -> T:
        """Call a function in a pool, by default that of what may take long."""
        return await asyncio.get_running_loop().run_in_executor(pool or self.search.slow, function, *args)

    def gauges(self) -> dict[str, float]:
        """Figures of this moment, for /metrics."""
        figures: dict[str, float] = {
            "uploads": len(self.uploads),
            "upload_bytes": self.uploads.size,
            "preview_bytes": self.previews.bytes,
            "preview_hits_total": self.previews.hits,
            "preview_misses_total": self.previews.misses,
            "event_streams": self.events.streams,
            "embedded_samples_total": sum(model.embedded for model in self.shelf.models),
            "model_calls_total": sum(model.calls for model in self.shelf.models),
            "text_cache_hits_total": sum(model.texts.hits for model in self.shelf.models),
        }
        for held, snapshot in self.shelf.each(lambda held: (held, held.collection.snapshot())):
            labels = labelled(collection=held.name)
            figures[f"items{labels}"] = len(snapshot)
            figures[f"generation{labels}"] = snapshot.manifest.generation
        return figures


async def _server(request: Request) -> Server:
    server: Server = request.app.state.server
    return server


The = Annotated[Server, Depends(_server)]


async def _chosen(server: The, collection: str | None = None) -> Held:
    return server.shelf.get(collection)


Chosen = Annotated[Held, Depends(_chosen)]
