"""The Ray engine: as the local one, whatever dies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from platform import node
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xsearch.cluster.connection import LOOPBACK, MOST_DEATHS, TRIES, check, connected
from xsearch.cluster.engine import Room, Team, room
from xsearch.errors import UsageError, XsearchError

PROGRAM = """
import json, sys
from pathlib import Path
from benchmarks.cluster import Drawn, content, make_files
from xsearch.cluster import Ray, describe
from xsearch.cluster.connection import connected
from xsearch.ingest import ingest
from xsearch.store import Store

folder = Path(sys.argv[1])
make_files(folder / "media", 24)
(folder / "media" / "bad.png").write_bytes(b"\\x89PNG")
stores = [Store.create(folder / name, Drawn.fingerprint) for name in ("local", "ray")]
drawn = Drawn(folder / "tally")
with connected(None) as ray:
    reports = [
        ingest(stores[0], [folder / "media"], drawn, decoders=1),
        ingest(stores[1], [folder / "media"], drawn, decoders=1, engine=Ray(workers=2, unit_files=5)),
    ]
    addresses = [node["NodeManagerAddress"] for node in ray.nodes()]
    described = describe()
skipped = [store.snapshot().skipped().drop_columns("when").to_pylist() for store in stores]
print(json.dumps({
    "same": content(stores[0]) == content(stores[1]) and skipped[0] == skipped[1],
    "skipped": len(skipped[1]),
    "counts": [[sum(report.items.values()), report.duplicates] for report in reports],
    "addresses": addresses,
    "described": described,
    "left": [path.name for path in (stores[1].path / "parts").iterdir()],
}))
"""


@pytest.mark.cluster
def test_a_cluster_of_this_machine_gives_what_the_local_engine_gives(printed: Callable[..., Any]) -> None:
    result = printed(PROGRAM)
    assert result["same"]
    assert result["skipped"] == 1
    assert result["counts"] == [[24, 3], [24, 3]]
    assert result["addresses"] == ["127.0.0.1"]
    assert "1 nodes" in result["described"]
    assert not result["left"]


WITH_GPUS = """
import json, os, sys
from functools import partial
from pathlib import Path
from benchmarks.cluster import Drawn, make_files
from xsearch.cluster import Ray, Tasks
from xsearch.cluster.connection import connected, module
from xsearch.ingest import ingest
from xsearch.store import Store

class Noting(Drawn):
    def embed(self, samples):
        with self.tally.with_suffix(".gpus").open("a") as notes:
            print(os.environ["CUDA_VISIBLE_DEVICES"], file=notes)
        return super().embed(samples)

class Sticky(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")

def stick(number):
    raise Sticky("dogs", "cats")

def miss(number):
    Store.open(Path("/nowhere"))

def problem(function):
    try:
        Tasks(None)(function, 3)
    except Exception as error:
        return [type(error).__name__, str(error)]

os.chdir(folder := Path(sys.argv[1]))
make_files(folder / "media", 16)
ray, seen = module(None), {}
ray.init = partial(ray.init, num_cpus=2, num_gpus=2)
with connected(None):
    for gpus in (1, 0):
        store = Store.create(Path(str(gpus)), Drawn.fingerprint)
        drawn = Noting(folder / f"{gpus}.tally")
        ingest(store, [folder / "media"], drawn, decoders=1, engine=Ray(None, 2, gpus, unit_files=4))
        seen[gpus] = sorted(set(Path(f"{gpus}.gpus").read_text().splitlines()))
    print(json.dumps({"seen": seen, "problems": [problem(stick), problem(miss)]}))
"""


@pytest.mark.cluster
def test_workers_see_their_own_gpus_and_tasks_name_their_node(printed: Callable[..., Any]) -> None:
    result = printed(WITH_GPUS, CUDA_VISIBLE_DEVICES="0,1")
    assert set(result["seen"]["1"]) <= {"0", "1"}
    assert result["seen"]["0"] == [""]
    sticky, missing = result["problems"]
    assert sticky == ["XsearchError", f"{node()}: Sticky: dogs and cats"]
    assert missing[0] == "StoreError"
    assert missing[1].startswith(f"{node()}: ")
    assert "every node needs the collection at the same path" in missing[1]


class SlowRay:
    """The module, on a machine so busy that the first `late` starts take too long."""

    def __init__(self, late: int, address: str = "127.0.0.1") -> None:
        self.late, self.calls = late, list[str]()
        self.util = SimpleNamespace(get_node_ip_address=lambda: address)

    def is_initialized(self) -> bool:
        return False

    def init(self, address: str, **options: Any) -> None:
        self.calls.append(address)
        if len(self.calls) <= self.late:
            raise Exception("The current node timed out during startup.")

    def shutdown(self) -> None:
        pass


def test_a_slow_start_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", slow := SlowRay(TRIES - 1))
    with connected(None):
        assert slow.calls == ["local"] * TRIES
    for address in (None, "auto"):
        monkeypatch.setitem(sys.modules, "ray", slow := SlowRay(TRIES))
        with pytest.raises(Exception, match="timed out"), connected(address):
            pass
        assert len(slow.calls) == (1 if address else TRIES)


def test_ray_listens_to_this_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray := SlowRay(0, "192.0.2.1"))  # imported with other settings
    for attempt in (connected(None).__enter__, lambda: check(None)):
        with pytest.raises(UsageError, match=f"192.0.2.1.*{LOOPBACK[0]}=0"):
            attempt()
    assert not ray.calls
    monkeypatch.setenv(LOOPBACK[0], "1")  # by the user
    with connected(None):
        assert ray.calls == ["local"]


class Fault(Exception):
    """A RayError."""


class Death(Fault):
    """A RayActorError."""


class Mortal:
    """The module, and a worker of it. dies: whether the worker of this number dies in this method."""

    exceptions = SimpleNamespace(
        RayError=Fault, RayTaskError=Fault, RayActorError=Death, NodeDiedError=Death, OutOfMemoryError=Death
    )

    def __init__(self, dies: Callable[[int, str], bool], number: int = 0) -> None:
        self.dies, self.number, self.workers = dies, number, list[Mortal]()

    def remote(self, *arguments: Any) -> Mortal:
        if isinstance(arguments[0], type):
            return self
        self.workers.append(Mortal(self.dies, len(self.workers)))
        return self.workers[-1]

    def options(self, **resources: Any) -> Mortal:
        return self

    def put(self, job: Any) -> Any:
        return "job"

    def kill(self, worker: Mortal) -> None:
        pass

    def wait(self, calls: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        assert calls
        return calls[:1], calls[1:]

    def get(self, call: tuple[Any, ...]) -> None:
        worker, method, *_ = call
        if self.dies(worker.number, method):
            raise Death(f"worker {worker.number}")

    def __getattr__(self, method: str) -> Any:
        return SimpleNamespace(remote=lambda *units: (self, method, *(unit.name for unit in units)))


def done(dies: Callable[[int, str], bool], workers: int = 2) -> tuple[list[str], Mortal]:
    """The units that come of a team of so many workers, and its Ray."""
    ray, units = Mortal(dies), [SimpleNamespace(name=name) for name in "abcdef"]
    team = Team(ray, cast(Any, None), num_cpus=1, num_gpus=0)
    return [unit.name for unit in team.embed(cast(Any, iter(units)), workers)], ray


def test_workers_that_die_as_they_start_are_not_replaced_for_ever() -> None:
    with pytest.raises(XsearchError, match=r"5 workers died before they had started: worker \d+; .*logs"):
        done(lambda number, method: method == "start", workers=1)
    names, ray = done(lambda number, method: number > 0 and method == "start")  # all but the first
    assert sorted(names) == [*"abcdef"]
    assert len(ray.workers) <= 1 + MOST_DEATHS
    names, ray = done(lambda number, method: number % 3 > 0 and method == "start")
    assert sorted(names) == [*"abcdef"]
    with pytest.raises(XsearchError, match="5 workers died over"):
        done(lambda number, method: method == "embed")


def test_workers_fit_the_nodes() -> None:
    assert room([(16, 2), (8, 2)], None) == Room(4, 4, 1)
    assert room([(16, 2), (8, 0)], 0.5) == Room(4, 4, 0.5)
    assert room([(16, 2)], 0) == Room(4, 4, 0)
    assert room([(0, 0), (1, 0), (1, 0)], None) == Room(2, 1, 0)
    assert room([(1, 4)], None) == Room(4, 1, 1)
    with pytest.raises(UsageError, match="--gpus-per-worker"):
        room([(64, 0.5)], 1)
    with pytest.raises(UsageError, match="whole number"):
        room([(64, 8)], 1.5)
