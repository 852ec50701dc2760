"""A collection whose searchers and embedders are elsewhere, here in this process; without Ray."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from tests.cluster.test_spread import Calls, rows, table
from tests.fakes import FakeBackend
from xsearch.backend import Backend
from xsearch.cluster.embedder import Embedder, Replicated, Request
from xsearch.cluster.spread import Spread
from xsearch.collection import Collection
from xsearch.errors import Unavailable
from xsearch.index import Listing
from xsearch.serve.distributed import Distributed
from xsearch.store import Snapshot, Store
from xsearch.types import Modality, Sample

RECIPE = "IVF16,PQ8x4fs"


class Inline:
    """A `Serving` without Ray."""

    def __init__(self, *, allow_partial: bool) -> None:
        self.allow_partial = allow_partial
        self.calls: list[Calls] = []
        self.requests: list[Any] = []
        self.retired: list[Spread] = []
        self.ready = Event()
        self.ready.set()

    def spread(self, snapshot: Snapshot) -> Spread:
        assert self.ready.wait(60)
        assert snapshot.index_path is not None
        self.calls.append(Calls(snapshot))
        return Spread(Listing.read(snapshot.index_path), self.calls[-1], allow_partial=self.allow_partial)

    def retire(self, spread: Spread) -> None:
        self.retired.append(spread)

    def backend(self, local: Backend) -> Replicated:
        def call(method: str, argument: Any) -> Any:
            self.requests.append(argument)
            return None if method == "warm" else Embedder.each(replica, [argument])[0]

        replica = Embedder.__new__(Embedder)
        replica._backend = local
        return Replicated(local, call)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store.create(tmp_path / "c", FakeBackend().fingerprint)
    with store.writer() as writer:
        writer.add(table(9_000, "a"), rows(9_000, 0))
        writer.commit()
    Collection(store, backend=FakeBackend()).build_index(recipe=RECIPE, shards=3)
    return store


Made = Callable[..., tuple[Distributed, Inline]]


@pytest.fixture
def distributed(store: Store) -> Made:
    def make(*, allow_partial: bool = False) -> tuple[Distributed, Inline]:
        serving: Any = Inline(allow_partial=allow_partial)
        return Distributed(store, serving, backend=FakeBackend()), serving

    return make


def asked(client: TestClient, **options: Any) -> dict[str, Any]:
    request = {"parts": [{"text": "red green"}], "top": 30, **options}
    answer: dict[str, Any] = client.post("/v1/search", json=request).json()
    return answer


def test_the_server_answers_as_with_a_local_collection(serve: Any, distributed: Made, store: Store) -> None:
    spread, serving = distributed()
    expected = asked(serve(Collection(store, backend=FakeBackend())))
    answer = asked(serve(spread))
    assert answer["hits"] == expected["hits"]
    assert answer["missing_shards"] == []
    assert any(isinstance(request, Request) and request.is_query for request in serving.requests)


def test_a_shard_that_does_not_answer_is_a_failure_or_is_named(serve: Any, distributed: Made) -> None:
    spread, serving = distributed()
    client = serve(spread)
    whole = asked(client)
    serving.calls[0].down.add(2)
    problem = asked(client)
    assert (problem["status"], problem["type"]) == (503, "urn:xsearch:shards")

    spread, serving = distributed(allow_partial=True)
    client = serve(spread)
    assert asked(client)["hits"] == whole["hits"]
    serving.calls[0].down.add(2)
    answer = asked(client)
    assert answer["missing_shards"] == [2]
    gone = set(serving.calls[0].searchers[2]._index.ids.tolist())
    last = answer["hits"][-1]["score"]
    left = [hit for hit in whole["hits"] if hit["id"] not in gone and hit["score"] > last]
    figures = {(hit["id"], hit["score"], hit["cosine"]) for hit in answer["hits"]}
    assert {(hit["id"], hit["score"], hit["cosine"]) for hit in left} < figures
    assert "1 part of the index does not answer" in client.get("/?q=red+green").text
    hits = spread.search("red green")
    assert hits.missing_shards == (2,)
    assert "shards 2 " in hits.remark
    serving.calls[0].down.clear()
    assert asked(client)["hits"] == whole["hits"]


def test_a_new_index_is_searched_once_it_is_ready(distributed: Made, store: Store) -> None:
    spread, serving = distributed()
    spread.search("red")
    old = spread.view().index
    serving.ready.clear()
    local = Collection(store, backend=FakeBackend())
    local.build_index(recipe="IVF8,Flat", shards=3)
    with store.writer() as writer:
        writer.add(pa.table({"path": ["/new"], "modality": ["image"]}), np.eye(16, dtype=np.float32)[:1])
        writer.commit()
    new = [hit.id for hit in local.search(spread_query(), 1)]
    assert spread.view().index is old
    assert [hit.id for hit in spread.search(spread_query(), 1)] == new  # scanned
    assert not serving.retired
    serving.ready.set()
    end = time.monotonic() + 60
    while spread.view().index is old and time.monotonic() < end:
        spread.search("red")
    assert spread.view().index.plan.recipe == "IVF8,Flat"
    assert spread.search("red", 20) == local.search("red", 20)
    while not serving.retired and time.monotonic() < end:
        time.sleep(0.01)
    assert serving.retired == [old]
    local.build_index(recipe="Flat")
    assert spread.search("red", 20) == local.search("red", 20)
    assert spread.view().index is None
    assert len(serving.retired) == 2


def spread_query() -> Any:
    from xsearch.query import vector

    return vector(np.eye(16, dtype=np.float32)[0], "image")


def test_searchers_that_do_not_start_leave_the_old_index(
    distributed: Made, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    spread, serving = distributed()
    expected = spread.search("red", 20)

    def fail(snapshot: Snapshot) -> Spread:
        raise Unavailable("searchers of 3 shards do not start: no room")

    serving.spread = fail  # type: ignore[method-assign]
    Collection(store, backend=FakeBackend()).build_index(recipe="IVF8,Flat", shards=3)
    assert spread.search("red", 20) == expected
    end = time.monotonic() + 60
    while "no room" not in caplog.text and time.monotonic() < end:
        time.sleep(0.01)
    assert "the old index is searched" in caplog.text


def test_requests_are_embedded_together_by_what_they_ask_for() -> None:
    replica = Embedder.__new__(Embedder)
    replica._backend = FakeBackend()
    samples = [Sample(Modality.TEXT, text, text=text) for text in ("red", "green", "blue")]
    requests = [
        Request(samples[:2]),
        Request(samples[2:], is_query=True),
        Request(samples[:1], Modality.IMAGE, is_query=True),
        Request(samples[1:]),
    ]
    expected = FakeBackend().embed(samples)
    for vectors, at in zip(replica.each(requests), ([0, 1], [2], [0], [1, 2]), strict=True):
        np.testing.assert_array_equal(vectors, expected[at])
