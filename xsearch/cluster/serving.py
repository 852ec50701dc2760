"""Deployments of Ray Serve: searchers of shards, and embedders of queries."""

from __future__ import annotations

import logging
import math
import os
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4
from weakref import finalize

from xsearch.cluster.connection import connected, module
from xsearch.cluster.embedder import Embedder, Replicated
from xsearch.cluster.fan import Fan
from xsearch.cluster.searcher import Searcher
from xsearch.cluster.spread import Spread
from xsearch.decoders import settings
from xsearch.errors import Unavailable
from xsearch.index import Listing
from xsearch.store import origin

if TYPE_CHECKING:
    import numpy as np

    from xsearch.backend import Backend
    from xsearch.store import Snapshot

__all__ = ["Options", "Serving", "share_of_gpu"]

LOG = logging.getLogger("xsearch")

ONGOING = 64  # calls of a replica at once
POLL_S = 0.05  # between looks at replicas that start
PATIENCE_S = 60.0  # for replicas to start, before it is said what they need; for embedders, and what is large


@dataclass(frozen=True, slots=True)
class Options:
    """How many replicas there are, how long an answer may take, and what happens then.

    embedders: replicas of each model, each with a core, and a GPU or a share of one if the
        cluster has any. As many as there is room for are used.
    searchers: replicas of each shard, each with memory of the shard's size. They reserve no cores, as their
        number is that of the files, and they use those of their node as searches come.
    timeout_s: for the answer of a shard, with all tries.
    allow_partial: answer without the shards that have not answered, and do not wait for these again before
        they do; each answer names them. Otherwise a search fails that lacks one.
    """

    embedders: int = 1
    searchers: int = 1
    timeout_s: float = 10.0
    allow_partial: bool = False


def share_of_gpu(embedders: int, nodes: Sequence[Mapping[str, float]]) -> float:
    """Return which part of a GPU each embedder takes; as many share one as are needed for all to have room.

    nodes: the resources of each.

    >>> [share_of_gpu(count, [{"CPU": 8, "GPU": 2}, {"CPU": 64}]) for count in (1, 2, 3, 7)]
    [1.0, 1.0, 0.5, 0.25]
    >>> share_of_gpu(3, [{"CPU": 8}])
    0.0
    """
    gpus = sum(int(node.get("GPU", 0)) for node in nodes)
    if not gpus:
        return 0.0
    return math.floor(10_000 / math.ceil(embedders / gpus)) / 10_000  # Ray counts in these units


class Serving:
    """Deployments on the Ray cluster at `address`, while a block runs; None starts one on this machine.

    over: set when the block has ended.
    """

    def __init__(self, address: str | None, options: Options) -> None:
        self._address, self._options = address, options
        self._name = f"xsearch-{uuid4().hex[:12]}"
        self._stack = ExitStack()
        self._apps = set[str]()  # begun, and not deleted
        self._unused = SimpleQueue[Sequence[str] | None]()  # apps that nothing can call any more
        self._turn, self.over = Lock(), Event()

    def __enter__(self) -> Serving:
        """Raises UsageError without Ray, or a cluster."""
        os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # a late call would start Ray again
        module(self._address)
        with ExitStack() as stack:
            self._ray = stack.enter_context(connected(self._address))
            from ray import serve

            for name in ("ray", "ray.serve"):
                logging.getLogger(name).setLevel(logging.ERROR)
            self._serve = serve
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
            tidy = Thread(target=self._tidy, name="tidy", daemon=True)
            tidy.start()
            for step in (self._end, tidy.join, lambda: self._unused.put(None)):
                stack.callback(step)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def spread(self, snapshot: Snapshot) -> Spread:
        """The index of a snapshot, once all its shards answer; its searchers end when nothing refers to it.

        Raises StoreError if it is damaged, Unavailable if searchers do not start, or this has ended.
        """
        assert snapshot.index_path is not None
        folder, digests = snapshot.index_path.absolute(), snapshot.manifest.index_digests
        listing = Listing.read(folder)
        place = origin(snapshot.path) or str(snapshot.path.absolute()), str(folder), digests
        ray = self._ray

        class Replica(Searcher):
            def __init__(self, *place: Any) -> None:
                from xsearch.system.cores import CORES  # of that node; Ray sets 1 where no core is reserved

                os.environ["OMP_NUM_THREADS"] = str(CORES)
                super().__init__(*place)

            def fetch(self, bits: Any) -> np.ndarray:
                return super().fetch(ray.get(bits))

        deployment = self._serve.deployment(
            Replica,
            name="searcher",
            num_replicas=self._options.searchers,
            max_ongoing_requests=ONGOING,
            health_check_period_s=1,
        )
        targets = {}
        for shard, size in enumerate(listing.sizes()):
            needs = {"num_cpus": 0, "memory": size}
            name = f"{self._name}-{folder.name}-{uuid4().hex[:6]}-{shard}"
            targets[name] = deployment.options(ray_actor_options=needs).bind(*place, shard)
        skip = self._options.allow_partial
        fan = self._run(
            targets,
            f"searchers of {len(targets)} shards",
            timeout_s=self._options.timeout_s,
            skip=skip,
            lists=PATIENCE_S,
        )
        return Spread(listing, fan, share=self._ray.put, allow_partial=skip)

    def backend(self, local: Backend, device: str = "auto") -> Replicated:
        """A backend like `local`, at work in replicas. Raises Unavailable if they do not start.

        device: that `local` was requested for; none but the CPU needs a GPU.
        """
        with self._working():
            nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        gpus = 0.0 if device == "cpu" else share_of_gpu(self._options.embedders, nodes)
        deployment = self._serve.deployment(
            Embedder,
            name="embedder",
            num_replicas=self._options.embedders,
            max_ongoing_requests=ONGOING,
            health_check_period_s=1,
            ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        )
        application = deployment.bind(pickle.dumps(local), settings.environment())
        needs = f"{self._options.embedders} embedders of a CPU each" + f" and {gpus:g} GPUs" * bool(gpus)
        fan = self._run({f"{self._name}-{uuid4().hex[:12]}": application}, needs, timeout_s=PATIENCE_S)

        def call(method: str, *arguments: Any) -> Any:
            (answer,) = fan(method, [arguments])
            if answer is None:
                raise Unavailable("no embedder answers; try again")
            return answer

        return Replicated(local, call, fan.every, self._options.embedders)

    def _run(self, targets: Mapping[str, Any], what: str, **options: Any) -> Fan:
        """Start applications, and return what calls them once all answer; they end when nothing refers to it.

        An application answers that has one replica; the others may take a while, for which it is waited.
        """
        from ray.serve.exceptions import RayServeException

        errors = self._ray.exceptions
        options |= {"deaths": (errors.RayError, RayServeException), "failure": errors.RayTaskError}
        try:
            with self._working() as serve:
                self._apps |= targets.keys()
                handles = serve.run_many(
                    [serve.RunTarget(target, app, route_prefix=None) for app, target in targets.items()],
                    wait_for_applications_running=False,
                )
            self._await(targets, what)
            fan = Fan(handles, **options)
            finalize(fan, self._unused.put, list(targets))
        except BaseException:
            self._unused.put(list(targets))
            raise
        return fan

    def _await(self, targets: Mapping[str, Any], what: str) -> None:
        """Return once applications answer. Raises Unavailable if one cannot."""
        due = time.monotonic() + PATIENCE_S
        while True:
            with self._working() as serve:
                there = serve.status().applications
            states = [there[app] for app in targets]
            if failed := [each for each in states if each.status in ("DEPLOY_FAILED", "UNHEALTHY")]:
                reason = (failed[0].message.strip().splitlines() or ["no reason is known"])[-1]
                raise Unavailable(f"{what} do not start: {reason}")
            if all(each.status == "RUNNING" for each in states):
                return
            if time.monotonic() > due:
                LOG.warning("the cluster needs room for %s", what)
                due = math.inf
            if due == math.inf and all(map(_answers, states)):
                return
            time.sleep(POLL_S)

    @contextmanager
    def _working(self) -> Iterator[Any]:
        """Yield the module `ray.serve`. Raises Unavailable when this has ended."""
        with self._turn:
            if self.over.is_set():
                raise Unavailable("the server is being stopped")
            yield self._serve

    def _tidy(self) -> None:
        """Delete applications as nothing can call them any more."""
        for apps in iter(self._unused.get, None):
            try:
                with self._working():
                    self._delete(apps)
            except Exception as problem:  # whatever Ray raises; `_end` tries again
                LOG.debug("%s: %s", apps, problem)

    def _end(self) -> None:
        """Delete all applications; later calls start none."""
        with self._turn:
            self.over.set()
            self._delete(list(self._apps))

    def _delete(self, apps: Sequence[str]) -> None:
        with ExitStack() as stack:  # all of them, whatever one raises
            stack.callback(self._serve.status)  # answers after the requests have come, for which nobody waits
            for app in apps:
                stack.callback(self._serve.delete, app, _blocking=False)
        self._apps.difference_update(apps)


def _answers(state: Any) -> bool:
    """Whether each deployment of an application has a replica."""
    return all(each.replica_states.get("RUNNING") for each in state.deployments.values())
