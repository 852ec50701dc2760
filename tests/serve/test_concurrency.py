"""A load runs while other processes change the collection."""

from __future__ import annotations

import http.client
import json
import time
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.fakes import FakeBackend
from tests.serve.conftest import Live, open_fake
from xsearch.collection import Collection
from xsearch.serve.batching import Together
from xsearch.store.manifest import Manifest
from xsearch.store.writer import Writer

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

    def published(writer: Writer, manifest: Manifest, publish: Any = Writer._publish) -> None:
        publish(writer, manifest)
        texts[writer.manifest.generation] = sorted(writer.snapshot.table(["text"])["text"].to_pylist())

    monkeypatch.setattr(Writer, "_publish", published)

    def load(options: dict[str, Any]) -> None:
        last = 0
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
            while not is_over.is_set():
                status, answer = ask(connection, {"parts": [{"text": "red"}], "top": 50, **options})
                if status != 200 or answer["generation"] < last:
                    problems.append(answer)
                    return
                last = answer["generation"]
                answers.append((last, sorted(hit["text"] for hit in answer["hits"])))
                time.sleep(0.01)

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
            time.sleep(0.2)
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


@pytest.mark.parametrize("count", [0, 1, 200])
def test_a_large_call_is_one_result(count: int) -> None:
    assert Together(lambda values: values)(list(range(count))) == list(range(count))
