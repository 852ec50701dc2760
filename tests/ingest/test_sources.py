"""Ingest from URLs: of fsspec's memory, and of a web server on this machine that does not always answer."""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.ingest.conftest import fill
from xsearch.collection import Collection
from xsearch.errors import Reason, UsageError
from xsearch.media import is_url
from xsearch.types import Modality


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Two pictures, a text, a depth map with its camera, an IMU pair, a table and a sidecar, and no media."""
    folder = tmp_path / "media"
    (folder / "a b/depth").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(folder / "red.jpg")
    Image.new("RGB", (8, 8), "blue").save(folder / "a b/blue", "PNG")
    (folder / "note.txt").write_text("a note")
    Image.fromarray(np.full((8, 8), 2000, np.uint16)).save(folder / "a b/depth/1.png")
    (folder / "a b/depth/camera.json").write_text('{"focal_px": 500}')
    for sensor in ("accel", "gyro"):
        rows = "\n".join(f"{i / 100},{i % 7},{i % 5},1" for i in range(600))
        (folder / f"walk_{sensor}.csv").write_text(f"t,x,y,z\n{rows}\n")
    (folder / "metadata.csv").write_text("path,place\nred.jpg,beach\n")
    (folder / "note.json").write_text('{"by": "me"}')
    (folder / "program.py").write_text("pass")
    (folder / ".hidden.txt").write_text("hidden")
    for file in folder.rglob("*"):
        os.utime(file, (1_700_000_000, 1_700_000_000))
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; the first request of every file fails."""

    requests: Counter[str]

    def do_GET(self) -> None:
        if self.fails():
            self.send_error(503)
        else:
            super().do_GET()

    def fails(self) -> bool:
        self.requests[self.path] += 1
        return self.requests[self.path] == 1 and not self.path.endswith("/")

    def log_message(self, *about: object) -> None:
        pass


@pytest.fixture
def server(media: Path) -> Iterator[str]:
    pytest.importorskip("aiohttp")
    handler = type("Counting", (Handler,), {"requests": Counter()})
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=media)
    ) as web:
        thread = threading.Thread(target=web.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{web.server_address[1]}"
        web.shutdown()
        thread.join()


@pytest.fixture
def memory(media: Path) -> Iterator[str]:
    system = fsspec.filesystem("memory")
    system.put(str(media), "/media", recursive=True)
    yield "memory://media"
    system.rm("/media", recursive=True)


FILES = ["a b/blue", "a b/depth/1.png", "note.txt", "red.jpg", "walk_accel.csv"]
KINDS = {Modality.IMAGE: 2, Modality.DEPTH: 1, Modality.TEXT: 1, Modality.IMU: 2}  # a pair is two files


@pytest.mark.parametrize("source", ["memory", "server"])
def test_a_url_gives_what_its_files_give(source, request, media, collection, tmp_path):
    url = request.getfixturevalue(source)
    report = fill(collection, url)
    assert report.new == KINDS
    assert (report.not_media, report.skipped) == (1, ())
    rows = {row["path"]: row for row in collection.items().to_pylist()}
    assert sorted(path.removeprefix(f"{url}/").replace("%20", " ") for path in rows) == FILES
    assert rows[f"{url}/red.jpg"]["place"] == "beach"
    assert rows[f"{url}/note.txt"]["by"] == "me"

    local = Collection.create(tmp_path / "local", backend=FakeBackend())
    fill(local, media)
    columns = ["sha256", "modality", "bytes", "mime", "place", "by"]
    ours, theirs = (sorted(map(str, each.items(columns=columns).to_pylist())) for each in (collection, local))
    assert ours == theirs


def test_tables_of_any_form_are_fetched(memory, collection):
    system = fsspec.filesystem("memory")
    system.pipe("/media/a b/metadata.jsonl", b'{"file_name": "blue", "who": "we"}')
    table = "image\tby\nhttps://host/x/red.jpg\tme\nprogram.py\tme\ngone.jpg\tme\n"
    system.pipe("/media/metadata.tsv", table.encode())
    report = fill(collection, memory)
    assert report.notes == (f"1 of 3 rows of {memory}/metadata.tsv matches no file, such as 'gone.jpg'",)
    columns = {row["path"].rpartition("/")[2]: row for row in collection.items().to_pylist()}
    assert (columns["red.jpg"]["by"], columns["red.jpg"]["place"]) == ("me", "beach")
    assert columns["blue"]["who"] == "we"
    assert fill(collection, memory).notes == report.notes


def test_a_table_that_cannot_be_fetched_costs_no_other_file(server, media, collection):
    (media / "metadata.parquet").symlink_to("nowhere")
    (media / "red.json").symlink_to("nowhere")
    for _ in range(2):
        report = fill(collection, server)
        assert {skip.path: skip.error for skip in report.skipped} == {
            f"{server}/metadata.parquet": Reason.NOT_FETCHED,
            f"{server}/red.json": Reason.NOT_FETCHED,
        }
    assert len(collection) == 5
    (media / "metadata.parquet").unlink()
    (media / "red.json").unlink()
    fill(collection, server)
    assert len(collection.store.snapshot().skipped()) == 0


@pytest.mark.parametrize("source", ["memory", "server"])
def test_what_has_not_changed_is_not_fetched_again(source, request, media, collection):
    url = request.getfixturevalue(source)
    fill(collection, url)
    again = fill(collection, url)
    assert (again.unchanged, again.items) == (6, {})
    assert fill(collection, url, dry_run=True).unchanged == 6


def test_a_changed_a_new_and_a_vanished_file(memory, collection):
    fill(collection, memory)
    system = fsspec.filesystem("memory")
    system.pipe("/media/note.txt", b"another note")
    system.pipe("/media/new.txt", b"a new one")
    system.rm("/media/red.jpg")
    dry = fill(collection, memory, prune=True, dry_run=True)
    assert (sum(dry.new.values()), dry.changed, dry.removed) == (2, 1, 1)
    report = fill(collection, memory, prune=True)
    assert (report.new, report.changed, report.removed) == ({Modality.TEXT: 2}, 1, 1)
    assert len(collection) == 5


def test_a_moved_file_keeps_its_vectors_and_a_local_copy_does_not_take_them(memory, media, collection):
    fill(collection, memory)
    assert fill(collection, media).duplicates == 6  # those behind the URL are still there
    system = fsspec.filesystem("memory")
    system.mv("/media/note.txt", "/media/moved.txt")
    report = fill(collection, memory)
    assert (report.moved, report.items) == (1, {})


def test_items_are_removed_by_url(memory, collection):
    fill(collection, memory)
    assert collection.remove(paths=[f"{memory}/a b"]) == 2
    assert collection.remove(paths=[f"{memory}/*.txt"]) == 1
    assert collection.remove(paths=[memory]) == 2


def test_one_file_is_a_source_and_a_query(memory, collection):
    fill(collection, f"{memory}/red.jpg")
    assert len(collection) == 1
    assert collection.search(f"{memory}/red.jpg")[0].cosine == pytest.approx(1, abs=1e-3)


def test_a_file_that_cannot_be_fetched_is_skipped_with_its_reason(server, media, collection):
    (media / "red.jpg").unlink()
    (media / "red.jpg").symlink_to(media / "gone.jpg")  # listed, but not there
    report = fill(collection, server)
    (skip,) = report.skipped
    assert skip.path == f"{server}/red.jpg"
    assert "fetched" in skip.reason
    assert len(collection) == 4


def test_what_does_not_come_stays_as_it_was(memory, collection, monkeypatch):
    fill(collection, memory)
    system = fsspec.filesystem("memory")
    system.pipe("/media/note.txt", b"another note")
    get_file = system.get_file

    def refuse(key: str, local: str, **options: object) -> None:
        if key.endswith("note.txt"):
            raise PermissionError("no")
        get_file(key, local, **options)

    with monkeypatch.context() as broken:
        broken.setattr(system, "get_file", refuse)
        report = fill(collection, memory)
    assert [skip.reason for skip in report.skipped] == [
        "cannot be fetched: PermissionError: no; ingest again"
    ]
    assert len(collection) == 5
    again = fill(collection, memory)
    assert (again.changed, again.skipped, len(collection)) == (1, (), 5)


def test_problems_of_a_url_are_said(collection, tmp_path):
    with pytest.raises(UsageError, match="memory://nowhere: cannot be listed: no such file or folder"):
        fill(collection, "memory://nowhere")
    with pytest.raises(UsageError, match="cannot be listed"):
        fill(collection, "zip://::file:///no/such/file.zip")
    assert not is_url(tmp_path)


def test_a_zip_archive_is_a_source(media, collection, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "all"), "zip", media)
    url = f"zip://::file://{archive}"
    assert fill(collection, url).new == KINDS
    assert f"zip://red.jpg::file://{archive}" in collection.items()["path"].to_pylist()
    assert fill(collection, url).unchanged == 6


def test_progress_names_urls(memory, collection):
    events = []
    fill(collection, memory, progress=events.append)
    assert {now.path for now in events} == {f"{memory}/{name}" for name in FILES}
    assert events[-1].done == events[-1].total


def test_unchanged_files_are_not_opened(media, collection):
    """Corrupts the contents but keeps name, size and mtime, so that any read would be noticed."""
    fill(collection, media)
    for file in media.rglob("*"):
        if file.is_file() and file.suffix not in (".json", ".py") and file.name != "metadata.csv":
            status = file.stat()
            file.write_bytes(bytes(status.st_size))
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = fill(collection, media)
    assert (again.unchanged, again.skipped, again.items) == (6, (), {})
    (media / "a b/depth/camera.json").write_text('{"focal_px": 400}')
    assert [Path(skip.path).name for skip in fill(collection, media).skipped] == ["1.png"]
