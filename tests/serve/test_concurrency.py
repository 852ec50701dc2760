"""A load runs while other processes change the collection."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from tests.fakes import FakeBackend
from tests.serve.conftest import Live, open_fake
from xsearch.collection import Collection
from xsearch.serve.batching import Together

FILES, ROUNDS = 6, 5
# Prints the generation and the texts of each commit
WRITER = """
import json, sys
from pathlib import Path
from tests.serve.conftest import open_fake
from tests.serve.test_concurrency import ROUNDS, write
from xsearch.store.writer import Writer

def publish(writer, manifest, plain=Writer._publish):
    plain(writer, manifest)
    texts = writer.snapshot.table(["text"])["text"].to_pylist()
    print(json.dumps([writer.manifest.generation, sorted(texts)]))

Writer._publish = publish
path, folder = map(Path, sys.argv[1:])
collection = open_fake(path)
for round in range(1, ROUNDS + 1):
    write(folder, round)
    collection.ingest(folder, prune=True)
    collection.remove(where=f"text LIKE '%word{round}%' AND path LIKE '%0.txt'")
    collection.compact()
"""


def write(folder: Path, round: int) -> None:
    """All files of a round share a word; a commit has all of them."""
    for at in range(FILES):
        (folder / f"{round}-{at}.txt").write_text(f"red word{round} {'dark ' * at}")
        (folder / f"{round - 1}-{at}.txt").unlink(missing_ok=True)


def ask(connection: http.client.HTTPConnection, body: dict[str, Any]) -> tuple[int, Any]:
    connection.request("POST", "/v1/search", json.dumps(body))
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_no_answer_fails_or_mixes_states(live: Live, tmp_path: Path) -> None:
    folder = tmp_path / "media"
    folder.mkdir()
    write(folder, 0)
    Collection.create(tmp_path / "c", backend=FakeBackend()).ingest(folder)
    port = live(open_fake(tmp_path / "c")).state.server.settings.port
    first = open_fake(tmp_path / "c").snapshot()
    is_over, answers, problems = Event(), list[tuple[int, tuple[str, ...]]](), list[Any]()

    def load(options: dict[str, Any]) -> None:
        connection, last = http.client.HTTPConnection("127.0.0.1", port, timeout=60), 0
        while not is_over.is_set():
            status, answer = ask(connection, {"parts": [{"text": "red"}], "top": 50, **options})
            if status != 200:
                problems.append(answer)
                return
            if answer["generation"] < last:
                problems.append(answer)
            last = answer["generation"]
            answers.append((last, tuple(sorted(hit["text"] for hit in answer["hits"]))))
        connection.close()

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
        command = [sys.executable, "-c", WRITER, str(tmp_path / "c"), str(folder)]
        done = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    texts = {generation: tuple(some) for generation, some in map(json.loads, done.stdout.splitlines())}
    texts[first.manifest.generation] = tuple(sorted(first.table(["text"])["text"].to_pylist()))
    assert not problems, problems[:2]
    assert not [answer for answer in answers if texts[answer[0]] != answer[1]]
    assert len({generation for generation, _ in answers}) > ROUNDS
    _, answer = ask(http.client.HTTPConnection("127.0.0.1", port), {"parts": [{"text": "red"}]})
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
