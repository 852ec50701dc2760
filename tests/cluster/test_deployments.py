"""What is deployed and when it ends, on a Ray Serve of this process."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Iterator
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.cluster.test_fan import Death, Failure, Handle
from tests.cluster.test_spread import answers, store
from tests.fakes import FakeBackend
from tests.until import until
from xsearch.cluster import serving
from xsearch.cluster.embedder import Embedder
from xsearch.cluster.serving import Options, Serving, share_of_gpu
from xsearch.errors import StoreError, Unavailable, XsearchError
from xsearch.index import Index
from xsearch.query import View
from xsearch.store import Store
from xsearch.types import Modality, Sample

__all__ = ["store"]  # the fixture


class Local(Handle):
    """A handle of replicas that are here."""

    def __init__(self, replicas: list[Any]) -> None:
        super().__init__()
        self.replicas = replicas

    def __getattr__(self, method: str) -> Any:
        def remote(*arguments: Any) -> Any:
            def act() -> Any:
                try:
                    return getattr(self.replicas[0], method)(*arguments)
                except XsearchError as problem:
                    raise Failure(problem) from problem

            one = Handle(act)
            return getattr(one, method).remote()

        return SimpleNamespace(remote=remote)

    def broadcast(self, method: str, *arguments: Any) -> Any:
        done = [getattr(each, method)(*arguments) for each in self.replicas]
        return SimpleNamespace(results=lambda timeout_s: done)


class Deployment(SimpleNamespace):
    def options(self, **changes: Any) -> Deployment:
        return Deployment(**vars(self) | changes)

    def bind(self, *arguments: Any) -> Deployment:
        return self.options(arguments=arguments)


class Module:
    """`ray` and `ray.serve`, with as many running replicas of each application as `running` says."""

    def __init__(self) -> None:
        self.apps = dict[str, Deployment]()
        self.running: int | None = None  # None: all
        self.failing: dict[str, Exception] = {}  # by function
        self.resources: list[dict[str, float]] = [{"CPU": 8}]
        self.is_connected, self.max_apps = False, 0
        self.exceptions = SimpleNamespace(RayError=Death, RayTaskError=Failure)
        self.serve = self
        self.util = SimpleNamespace(get_node_ip_address=lambda: "127.0.0.1")

    def _calls(self, name: str) -> None:
        if problem := self.failing.get(name):
            raise problem

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **options: Any) -> None:
        self.is_connected = True

    def shutdown(self) -> None:
        self.is_connected = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": each} for each in self.resources]

    def put(self, value: Any) -> Any:
        return value

    get = put

    def start(self, **options: Any) -> None:
        self._calls("start")

    def deployment(self, kind: type, **options: Any) -> Deployment:
        return Deployment(kind=kind, **options)

    def RunTarget(self, target: Deployment, name: str, *, route_prefix: None) -> Any:  # noqa: N802
        return name, target

    def run_many(self, runs: list[Any], *, wait_for_applications_running: bool) -> list[Local]:
        assert self.is_connected
        self.apps |= runs
        self.max_apps = max(self.max_apps, len(self.apps))
        self._calls("run_many")
        return [Local([app.kind(*app.arguments) for _ in range(app.num_replicas)]) for _, app in runs]

    def status(self) -> Any:
        assert self.is_connected
        self._calls("status")
        states = {}
        for name, app in self.apps.items():
            running = app.num_replicas if self.running is None else self.running
            of_app = SimpleNamespace(replica_states={"RUNNING": running})
            status = "RUNNING" if running == app.num_replicas else "DEPLOYING"
            states[name] = SimpleNamespace(status=status, message="", deployments={app.name: of_app})
        return SimpleNamespace(applications=states)

    def delete(self, name: str, *, _blocking: bool) -> None:
        assert self.is_connected
        self.apps.pop(name, None)
        self._calls("delete")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[Module]:
    module = Module()
    for name in ("OMP_NUM_THREADS", "RAY_ENABLE_AUTO_CONNECT"):  # which are set
        monkeypatch.setenv(name, "1")
    monkeypatch.setitem(sys.modules, "ray", module)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "ray.serve", module)  # type: ignore[arg-type]
    errors: Any = SimpleNamespace(RayServeException=Death)
    monkeypatch.setitem(sys.modules, "ray.serve.exceptions", errors)
    yield module
    assert not module.apps
    assert not module.is_connected


def test_searchers_end_when_nothing_refers_to_the_index(ray: Module, store: Store) -> None:
    snapshot = store.snapshot()
    with Serving(None, Options(searchers=2)) as served:
        spread = served.spread(snapshot)
        assert len(ray.apps) == 3
        expected = list(answers(View(snapshot, Index.load(snapshot.index_path)), {}))
        session = View(snapshot, spread).session()
        del spread
        assert list(answers(session, {})) == expected  # of a search that goes on
        assert len(ray.apps) == 3
        del session
        until(lambda: not ray.apps)


@pytest.mark.parametrize("function", ["run_many", "status"])
def test_searchers_that_do_not_start_are_deleted(ray: Module, store: Store, function: str) -> None:
    with Serving(None, Options()) as served:
        ray.failing[function] = Death("no controller")
        with pytest.raises(Death):
            served.spread(store.snapshot())
        ray.failing.clear()
        until(lambda: not ray.apps)
        assert ray.max_apps == 3


def test_searchers_that_do_not_answer_are_deleted(
    ray: Module, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "PATIENCE_S", 0.1)
    monkeypatch.setattr(serving.Searcher, "lists", lambda searcher: (_ for _ in ()).throw(Death()))
    with Serving(None, Options()) as served:
        with pytest.raises(Unavailable, match="shards 0, 1, 2 "):
            served.spread(store.snapshot())
        until(lambda: not ray.apps)


def test_all_are_deleted_at_the_end_whatever_one_raises(ray: Module, store: Store) -> None:
    served = Serving(None, Options())
    served.__enter__()
    spread = served.spread(store.snapshot())
    ray.failing["delete"] = Death()
    with pytest.raises(Death):
        served.__exit__(None, None, None)
    assert spread.folder == store.snapshot().index_path


def test_a_failed_start_ends_the_connection(ray: Module) -> None:
    ray.failing["start"] = Death("no room for the controller")
    with pytest.raises(Death), Serving(None, Options()):
        pass


def test_nothing_is_started_once_it_has_ended(ray: Module, store: Store) -> None:
    """A server is stopped while it moves to an index, whose searchers wait for room."""
    ray.running, problems = 0, list[Exception]()

    def move() -> None:
        try:
            served.spread(store.snapshot())
        except Unavailable as problem:
            problems.append(problem)

    with Serving(None, Options()) as served:
        thread = Thread(target=move)
        thread.start()
        until(lambda: len(ray.apps) == 3)
    thread.join()
    with pytest.raises(Unavailable, match="being stopped"):
        served.spread(store.snapshot())
    assert "being stopped" in str(problems)


def test_a_damaged_shard_is_damage_not_a_searcher_that_does_not_start(
    ray: Module, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = store.snapshot()
    digests = {**snapshot.manifest.index_digests, "shard-1.faiss": "0" * 64}
    monkeypatch.setattr(type(snapshot.manifest), "index_digests", digests)
    with Serving(None, Options()) as served:
        with pytest.raises(StoreError, match=r"shard-1\.faiss has a wrong sha256"):
            served.spread(snapshot)
        until(lambda: not ray.apps)


def test_embedders_for_which_there_is_room_are_enough(
    ray: Module, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(serving, "PATIENCE_S", 0.1)
    ray.running = 1
    with Serving(None, Options(embedders=9)) as served:
        backend = served.backend(FakeBackend())
        sample = Sample(Modality.TEXT, "red", text="red")
        for embed in (backend.embed, backend.embed_query):
            np.testing.assert_array_equal(embed([sample]), FakeBackend().embed([sample]))
        assert backend.parallel == 9
    assert "room for 9 embedders of a CPU each" in caplog.text


class Towers(FakeBackend):
    loaded: list[Any] = []  # noqa: RUF012

    def warm(self, kinds: list[Modality]) -> None:
        self.loaded += kinds


def test_all_embedders_are_warm(ray: Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Towers, "loaded", [])
    with Serving(None, Options(embedders=3)) as served:
        backend = served.backend(Towers())
        assert Towers.loaded == [Modality.TEXT] * 3
        backend.warm([Modality.IMAGE])
    assert Towers.loaded[3:] == [Modality.IMAGE] * 3
    Embedder(pickle.dumps(FakeBackend()), {}).warm([Modality.IMAGE])  # has nothing to load


@pytest.mark.parametrize(
    ("nodes", "embedders", "gpus"),
    [
        ([{"CPU": 8}, {"CPU": 8}], 4, 0),
        ([{"CPU": 8}, {"CPU": 8, "GPU": 1}], 1, 1),
        ([{"CPU": 8}, {"CPU": 8, "GPU": 1}], 7, 0.1428),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}], 6, 1),
        ([{"CPU": 8, "GPU": 4}, {"CPU": 8, "GPU": 2}], 7, 0.5),
        ([{"CPU": 8, "GPU": 0.0}], 1, 0),
    ],
)
def test_embedders_share_the_gpus_of_the_cluster(
    ray: Module, nodes: list[dict[str, float]], embedders: int, gpus: float
) -> None:
    assert share_of_gpu(embedders, nodes) == gpus
    assert sum(int(node.get("GPU", 0) / gpus) for node in nodes) >= embedders if gpus else True
    ray.resources = nodes
    with Serving(None, Options(embedders=embedders)) as served:
        backends = [served.backend(FakeBackend(), device) for device in ("auto", "cpu")]
        needs = [app.ray_actor_options for app in ray.apps.values()]
    assert needs == [{"num_cpus": 1, "num_gpus": each} for each in (gpus, 0)]
    assert len(backends) == 2
