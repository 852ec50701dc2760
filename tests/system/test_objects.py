"""Immutable files in folders, in fsspec's memory and on an S3 server of this machine; copies of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from xsearch.errors import UsageError
from xsearch.system.objects import objects_at
from xsearch.system.transfer import TooLong


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


def test_a_local_file_is_put_once_and_copied_back(place: str | Path, tmp_path: Path) -> None:
    objects, source, target = objects_at(place), tmp_path / "source", tmp_path / "target"
    content = np.random.default_rng(0).bytes(6 << 20)
    source.write_bytes(content)
    objects.put_file("large", source)
    source.write_bytes(b"other")
    objects_at(place).put_file("large", source)
    assert objects.sizes()["large"] == len(content)
    objects.get_file("large", target, len(content))
    assert target.read_bytes() == content
    with pytest.raises(FileNotFoundError):
        objects.get_file("none", target, 1)


def test_a_file_in_several_parts_is_put_once(bucket: str, tmp_path: Path) -> None:
    objects = objects_at(f"{bucket}/{uuid4().hex}")
    for byte in b"ab":
        (tmp_path / "large").write_bytes(bytes([byte]) * (101 << 20))  # above twice the 50 MB of s3fs
        objects.put_file("large", tmp_path / "large")
    objects.get_file("large", tmp_path / "copy", 101 << 20)
    with pytest.raises(TooLong):
        objects.get_file("large", tmp_path / "copy2", 100 << 20)
    assert (tmp_path / "copy").stat().st_size == 101 << 20
    assert (tmp_path / "copy").read_bytes().startswith(b"a")


def test_what_fsspec_does_not_know_is_refused() -> None:
    with pytest.raises(UsageError, match="nowhere"):
        objects_at("nowhere://bucket")
