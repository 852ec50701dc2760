"""A worker: an actor that writes the parts of units."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING

from xsearch.cluster import part
from xsearch.cluster.part import Part
from xsearch.decoders import Decoders
from xsearch.errors import Damaged, ModelError, StoreError
from xsearch.ingest import local
from xsearch.ingest.report import Clock
from xsearch.system.folder import Folder

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.cluster.units import Unit
    from xsearch.types import Fingerprint

__all__ = ["Job", "Worker"]


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What all workers of an ingest need."""

    collection: Path
    backend: bytes  # pickled
    fingerprint: Fingerprint
    captions: bool
    decoders: int  # processes per worker
    environment: Mapping[str, str]  # settings of the driver


class Worker:
    """The model and the decoder processes of one actor, which does one unit at a time."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def start(self) -> None:
        """Load the model. Raises ModelError, StoreError if this node lacks it, or the collection."""
        job = self._job
        os.environ.update(job.environment)
        self._backend: Backend = pickle.loads(job.backend)
        if self._backend.fingerprint != job.fingerprint:
            raise ModelError(
                f"{node()} has the model {self._backend.fingerprint}, the driver {job.fingerprint}; "
                "install the same on every node"
            )
        try:
            self._parts = Folder(job.collection).open(part.FOLDER, create=True)
        except OSError as error:
            raise StoreError(f"{node()}: {error}; every node needs the collection at its path") from error
        side = self._backend.capabilities().image_side
        self._pool = Decoders(job.decoders, side=side, with_facts=True, is_background=True)

    def embed(self, unit: Unit) -> None:
        """Write the part of a unit, unless it is there."""
        job = self._job
        try:
            part.read(job.collection, unit.name)
            return
        except FileNotFoundError:
            pass
        except Damaged:
            self._parts.remove(unit.name)
        outcomes = Part(unit.stored)
        local.run(unit.tasks(), outcomes, self._backend, Clock(), self._pool, captions=job.captions)
        part.write(self._parts, unit.name, outcomes.content(unit.tasks(), unit.keys))
