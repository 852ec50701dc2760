"""An index that is added to and searched on Ray: as here, whatever dies, and while it is replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

PROGRAM = """
import json, os, signal, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from benchmarks.shards import searchers
from tests.cluster.test_spread import rows, table
from tests.fakes import FakeBackend
from xsearch.cluster import Tasks
from xsearch.cluster.serving import Options, Serving
from xsearch.collection import Collection
from xsearch.serve.distributed import Distributed
from xsearch.store import Store

TEXTS = ["red", "green blue", "dark red", "bright"]
store = Store.create(Path(sys.argv[1]) / "c", FakeBackend().fingerprint)
with store.writer() as writer:
    writer.add(table(9_000, "a"), rows(9_000, 0))
    writer.commit()
local = Collection(store, backend=FakeBackend())
result = {}


def answers(collection):
    return [[(hit.id, hit.score, hit.cosine) for hit in collection.search(text, 20)] for text in TEXTS]


def until(is_over):
    end = time.monotonic() + 120
    found = []
    while not is_over() and time.monotonic() < end:
        found.append(answers(served))
    return found


with Serving(None, Options(timeout_s=120)) as serving, ThreadPoolExecutor(1) as pool:
    local.build_index(recipe="IVF16,PQ8x4fs", shards=2, run=Tasks(None))
    expected = answers(local)
    served = Distributed(store, serving, backend=FakeBackend())
    served.warm()
    result["same"] = answers(served) == expected
    pid, _ = searchers()[0]
    os.kill(pid, signal.SIGKILL)
    found = until(lambda: len(searchers()) == 2 and pid not in dict(searchers()))
    result["killed"] = bool(found) and all(each == expected for each in found)
    old = served.view().index
    Collection(store, backend=FakeBackend()).build_index(recipe="IVF8,Flat", shards=1, run=Tasks(None))
    later = answers(local)
    found = until(lambda: served.view().index is not old)
    both = [each for some in found for each in zip(some, expected, later)]
    result["moving"] = bool(both) and all(answer in (before, after) for answer, before, after in both)
    result["moved"] = answers(served) == later and served.view().index.plan.recipe == "IVF8,Flat"
    del old
    until(lambda: len(searchers()) == 1)
    result["ended"] = len(searchers()) == 1
result["left"] = [path.name for path in (store.path / "parts").iterdir()]
print(json.dumps(result))
"""


@pytest.mark.cluster
def test_searchers_on_ray_answer_as_the_index_here(printed: Callable[..., Any]) -> None:
    result = printed(PROGRAM, RAY_worker_niceness="0")
    done = dict.fromkeys(("same", "killed", "moving", "moved", "ended"), True)
    assert result == {**done, "left": []}
