"""The sensors of a table: which columns they are, and their samples in physical units."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xsearch.errors import Unreadable, Unsupported
from xsearch.media.imu import clock, columns, layouts
from xsearch.media.imu.columns import Header
from xsearch.media.imu.layouts import SENSORS, Axes, Clock, Series
from xsearch.media.limits import MAX_COLUMNS

__all__ = ["axes", "header", "is_likely", "listed", "read"]

SHOWN = 10  # columns in a message
# A table in long format has rows of one sensor each, as the column of these names says.
SENSOR_COLUMNS = {"sensor", "sensorname", "sensortype", "type", "source", "stream", "measurement"}
DEVICE_COLUMNS = {"device", "devicename", "deviceid", "user", "userid", "subject", "subjectid", "设备名称"}
RATE_COLUMNS = {"ratehz", "samplerate", "sampleratehz"}
_RATE = re.compile(r"(?:rate|frequency)\W*(?:hz\W*)?(\d+(?:\.\d+)?)", re.IGNORECASE)  # above a header
_LAST_AXIS = re.compile(r"z(?![a-z])|z(?=acc|gyr)|(?:acc|gyr|value)\w*\W?2|up/down")  # few texts have one


def is_likely(text: str) -> bool:
    """Whether a line of a text may be the header of a table with sensors; cheap for other texts."""
    return bool(_LAST_AXIS.search(text.lower())) and any(
        _is_header(re.split(r"[,;\t|\s]+", line)) for line in text.splitlines()
    )


def header(path: Path) -> Header:
    """Return the header of a table; no names if no line of it names three axes."""
    return columns.header(path, _is_header)


def axes(of: Header, bare: str = "") -> dict[str, Axes]:
    """Return the columns of each sensor in a table. bare: the sensor of columns named x, y, z."""
    wide = layouts.axes(of.names, of.layout.preamble, bare=bare)
    if wide or (rows_of := _column(of, SENSOR_COLUMNS)) is None:
        return wide
    values = {row[rows_of] for row in of.rows if len(row) > rows_of}
    unnamed = layouts.axes(of.names, bare="accel")
    return dict.fromkeys(SENSORS, unnamed["accel"]) if unnamed and any(map(layouts.sensor_of, values)) else {}


def read(path: Path, sensor: str, *, bare: bool) -> Series:
    """Return seconds [N] and xyz [N, 3] in m/s^2 or rad/s; rows may be incomplete and in any order."""
    of = header(path)
    sensors = axes(of, sensor if bare else "")
    if sensor not in sensors:
        raise Unsupported(
            f"{path}: no {sensor} columns; found {listed(of)}; name them {sensor}_x, {sensor}_y, {sensor}_z"
        )
    its, clocks = sensors[sensor], layouts.clocks(of.names, sensor)
    is_long = sensors.get("accel") is sensors.get("gyro")
    rate, device = _column(of, RATE_COLUMNS), _column(of, DEVICE_COLUMNS)
    rows_of = _column(of, SENSOR_COLUMNS) if is_long else None
    numbers = [*its.columns, *(its.gravity or ()), *([] if rate is None else [rate])]
    texts = [each.column for each in clocks] + [each for each in (rows_of, device) if each is not None]
    table = columns.load(of, numbers, texts)
    rates = table.pop(rate) if rate is not None else None
    factor = its.factor
    if rows_of is not None:
        rows, factor = _rows(of, table[rows_of], sensor)
        table = {column: _taken(values, rows) for column, values in table.items()}
    if len({len(values) for values in table.values()}) > 1:
        raise Unreadable(f"{path}: {sensor} and time columns have different lengths; replace the file")
    if device is not None and len(devices := _distinct(table[device])) > 1:
        raise Unsupported(
            f"{path}: rows of {len(devices)} devices in column {of.names[device]}; write a table for each"
        )
    with np.errstate(over="ignore"):
        xyz = np.stack([table[column] for column in its.columns], axis=1) * factor  # [N, 3]
        if its.gravity:
            xyz += np.stack([table[column] for column in its.gravity], axis=1) * factor
    return _seconds(of, sensor, clocks, table, rates), xyz


def listed(of: Header) -> str:
    """Return the names of the columns on one line, for a message."""
    names = [" ".join(name.split()) for name in of.names if name.strip()]
    return ", ".join(names[:SHOWN]) + ", ..." * (len(names) > SHOWN)


def _seconds(
    of: Header, sensor: str, clocks: Sequence[Clock], table: dict[int, Any], rates: np.ndarray | None
) -> np.ndarray:
    """Return the times of the rows, by the first clock that runs; without any, by the rate."""
    rate = _RATE.search(of.layout.preamble) or re.search(r"(\d+(?:\.\d+)?) ?Hz", of.path.stem)
    rate_hz = float(rate[1]) if rate else None
    if rates is not None:
        rate_hz = float(rates[0]) if len(rates) else 0.0
    if rate_hz is not None and not rate_hz > 0:
        raise Unreadable(f"{of.path}: rate_hz is {rate_hz}; expected samples per second above 0")
    dates = next((each.column for each in clocks if of.names[each.column].lower() == "date"), None)
    problem = ""
    for each in clocks:
        column, name = table[each.column], of.names[each.column]
        if dates not in (None, each.column):
            column = clock.joined(table[dates], column)
        try:
            if (seconds := clock.seconds(column, each, rate_hz)) is not None:
                return seconds
            problem = problem or f"fewer than two complete {sensor} samples with a time in {name}; add them"
        except ValueError as error:
            problem = problem or f"column {name} is not numeric and no time: '{error}'; correct its values"
    if problem and rate_hz is None:
        raise Unreadable(f"{of.path}: {problem}")
    if rate_hz is None:
        raise Unsupported(f"{of.path}: neither a time column nor rate_hz; add one")
    return np.arange(len(next(iter(table.values())))) / rate_hz


def _rows(of: Header, values: Any, sensor: str) -> tuple[np.ndarray, float]:
    """Return the rows of a sensor in a table in long format, and the factor of its unit."""
    texts = np.array([str(value) for value in values.to_pylist()])
    measured = {text: layouts.sensor_of(text) for text in np.unique(texts).tolist()}
    known = [(each[0], text, each[2]) for text, each in measured.items() if each and each[1] == sensor]
    if not known:
        names = ", ".join([*measured][:SHOWN])
        raise Unsupported(f"{of.path}: no rows of {sensor}, only of {names}; add them")
    _, text, factor = min(known)
    return np.flatnonzero(texts == text), factor


def _taken(values: Any, rows: np.ndarray) -> Any:
    if isinstance(values, np.ndarray):
        return values[rows]
    import pyarrow

    return values.take(pyarrow.array(rows))


def _distinct(values: Any) -> list[Any]:
    return [] if isinstance(values, np.ndarray) else [value for value in values.unique().to_pylist() if value]


def _column(of: Header, names: Collection[str]) -> int | None:
    spelled = (re.sub(r"[\W_]", "", name.lower()) for name in of.names)
    return next((column for column, name in enumerate(spelled) if name in names), None)


def _is_header(names: Sequence[str]) -> bool:
    names = [name for name in names if len(name) <= layouts.LONGEST][: MAX_COLUMNS.value]
    line = " ".join(names).lower()
    return bool(_LAST_AXIS.search(line)) and any(layouts.axes(names, bare=bare) for bare in SENSORS)
