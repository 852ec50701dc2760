"""A load runs while other processes change the collection."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier, Condition, Event, Thread
from typing import Any

import numpy as np
import pytest

from tests.fakes import FakeBackend
from tests.serve.conftest import Live, Serve, open_fake
from xsearch.collection import Collection
from xsearch.errors import Unavailable
from xsearch.serve.batching import MOST, Batches, Together
from xsearch.serve.contract import SearchRequest
from xsearch.serve.metrics import Metrics
from xsearch.serve.search import Search
from xsearch.serve.settings import Settings
from xsearch.serve.shelf import Shelf
from xsearch.serve.uploads import Uploads
from xsearch.store import Store
from xsearch.store.manifest import Manifest
from xsearch.store.writer import Writer
from xsearch.types import Sample

FILES, ROUNDS = 6, 3


def write(folder: Path, round: int) -> None:
    """All files of a round share a word; a commit has all of them."""
    for at in range(FILES):
        (folder / f"{round}-{at}.txt").write_text(f"red word{round} {'dark ' * at}")
        (folder / f"{round - 1}-{at}.txt").unlink(missing_ok=True)


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> tuple[int, Any]:
    connection.request("POST", "/v1/search", json.dumps(body))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_no_answer_fails_or_mixes_states(live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has the items of the generation that it names, while files are ingested, removed and compacted."""
    folder = tmp_path / "media"
    folder.mkdir()
    write(folder, 0)
    Collection.create(tmp_path / "c", backend=FakeBackend()).ingest(folder)
    port = live(open_fake(tmp_path / "c")).state.server.settings.port
    first = open_fake(tmp_path / "c").snapshot()
    texts = {first.manifest.generation: sorted(first.table(["text"])["text"].to_pylist())}
    is_over, answers, problems = Event(), list[tuple[int, list[str]]](), list[Any]()
    answered = Condition()

    def published(writer: Writer, manifest: Manifest, publish: Any = Writer._publish) -> None:
        publish(writer, manifest)
        texts[writer.manifest.generation] = sorted(writer.snapshot.table(["text"])["text"].to_pylist())

    monkeypatch.setattr(Writer, "_publish", published)

    def load(options: dict[str, Any]) -> None:
        last = 0
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not is_over.wait(0.01):
                status, answer = ask(connection, {"parts": [{"text": "red"}], "top": 50, **options})
                with answered:
                    answered.notify()
                    if status != 200 or answer["generation"] < last:
                        problems.append(answer)
                        return
                    last = answer["generation"]
                    answers.append((last, sorted(hit["text"] for hit in answer["hits"])))

    def is_reached() -> bool:
        """Whether an answer has the state as of now; or there will be none."""
        return bool(problems) or max(texts) in dict(answers)

    options: list[dict[str, Any]] = [
        {},
        {},
        {"where": "text LIKE '%red%'"},
        {"unique": False, "match": "words"},
    ]
    threads = [Thread(target=load, args=[each]) for each in options]
    for thread in threads:
        thread.start()
    try:
        collection = open_fake(tmp_path / "c")
        for round in range(1, ROUNDS + 1):
            write(folder, round)
            collection.ingest(folder, prune=True)
            collection.remove(where=f"text LIKE '%word{round}%' AND path LIKE '%0.txt'")
            collection.compact()
            with answered:
                assert answered.wait_for(is_reached, 60)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    assert not problems, problems[:2]
    assert not [answer for answer in answers if texts[answer[0]] != answer[1]]
    assert len({generation for generation, _ in answers}) >= ROUNDS
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        _, answer = ask(connection, {"parts": [{"text": "red"}]})
    assert {hit["text"].split()[1] for hit in answer["hits"]} == {f"word{ROUNDS}"}


def test_the_events_tell_of_commits_and_writers(live: Live, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    write(folder, 0)
    collection = Collection.create(tmp_path / "c", backend=FakeBackend())
    port = live(open_fake(tmp_path / "c")).state.server.settings.port
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/v1/events")
    stream = connection.getresponse()

    def next_state() -> dict[str, Any]:
        while not (line := stream.readline()).startswith(b"data: "):
            assert line, "the stream has ended"
        state: dict[str, Any] = json.loads(line[6:])
        return state

    assert next_state()["items"] == 0
    with collection.store.writer():
        writer = next_state()["writer"]
        assert writer is not None
        assert writer["pid"] > 0
    collection.ingest(folder)
    while (state := next_state())["items"] != FILES or state["writer"] is not None:
        pass
    connection.close()


def test_threads_embed_together() -> None:
    """What waits while a batch runs is the next batch; one that fails does so alone."""
    begun, go_on, batches = Event(), Event(), list[list[int]]()

    def run(values: list[int]) -> list[int]:
        batches.append(values)
        if values == [0]:
            begun.set()
            assert go_on.wait(30)
        if 3 in values:
            raise ValueError("three")
        return [10 * value for value in values]

    together, results = Together(run), dict[int, Any]()

    def call(value: int) -> None:
        try:
            results[value] = together([value])
        except ValueError as problem:
            results[value] = str(problem)

    threads = [Thread(target=call, args=[value]) for value in range(5)]
    threads[0].start()
    assert begun.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(together._waiting) < 4:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert results == {0: [0], 1: [10], 2: [20], 3: "three", 4: [40]}
    assert sorted(batches[1]) == [1, 2, 3, 4]


def test_batches_that_are_computed_elsewhere_are_so_at_once() -> None:
    both = Barrier(2)

    def run(values: list[int]) -> list[int]:
        both.wait(60)  # for the batch of the other thread
        return values

    together = Together(run, parallel=2)
    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(together, [[0] * MOST, [1] * MOST])) == [[0] * MOST, [1] * MOST]


def test_what_does_not_answer_is_waited_for_once() -> None:
    calls = list[int]()

    def run(values: list[int]) -> list[int]:
        calls.append(len(values))
        raise Unavailable("no embedder answers")

    with pytest.raises(Unavailable):
        Together(run)(list(range(9)))
    assert calls == [9]


@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_large_call_is_one_result(count: int) -> None:
    assert Together(lambda values: values)(list(range(count))) == list(range(count))


def test_the_call_of_a_model_that_fails_leaves_nobody_waiting() -> None:
    with pytest.raises(ValueError, match="shorter"):
        Together(lambda values: values[1:])([1])

    def run(values: list[int]) -> list[int]:
        raise ValueError("all") if len(values) > 1 else SystemExit

    with pytest.raises(SystemExit):
        Together(run)([1, 2])


def test_a_pool_that_ends_leaves_nobody_waiting() -> None:
    begun, go_on = Event(), Event()

    def run(key: str, values: list[int]) -> list[int]:
        begun.set()
        assert go_on.wait(30)
        return values

    async def main() -> None:
        batches: Batches[str, int, int] = Batches(run)
        pool = ThreadPoolExecutor(1)
        answers = [asyncio.create_task(batches.submit(pool, key, 1)) for key in "aabb"]
        await asyncio.to_thread(begun.wait, 30)
        pool.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        results = await asyncio.gather(*answers, return_exceptions=True)
        assert results[:2] == [1, 1]
        assert all(isinstance(result, asyncio.CancelledError) for result in results[2:])
        with ThreadPoolExecutor(1) as another:
            assert await batches.submit(another, "b", 2) == 2

    asyncio.run(asyncio.wait_for(main(), 60))


def test_a_query_that_fails_does_so_alone(stored: Path, tmp_path: Path) -> None:
    class Failing(FakeBackend):
        def embed(self, samples: Sequence[Sample]) -> np.ndarray:
            if any(sample.data == "broken" for sample in samples):
                raise ZeroDivisionError
            return super().embed(samples)

    held = Shelf([Collection(Store.open(stored), backend=Failing())], trust=False).first

    async def main() -> list[Any]:
        search = Search(Uploads(tmp_path, Settings(cache=tmp_path)), Metrics())
        texts = ("red", "green", "broken", "blue")
        requests = [SearchRequest.model_validate({"parts": [{"text": text}]}) for text in texts]
        try:
            answers = [search.answer(held, request) for request in requests]
            return await asyncio.gather(*answers, return_exceptions=True)
        finally:
            search.close()

    answers = asyncio.run(main())
    assert [type(answer) for answer in answers] == [bytes, bytes, ZeroDivisionError, bytes]
    assert [json.loads(answers[at])["query"]["name"] for at in (0, 1, 3)] == ["“red”", "“green”", "“blue”"]


def test_a_collection_that_is_gone_or_made_anew(serve: Serve, collection: Collection, tmp_path: Path) -> None:
    """The others are served; a new one is read, but not with the model of the old one."""

    def make(text: str, backend: FakeBackend) -> None:
        shutil.rmtree(tmp_path / "second", ignore_errors=True)
        folder = tmp_path / text
        folder.mkdir()
        (folder / "a.txt").write_text(text)
        Collection.create(tmp_path / "second", backend=backend).ingest(folder)

    def texts() -> list[str]:
        answer = client.post("/v1/search?collection=second", json={"parts": [{"text": "red"}]})
        return [hit["text"] for hit in answer.json()["hits"]]

    make("red", FakeBackend())
    client = serve(collection, open_fake(tmp_path / "second"))
    assert texts() == ["red"]
    facets = client.get("/v1/info?collection=second").json()["facets"]
    shutil.rmtree(tmp_path / "second")
    assert [each["name"] for each in client.get("/v1/info").json()["collections"]] == ["photos"]
    assert [each["name"] for each in client.get("/v1/identity").json()["collections"]] == ["photos"]
    assert client.get("/metrics").status_code == 200
    assert client.get("/v1/info?collection=second").json()["type"] == "urn:xsearch:collection"
    make("green", FakeBackend())
    assert texts() == ["green"]
    assert client.get("/v1/info?collection=second").json()["facets"] != facets
    make("blue", FakeBackend(name="another"))
    answer = client.post("/v1/search?collection=second", json={"parts": [{"text": "red"}]})
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:xsearch:model")
