"""A server in this process, and one behind a socket, on a collection of the fake model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.generate import Decoder
from xsearch.serve.app import create_app
from xsearch.serve.run import listen, uvicorn_server
from xsearch.serve.settings import Settings

Serve = Callable[..., TestClient]
Live = Callable[..., FastAPI]
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

    def start(
        *collections: Collection,
        base: str = "http://127.0.0.1:8080",
        decoder: Decoder | None = None,
        **settings: Any,
    ) -> TestClient:
        app = create_app(collections, Settings(cache=tmp_path / "cache", **settings), decoder)
        client = TestClient(app, base_url=base, client=("127.0.0.1", 50_000))
        client.__enter__()
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """Start a server behind a socket, in a thread; returns its application, whose settings have the port."""
    servers = []

    def start(*collections: Collection, **settings: Any) -> FastAPI:
        chosen = {"cache": tmp_path / "cache", "port": 0, **settings}
        listening, complete = listen(Settings(**chosen))
        app, ready = create_app(collections, complete), Event()
        server = uvicorn_server(app, complete, ready.set)
        thread = Thread(target=server.run, args=[[listening]], daemon=True)
        thread.start()
        servers.append((server, thread, listening))
        assert ready.wait(60)
        return app

    yield start
    for server, thread, listening in servers:
        server.should_exit = True
        thread.join(30)
        listening.close()


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
