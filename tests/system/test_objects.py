"""Immutable files in folders, in fsspec's memory and on an S3 server of this machine; copies of them."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from xsearch.errors import UsageError
from xsearch.system.objects import objects_at


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on an S3 server."""
    from fsspec import config
    from moto.server import ThreadedMotoServer
    from s3fs import S3FileSystem

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    config.conf["s3"] = {"endpoint_url": f"http://{host}:{port}", "key": "k", "secret": "s"}
    S3FileSystem(**config.conf["s3"]).mkdir("bucket")
    yield "s3://bucket"
    del config.conf["s3"]
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    match request.param:
        case "folder":
            return tmp_path
        case "file":
            return f"file://{tmp_path}"
        case "memory":
            return f"memory://{uuid4().hex}"
        case _:
            return f"{request.getfixturevalue('bucket')}/{uuid4().hex}/"


def test_a_file_is_put_once(place: str | Path) -> None:
    objects, other = objects_at(place), objects_at(place)
    assert objects.names() == []
    with pytest.raises(FileNotFoundError):
        objects.get("a.part")
    objects.put("a.part", b"first")
    other.put("a.part", b"second")
    assert objects.get("a.part") == other.get("a.part") == b"first"
    objects.put("b.part", b"")
    assert other.names() == ["a.part", "b.part"]
    other.remove("a.part")
    other.remove("a.part")
    assert objects.names() == ["b.part"]
    objects.put("a.part", b"third")
    assert other.get("a.part") == b"third"


def test_of_several_writers_one_wins(place: str | Path) -> None:
    writers = [objects_at(place) for _ in range(8)]
    contents = [f"{i}".encode() * 1000 for i in range(len(writers))]
    with ThreadPoolExecutor(len(writers)) as pool:
        list(pool.map(lambda writer, content: writer.put("a", content), writers, contents))
    assert writers[0].names() == ["a"]
    assert {writer.get("a") for writer in writers} < {*contents}


def test_what_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="nowhere"):
        objects_at("nowhere://bucket")
