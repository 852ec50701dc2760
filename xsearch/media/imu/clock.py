"""Columns of time -> seconds: numbers in any unit, counters, dates, times of the day."""

from __future__ import annotations

import math
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np

from xsearch.media.imu.columns import floats, numbers_of
from xsearch.media.imu.layouts import Clock

__all__ = ["joined", "seconds"]

HOUR_S, DAY_S = 3600.0, 86_400.0
UNITS_S = (1.0, 1e-3, 1e-4, 1e-6, 1e-7, 1e-9)  # 1e-4: Xsens MTi and MTw; 1e-7: Windows
EPOCH_S = 946_684_800.0, 4_102_444_800.0  # from 2000 to 2100
EPOCHS_S = 0.0, 11_644_473_600.0, 62_135_596_800.0  # from the years 1970, 1601 (FILETIME) and 1 (.NET)
MAX_RATE_HZ = 100_000.0
# 2021-03-04T10:11:12.345+01:00, 4.3.21 10:11:12, 04-Mar-2021 10:11:12 AM, 2021-3-4 1:2:3:456, 10:11:12,345
_MOMENT = (
    r"^\D{0,5}?(?:(?P<year>\d{4})[-/._](?P<month>\d{1,2})[-/._](?P<day>\d{1,2})|"
    r"(?P<first>\d{1,2}|[A-Za-z]{3})[-/. ](?P<second>\d{1,2}|[A-Za-z]{3})[-/., ]+(?P<last>\d{4}|\d\d))?"
    r"[T ,_]*(?P<hours>\d{1,2}):(?P<minutes>\d{1,2}):(?P<seconds>\d{1,2})(?:[.,:_](?P<fraction>\d{1,9})\d*)?"
    r"\s*(?P<half>[aApP])?\.?[mM]?\.?\s*(?:Z|UTC|GMT)?(?P<zone>[+-]\d\d:?\d\d)?\s*$"
)
# 20210304T101112.345 and, within an hour, 11:12.3 as Excel writes it: pattern, replacement
_SHORTENED = (
    (r"^(\d{4})(\d\d)(\d\d)[T_ -]?(\d\d):?(\d\d):?(\d\d)", r"\1-\2-\3 \4:\5:\6"),
    (r"^(\d{1,2}:\d\d[.,]\d+)$", r"0:\1"),
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_NAMED = 100  # added to the number of a month that is a name, and thus no day


def seconds(column: Any, clock: Clock, rate_hz: float | None = None) -> np.ndarray | None:
    """Return the seconds of a column, float64 [N], NaN where it is null; None if it stands still.

    column: numbers or an Arrow array. rate_hz: if known, the unit of the clock may follow from it.
    Clocks that count to a limit, such as midnight, continue. Of a clock too coarse for the rows they are
    spread evenly. Raises ValueError if the column has neither numbers nor times.
    """
    values, unit_s, wraps_at = _ticks(column)
    values = values.astype(np.float64)  # a copy
    unit_s, wraps_at = unit_s or clock.unit_s, wraps_at or clock.wraps_at
    known = np.flatnonzero(np.isfinite(values))
    ticks = values[known]
    if wraps_at and len(ticks):
        ticks = ticks + wraps_at * np.cumsum(np.diff(ticks, prepend=ticks[0]) < -wraps_at / 2)
    distinct, first = np.unique(ticks, return_index=True)
    if len(distinct) < 2:
        return None
    if len(distinct) <= len(ticks) / 2 and (np.diff(ticks) >= 0).all():
        ticks = distinct = _spread(distinct, first, len(ticks))
    if clock.counts:
        if not rate_hz:
            return None
        unit_s = 1 / rate_hz
    values[known] = ticks * (unit_s or _unit_s(distinct, rate_hz))
    return values


def _spread(ticks: np.ndarray, first: np.ndarray, count: int) -> np.ndarray:
    """Return the times of `count` rows, of which those in `first` have the ticks of a coarse clock.

    A recording rarely begins with a tick, or ends with one: there the mean step continues.
    """
    if len(ticks) > 2:
        ticks, first = ticks[1:], first[1:]
    step = (ticks[-1] - ticks[0]) / (first[-1] - first[0])
    ends = np.array([0, count])
    outer = ticks[[0, -1]] + (ends - first[[0, -1]]) * step
    return np.interp(np.arange(count), [ends[0], *first, ends[1]], [outer[0], *ticks, outer[1]])


def joined(dates: Any, times: Any) -> Any:
    """Return "date time" of two columns of text, if that is a moment; else the times."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not all(isinstance(column, pa.StringArray) for column in (dates, times)):
        return times
    both = pc.binary_join_element_wise(pc.utf8_trim_whitespace(dates), pc.utf8_trim_whitespace(times), " ")
    with suppress(ValueError):
        _moments(both[:1])
        return both
    return times


def _ticks(column: Any) -> tuple[np.ndarray, float | None, float | None]:
    """Return values, their unit if it is known, and where they wrap."""
    if isinstance(column, np.ndarray):
        return column, None, None
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_timestamp(column.type):
        return floats(column.cast(pa.timestamp("ns")).cast(pa.int64())), 1e-9, None
    if pa.types.is_duration(column.type):
        return floats(column.cast(pa.duration("ns")).cast(pa.int64())), 1e-9, None
    if pa.types.is_time(column.type):
        return floats(column.cast(pa.time64("ns")).cast(pa.int64())), 1e-9, DAY_S * 1e9
    if not pa.types.is_string(column.type):
        return floats(column), None, None
    numbers = numbers_of(column, ",")
    return _moments(pc.utf8_trim_whitespace(column)) if numbers is None else (numbers, None, None)


def _moments(column: Any) -> tuple[np.ndarray, float, float | None]:
    """Parse dates and times of the day."""
    import pyarrow.compute as pc

    wraps_at = DAY_S if pc.all(pc.match_substring_regex(column, r":.*:")).as_py() else HOUR_S
    for pattern, replacement in _SHORTENED:
        column = pc.replace_substring_regex(column, pattern, replacement)
    parts = pc.extract_regex(column, _MOMENT)
    if parts.null_count > column.null_count:
        unknown = column.filter(pc.and_(parts.is_null(), column.is_valid()))
        raise ValueError(unknown[0].as_py())
    year, month, day, first, second, last, hours, minutes, whole = (
        _part(parts, name)
        for name in ("year", "month", "day", "first", "second", "last", "hours", "minutes", "seconds")
    )
    fraction = pc.binary_join_element_wise("0.", pc.struct_field(parts, "fraction"), "0", "")
    half, zone = pc.struct_field(parts, "half"), pc.struct_field(parts, "zone").to_numpy(zero_copy_only=False)
    is_half = floats(pc.not_equal(half, "").fill_null(False)).astype(bool)
    is_late = floats(pc.equal(pc.utf8_lower(half), "p").fill_null(False))
    hours = np.where(is_half, hours % 12 + 12 * is_late, hours)
    zones = {text: _zone_s(text) for text in set(zone)}
    of_day = hours * 3600 + minutes * 60 + whole + floats(fraction) - [zones[text] for text in zone]
    orders = ((year, month, day), (last, first, second), (last, second, first))
    dates = [days for order in orders if (days := _days(*order)) is not None]
    if not dates:
        return of_day, 1.0, wraps_at
    return of_day + min(dates, key=lambda days: np.nanmax(days) - np.nanmin(days)) * DAY_S, 1.0, None


def _part(parts: Any, name: str) -> np.ndarray:
    """Return a part of moments as numbers, NaN where it is missing; months may be names."""
    import pyarrow.compute as pc

    texts = pc.utf8_lower(pc.struct_field(parts, name))
    for number, month in enumerate(_MONTHS, start=_NAMED + 1):
        texts = pc.replace_substring(texts, month, str(number))
    return floats(pc.if_else(pc.match_substring_regex(texts, r"^\d+$"), texts, None))


def _zone_s(text: str | None) -> float:
    if not text:
        return 0.0
    return math.copysign(int(text[1:3]) * 3600 + int(text[-2:]) * 60, float(f"{text[0]}1"))


def _days(year: np.ndarray, month: np.ndarray, day: np.ndarray) -> np.ndarray | None:
    """Return days since 1970; None unless the numbers are dates."""
    known = np.isfinite(year)
    month = np.where(month > _NAMED, month - _NAMED, month)
    year = np.where(year < 100, year + 2000, year)
    if not known.any() or not ((month[known] >= 1) & (month[known] <= 12) & (day[known] <= 31)).all():
        return None
    months = np.where(known, (year - 1970) * 12 + month - 1, 0).astype(np.int64).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.float64) + day - 1
    return np.asarray(np.where(known, days, np.nan))


def _unit_s(ticks: np.ndarray, rate_hz: float | None) -> float:
    """Infer seconds per unit of time from the known rate, the epoch, or the median step.

    The step is unambiguous at an IMU's 2 Hz to 2 kHz.
    """
    step = float(np.median(np.diff(ticks)))
    if rate_hz:
        unit_s = min(UNITS_S, key=lambda unit_s: abs(math.log(unit_s * step * rate_hz)))
        if abs(math.log(unit_s * step * rate_hz)) < 0.5:
            return unit_s
    middle = float(np.median(ticks))
    for unit_s, epoch_s in product(UNITS_S, EPOCHS_S):
        is_date = EPOCH_S[0] < middle * unit_s - epoch_s < EPOCH_S[1]
        if is_date and 1 / MAX_RATE_HZ < step * unit_s <= 5:
            return unit_s
    limits = (1 / MAX_RATE_HZ, DAY_S), (0.5, 1.0), (500, 1e-3), (500_000, 1e-6)  # days: Excel, MATLAB
    return next((unit_s for limit, unit_s in limits if step < limit), 1e-9)
