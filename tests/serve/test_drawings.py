"""Drawings: one at a time, with progress, cancelled at any step, within bounds."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from threading import Event
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

import xsearch
from tests.fakes import FakeBackend
from tests.serve.conftest import Serve
from tests.serve.test_search import picture
from tests.small_decoder import random_decoder
from xsearch.collection import Collection
from xsearch.generate import TrainedDecoder
from xsearch.models.vocabulary import Vocabulary, save_words
from xsearch.serve.drawings import KEPT, WAITING
from xsearch.store import Store

RED = {"parts": [{"text": "red"}]}


@pytest.fixture
def decoder() -> TrainedDecoder:
    return random_decoder(FakeBackend().fingerprint)


class SlowDecoder:
    """Ticks its second step when it may; fails for one seed."""

    name, steps, guidance, candidates = "slow", 2, 1.0, 1

    def __init__(self) -> None:
        self.go = Event()
        self.begun: list[int] = []
        self.ended: list[int] = []

    def check(self, fingerprint: Any) -> None:
        pass

    def draw(self, query: Any, seeds: list[int], *, tick: Callable[[int], Any], **options: Any) -> Any:
        (seed,) = seeds
        self.begun.append(seed)
        tick(1)
        assert self.go.wait(60)
        tick(2)
        self.ended.append(seed)
        if seed == 13:
            raise RuntimeError("out of ink")
        return [(Image.new("RGB", (8, 8)), False)]


@pytest.fixture
def slow() -> Iterator[SlowDecoder]:
    decoder = SlowDecoder()
    yield decoder
    decoder.go.set()


def start(client: TestClient, query: Any = RED, **options: Any) -> dict[str, Any]:
    response = client.post("/v1/drawings", json=query | options)
    assert response.status_code == 202, response.text
    begun: dict[str, Any] = response.json()
    return begun


def until(client: TestClient, id: str, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Ask for a drawing until it is as it should be."""
    end = time.monotonic() + 60
    while not is_so(now := client.get(f"/v1/drawings/{id}").json()):
        assert time.monotonic() < end, now
        time.sleep(0.01)
    return now


def is_over(now: dict[str, Any]) -> bool:
    return now["state"] in ("done", "failed")


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_what_is_drawn_is_what_the_collection_draws(
    serve: Serve, collection: Collection, decoder: TrainedDecoder
) -> None:
    client = serve(collection, decoder=decoder)
    query = {"parts": [{"text": "red"}, {"item": 0, "weight": -0.5}]}
    begun = start(client, query, count=2, seed=7, steps=3, guidance=1.5)
    assert begun["total"] == 6
    drawn = until(client, begun["id"], is_over)
    assert (drawn["state"], drawn["done"], drawn["problem"]) == ("done", 6, None)
    assert [(each["seed"], each["is_filtered"]) for each in drawn["pictures"]] == [(7, False), (8, False)]
    expected = collection.generate(
        xsearch.text("red") - 0.5 * xsearch.item(0), decoder=decoder, count=2, seed=7, steps=3, guidance=1.5
    )
    for each, other in zip(drawn["pictures"], expected, strict=True):
        response = client.get(each["link"])
        assert response.headers["content-type"] == "image/png"
        np.testing.assert_array_equal(pixels(response.content), np.asarray(other.picture))
    assert (
        client.get(f"/v1/drawings/{drawn['id']}/picture?number=2").json()["type"] == "urn:xsearch:no-drawing"
    )


def test_a_file_names_uploads_as_their_client_does(
    serve: Serve, collection: Collection, decoder: TrainedDecoder
) -> None:
    client = serve(collection, decoder=decoder)
    upload = client.post("/v1/uploads?name=my%20bird.png", content=picture((9, 9, 9))).json()
    drawn = until(client, start(client, {"parts": [{"upload": upload["id"]}]})["id"], is_over)
    with Image.open(io.BytesIO(client.get(drawn["pictures"][0]["link"]).content)) as file:
        about = json.loads(file.info["xsearch"])
        assert file.info["Description"] == "image('my bird.png')"
    assert about["parts"] == [{"modality": "image", "source": "my bird.png", "weight": 1.0}]
    assert (about["seed"], about["steps"]) == (0, 4)


def test_a_drawing_ends_at_the_step_at_which_it_is_cancelled(
    serve: Serve, collection: Collection, slow: SlowDecoder
) -> None:
    client = serve(collection, decoder=slow)
    first, second, third = (start(client, seed=seed, count=2)["id"] for seed in (1, 3, 5))
    now = until(client, first, lambda now: now["done"] == 1)
    assert (now["state"], now["total"], now["pictures"]) == ("drawing", 4, [])
    assert client.get(f"/v1/drawings/{second}").json()["state"] == "waiting"
    assert client.delete(f"/v1/drawings/{first}").status_code == 204
    assert client.delete(f"/v1/drawings/{second}").status_code == 204
    assert client.get(f"/v1/drawings/{first}").status_code == 404
    slow.go.set()
    assert until(client, third, is_over)["state"] == "done"
    assert (slow.begun, slow.ended) == ([1, 5, 6], [5, 6])


def test_few_wait_and_few_are_kept(serve: Serve, collection: Collection, slow: SlowDecoder) -> None:
    client = serve(collection, decoder=slow)
    first = start(client)["id"]
    until(client, first, lambda now: now["state"] == "drawing")
    waiting = [start(client)["id"] for _ in range(WAITING)]
    refused = client.post("/v1/drawings", json=RED)
    assert (refused.status_code, refused.json()["type"]) == (503, "urn:xsearch:busy")
    assert refused.headers["Retry-After"]
    client.delete(f"/v1/drawings/{waiting.pop()}")
    waiting.append(start(client)["id"])
    slow.go.set()
    for id in waiting:
        until(client, id, is_over)
    for _ in range(KEPT):
        last = start(client)["id"]
        until(client, last, is_over)
    assert client.get(f"/v1/drawings/{first}").status_code == 404
    assert len(client.app.state.server.drawings._drawings) == KEPT  # type: ignore[attr-defined]


def test_a_drawing_that_fails_says_so_and_the_next_is_drawn(
    serve: Serve, collection: Collection, slow: SlowDecoder
) -> None:
    client = serve(collection, decoder=slow)
    slow.go.set()
    failed = until(client, start(client, seed=12, count=3)["id"], is_over)
    assert (failed["state"], failed["problem"]["type"]) == ("failed", "urn:xsearch:fault")
    assert [each["seed"] for each in failed["pictures"]] == [12]
    assert until(client, start(client)["id"], is_over)["state"] == "done"


def test_without_a_decoder_of_the_model_there_is_no_button(
    serve: Serve, collection: Collection, decoder: TrainedDecoder
) -> None:
    other = random_decoder(FakeBackend(name="other").fingerprint)
    for client, reason in ((serve(collection), "decoder"), (serve(collection, decoder=other), "not of fake")):
        refused = client.post("/v1/drawings", json=RED)
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:xsearch:no-decoder")
        assert reason in refused.json()["detail"]
        assert 'data-do="draw"' not in client.get("/?q=red").text
    client = serve(collection, decoder=decoder)
    assert 'data-do="draw"' in client.get("/?q=red").text
    assert 'data-do="draw"' not in client.get("/").text


def test_words_that_the_model_does_not_know_are_refused(
    serve: Serve, stored: Any, decoder: TrainedDecoder, tmp_path: Any
) -> None:
    save_words(["red"], tmp_path)
    backend = FakeBackend(vocabulary=Vocabulary.load(tmp_path))
    client = serve(Collection(Store.open(stored), backend=backend), decoder=decoder)
    query = {"parts": [{"text": "zebra"}]}
    refused = client.post("/v1/drawings", json=query)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:xsearch:unknown-words")
    assert until(client, start(client, query, anyway=True)["id"], is_over)["state"] == "done"


@pytest.mark.parametrize(
    "wrong", [{"parts": []}, {"count": 9}, {"seed": -1}, {"steps": 0}, {"guidance": "nan"}, {"size": 64}]
)
def test_what_cannot_be_drawn_is_refused(client: TestClient, wrong: dict[str, Any]) -> None:
    refused = client.post("/v1/drawings", json=RED | wrong)
    assert (refused.status_code, refused.json()["type"]) == (422, "urn:xsearch:invalid-request")
