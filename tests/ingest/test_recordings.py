"""Recordings of several files: counted, removed, renamed and found again by any of them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.ingest.conftest import fill
from xsearch.collection import Collection
from xsearch.ingest import Progress
from xsearch.types import Modality

IMU = Modality.IMU


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pairs, a table of both sensors and a folder of KITTI's: 3 x 2 + 1 + 21 files."""
    folder = tmp_path / "media"
    folder.mkdir()
    rows = "\n".join(f"{n / 100},{n % 7},{n % 5},1" for n in range(600))
    for number, name in enumerate(("walk_accel", "walk_gyro", "run-ACCL", "run-GYRO")):
        (folder / f"{name}.csv").write_text(f"t,x,y,z\n{rows}\n" + number * "\n")
    both = "\n".join(f"{n / 100},1,2,{n % 3},3,4,{n % 4}" for n in range(600))
    (folder / "both.csv").write_text(f"t,ax,ay,az,gx,gy,gz\n{both}\n")
    data = folder / "drive" / "oxts" / "data"
    data.mkdir(parents=True)
    for n in range(20):
        (data / f"{n:010}.txt").write_text(" ".join(str(n % (axis + 2)) for axis in range(30)))
    times = (f"2011-09-26 13:02:{25 + n // 10:02}.{n % 10}64389445\n" for n in range(20))
    (data.parent / "timestamps.txt").write_text("".join(times))
    (data.parent / "dataformat.txt").write_text("lat: latitude of the oxts-unit (deg)")
    return folder


FILES = 2 * 2 + 1 + 21


def stored(collection: Collection) -> set[str]:
    return {Path(path).name for path in collection.items()["path"].to_pylist()}


def test_files_are_counted_as_they_lie_in_the_folder(collection: Collection, folder: Path) -> None:
    assert fill(collection, folder, dry_run=True).new == {IMU: FILES}
    steps: list[Progress] = []
    report = fill(collection, folder, progress=steps.append)
    assert (report.files, report.new, report.not_media, report.skipped) == ({IMU: FILES}, {IMU: FILES}, 0, ())
    assert (steps[-1].done, steps[-1].total) == (FILES, FILES)
    assert stored(collection) == {"walk_accel.csv", "run-ACCL.csv", "both.csv", "timestamps.txt"}

    again = fill(collection, folder)
    assert (again.files, again.unchanged, again.new) == ({IMU: FILES}, FILES, {})
    for path in folder.rglob("*.*"):
        os.utime(path)
    again = fill(collection, folder)
    assert (again.unchanged, again.items) == (FILES, {})


def test_a_change_of_any_file_is_a_change(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    for path in (folder / "walk_gyro.csv", folder / "drive" / "oxts" / "data" / "0000000003.txt"):
        path.write_text(path.read_text().replace("3", "8"))
    report = fill(collection, folder)
    assert (report.changed, report.new, report.unchanged) == (2 + 21, {IMU: 2 + 21}, 3)


@pytest.mark.parametrize("name", ["walk_accel.csv", "walk_gyro.csv"])
def test_either_file_of_a_pair_removes_it(collection: Collection, folder: Path, name: str) -> None:
    fill(collection, folder)
    (folder / name).unlink()
    report = fill(collection, folder, prune=True)
    assert "walk_accel.csv" not in stored(collection)
    assert [Path(skip.path).name for skip in report.skipped] == [
        "walk_gyro.csv" if name == "walk_accel.csv" else "walk_accel.csv"
    ]


@pytest.mark.parametrize(
    "name", ["walk_accel.csv", "walk_gyro.csv", "drive/oxts/timestamps.txt", "drive/oxts/data/0000000003.txt"]
)
def test_a_recording_is_removed_by_any_of_its_files(collection: Collection, folder: Path, name: str) -> None:
    fill(collection, folder)
    before = stored(collection)
    assert collection.remove(paths=[folder / name]) > 0
    [gone] = before - stored(collection)
    assert gone == ("walk_accel.csv" if "walk" in name else "timestamps.txt")


def test_a_renamed_pair_and_folder_keep_their_vectors(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    for sensor in ("accel", "gyro"):
        (folder / f"walk_{sensor}.csv").rename(folder / f"stroll_{sensor}.csv")
    (folder / "drive").rename(folder / "another drive")
    report = fill(collection, folder)
    assert (report.moved, report.items) == (2 + 21, {})
    assert "stroll_accel.csv" in stored(collection)
