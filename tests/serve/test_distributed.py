"""A collection whose searchers and embedders are elsewhere, here in this process; without Ray."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from threading import enumerate as enumerate_threads
from typing import Any
from weakref import ref

import numpy as np
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

import xsearch
from tests.cluster.test_spread import Calls, rows, table
from tests.fakes import FakeBackend
from tests.until import until
from xsearch.backend import Backend
from xsearch.cli import served
from xsearch.cluster.embedder import Embedder, Replicated
from xsearch.cluster.searcher import Searcher
from xsearch.cluster.spread import Spread
from xsearch.collection import Collection
from xsearch.derive import derive
from xsearch.errors import ModelError, StoreError, Unavailable
from xsearch.index import Listing
from xsearch.query import Options, text
from xsearch.serve.app import create_app
from xsearch.serve.contract import SearchRequest
from xsearch.serve.distributed import Distributed
from xsearch.serve.embedding import SharedBackend
from xsearch.serve.metrics import Metrics
from xsearch.serve.run import listen, uvicorn_server
from xsearch.serve.search import Search, _Asked
from xsearch.serve.settings import Settings
from xsearch.serve.shelf import Shelf
from xsearch.serve.uploads import Uploads
from xsearch.store import Snapshot, Store
from xsearch.system.rendezvous import announced
from xsearch.types import Modality, Sample

RECIPE = "IVF16,PQ8x4fs"


class Inline:
    """A `Serving` without Ray."""

    def __init__(self, *, allow_partial: bool) -> None:
        self.allow_partial = allow_partial
        self.calls = list[Calls]()
        self.requests = list[str]()
        self.problems = list[Exception]()  # of the next calls of `spread`
        self.ready, self.over = Event(), Event()
        self.ready.set()

    def spread(self, snapshot: Snapshot) -> Spread:
        assert self.ready.wait(60)
        if self.problems:
            raise self.problems.pop(0)
        assert snapshot.index_path is not None
        self.calls.append(Calls(snapshot))
        return Spread(Listing.read(snapshot.index_path), self.calls[-1], allow_partial=self.allow_partial)

    def backend(self, local: Backend, device: str) -> Replicated:
        def call(method: str, *arguments: Any) -> Any:
            self.requests.append(method)
            return getattr(replica, method)(*arguments)

        replica = Embedder(pickle.dumps(local), {})
        return Replicated(local, call, call, 2)


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
    assert "embed_query" in serving.requests


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
    for query in ("q=red+green", "q=red+green&view=kinds", "q=red+green&rank=cosine&where=id+%3E%3D+6000"):
        assert "1 part of the index does not answer" in client.get(f"/?{query}").text, query
    lines = client.post(
        "/v1/search", json={"parts": [{"text": "red"}]}, headers={"Accept": "application/x-ndjson"}
    )
    assert json.loads(lines.text.splitlines()[0])["missing_shards"] == [2]
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
    serving.ready.set()
    end = time.monotonic() + 60
    while spread.view().index is old and time.monotonic() < end:
        spread.search("red")
    assert spread.view().index.plan.recipe == "IVF8,Flat"
    assert spread.search("red", 20) == local.search("red", 20)
    old, new = ref(old), ref(spread.view().index)  # whose searchers end with them
    until(lambda: old() is None)
    local.build_index(recipe="Flat")
    assert spread.search("red", 20) == local.search("red", 20)
    assert spread.view().index is None
    until(lambda: new() is None)
    local.build_index(recipe=RECIPE, shards=3)
    assert spread.search("red", 20) == Collection(store, backend=FakeBackend()).search("red", 20)
    until(lambda: spread.view().index is not None)


def spread_query() -> Any:
    from xsearch.query import vector

    return vector(np.eye(16, dtype=np.float32)[0], "image")


@pytest.mark.parametrize("problem", [Unavailable("no room"), OSError("no room"), RuntimeError("no room")])
def test_searchers_that_do_not_start_are_started_again(
    distributed: Made,
    store: Store,
    problem: Exception,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("xsearch.serve.distributed.AGAIN_S", 0.01)
    spread, serving = distributed()
    expected, old = spread.search("red", 20), spread.view().index
    serving.ready.clear()
    serving.problems += [problem, problem]
    local = Collection(store, backend=FakeBackend())
    local.build_index(recipe="IVF8,Flat", shards=3)
    assert spread.search("red", 20) == expected
    local.build_index(recipe="IVF4,Flat", shards=3)  # another one meanwhile
    assert spread.search("red", 20) == expected
    serving.ready.set()
    until(lambda: spread.view().index is not old)
    assert spread.view().index.plan.recipe == "IVF4,Flat"
    assert spread.search("red", 20) == local.search("red", 20)
    assert caplog.text.count("no room; the old index is searched, and the new one tried again") == 2


def test_searchers_that_do_not_start_at_first_are_started_by_the_next_search(distributed: Made) -> None:
    spread, serving = distributed()
    serving.problems += [Unavailable("no room"), OSError("no room")]
    for kind in (Unavailable, OSError):
        with pytest.raises(kind, match="no room"):
            spread.search("red")
    assert spread.search("red").missing_shards == ()
    assert spread.view().index is not None


def damaged(store: Store, shard: int) -> Path:
    file = store.snapshot().index_path / f"shard-{shard}.faiss"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    return file


ONLY_BUILD = "build it again with xsearch index build --shards 3; until then"


@pytest.mark.parametrize("is_missing", [False, True])
def test_a_damaged_index_is_not_searched_as_in_any_collection(
    distributed: Made, store: Store, caplog: pytest.LogCaptureFixture, is_missing: bool
) -> None:
    spread, _ = distributed()
    if is_missing:
        damaged(store, 1).unlink()
    else:
        damaged(store, 1)
    local = Collection(store, backend=FakeBackend())
    assert spread.search("red", 20) == local.search("red", 20)
    assert spread.view().index is local.view().index is None
    assert caplog.text.count(f"{ONLY_BUILD} everything is scanned") == 2
    with store.writer() as writer:  # does not build it, as the message says
        writer.add(table(10, "b"), rows(10, 1))
        derive(writer)
    assert spread.search("red", 20) == local.search("red", 20)
    local.build_index(recipe=RECIPE, shards=3)
    until(lambda: spread.view().index is not None)
    assert spread.search("red", 20) == local.search("red", 20)


def test_a_damaged_new_index_leaves_the_old_one(
    distributed: Made, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    spread, _ = distributed()
    expected, old = spread.search("red", 20), spread.view().index
    Collection(store, backend=FakeBackend()).build_index(recipe="IVF8,Flat", shards=3)
    damaged(store, 0)
    assert spread.search("red", 20) == expected
    until(lambda: f"{ONLY_BUILD} the old index is searched" in caplog.text)
    assert spread.view().index is old
    Collection(store, backend=FakeBackend()).build_index(recipe="IVF4,Flat", shards=3)
    until(lambda: spread.view().index is not old)


def test_a_searcher_that_starts_again_with_a_damaged_shard(
    distributed: Made, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    spread, serving = distributed()
    spread.search("red")
    damaged(store, 1)
    searchers = serving.calls[0].searchers
    snapshot = store.snapshot()
    place = str(snapshot.path), str(snapshot.index_path), snapshot.manifest.index_digests
    searchers[1] = Searcher(*place, 1)
    with pytest.raises(StoreError, match="wrong sha256"):
        spread.search("red")
    assert f"{ONLY_BUILD} everything is scanned" in caplog.text
    local = Collection(store, backend=FakeBackend())
    assert spread.search("red", 20) == local.search("red", 20)
    assert spread.view().index is None


def test_nothing_is_moved_to_after_the_end(
    distributed: Made, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    spread, serving = distributed()
    spread.search("red")
    serving.ready.clear()
    serving.problems.append(Unavailable("the server is being stopped"))
    Collection(store, backend=FakeBackend()).build_index(recipe="IVF8,Flat", shards=3)
    spread.search("red")
    (moving,) = [thread for thread in enumerate_threads() if thread.name == "move"]
    serving.over.set()
    serving.ready.set()
    moving.join(60)
    assert not moving.is_alive()
    assert not caplog.text


def test_answers_name_missing_shards_for_clients_and_the_command_line(
    distributed: Made, store: Store, tmp_path: Path
) -> None:
    """The command line searches by itself then, unless it names the server."""
    spread, serving = distributed(allow_partial=True)
    spread.search("red")
    listening, settings = listen(Settings(port=0, cache=tmp_path))
    ready = Event()
    server = uvicorn_server(create_app([spread], settings), settings, ready.set)
    url = f"http://127.0.0.1:{settings.port}"
    parameters = {"folder": store.path, "model": None, "device": "auto", "dtype": "auto"}

    def missing(server: str) -> tuple[int, ...] | None:
        found = served.search(text("red"), {"top": 10}, parameters | {"server": server})
        return found and found.hits.missing_shards

    with announced([store.path]) as sockets, xsearch.connect(url) as client:
        thread = Thread(target=server.run, args=[[listening, *sockets]])
        thread.start()
        try:
            assert ready.wait(60)
            assert (missing("auto"), missing(url)) == ((), ())
            serving.calls[0].down.add(2)
            assert (missing("auto"), missing(url)) == (None, (2,))
            hits = client.search("red")
            assert hits.missing_shards == (2,)
            assert "shards 2 " in hits.remark
        finally:
            server.should_exit = True
            thread.join()
            listening.close()


def test_a_search_that_waits_for_a_shard_does_so_once(distributed: Made, tmp_path: Path) -> None:
    """Requests that are answered together fail together."""
    spread, serving = distributed()
    spread.search("red")
    serving.calls[0].down.add(2)
    held = Shelf([spread], trust=False).first
    search = Search(Uploads(tmp_path, Settings()), Metrics())
    request = SearchRequest.model_validate({"parts": [{"text": "red"}]})
    asked = [_Asked(request, text("red"), [None], [None], 0.0, as_lines=False)] * 5
    before = len(serving.calls[0].calls)
    results = search._run((held, Options(top=10)), asked)
    search.close()
    assert [type(result) for result in results] == [Unavailable] * 5
    assert len(serving.calls[0].calls) == before + 1


class Failing(FakeBackend):
    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if any(sample.data == "broken" for sample in samples):
            raise ModelError("broken")
        return super().embed(samples)


def test_a_sample_that_cannot_be_embedded_fails_alone(distributed: Made) -> None:
    _, serving = distributed()
    shared = SharedBackend(Failing().fingerprint, lambda: serving.backend(Failing(), "auto"))
    go_on, results = Event(), dict[str, Any]()

    def embed(words: str) -> None:
        assert go_on.wait(60)
        try:
            results[words] = shared.embed_query([Sample(Modality.TEXT, words, text=words)])
        except ModelError as problem:
            results[words] = problem

    words = ["red", "broken", "green", "blue", "dark red"]
    threads = [Thread(target=embed, args=[each]) for each in words]
    for thread in threads:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join()
    assert isinstance(results.pop("broken"), ModelError)
    for each, vectors in results.items():
        np.testing.assert_array_equal(vectors, FakeBackend().embed([Sample(Modality.TEXT, each, text=each)]))
