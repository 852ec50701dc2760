"""KITTI's recordings of its inertial navigation system: a folder `oxts` of text without a header.

Raw data have `timestamps.txt`, a date and time a line, and `data/`, a file of one line for each of them; the
tracking data have `0000.txt`, a line every 0.1 s. Columns as in `dataformat.txt`, in the vehicle's frame.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from xsearch.errors import NotMedia, Unreadable
from xsearch.media.imu import clock
from xsearch.media.imu.layouts import Clock, Series
from xsearch.media.limits import MAX_MOTION_MB

__all__ = ["TIMES", "folder", "frames", "holds_frames", "is_part", "read", "recording", "times"]

FOLDER = "oxts"
TIMES, FORMAT, FRAMES = "timestamps.txt", "dataformat.txt", "data"
COLUMNS = 30
ACCEL, GYRO = slice(11, 14), slice(17, 20)  # ax ay az, wx wy wz; of the vehicle: forward, left, up
COPIES = 4  # that the cells of its text take, in bytes of the text
RATE_HZ = 10.0  # of the tracking data


def is_part(path: Path) -> bool:
    """Whether the name of a file is one of such a recording. Opens nothing."""
    if path.suffix != ".txt":
        return False
    if path.parent.name == FOLDER:
        return path.stem.isdigit() or path.name in (TIMES, FORMAT)
    return path.stem.isdigit() and path.parent.name == FRAMES and path.parent.parent.name == FOLDER


def holds_frames(path: Path) -> bool:
    """Whether a folder has nothing but the rows of a recording."""
    return path.name == FRAMES and path.parent.name == FOLDER and path.with_name(TIMES).is_file()


def recording(path: Path) -> tuple[Path, Path | None]:
    """Return the file and the folder of the recording that a file `is_part` of.

    Raises NotMedia if one of them is missing.
    """
    if path.parent.name == FOLDER and path.stem.isdigit():
        return path, None
    file = times(path)
    data = folder(file)
    if data is None or not file.is_file():
        raise NotMedia(f"{path}: part of a recording without its {TIMES} or its folder {FRAMES}")
    return file, data


def times(path: Path) -> Path:
    """Return the file that the recording with this one is named after."""
    return (path.parent.parent if path.parent.name == FRAMES else path.parent) / TIMES


def folder(path: Path) -> Path | None:
    """Return the folder of the rows of a recording named after `path`, if it has one."""
    data = path.with_name(FRAMES)
    return data if path.name == TIMES and is_part(path) and data.is_dir() else None


def frames(data: Path) -> list[Path]:
    """Return the files of a folder `data`, in order."""
    return sorted(path for path in data.iterdir() if path.suffix == ".txt")


def read(path: Path, data: Path | None) -> tuple[Series, Series]:
    """Return seconds [N] and xyz [N, 3] of the accelerometer, m/s^2, and of the gyroscope, rad/s."""
    parts = [path, *(frames(data) if data else ())]
    MAX_MOTION_MB.check(path, COPIES * sum(part.stat().st_size for part in parts))
    lines = "\n".join(each.read_text() for each in frames(data)) if data else path.read_text()
    rows = [line.split() for line in lines.splitlines() if line.strip()]
    if not rows or {len(row) for row in rows} != {COLUMNS}:
        raise Unreadable(f"{path}: expected rows of {COLUMNS} numbers, as in KITTI's oxts; correct them")
    numbers = np.array(rows, np.float64)
    seconds = np.arange(len(rows)) / RATE_HZ
    if data:
        import pyarrow

        column = pyarrow.array(line for line in path.read_text().splitlines() if line.strip())
        stamps = clock.seconds(column, Clock("timestamps"))
        if stamps is None or len(stamps) != len(rows):
            raise Unreadable(f"{path}: expected a time for each of the {len(rows)} files in {data}")
        seconds = stamps
    return (seconds, numbers[:, ACCEL]), (seconds, numbers[:, GYRO])
