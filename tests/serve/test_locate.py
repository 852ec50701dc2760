"""Where in a picture a query is, over HTTP: what the collection says in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

import xsearch
from tests.fakes import DenseFake
from tests.serve.conftest import Live, Serve, write_media
from xsearch.collection import Collection
from xsearch.query import text

RED = {"parts": [{"text": "red"}]}
NOT_RED = {"parts": [{"text": "red", "weight": -1}]}


@pytest.fixture
def street(tmp_path: Path) -> Collection:
    """A collection with a picture that has something red on its left."""
    folder = write_media(tmp_path / "media")
    picture = Image.new("RGB", (240, 160), (90, 90, 90))
    picture.paste("red", (20, 40, 90, 110))
    picture.save(folder / "street.png")
    collection = Collection.create(tmp_path / "mine", backend=DenseFake())
    collection.ingest(folder)
    return collection


def id_of(collection: Collection, name: str) -> int:
    rows = collection.items().to_pylist()
    return next(row["id"] for row in rows if row["path"].endswith(name))


def test_boxes_and_heat_of_an_item(serve: Serve, street: Collection) -> None:
    client, id = serve(street), id_of(street, "street.png")
    located = client.post(f"/v1/items/{id}/locate", json=RED).json()
    assert (located["collection"], located["id"]) == ("mine", id)
    (hit,) = [hit for hit in street.locate(street.search("red", modality="image")) if hit.id == id]
    assert hit.boxes
    best = hit.boxes[0]
    assert located["boxes"][0] == {name: getattr(best, name) for name in best.__slots__}
    assert best.left < 90 / 240
    assert located["score"] >= located["threshold"]
    assert located["false_alarms"] is None  # not measured for this model
    heat = np.array(located["heat"])
    assert heat.shape == (48, 72)
    assert (heat.min(), heat.max()) == (0, 1)
    y, x = np.unravel_index(heat.argmax(), heat.shape)
    assert 20 <= 240 * (x + 0.5) / 72 <= 90
    assert 40 <= 160 * (y + 0.5) / 48 <= 110


def test_what_is_not_there_has_no_box(serve: Serve, street: Collection) -> None:
    located = serve(street).post(f"/v1/items/{id_of(street, 'street.png')}/locate", json=NOT_RED).json()
    assert located["boxes"] == []
    assert located["score"] < located["threshold"]


def problem(client: TestClient, id: int, body: object = RED) -> tuple[int, str]:
    answer = client.post(f"/v1/items/{id}/locate", json=body)
    return answer.status_code, answer.json()["type"].removeprefix("urn:xsearch:")


def test_what_cannot_be_looked_in_is_refused(
    serve: Serve, street: Collection, collection: Collection
) -> None:
    client, id = serve(street), id_of(street, "street.png")
    for name in ("tone.wav", "red.txt", "room_depth.png"):
        assert problem(client, id_of(street, name)) == (415, "unsupported-media"), name
    assert problem(client, 999) == (404, "no-item")
    assert problem(client, id, {"parts": []}) == (422, "invalid-request")
    assert problem(client, id, RED | {"false_alarms": 0.5}) == (422, "invalid-request")
    assert problem(client, id, {"parts": [{"item": 999}]}) == (404, "no-item")
    assert problem(client, id, {"parts": [{"upload": "0" * 32}]}) == (404, "no-upload")
    Image.new("RGB", (240, 160)).save(Path(street.path).parent / "media" / "street.png")
    assert problem(client, id) == (409, "file-changed")
    assert problem(serve(collection), id_of(collection, "red.png")) == (422, "usage")  # says only what


def test_a_client_locates_what_the_collection_does(live: Live, street: Collection, tmp_path: Path) -> None:
    app: FastAPI = live(street)
    (tmp_path / "media" / "green.png").unlink()
    here = street.search(text("red"), top=50)
    with xsearch.connect(f"http://127.0.0.1:{app.state.server.settings.port}") as client:
        there = client.locate(client.search(text("red"), top=50))
    assert [hit.boxes for hit in there] == [hit.boxes for hit in street.locate(here)]
    located = {Path(hit.path).name: hit.boxes for hit in there}
    assert located["street.png"]
    assert located["green.png"] is None
    assert located["tone.wav"] is None
