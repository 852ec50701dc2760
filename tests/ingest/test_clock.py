"""The clock may go backwards, and files may be from the future: nothing is missed, or read over and over."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.ingest.conftest import fill
from xsearch.collection import Collection

YEAR_NS = 365 * 24 * 3600 * 10**9
TIMES = {"1970": 0, "before 1970": -(10**18), "years ahead": 2 * 10**18 + 30 * YEAR_NS, "1 ns": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "media").mkdir()
    Image.new("RGB", (48, 32), "red").save(tmp_path / "media/good.png")
    (tmp_path / "media/bad.png").write_bytes((tmp_path / "media/good.png").read_bytes()[:60])
    return tmp_path / "media"


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    return Collection.create(tmp_path / "c", backend=FakeBackend())


@pytest.fixture
def set_time(folder: Path) -> Callable[[int], None]:
    def set_time(mtime_ns: int) -> None:
        for path in folder.iterdir():
            os.utime(path, ns=(mtime_ns, mtime_ns))

    return set_time


def to_read(collection: Collection, folder: Path) -> int:
    return sum(collection.ingest(folder, dry_run=True).new.values())


@pytest.mark.parametrize("time", TIMES)
def test_a_file_of_any_time_is_read_once(time, folder, collection, set_time):
    set_time(TIMES[time])
    first = fill(collection, folder)
    assert (sum(first.new.values()), len(first.skipped)) == (1, 1)
    for _ in range(2):
        assert to_read(collection, folder) == 0
        again = fill(collection, folder)
        assert (sum(again.new.values()), again.changed, len(again.skipped)) == (0, 0, 1)
    assert collection.items()["mtime_ns"].to_pylist() == [TIMES[time]]


@pytest.mark.parametrize("small_disk", [4], indirect=True)
@pytest.mark.parametrize("seconds", [2**44, -(2**44)])  # more nanoseconds than int64 has
def test_a_file_of_any_year_is_read_once(seconds, small_disk, collection):
    (small_disk / "note.txt").write_text("a dog on the beach")
    try:
        os.utime(small_disk / "note.txt", (seconds, seconds))
    except OverflowError:
        pytest.skip("no file system for such years")
    assert sum(fill(collection, small_disk).new.values()) == 1
    assert to_read(collection, small_disk) == 0


@pytest.mark.parametrize("time", TIMES)
def test_a_replaced_file_is_read_whatever_its_time(time, folder, collection, set_time):
    fill(collection, folder)
    for name in ("good", "bad"):
        Image.new("RGB", (9, 9), "blue").save(folder / f"{name}.png")
    set_time(TIMES[time])
    report = fill(collection, folder)
    assert (sum(report.new.values()), report.skipped) == (2, ())
    assert len(collection.skipped()) == 0


@pytest.mark.parametrize("when", ["1970-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00", "yesterday", ""])
def test_the_time_of_a_record_does_not_matter(when, folder, collection):
    fill(collection, folder)
    (row,) = collection.store.snapshot().skipped().to_pylist()
    with collection.store.writer() as writer:
        writer.skip([row | {"when": when}])
        writer.commit()
    assert to_read(collection, folder) == 0
    Image.new("RGB", (9, 9), "blue").save(folder / "bad.png")
    assert sum(fill(collection, folder).new.values()) == 1


def test_records_of_earlier_releases_are_tried_once_more(folder, collection):
    fill(collection, folder)
    (row,) = collection.store.snapshot().skipped().to_pylist()
    with collection.store.writer() as writer:
        writer.skip([row | {"state": None}])
        writer.commit()
    assert to_read(collection, folder) == 1
    fill(collection, folder)
    assert to_read(collection, folder) == 0
