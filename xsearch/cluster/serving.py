"""Deployments of Ray Serve: searchers of shards, and embedders of queries."""

from __future__ import annotations

import logging
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from threading import Timer
from types import TracebackType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from xsearch.cluster.connection import cause_of, connected, module
from xsearch.cluster.embedder import Embedder, Replicated, Request
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

__all__ = ["Options", "Serving"]

LOG = logging.getLogger("xsearch")

BATCH = 64  # requests that an embedder takes together
BATCH_WAIT_S = 0.002  # for further ones
ONGOING = 64  # calls of a replica at once
AGAIN_S = 0.05  # before a call is repeated whose replica has died
PATIENCE_S = 60.0  # for replicas to start, before it is said what they need; for embedders, and what is large


@dataclass(frozen=True, slots=True)
class Options:
    """How many replicas there are, how long an answer may take, and what happens then.

    embedders: of the model of each collection. searchers: of each shard.
    timeout_s: for the answer of a shard, with all tries.
    allow_partial: answer without the shards that have not answered.
    """

    embedders: int = 1
    searchers: int = 1
    timeout_s: float = 10.0
    allow_partial: bool = False


class Serving:
    """Deployments on the Ray cluster at `address`, while a block runs; None starts one on this machine."""

    def __init__(self, address: str | None, options: Options) -> None:
        self._address, self._options = address, options
        self._name = f"xsearch-{uuid4().hex[:12]}"
        self._stack = ExitStack()
        self._apps: list[str] = []

    def __enter__(self) -> Serving:
        """Raises UsageError without Ray, or a cluster."""
        module(self._address)
        self._ray = self._stack.enter_context(connected(self._address))
        from ray import serve

        for name in ("ray", "ray.serve"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._serve = serve
        serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._delete(self._apps)
        self._stack.close()

    def spread(self, snapshot: Snapshot) -> Spread:
        """The index of a snapshot, once all its searchers answer. Raises StoreError, Unavailable."""
        assert snapshot.index_path is not None
        folder, digests = snapshot.index_path.absolute(), snapshot.manifest.index_digests
        listing = Listing.read(folder)
        place = origin(snapshot.path) or str(snapshot.path.absolute()), str(folder), digests
        ray = self._ray

        class Replica(Searcher):
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
        for shard, file in enumerate(listing.files):
            needs = {"num_cpus": 0, "memory": file.stat().st_size}
            name = f"{self._name}-{folder.name}-{shard}"
            targets[name] = deployment.options(ray_actor_options=needs).bind(*place, shard)
        handles = self._run(targets, f"searchers of {len(listing.files)} shards")
        return Spread(
            listing,
            _Fan(self._ray, handles, self._options.timeout_s, lists=PATIENCE_S),
            share=self._ray.put,
            allow_partial=self._options.allow_partial,
        )

    def retire(self, spread: Spread) -> None:
        """End the searchers of an index once the searches have ended that still use it."""
        apps = [name for name in self._apps if f"-{spread.folder.name}-" in name]
        timer = Timer(3 * self._options.timeout_s, self._delete, [apps])
        timer.daemon = True
        timer.start()

    def backend(self, local: Backend) -> Replicated:
        """A backend like `local`, at work in replicas. Raises Unavailable if they do not start."""
        serve = self._serve

        class Replica(Embedder):
            @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=BATCH_WAIT_S)
            async def embed(self, requests: list[Request]) -> list[np.ndarray]:
                return await self.batch(requests)

        gpus = 1 if self._ray.cluster_resources().get("GPU") else 0
        deployment = serve.deployment(
            Replica,
            name="embedder",
            num_replicas=self._options.embedders,
            max_ongoing_requests=2 * BATCH,
            health_check_period_s=1,
            ray_actor_options={"num_cpus": 1, "num_gpus": gpus},
        )
        name = f"{self._name}-{uuid4().hex[:12]}"
        application = deployment.bind(pickle.dumps(local), settings.environment())
        handles = self._run({name: application}, "embedders of a CPU each" + " and a GPU" * gpus)
        fan = _Fan(self._ray, handles, PATIENCE_S)

        def call(method: str, *arguments: Any) -> Any:
            (answer,) = fan(method, [arguments])
            if answer is None:
                raise Unavailable("no embedder answers; try again")
            return answer

        return Replicated(local, call)

    def _run(self, targets: dict[str, Any], what: str) -> list[Any]:
        """Start applications, and return their handles once all are there."""
        serve = self._serve
        runs = [serve.RunTarget(target=each, name=name, route_prefix=None) for name, each in targets.items()]
        self._apps += targets
        handles: list[Any] = serve.run_many(runs, wait_for_applications_running=False)
        due = time.monotonic() + PATIENCE_S
        while True:
            there = serve.status().applications
            states = [there[name] for name in targets]
            if failed := [each for each in states if each.status in ("DEPLOY_FAILED", "UNHEALTHY")]:
                self._delete(list(targets))
                raise Unavailable(f"{what} do not start: {failed[0].message.strip().splitlines()[-1]}")
            if all(each.status == "RUNNING" for each in states):
                return handles
            if time.monotonic() > due:
                LOG.warning("the cluster needs room for %s", what)
                due = float("inf")
            time.sleep(AGAIN_S)

    def _delete(self, apps: Sequence[str]) -> None:
        for name in list(apps):
            self._serve.delete(name, _blocking=False)
        self._apps = [name for name in self._apps if name not in apps]


class _Fan:
    """A `Call` through handles. What a searcher raises is raised; whatever befalls it, is tried again."""

    def __init__(self, ray: Any, handles: Sequence[Any], timeout_s: float, **others: float) -> None:
        """others: the time-outs of methods, by name."""
        from ray.serve.exceptions import RayServeException

        self._ray, self._handles, self._timeout_s, self._others = ray, handles, timeout_s, others
        self._passing = ray.exceptions.RayActorError, ray.exceptions.RaySystemError, RayServeException

    def __call__(self, method: str, arguments: Sequence[tuple[Any, ...] | None]) -> list[Any]:
        deadline = time.monotonic() + self._others.get(method, self._timeout_s)
        calls: list[Callable[[], Any] | None] = [
            None if some is None else partial(getattr(handle, method).remote, *some)
            for handle, some in zip(self._handles, arguments, strict=True)
        ]
        waiting = [call and call() for call in calls]
        return [
            call and self._answer(call, first, deadline) for call, first in zip(calls, waiting, strict=True)
        ]

    def _answer(self, call: Callable[[], Any], response: Any, deadline: float) -> Any:
        while True:
            try:
                return response.result(timeout_s=max(deadline - time.monotonic(), 0.001))
            except TimeoutError:
                response.cancel()
                return None
            except self._ray.exceptions.RayTaskError as error:
                raise cause_of(error, "a replica") from error
            except self._passing:
                if time.monotonic() + AGAIN_S > deadline:
                    return None
                time.sleep(AGAIN_S)
                response = call()
