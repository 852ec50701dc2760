"""Pictures that are drawn of queries: one at a time, in a thread that makes way for searches."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import uuid4

from xsearch.errors import ModelError, XsearchError
from xsearch.generate import draw, nearest_in
from xsearch.serve import contract
from xsearch.serve.problems import Refusal, fault, refusal
from xsearch.system.cores import lower_priority
from xsearch.types import Fingerprint

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.generate import Decoder
    from xsearch.query import Embedded, View

__all__ = ["Drawing", "Drawings"]

LOG = logging.getLogger("xsearch")

WAITING, KEPT = 4, 24  # drawings that wait before one more is refused; and whose pictures are kept


class _Cancelled(Exception):
    """Raised by the progress of a drawing to end it."""


class _Picture(NamedTuple):
    png: bytes
    is_filtered: bool


@dataclass(slots=True, eq=False)
class Drawing:
    """What has been asked for, and the pictures that are ready."""

    request: contract.DrawingRequest
    total: int  # steps
    id: str = field(default_factory=lambda: uuid4().hex)
    state: Literal["waiting", "drawing", "done", "failed"] = "waiting"
    done: int = 0  # steps
    pictures: list[_Picture] = field(default_factory=list)
    problem: contract.Problem | None = None
    is_cancelled: bool = False

    def answer(self) -> contract.Drawing:
        """Return the description of a drawing."""
        return contract.Drawing(
            id=self.id,
            state=self.state,
            done=self.done,
            total=self.total,
            pictures=[
                contract.Picture(
                    link=f"/v1/drawings/{self.id}/picture?number={number}",
                    seed=self.request.seed + number,
                    is_filtered=picture.is_filtered,
                )
                for number, picture in enumerate(list(self.pictures))
            ],
            problem=self.problem,
        )


class Drawings:
    """The drawings of a server. For any number of threads.

    decoder: None: nothing is drawn.
    """

    def __init__(self, decoder: Decoder | None) -> None:
        self._decoder = decoder
        self._drawings: dict[str, Drawing] = {}
        self._pool = ThreadPoolExecutor(1, "drawing", initializer=lower_priority)
        self._lock = Lock()

    def close(self) -> None:
        """Cancel all drawings."""
        for drawing in list(self._drawings.values()):
            drawing.is_cancelled = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def draws(self, fingerprint: Fingerprint) -> bool:
        """Whether vectors of this model can be drawn."""
        try:
            self.decoder(fingerprint)
        except Refusal:
            return False
        return True

    def decoder(self, fingerprint: Fingerprint) -> Decoder:
        """Return the decoder, which draws vectors of this model. Raises Refusal."""
        try:
            if self._decoder is None:
                raise ModelError("this server has no decoder; start it with --decoder NAME")
            self._decoder.check(fingerprint)
        except ModelError as error:
            raise Refusal(404, "no-decoder", "Nothing to draw with", str(error)) from None
        return self._decoder

    def start(
        self, request: contract.DrawingRequest, query: Embedded, view: View, backend: Backend
    ) -> Drawing:
        """Draw a query when those before it are done. Raises Refusal."""
        decoder = self.decoder(backend.fingerprint)
        steps = (request.steps or decoder.steps) * (request.candidates or decoder.candidates)
        drawing = Drawing(request, steps * request.count)
        with self._lock:
            if sum(each.state == "waiting" for each in self._drawings.values()) >= WAITING:
                busy = "other drawings are waiting already; try again in a while"
                raise Refusal(503, "busy", "Busy", busy, headers={"Retry-After": "10"})
            ended = [each.id for each in self._drawings.values() if each.state in ("done", "failed")]
            for id in ended[: max(len(self._drawings) + 1 - KEPT, 0)]:
                del self._drawings[id]
            self._drawings[drawing.id] = drawing
        self._pool.submit(self._run, drawing, query, decoder, view, backend)
        return drawing

    def get(self, id: str) -> Drawing:
        """Return a drawing. Raises Refusal."""
        with self._lock:
            if (drawing := self._drawings.get(id)) is None:
                gone = "it was cancelled, or made room for others: draw it again"
                raise Refusal(404, "no-drawing", "No such drawing", gone)
            return drawing

    def remove(self, id: str) -> None:
        """Cancel a drawing, and delete its pictures. Raises Refusal."""
        self.get(id).is_cancelled = True
        with self._lock:
            self._drawings.pop(id, None)

    def _run(self, drawing: Drawing, query: Embedded, decoder: Decoder, view: View, backend: Backend) -> None:
        def progress(done: int, total: int) -> None:
            if drawing.is_cancelled:
                raise _Cancelled
            drawing.done = done

        request = drawing.request
        try:
            progress(0, 0)
            drawing.state = "drawing"
            draw(
                query,
                decoder,
                backend,
                count=request.count,
                seed=request.seed,
                steps=request.steps,
                guidance=request.guidance,
                candidates=request.candidates,
                nearest=nearest_in(view),
                progress=progress,
                each=lambda drawn: drawing.pictures.append(_Picture(drawn.png(), drawn.is_filtered)),
            )
            drawing.state = "done"
        except _Cancelled:
            pass
        except XsearchError as error:
            drawing.problem, drawing.state = refusal(error).problem, "failed"
        except Exception:
            LOG.exception("a drawing failed")
            drawing.problem, drawing.state = fault().problem, "failed"
