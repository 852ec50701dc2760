"""IMU recordings: accelerometer and gyroscope tables -> float32 [6, T] in m/s^2 and rad/s, resampled."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xsearch.errors import NotMedia, Unreadable
from xsearch.media import text
from xsearch.media.delimited import Layout, layout
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read", "recording"]

WINDOW_S = 5.0  # ImageBind, arXiv:2305.05665, section 3
MIN_WINDOW_S = 2.0  # a shorter remainder is dropped, unless it is the whole recording
MAX_BYTES = 1 << 30  # uncompressed, a day at 200 Hz; guards against decompression bombs
GAP_STEPS = 10  # a step of more median steps, and longer than a window, is a gap in the recording
MIN_RATE_HZ, MAX_RATE_HZ = 1 / WINDOW_S, 100_000.0  # one sample per window; the fastest sensors run at 32 kHz

# Names are compared without case and separators. Units: factor to m/s^2, rad/s, s.
_PREFIX = r"(?:imu|field|raw)?"
_SENSORS = {
    "accel": r"acc|accel|accelerometer|acceleration|linearacceleration|linearaccel|useracceleration",
    "gyro": r"gyr|gyro|gyroscope|angularvelocity|rotationrate",
}
_SHORT = {"accel": "a", "gyro": "g|w"}  # ax, gx, wx: only before an axis
_UNITS = {
    "accel": {"ms2": 1.0, "mps2": 1.0, "mss": 1.0, "g": 9.80665, "gs": 9.80665, "mg": 9.80665e-3},
    "gyro": dict.fromkeys(("rads", "radps", "radsec"), 1.0)
    | dict.fromkeys(("degs", "dps", "degps", "degsec"), math.pi / 180),
}
_TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "micros", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanoseconds"), 1e-9),
}
_TIME = "ts|t|times?|timestamps?|elapsed|elapsedtime|secondselapsed"
_RATES = {"ratehz", "samplerate", "sampleratehz"}
_TRANSLITERATED = str.maketrans({"°": "deg", "²": "2", "µ": "u", "μ": "u"})
_AXES = {"x": 0, "y": 1, "z": 2, "0": 0, "1": 1, "2": 2}


@dataclass(frozen=True)
class _Columns:
    """The columns of one sensor."""

    axes: tuple[str, str, str]
    factor: float  # to m/s^2 or rad/s
    time: str | None
    time_factor: float | None  # to seconds; None if the name has no unit


def recording(path: Path, *, requested: bool = False) -> tuple[Path, Path | None]:
    """Return the recording that `path` belongs to: its accelerometer file and, if separate, gyroscope file.

    Two files are one recording if their names differ only in the sensor: `X_accel.csv` and `X_gyro.csv`.
    Raises NotMedia (Unreadable if `requested`) without IMU columns, Unreadable if one sensor is missing.
    """
    try:
        names = _names(path)
    except Exception as error:  # whatever pyarrow and zipfile raise on damaged input
        raise Unreadable(f"{path}: damaged table; replace the file") from error
    present = [sensor for sensor in _SENSORS if _columns(names, sensor)]
    if len(present) == 2:
        return path, None
    for sensor in _SENSORS:
        partner = next((other for other in partners(path, sensor) if other.is_file()), None)
        if partner and _columns(names, sensor, bare=True):
            return (path, partner) if sensor == "accel" else (partner, path)
    if present:
        raise Unreadable(
            f"{path}: only {present[0]} columns x, y, z; add the other sensor, "
            "in this file or as a pair *_accel.csv and *_gyro.csv"
        )
    kind = Unreadable if requested else NotMedia
    raise kind(f"{path}: no accelerometer and gyroscope columns; pass tables of captions with --metadata")


def partners(path: Path, sensor: str) -> Iterator[Path]:
    """Yield candidate paths of the other sensor's file if `path` is named after `sensor` (accel, gyro)."""
    match = re.fullmatch(rf"(.*[ ._-])?({_SENSORS[sensor]})", path.stem, re.IGNORECASE)
    if match is None:
        return
    for word in _SENSORS["gyro" if sensor == "accel" else "accel"].split("|"):
        for variant in (word, word.title(), word.upper()):
            yield path.with_name(f"{match[1] or ''}{variant}{path.suffix}")


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 5 s, hop 5 s, of the time both sensors cover, at the accelerometer's mean rate.

    Rows may be in any order; incomplete rows and repeated timestamps are dropped. Windows never span a gap
    longer than a window.
    """
    accel_s, accel = _series(file.path, "accel", bare=file.companion is not None)
    gyro_s, gyro = _series(file.companion or file.path, "gyro", bare=file.companion is not None)
    channels = [(accel_s, channel) for channel in accel.T] + [(gyro_s, channel) for channel in gyro.T]
    rate_hz = float(1 / np.diff(accel_s)[~_is_gap(accel_s)].mean())
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise Unreadable(
            f"{file.path}: sample rate {rate_hz:.3g} Hz is implausible; name the unit of its time, as time_ms"
        )
    runs = _runs(accel_s, gyro_s)
    if not runs:
        raise Unreadable(f"{file.path}: the two sensors do not overlap in time; check their clocks")
    duration_s = runs[-1][1] - runs[0][0] + 1 / rate_hz
    longest = max(runs, key=lambda run: run[1] - run[0])
    for run in runs:
        grid_s = run[0] + np.arange(int((run[1] - run[0]) * rate_hz + 1e-6) + 1) / rate_hz  # [T]
        signal = np.stack([np.interp(grid_s, *channel) for channel in channels]).astype(np.float32)  # [6, T]
        run_s = len(grid_s) / rate_hz
        count = int((run_s - MIN_WINDOW_S) // WINDOW_S) + 1
        for start_s in np.arange(max(count, run == longest)) * WINDOW_S:
            window = signal[:, round(start_s * rate_hz) : round((start_s + WINDOW_S) * rate_hz)]
            yield Sample(
                Modality.IMU,
                window,
                start_s=float(run[0] - runs[0][0] + start_s),
                end_s=float(run[0] - runs[0][0] + min(start_s + WINDOW_S, run_s)),
                duration_s=duration_s,
                rate_hz=rate_hz,
            )


def _runs(accel_s: np.ndarray, gyro_s: np.ndarray) -> list[tuple[float, float]]:
    """Return the (start, end) intervals in which both sensors record without a gap."""
    gaps = sorted((s[k], s[k + 1]) for s in (accel_s, gyro_s) for k in np.flatnonzero(_is_gap(s)))
    first_s, last_s = max(accel_s[0], gyro_s[0]), min(accel_s[-1], gyro_s[-1])
    starts = np.maximum.accumulate([first_s, *(end for _, end in gaps)])
    ends = np.minimum([*(start for start, _ in gaps), last_s], last_s)
    return [(start, end) for start, end in zip(starts.tolist(), ends.tolist(), strict=True) if start < end]


def _is_gap(seconds: np.ndarray) -> np.ndarray:
    """Mark the steps between timestamps that are gaps, bool [N - 1]."""
    steps = np.diff(seconds)
    return steps > max(WINDOW_S, GAP_STEPS * np.median(steps))


def _columns(names: Iterable[str], sensor: str, *, bare: bool = False) -> _Columns | None:
    """Find the three axes of a sensor and its time; with `bare`, columns named x, y, z match too.

    >>> _columns(["Time (ms)", "gyroX [deg/s]", "gyroY [deg/s]", "gyroZ [deg/s]"], "gyro").time_factor
    0.001
    """
    words = f"{_SENSORS[sensor]}|{_SHORT[sensor]}"
    units = "|".join(_UNITS[sensor])
    axis = re.compile(rf"{_PREFIX}({words}){'?' if bare else ''}([xyz012])(list)?({units})?(list)?")
    time = re.compile(
        rf"{_PREFIX}(({_SENSORS[sensor]})|{'|'.join(_SENSORS.values())})?({_TIME})({'|'.join(_TIME_UNITS)})?(list)?"
    )
    axes: dict[int, str] = {}
    factor = 1.0
    times: dict[int, tuple[str, float | None]] = {}  # by preference: this sensor's, common, the other's
    for name in names:
        normalised = _normalise(name)
        if match := axis.fullmatch(normalised):
            axes.setdefault(_AXES[match[2]], name)
            factor = _UNITS[sensor].get(match[4], 1.0)
        elif match := time.fullmatch(normalised):
            seconds = match[3] == "secondselapsed" or re.search(r"[\W_]s\W*$", name.lower())
            unit = _TIME_UNITS.get("s" if seconds else match[4])
            times.setdefault(0 if match[2] else 2 if match[1] else 1, (name, unit))
    if len(axes) < 3:
        return None
    time_name, time_factor = times[min(times)] if times else (None, None)
    return _Columns((axes[0], axes[1], axes[2]), factor, time_name, time_factor)


def _series(path: Path, sensor: str, *, bare: bool) -> tuple[np.ndarray, np.ndarray]:
    """Read one sensor: (seconds [N] ascending, xyz [N, 3] in m/s^2 or rad/s), N >= 2."""
    names = _names(path)
    columns = _columns(names, sensor, bare=bare)
    if columns is None:
        raise Unreadable(f"{path}: no {sensor} columns; name them {sensor}_x, {sensor}_y, {sensor}_z")
    rate = next((name for name in names if _normalise(name) in _RATES), None)
    clock = columns.time or rate
    if clock is None:
        raise Unreadable(f"{path}: neither a time column nor rate_hz; add one")
    table = _load(path, [*columns.axes, clock])
    axes, seconds = [table[name] for name in columns.axes], table[clock]
    if not columns.time:
        if not (seconds[:1] > 0).all():
            raise Unreadable(f"{path}: {clock} is {seconds[0]}; expected samples per second above 0")
        seconds = np.arange(len(axes[0])) / seconds[:1]
    if len({len(column) for column in (*axes, seconds)}) > 1:
        raise Unreadable(f"{path}: {sensor} and time columns have different lengths; replace the file")
    with np.errstate(over="ignore"):
        xyz = np.stack(axes, axis=1) * columns.factor  # [N, 3]
        kept = np.isfinite(np.column_stack([xyz, seconds]).astype(np.float32)).all(axis=1)
    seconds, rows = np.unique(seconds[kept], return_index=True)
    if len(seconds) < 2:
        raise Unreadable(f"{path}: fewer than two complete {sensor} samples; replace the file")
    if columns.time:
        seconds = seconds * (columns.time_factor or _infer_unit(float(np.median(np.diff(seconds)))))
    return seconds, xyz[kept][rows]


def _infer_unit(step: float) -> float:
    """Infer seconds per unit of time from the median step; unambiguous at an IMU's 2 Hz to 2 kHz."""
    return next((unit for limit, unit in ((0.5, 1.0), (500, 1e-3), (500_000, 1e-6)) if step < limit), 1e-9)


def _names(path: Path) -> list[str]:
    """Return the column names of a table; a 2-D npz array stands for three (`imu`: six) columns."""
    match _format(path):
        case "parquet":
            import pyarrow.parquet

            return list(pyarrow.parquet.read_schema(path).names)
        case "npz":
            with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
                return [column for key in archive for column in _npz_columns(key)]
        case _:
            return list(_layout(path)[0].names)


def _load(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """Read columns as float64 [N], missing values as NaN, timestamps as seconds."""
    format = _format(path)
    loaded: dict[str, np.ndarray] = {}
    if format == "npz":
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            _check_size(path, sum(member.file_size for member in archive.zip.infolist()))
            for key in archive:
                columns = _npz_columns(key)
                if not set(columns).isdisjoint(names):
                    array = np.atleast_1d(archive[key])
                    rows = array if array.shape[0] == len(columns) else array.T
                    if array.dtype.kind not in "biufM" or array.ndim > 2 or len(rows) != len(columns) > 1:
                        actual = f"{array.dtype}{list(array.shape)}"
                        raise Unreadable(f"{path}: {key} is {actual}; expected numbers [N, {len(columns)}]")
                    rows = rows.astype(np.float64)
                    loaded.update(zip(columns, rows if len(columns) > 1 else [rows], strict=True))
        return loaded
    import pyarrow
    from pyarrow import csv as arrow_csv
    from pyarrow import parquet

    if format == "parquet":
        _check_size(path, parquet.read_metadata(path).num_rows * len(names) * 8)
        table = parquet.read_table(path, columns=list(names))
    else:
        table_layout, encoding = _layout(path)
        size = path.stat().st_size
        _check_size(path, size)
        table = arrow_csv.read_csv(
            path,
            arrow_csv.ReadOptions(
                column_names=table_layout.names,
                skip_rows=table_layout.lines,
                block_size=size,  # one block: types are inferred from the first block
                encoding=encoding,
            ),
            arrow_csv.ParseOptions(delimiter=table_layout.delimiter, invalid_row_handler=lambda row: "skip"),
            arrow_csv.ConvertOptions(include_columns=list(names), decimal_point=table_layout.decimal_point),
        )
    for name in names:
        column, factor = table[name], 1.0
        try:
            if pyarrow.types.is_timestamp(column.type):
                column, factor = column.cast(pyarrow.timestamp("ns")).cast(pyarrow.int64()), 1e-9
            loaded[name] = column.cast(pyarrow.float64(), safe=False).to_numpy() * factor
        except pyarrow.ArrowException as error:
            reason = str(error).splitlines()[0]
            raise Unreadable(f"{path}: column {name} is not numeric: {reason}; correct its values") from None
    return loaded


def _check_size(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise Unreadable(f"{path}: over 1 GB of numbers; split it")


def _format(path: Path) -> str:
    with path.open("rb") as file:
        return {b"PAR1": "parquet", b"PK\x03\x04": "npz"}.get(file.read(4), "csv")


def _npz_columns(key: str) -> list[str]:
    if key.lower() == "imu":
        return [f"{sensor}_{axis}" for sensor in _SENSORS for axis in "xyz"]
    if re.fullmatch("|".join(_SENSORS.values()), _normalise(key)):
        return [f"{key}_{axis}" for axis in "xyz"]
    return [key]


def _layout(path: Path) -> tuple[Layout, str]:
    """Return the layout of a CSV table, and the encoding of its rows."""
    with path.open("rb") as raw:
        encoding = text.bom_encoding(raw.read(4)) or "utf-8-sig"
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        # any byte is valid latin-1, and numbers are ASCII
        rows = "latin-1" if encoding == "utf-8-sig" else encoding
        return layout(iter(lambda: file.readline(65_536), "")), rows


def _normalise(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower().translate(_TRANSLITERATED))
