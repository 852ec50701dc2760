"""`xsearch.connect`: what a client finds is what the collection finds in this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import uvicorn
from PIL import Image

import xsearch
from tests.fakes import DIM, FakeBackend
from xsearch.collection import Collection
from xsearch.errors import (
    BadFilter,
    EmptyQuery,
    NoCollection,
    ServerError,
    StoreError,
    UnknownWords,
    Unreadable,
    UsageError,
)
from xsearch.models.vocabulary import Vocabulary
from xsearch.query import Options, Query, audio, image, item, text, vector
from xsearch.serve.app import create_app
from xsearch.serve.settings import Settings
from xsearch.store import Store

TOKEN = "a token of more than sixteen letters"


@pytest.fixture(scope="module")
def shared(stored: Path) -> Collection:
    return Collection(Store.open(stored), backend=FakeBackend())


@pytest.fixture(scope="module")
def addresses(shared: Collection, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The URL and the Unix socket of a server in a thread of this process, which asks for TOKEN."""
    folder = tmp_path_factory.mktemp("s")
    listeners = [socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)]
    listeners[1].bind(str(folder / "socket"))
    settings = Settings(port=listeners[0].getsockname()[1], token=TOKEN, cache=folder / "cache")
    server = uvicorn.Server(uvicorn.Config(create_app([shared], settings), log_config=None, ws="none"))
    thread = threading.Thread(target=server.run, args=[listeners])
    thread.start()
    yield f"http://127.0.0.1:{settings.port}", folder / "socket"
    server.should_exit = True
    thread.join()
    for listener in listeners:
        listener.close()


@pytest.fixture
def client(addresses: tuple[str, Path]) -> Iterator[xsearch.Client]:
    with xsearch.connect(addresses[0], TOKEN) as client:
        yield client


@pytest.fixture(scope="module")
def media(stored: Path) -> Path:
    return stored.parent / "media"


def queries(media: Path, elsewhere: Path) -> dict[str, Query | str | Path]:
    """One query of each kind of source."""
    new = elsewhere / "new größe.png"
    Image.new("RGB", (40, 30), (200, 60, 0)).save(new)
    return {
        "words": "red",
        "item": item(1),
        "vector": vector(np.arange(DIM, dtype=np.float32), "image"),
        "file of the collection": media / "red.png",
        "several items": media / "tone.wav",
        "another kind": xsearch.thermal(media / "red.png"),
        "text file": media / "red.txt",
        "new file": str(new),
        "bytes": image(new.read_bytes()),
        "decoded": image(Image.new("RGB", (8, 8), "blue")),
        "sum": image(media / "green.png") + 0.5 * audio(media / "tone.wav") - text("red") / 3,
    }


OPTIONS = [
    {},
    {"modality": ["image", "text"], "rank": "cosine", "top": 3},
    {"where": "start_s >= 10", "unique": True},
    {"sort": "date", "exclude_self": True},
    {"max_expected": 1, "min_cosine": 0.1},
]


def test_every_query_finds_what_it_finds_here(client, shared, media, tmp_path):
    for name, query in queries(media, tmp_path).items():
        for options in OPTIONS:
            there, here = client.search(query, **options), shared.search(query, **options)
            assert there == here, (name, options)
            assert repr(list(there)) == repr(list(here))  # types and all digits
            assert (there.nearest_expected, there.kinds) == (here.nearest_expected, here.kinds)
            assert there.remark == here.remark
            assert repr(there.query.query) == repr(here.query.query) or name in ("new file", "text file")
            for field in ("own", "cosines", "windows", "left_out", "norm"):
                assert np.array_equal(getattr(there.query, field), getattr(here.query, field)), (name, field)
    assert isinstance(client.search(media / "red.png")[0].extra["taken_at"], datetime)


def test_many_queries_are_answered_in_order(client, shared, monkeypatch):
    words = ["red", "green", "blue", "dark", "bright"]
    some = [words[at % 5] for at in range(7)]
    monkeypatch.setattr("xsearch.client.TOGETHER", 3)
    assert client.search_many(some, 4) == shared.search_many(some, 4)
    assert client.search_many([]) == []


def test_items_and_vectors_are_those_of_the_collection(client, shared, media):
    assert client.items().equals(shared.items())
    options = {
        "modality": "image",
        "where": "width = 48",
        "sort": "-date",
        "columns": ["id", "path"],
        "limit": 2,
    }
    assert client.items(**options).equals(shared.items(**options))
    assert client.items(where="false").equals(shared.items(where="false"))
    some = ["red", media / "green.png", 2 * item(1) - text("blue")]
    np.testing.assert_allclose(client.embed(some), shared.embed(some), atol=1e-6)
    assert client.embed(some).dtype == np.float32


def test_a_client_knows_the_collection(client, shared, addresses):
    assert len(client) == client.info()["items"] == len(shared)
    assert client.info()["version"] == xsearch.__version__
    assert repr(client) == f"<Client {addresses[0]}>"
    with pytest.raises(NoCollection, match="photos"):
        xsearch.connect(addresses[0], TOKEN, collection="nonsense").search("red")
    assert xsearch.connect(addresses[0], TOKEN, collection="photos").search("red")


@pytest.mark.parametrize(
    ("error", "query", "options"),
    [
        (BadFilter, "red", {"where": "1; drop table items"}),
        (BadFilter, "red", {"where": "nonsense = 1"}),
        (UsageError, "red", {"match": "words", "min_cosine": 0.5}),
        (UsageError, "red", {"top": 0}),
        (UsageError, "red", {"modality": "smell"}),
        (UsageError, item(1), {"match": "words"}),
        (UsageError, item(99), {}),
        (UsageError, vector(np.ones(3, np.float32), "image"), {}),
        (UsageError, image("gone.png"), {}),
        (EmptyQuery, Query(), {}),
        (EmptyQuery, text("red") - text("red"), {}),
    ],
)
def test_errors_are_those_of_the_collection(client, shared, error, query, options):
    raised = []
    for collection in (client, shared):
        with pytest.raises(error) as problem:
            collection.search(query, **options)
        raised.append(problem)
    assert raised[0].type is raised[1].type
    assert str(raised[0].value) == str(raised[1].value)


def test_files_that_cannot_be_read_are_named(client, media, tmp_path):
    (tmp_path / "broken.png").write_bytes((media / "red.png").read_bytes()[:60])
    with pytest.raises(Unreadable, match=r"^broken\.png: "):
        client.search(image(tmp_path / "broken.png"))
    with pytest.raises(UsageError, match="http"):
        client.search(Query((xsearch.query.Part(None, xsearch.types.Url("http://host/a.png")),)))


def test_limits_of_the_server_are_errors(client):
    with pytest.raises(UsageError, match="queries"):
        client.search("red " * 10_000)
    with pytest.raises(UsageError, match="top"):
        client.search("red", 100_000)


def test_unknown_words_are_those_of_the_collection(client, shared, monkeypatch):
    vocabulary = Vocabulary(["red", "green"])
    monkeypatch.setattr(shared.backend, "vocabulary", vocabulary)
    for query in ("greem", text("red") - text("greem")):
        problems = []
        for collection in (client, shared):
            with pytest.raises(UnknownWords) as problem:
                collection.search(query, match="meaning")
            problems.append(problem.value)
        there, here = problems
        assert (str(there), there.words, there.near) == (str(here), here.words, here.near)
    there, here = (
        collection.search_many(["greem", "red"], match="meaning") for collection in (client, shared)
    )
    assert there == here
    assert str(there[0].problem) == str(here[0].problem)
    assert there[1].problem is None


def test_a_token_is_needed_except_over_the_socket_of_the_user(addresses):
    url, path = addresses
    for token in (None, "another token of many letters"):
        with pytest.raises(ServerError, match="Bearer"):
            xsearch.connect(url, token).search("red")
    assert xsearch.Client(path).search("red")


def test_a_server_that_is_not_there_or_none_of_ours(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServerError, match=r"no answer within 0\.1 s"):
            xsearch.connect(f"http://127.0.0.1:{port}", timeout_s=0.1).search("red")
    with pytest.raises(ServerError, match=f"^http://127.0.0.1:{port}: .*refused"):
        xsearch.connect(f"http://127.0.0.1:{port}").info()
    with pytest.raises(ServerError, match="No such file"):
        xsearch.Client(tmp_path / "none").info()
    for url in (
        "127.0.0.1:8080",
        "ftp://host",
        "http://",
        "http://host:x",
        "http://host/?a=1",
        "http://[::1",
        "http://ö",
    ):
        with pytest.raises(UsageError, match="server"):
            xsearch.connect(url)
    with pytest.raises(UsageError, match="ASCII"):
        xsearch.connect("http://127.0.0.1", "a token\n")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{\"answers\": [{}]",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
        b"220 mail\r\n",
        b"",
    ],
)  # fmt: skip
def test_another_server_is_an_error(answer):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(ServerError, match=r"^http://127\.0\.0\.1"):
            xsearch.connect(f"http://127.0.0.1:{listener.getsockname()[1]}").search("red")
        thread.join()


def test_a_connection_that_the_server_has_closed_is_replaced(client):
    first = client.search("red")
    (idle,) = client._channel._idle
    idle.sock.shutdown(socket.SHUT_RDWR)
    assert client.search("red") == first


def test_threads_share_a_client(client, shared):
    expected, wrong = shared.search("red"), []

    def run() -> None:
        wrong.extend(1 for _ in range(5) if client.search("red") != expected)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(client._channel._idle) <= 8


def test_a_damaged_collection_is_not_searched_by_the_server(client, shared, monkeypatch):
    monkeypatch.setattr(type(shared.view()), "is_whole", False)
    with pytest.raises(StoreError, match="damaged"):
        client.answers([text("red")], Options())
