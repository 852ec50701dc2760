"""Which files are one IMU recording: a table of both sensors, a pair of tables, or a KITTI folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

from xsearch.errors import NotMedia, TooLarge, Unreadable, Unsupported
from xsearch.media.imu import layouts, oxts, sensors

__all__ = ["may_be_table", "owners", "partners", "recording"]

# What the names of the files of a pair have for the sensor, those to prefer first: with gravity, calibrated.
WORDS = {
    "accel": (
        "total acceleration",
        *("accelerometer", "acceleration", "accel", "accl", "acc", "accelerometer uncalibrated"),
        *("linear accelerometer", "linear acceleration", "linear accel", "user acceleration"),
    ),
    "gyro": (
        *("gyroscope", "gyro", "gyr", "angular velocity", "rotation rate"),
        *("gyroscope uncalibrated", "gyro uncalibrated"),
    ),
}
# Of MetaMotion, in names such as _Gyroscope_25.000Hz
RATES_HZ = (12.5, 25, 50, 100, 200, 400, 800, 1600, 3200)


def may_be_table(path: Path, head: bytes) -> bool:
    """Whether a text file may be a recording, by its name and first bytes."""
    return oxts.is_part(path) or sensors.is_likely(head.replace(b"\0", b"").decode(errors="replace"))


def recording(path: Path, *, requested: bool = False) -> tuple[Path, Path | None]:
    """Return the recording that `path` belongs to: its accelerometer file and, if separate, gyroscope file.

    Two files are one recording if their names differ only in the sensor, and in its rate: `X_accel.csv` and
    `X_gyro.csv`. Of several such files, those with gravity and the calibrated ones are read. The folder
    `data` of an `oxts` is the companion of its `timestamps.txt`.
    Raises NotMedia (Unsupported if `requested`) without IMU columns, Unsupported if one sensor is missing.
    """
    if oxts.is_part(path):
        return oxts.recording(path)
    try:
        of = sensors.header(path)
    except TooLarge:
        raise
    except Exception as error:  # whatever pyarrow and zipfile raise on damaged input
        raise Unreadable(f"{path}: a damaged table; replace the file") from error
    present = sensors.axes(of)
    if len(present) == 2:
        return path, None
    refused = Unsupported if requested else NotMedia
    sensor = next((sensor for sensor in WORDS if _pattern(sensor).fullmatch(path.stem)), "")
    if axes := sensors.axes(of, sensor).get(sensor):
        present = {sensor: axes}
        partner = next((other for other in partners(path, sensor) if other.is_file()), None)
        if partner:
            best = next(each for each in partners(partner, _other(sensor)) if each.is_file())
            if not best.samefile(path):
                raise refused(f"{path}: {best.name} is read with {partner.name} instead")
            return (path, partner) if sensor == "accel" else (partner, path)
    if len(present) == 1 and layouts.clocks(of.names, *present):
        (sensor,) = present
        missing, word = ("gyro", "gyroscope") if sensor == "accel" else ("accel", "accelerometer")
        raise Unsupported(
            f"{path}: no {word} columns; only {sensor} columns in {sensors.listed(of)}; add {missing}_x, "
            f"{missing}_y, {missing}_z, here or in the other table of a pair *_accel.csv and *_gyro.csv"
        )
    there = f"; found {sensors.listed(of)}" if requested and of.names else ""
    raise refused(
        f"{path}: no accelerometer and gyroscope columns{there}; pass tables of captions with --metadata"
    )


def partners(path: Path, sensor: str) -> Iterator[Path]:
    """Yield candidate paths of the other sensor's file if `path` is named after `sensor` (accel, gyro)."""
    if (match := _pattern(sensor).fullmatch(path.stem)) is None:
        return
    before, word, after = match.groups()
    endings = [after]
    if rate := re.search(r"\d+\.(\d+)(?=Hz)", after):
        endings += [after.replace(rate[0], f"{rate_hz:.{len(rate[1])}f}", 1) for rate_hz in RATES_HZ]
    styles = sorted((str.lower, str.title, str.upper), key=lambda style: style(word) != word)
    for other, ending, style in product(WORDS[_other(sensor)], dict.fromkeys(endings), styles):
        parts = [style(part) for part in other.split()]
        for joint in ("", "_", " ", "-") if len(parts) > 1 else ("",):
            yield path.with_name(f"{before}{joint.join(parts)}{ending}{path.suffix}")


def owners(path: Path) -> Iterator[Path]:
    """Yield the paths of other files that a recording with this one may be named after. Opens nothing."""
    if oxts.is_part(path):
        yield oxts.times(path)
    yield from partners(path, "gyro")


def _other(sensor: str) -> str:
    return "gyro" if sensor == "accel" else "accel"


@cache
def _pattern(sensor: str) -> re.Pattern[str]:
    """(before)(word)(after): a whole word of a file's name, which may be written in camel case."""
    words = "|".join(word.replace(" ", "[ _-]?") for word in sorted(WORDS[sensor], key=len, reverse=True))
    start, end = r"(?:(?<![A-Za-z])|(?<=[a-z])(?=[A-Z]))", r"(?![a-z])"
    return re.compile(rf"(.*?){start}((?i:{words})){end}(.*)", re.DOTALL)
