"""The Ray engine: as the local one, whatever dies."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from xsearch.cluster.connection import TRIES, connected
from xsearch.cluster.engine import Room, room
from xsearch.errors import UsageError

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


class SlowRay:
    """The module, on a machine so busy that the first `late` starts take too long."""

    def __init__(self, late: int) -> None:
        self.late, self.calls = late, list[str]()

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


def test_workers_fit_the_nodes() -> None:
    assert room([(16, 2), (8, 2)], None) == Room(4, 4, 1)
    assert room([(16, 2), (8, 0)], 0.5) == Room(4, 4, 0.5)
    assert room([(16, 2)], 0) == Room(4, 4, 0)
    assert room([(0, 0), (1, 0), (1, 0)], None) == Room(2, 1, 0)
    assert room([(1, 4)], None) == Room(4, 1, 1)
    with pytest.raises(UsageError, match="--gpus-per-worker"):
        room([(64, 0.5)], 1)
