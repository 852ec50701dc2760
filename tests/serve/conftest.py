"""A server in this process, and one behind a socket, on a collection of the fake model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from starlette.testclient import TestClient

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.serve.app import create_app
from xsearch.serve.settings import Settings

Serve = Callable[..., TestClient]
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "sky/blue": (0, 0, 255)}


def write_media(folder: Path) -> Path:
    """Pictures with captions and metadata, a sound of 25 s, a motion, a depth map and a text."""
    (folder / "sky").mkdir(parents=True)
    for at, (name, colour) in enumerate(COLOURS.items(), start=1):
        picture = folder / f"{name}.png"
        Image.new("RGB", (48, 32), colour).save(picture)
        picture.with_suffix(".json").write_text(
            f'{{"camera": "Box {at % 2}", "taken_at": "2024-0{at}-15 12:00:00", "tags": ["a", "{at}"]}}'
        )
        picture.with_suffix(".txt").write_text(picture.stem)
    soundfile.write(folder / "tone.wav", 0.5 * np.sin(np.arange(25 * 8000) * 0.1), 8000)
    depth = np.linspace(500, 3000, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(depth).save(folder / "room_depth.png")
    rows = "\n".join(f"{t / 50},0,{t % 7},9.8,0,0.1,0" for t in range(300))
    (folder / "walk.csv").write_text(f"time_s,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z\n{rows}\n")
    return folder


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collection that no test changes."""
    folder = tmp_path_factory.mktemp("served")
    collection = Collection.create(folder / "photos", backend=FakeBackend())
    report = collection.ingest(write_media(folder / "media"))
    assert not report.skipped
    return folder / "photos"


def open_fake(path: Path) -> Collection:
    from xsearch.store import Store

    return Collection(Store.open(path), backend=FakeBackend())


@pytest.fixture
def collection(stored: Path) -> Collection:
    return open_fake(stored)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start a server in this process."""
    clients = []

    def start(*collections: Collection, base: str = "http://127.0.0.1:8080", **settings: Any) -> TestClient:
        app = create_app(collections, Settings(cache=tmp_path / "cache", **settings))
        client = TestClient(app, base_url=base, client=("127.0.0.1", 50_000))
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Serve, collection: Collection) -> TestClient:
    return serve(collection)


@pytest.fixture
def find(collection: Collection) -> Callable[..., int]:
    """The id of the first item of a file, of a kind if need be."""

    def of(name: str, kind: str | None = None) -> int:
        items = collection.items(modality=kind).to_pylist()
        return next(item["id"] for item in items if item["path"].endswith(name))

    return of
