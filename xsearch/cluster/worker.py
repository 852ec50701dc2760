"""A worker: an actor that writes the parts of units."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from platform import node
from typing import TYPE_CHECKING, Any

from xsearch.backend import replicas
from xsearch.cluster import part
from xsearch.cluster.connection import remote
from xsearch.cluster.part import Part
from xsearch.decoders import Decoders
from xsearch.errors import ModelError, StoreError, XsearchError
from xsearch.ingest import local
from xsearch.ingest.report import Clock
from xsearch.media import Remote
from xsearch.media.depth import CAMERA
from xsearch.system import scratch
from xsearch.system.objects import objects_at

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.cluster.units import Unit
    from xsearch.types import Fingerprint, Modality

__all__ = ["Actor", "Job", "Source", "Worker"]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What workers need of a `Remote`, besides its URL."""

    kinds: Sequence[tuple[Modality, str]]
    cameras: Mapping[Path, bytes]  # files that describe depth maps, by their path below its folder

    @classmethod
    def of(cls, remote: Remote) -> Source:
        folder = remote.folder
        cameras = {path.relative_to(folder): path.read_bytes() for path in folder.rglob(CAMERA)}
        return cls(remote.kinds, cameras)


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """What all workers of an ingest need."""

    parts: str  # see `place_of`
    mark: str  # see `marked`
    remotes: Mapping[str, Source]  # by URL
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
        """Load the model. Raises ModelError, StoreError if this node lacks it, or the place of the parts."""
        job = self._job
        os.environ.update(job.environment)
        try:
            self._parts = objects_at(job.parts)
            self._parts.get(job.mark)
        except Exception as error:  # of an fsspec file system: any
            raise StoreError(
                f"{node()} does not have the folder {job.parts} of the driver: {error}; every node needs the "
                "collection at the same path, or a URL that it can write to (--parts)"
            ) from error
        try:
            backend: Backend = pickle.loads(job.backend)
        except XsearchError as error:
            raise ModelError(f"{node()}: {error}") from error
        if backend.fingerprint != job.fingerprint:
            raise ModelError(
                f"{node()} has the model {backend.fingerprint}, the driver {job.fingerprint}; "
                "install the same on every node"
            )
        self._backends = replicas(backend)
        self._embedded: set[Modality] = set()
        side = backend.capabilities().image_side
        self._pool = Decoders(job.decoders, side=side, with_facts=True, is_background=True)

        self._context = ExitStack()
        self._scratch = self._context.enter_context(scratch.folder())
        self._remotes: dict[str, Remote] = {}

    def embed(self, unit: Unit) -> None:
        """Write the part of a unit, unless it is there. Raises ModelError."""
        if part.read(self._parts, unit.name) is not None:
            return
        self._parts.remove(unit.name)  # a damaged one
        for url in filter(None, unit.work["remote"].unique().to_pylist()):
            if url not in self._remotes:
                self._remotes[url] = self._remote(url)
        outcomes, tasks = Part(unit.stored), unit.tasks(self._remotes)
        options: dict[str, Any] = {"captions": self._job.captions, "embedded": self._embedded}
        try:
            local.run(tasks, outcomes, self._backends, Clock(), self._pool, **options)
        except ModelError as error:  # perhaps of this node's GPU alone
            raise ModelError(f"{node()}: {error}") from error
        self._parts.put(unit.name, outcomes.content(unit.tasks(self._remotes), unit.keys))

    def _remote(self, url: str) -> Remote:
        source = self._job.remotes[url]
        remote = Remote(url, self._scratch, kinds=source.kinds, identify=self._pool.identify)
        for path, content in source.cameras.items():
            there = remote.folder / path
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(content)
        return remote


class Actor(Worker):
    """A worker in a process of Ray."""

    def start(self) -> None:
        with remote():
            super().start()

    def embed(self, unit: Unit) -> None:
        with remote():
            super().embed(unit)
