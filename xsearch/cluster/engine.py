"""The driver: hands units to workers, and their parts to the ledger."""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from xsearch.cluster import part
from xsearch.cluster.connection import MOST_DEATHS, cause_of, check, connected
from xsearch.cluster.units import UNIT_FILES, Unit, cut, keys
from xsearch.cluster.worker import Actor, Job, Source
from xsearch.decoders import MAX_DECODERS, settings
from xsearch.errors import StoreError, UsageError, XsearchError
from xsearch.ingest.work import WORK, Action, tasks_of
from xsearch.system.objects import Objects, objects_at

if TYPE_CHECKING:
    from xsearch.backend import Backend
    from xsearch.ingest.ledger import Ledger
    from xsearch.ingest.report import Clock
    from xsearch.ingest.survey import Survey
    from xsearch.types import Fingerprint

__all__ = ["Ray", "Room", "Team", "embed_all", "room", "take_over"]

LOG = logging.getLogger("xsearch")

CORES_PER_WORKER = 4  # at most, without GPUs: as many copies of the model are in memory as there are workers
AHEAD = 2  # units that a worker has at a time, so that it need not wait for the next
COMMIT_S = 1.0  # between commits: they are what a killed driver loses, besides the units at work
PATIENCE_S = 60.0  # for the first worker
HINT = "Ray's logs on its node say more; if it lacked memory, use fewer --workers"


@dataclass(frozen=True, slots=True)
class Ray:
    """An engine for `ingest`: the Ray cluster at `address`; None starts one on this machine.

    workers: by default as many as there is room for. gpus_per_worker: None for one, if the cluster has any.
    parts: URL of a folder for this collection alone, where workers leave what they have embedded; by default
    that is the collection, which every node then needs at its path.
    unit_files: how many files a worker embeds in one call, at most.
    """

    address: str | None = None
    workers: int | None = None
    gpus_per_worker: float | None = None
    parts: str | None = None
    unit_files: int = UNIT_FILES

    def __call__(
        self, survey: Survey, ledger: Ledger, backend: Backend, clock: Clock, *, captions: bool
    ) -> None:
        """Embed the surveyed files.

        Raises UsageError if there is no Ray, or no cluster, and StoreError or ModelError if a node lacks the
        collection, a surveyed file or the model.
        """
        place = part.place_of(ledger.collection, self.parts)
        parts = objects_at(place)
        stated = backend.fingerprint, {"captions": captions}
        work = take_over(survey, ledger, parts, *stated)
        if not len(work):
            return
        with connected(self.address) as ray, part.marked(parts) as mark:
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
            there = room([(each.get("CPU", 0), each.get("GPU", 0)) for each in nodes], self.gpus_per_worker)
            job = Job(
                place,
                mark,
                {url: Source.of(remote) for url, remote in survey.remotes.items()},
                ray.cloudpickle.dumps(backend),
                backend.fingerprint,
                captions,
                min(there.cpus, MAX_DECODERS),
                settings.environment(),
            )
            team = Team(ray, job, num_cpus=there.cpus, num_gpus=there.gpus)
            workers = self.workers or there.workers

            def embed(units: Iterator[Unit]) -> Iterator[Unit]:
                return clock.waiting(team.embed(units, workers))

            try:
                embed_all(work, embed, survey, ledger, parts, *stated, files=self.unit_files)
            finally:
                team.close()

    def check(self) -> None:
        """Raise UsageError if there is no cluster, or no Ray, or parts cannot be where they should be."""
        if self.parts:
            objects_at(self.parts)
        check(self.address)


@dataclass(frozen=True, slots=True)
class Room:
    """How many workers of how many cores and GPUs fit."""

    workers: int
    cpus: int
    gpus: float


def room(nodes: Sequence[tuple[float, float]], gpus_per_worker: float | None) -> Room:
    """Return the workers that fit nodes of so many cores and GPUs each. Raises UsageError if none does.

    >>> room([(64, 8), (4, 0)], None), room([(2, 0), (8, 0)], None)
    (Room(workers=8, cpus=8, gpus=1), Room(workers=5, cpus=2, gpus=0))
    """
    gpus = gpus_per_worker
    if gpus is None:
        gpus = 1 if any(of_node for _, of_node in nodes) else 0
    if gpus > 1 and gpus != int(gpus):
        raise UsageError(f"{gpus:g} GPUs per worker: expected a whole number or a share of one")
    if gpus:
        slots = [(int(of_node / gpus), cores) for cores, of_node in nodes if of_node >= gpus]
        if not slots:
            raise UsageError(f"no node of the cluster has {gpus:g} GPUs; change --gpus-per-worker")
        cpus = max(int(min(cores / count for count, cores in slots)), 1)
        return Room(sum(count for count, _ in slots), cpus, gpus)
    cpus = int(min([CORES_PER_WORKER, *(cores for cores, _ in nodes if cores >= 1)]))
    return Room(max(sum(int(cores / cpus) for cores, _ in nodes), 1), cpus, 0)


class Team:
    """The workers of an ingest."""

    def __init__(self, ray: Any, job: Job, *, num_cpus: float, num_gpus: float) -> None:
        self._ray, self._job = ray, ray.put(job)
        self._needs = f"{num_cpus:g} CPUs and {num_gpus:g} GPUs"
        resources = {"num_cpus": num_cpus, "num_gpus": num_gpus, "scheduling_strategy": "SPREAD"}
        self._class = ray.remote(Actor).options(**resources)
        errors = ray.exceptions
        self._deaths = errors.RayActorError, errors.NodeDiedError, errors.OutOfMemoryError
        self._calls: dict[Any, tuple[Any, Unit | None]] = {}  # with their workers, in order; None: it starts

    def embed(self, units: Iterator[Unit], workers: int) -> Iterator[Unit]:
        """Yield units as their parts are written. Those of a worker that dies are given to another.

        Raises XsearchError if MOST_DEATHS workers die over one unit, or in a row before they have started and
        none is left.
        """
        again = deque(islice(units, workers))
        deaths: Counter[str] = Counter()  # by the part of the unit; "": before a worker has started
        for _ in range(len(again)):
            self._start()
        while again or any(unit for _, unit in self._calls.values()):
            call = self._next_done()
            worker, unit = self._calls[call]
            try:
                self._ray.get(call)
            except self._deaths as death:
                lost = [each for each in self._drop(worker) if each]  # it was at work on the first one
                name, what = (lost[0].name, f"over {lost[0]}") if lost else ("", "before they had started")
                deaths[name] += 1
                if deaths[name] >= MOST_DEATHS:
                    problem = f"{deaths[name]} workers died {what}: {death}; {HINT}"
                    if lost or not self._calls:
                        raise XsearchError(problem) from death
                    LOG.warning("%s", problem)  # the others go on
                again.extendleft(reversed(lost))
                if deaths[""] < MOST_DEATHS or not self._calls:
                    self._start()
                continue
            except self._ray.exceptions.RayError as error:
                raise cause_of(error, "a worker") from error
            del self._calls[call]
            if unit:
                yield unit
            else:
                deaths[""] = 0
            for _ in range(1 if unit else AHEAD):
                following = again.popleft() if again else next(units, None)
                if following:
                    self._calls[worker.embed.remote(following)] = worker, following

    def close(self) -> None:
        """End the workers."""
        for worker in {worker for worker, _ in self._calls.values()}:
            self._ray.kill(worker)

    def _start(self) -> None:
        worker = self._class.remote(self._job)
        self._calls[worker.start.remote()] = worker, None

    def _drop(self, worker: Any) -> list[Unit | None]:
        """Forget a worker; return what it was given, in order."""
        calls = [call for call, (each, _) in self._calls.items() if each is worker]
        self._ray.kill(worker)  # it may only have been out of reach
        return [self._calls.pop(call)[1] for call in calls]

    def _next_done(self) -> Any:
        while True:
            done, _ = self._ray.wait(list(self._calls), num_returns=1, timeout=PATIENCE_S)
            if done:
                return done[0]
            if not any(unit for _, unit in self._calls.values()):
                LOG.warning("no worker has started yet: the cluster needs room for %s", self._needs)


def embed_all(
    work: pa.Table,
    embed: Callable[[Iterator[Unit]], Iterator[Unit]],
    survey: Survey,
    ledger: Ledger,
    parts: Objects,
    fingerprint: Fingerprint,
    parameters: dict[str, Any],
    *,
    files: int = UNIT_FILES,
) -> None:
    """Embed the files of a table of schema WORK, and report their outcomes to the ledger.

    embed: yields units as their parts are written. Others: see `cut`.
    A worker knows less than the ledger of what is a copy: files that only the worker took for copies go into
    another round, in which all are embedded.
    """
    for candidates in (ledger.candidates, None):
        units = cut(work, survey.remotes, candidates, fingerprint, parameters, files=files)
        work = _collect(embed(units), survey, ledger, parts)


def _collect(units: Iterator[Unit], survey: Survey, ledger: Ledger, parts: Objects) -> pa.Table:
    """Replay the parts of units, and delete those that are committed; return the files still to embed."""
    left, replayed = [WORK.empty_table()], list[str]()
    committed_s = time.monotonic()
    for unit in units:
        if (outcomes := part.read(parts, unit.name)) is None:
            raise StoreError(
                f"what has been embedded of {unit} is damaged or gone: {unit.name}; ingest again, "
                "with --parts of this collection alone"
            )
        rows = part.replay(outcomes, unit.tasks(survey.remotes), ledger)
        left.append(unit.work.take(pa.array(rows, pa.int64())))
        replayed.append(unit.name)
        if time.monotonic() - committed_s > COMMIT_S:
            _commit(ledger, parts, replayed)
            committed_s = time.monotonic()
    _commit(ledger, parts, replayed)
    return pa.concat_tables(left)


def take_over(
    survey: Survey, ledger: Ledger, parts: Objects, fingerprint: Fingerprint, parameters: dict[str, Any]
) -> pa.Table:
    """Replay what earlier runs have left in parts of the files to embed; return the others.

    fingerprint, parameters: see `cut`. Parts are deleted, whether they were of use or not. A file that failed
    is among the others: no ledger knows of that, and the trouble may have passed.
    """
    work = survey.work.filter(pc.field("action") == Action.EMBED)
    names = [name for name in parts.names() if name.endswith(part.SUFFIX)]
    if not names:
        return work
    rows = {key: row for row, key in enumerate(keys(work, fingerprint, parameters))}
    for name in names:
        if (outcomes := part.read(parts, name)) is None:
            continue
        here = [key in rows for key in outcomes["key"].to_pylist()]
        outcomes = outcomes.filter(pa.array(here, pa.bool_()))
        found = outcomes["key"].to_pylist()
        tasks = tasks_of(work.take(pa.array([rows[key] for key in found], pa.int64())), survey.remotes)
        left = [found[row] for row in part.replay(outcomes, tasks, ledger, again=True)]
        for key in {*found}.difference(left):
            del rows[key]
    _commit(ledger, parts, names)
    return work.take(pa.array(rows.values(), pa.int64()))


def _commit(ledger: Ledger, parts: Objects, names: list[str]) -> None:
    """Commit what has been replayed, and delete its parts."""
    ledger.commit()
    for name in names:
        parts.remove(name)
    names.clear()
