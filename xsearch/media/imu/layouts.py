"""Which columns of a table are an accelerometer, a gyroscope and their clocks: the tables to extend.

The words of LAYOUTS and CLOCKS are compared without case, spaces and punctuation. An axis is named by a word
of its sensor and x, y, z or 0, 1, 2 or 1, 2, 3, with any device before it and its unit after it or in
between: `acc` stands for `acc_x`, `AccX (g)`, `left wrist acc-Y [m/s^2]` and `accelerometer_m_s2[0]`. To read
the tables of another logger, add its words to the last layout; if its words mean something else elsewhere,
or its units differ and its columns do not name them, give it a layout before that one:

    Layout("My logger", accel="force", gyro="turn", accel_unit="g", gyro_unit="deg/s", where="MyLogger v2")

Both sensors must be of one layout. Of several accelerometers the one that measures gravity too is preferred,
as ImageBind was trained on it, so those without follow in `accel`; to them the columns of GRAVITY are added.
Axes and signs stay as they were recorded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

__all__ = ["CLOCKS", "LAYOUTS", "SENSORS", "Axes", "Clock", "Series"]
__all__ += ["axes", "clocks", "sensor_of", "unit_of"]

SENSORS = ("accel", "gyro")
Series = tuple[np.ndarray, np.ndarray]  # samples of a sensor: seconds [N], xyz [N, 3]


@dataclass(frozen=True, slots=True)
class Layout:
    """The words with which a logger names the axes of both sensors, those to prefer first."""

    source: str
    accel: str
    gyro: str
    accel_unit: str = "m/s^2"  # unless a column names its unit
    gyro_unit: str = "rad/s"
    where: str = ""  # regular expression that the header or the text above it contains, in any case


_DOT = "DeviceTag|SampleTimeFine.*(dq_W|Euler_X|Quat_W)"  # an MTw has Quat_q0
LAYOUTS = (
    Layout("Xsens (Movella) DOT", "Acc FreeAcc", "Gyr", gyro_unit="deg/s", where=_DOT),
    Layout("ActiGraph", "Accelerometer", "Gyroscope", "g", "deg/s", where="ActiGraph"),
    Layout("OpenLog Artemis", accel="a", gyro="g", accel_unit="mg", gyro_unit="deg/s", where="rtcDate"),
    Layout("Physics Toolbox", accel="gF", gyro="w", accel_unit="g"),
    Layout("EuRoC, TUM-VI", accel="a_RS_S", gyro="w_RS_S", where="(?<!b_)w_RS_S"),  # b_w_RS_S is the bias
    Layout("Betaflight", accel="accSmooth", gyro="gyroADC", where=r"accSmooth\[0\].\("),
    Layout(
        "Ego4D, GoPro, MetaWear, MTw, phyphox, PX4, ROS, Sensor Logger, SensorLog, Shimmer, WitMotion, ...",
        "total_acceleration total_acc accelerometer_acceleration accel_LN acc16 acc16g accelerometer "
        "acceleration accel accl acc a accel_WR acc6 acc6g accelerometer_uncalibrated 加速度 "
        "linear_accelerometer linear_acceleration linear_accel linear_acc lin_acc lacc free_acceleration "
        "free_acc body_acc",
        "gyroscope gyro gyr angular_velocity angular_rate angular_speed ang_vel rotation_rate gyro_rotation "
        "rotation as w g gyroscope_uncalibrated gyro_uncalibrated 角速度",
    ),
    Layout("Stray Scanner", accel="a", gyro="alpha"),
    Layout("Kalibr, OpenVINS", accel="alpha", gyro="omega"),
    Layout("CoreMotion", "user_acceleration user_accel user_acc", "rotation_rate gyroscope gyro", "g"),
)
NO_GRAVITY = ("linear", "lin", "lacc", "free", "body", "user")  # how the word of an accelerometer starts
MOST = 1_000  # names that tell the logger
LONGEST = 64  # letters of the name of a column; more are a text
STATISTICS = ("avg", "bias", "cov", "diff", "mean", "median", "rms", "std", "var")  # before words: features
GRAVITY = "gravity grav"
AXES = {"x": 0, "y": 1, "z": 2, "right/left": 0, "forward/back": 1, "up/down": 2, "0": 0, "1": 1, "2": 2}

# Units: factor to m/s^2, rad/s, s; each also as it is written without punctuation.
UNITS = {
    "accel": dict.fromkeys(("m/s^2", "m/s/s", "mps2", "m/sec^2", "m/s2"), 1.0)
    | {"mm/s^2": 1e-3, "cm/s^2": 1e-2}
    | {"g": 9.80665, "gs": 9.80665, "mg": 9.80665e-3},
    "gyro": dict.fromkeys(("rad/s", "rad/sec", "radps", "rad", "rad s^-1", "rad sec^-1", "r/s"), 1.0)
    | dict.fromkeys(
        ("deg/s", "deg/sec", "degps", "dps", "d/s", "deg s^-1", "degrees/s", "degrees/second"), math.pi / 180
    )
    | {"mdps": math.pi / 180e3, "mrad/s": 1e-3},
}
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millis", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "usec", "micros", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nsec", "nanos", "nanosecond", "nanoseconds"), 1e-9),
}


@dataclass(frozen=True, slots=True)
class Clock:
    """A column of time: its words, and what its numbers are unless its name has a unit."""

    words: str
    unit_s: float | None = None  # None: inferred from its values
    wraps_at: float | None = None  # where a counter starts again from 0
    counts: bool = False  # samples, of which the rate is known otherwise
    column: int = -1  # in a table


CLOCKS = (  # those to prefer first, of a table and a sensor; text is a date or a time of the day
    Clock("canonical_timestamp"),  # Ego4D: of the whole video, unlike component_timestamp
    Clock("epoch epoc unix chip_time"),  # the same for both files of a pair, unlike the time elapsed
    Clock("sample_time_fine", wraps_at=2.0**32),  # Xsens
    Clock("timestamps timestamp stamp times time ts t 时间"),
    Clock("cts", unit_s=1e-3),  # GoPro
    Clock("seconds_elapsed elapsed_seconds", unit_s=1.0),
    Clock(
        "elapsed datetime utc seconds secs milliseconds millis ms microseconds micros us nanoseconds nanos"
    ),
    Clock("date clock"),
    Clock("packet_counter", wraps_at=2.0**16, counts=True),  # Xsens
)


@dataclass(frozen=True, slots=True)
class Axes:
    """The columns of one sensor."""

    columns: tuple[int, int, int]
    factor: float  # to m/s^2 or rad/s
    device: str = ""
    gravity: tuple[int, int, int] | None = None  # to add


def axes(names: Sequence[str], above: str = "", *, bare: str = "") -> dict[str, Axes]:
    """Return the columns of each sensor that a table has, by sensor.

    names: of all columns. above: the text above them. bare: the sensor of columns named x, y, z.

    >>> axes(["t", "AccX (g)", "AccY (g)", "AccZ (g)", "gyro (z) [rad/s]", "(x)", "(y)"])["gyro"].columns
    (5, 6, 4)
    """
    names = _short(names)
    normalised = [_normalise(name) for name in _carried(names)]
    sensors: dict[str, Axes] = {}
    header = ",".join((above, *names[:MOST]))
    for layout in LAYOUTS:
        if not re.search(layout.where, header, re.IGNORECASE):
            continue
        of_layout = {sensor: _choices(normalised, layout, sensor) for sensor in SENSORS}
        if all(of_layout.values()):
            accel, gyros = of_layout["accel"][0], of_layout["gyro"]
            return {"accel": accel, "gyro": next((g for g in gyros if g.device == accel.device), gyros[0])}
        sensors |= {
            sensor: choices[0] for sensor, choices in of_layout.items() if choices and sensor not in sensors
        }
    if bare and bare not in sensors and (unnamed := _triads(normalised, ("",), bare)):
        columns, factor = next(iter(unnamed.values()))
        sensors[bare] = Axes(columns, factor or 1.0)
    return {bare: sensors[bare]} if bare in sensors else sensors


def clocks(names: Sequence[str], sensor: str) -> list[Clock]:
    """Return the columns of time that a sensor may have, the most likely first: its own, common, the other's.

    >>> [clock.column for clock in clocks(["date", "gyro_time_ms", "t", "accel time (s)"], "accel")]
    [3, 2, 0, 1]
    """
    other = next(each for each in SENSORS if each != sensor)
    ranked = []
    for column, name in enumerate(_short(names)):
        tokens = (
            re.sub(r"(?<=[a-z])(?=[A-Z])|[\W_]+", "_", name.translate(_TRANSLITERATED)).strip("_").lower()
        )
        for rank, clock in enumerate(CLOCKS):
            if not (match := _clock_pattern(clock.words).fullmatch(tokens)):
                continue
            before, word, after, unit = ((group or "").strip("_") for group in match.groups())
            owner = next((at for at, of in ((0, sensor), (2, other)) if _names_sensor(before, of)), 1)
            is_other = owner == 1 and bool(re.sub(_PREFIX, "", before))
            if len(word) > 2 or not (is_other or after):
                unit_s = TIME_UNITS.get(unit or word) or clock.unit_s
                key = (owner, rank, is_other or bool(after), column)
                ranked.append((key, replace(clock, unit_s=unit_s, column=column)))
                break
    return [clock for _, clock in sorted(ranked, key=lambda each: each[0])]


def sensor_of(value: str) -> tuple[int, str, float] | None:
    """Return rank, sensor and factor of what a row of a table in long format measures.

    >>> sensor_of("android.sensor.gyroscope")[1], sensor_of("accel_g")[2], sensor_of("magnetometer")
    ('gyro', 9.80665, None)
    """
    value = {"1": "accelerometer", "4": "gyroscope"}.get(value, value)  # Android's Sensor.TYPE_
    for sensor in SENSORS:
        words = [word for layout in LAYOUTS for word in _words(layout, sensor) if len(word) > 2]
        units = _either(_UNITS[sensor])
        if match := re.fullmatch(rf".*?({_either(words)})({units})?", _normalise(value)):
            return words.index(match[1]), sensor, _UNITS[sensor].get(match[2], 1.0)
    return None


def unit_of(text: str, sensor: str) -> float | None:
    """Return the factor of a unit to m/s^2 or rad/s, None if it is unknown.

    >>> unit_of("m/s²", "accel"), unit_of("°/s", "gyro") == math.pi / 180, unit_of("mT", "gyro")
    (1.0, True, None)
    """
    return _UNITS[sensor].get(_normalise(text))


def _short(names: Sequence[str]) -> list[str]:
    """Return names, "" in the place of those that are too long: a text above a table, or hostile."""
    return [name if len(name) <= LONGEST else "" for name in names]


def _choices(normalised: Sequence[str], layout: Layout, sensor: str) -> list[Axes]:
    """Return the axes of a sensor in a layout, those to prefer first."""
    words = _words(layout, sensor)
    default = _UNITS[sensor][_normalise(layout.accel_unit if sensor == "accel" else layout.gyro_unit)]
    triads = _triads(normalised, words, sensor)
    chosen = []
    for (device, word), (columns, unit) in sorted(triads.items(), key=lambda each: words.index(each[0][1])):
        gravity = None
        if word.startswith(NO_GRAVITY):
            of_gravity = _triads(normalised, tuple(GRAVITY.split()), sensor)
            same = (columns for (owner, _), (columns, _) in of_gravity.items() if owner == device)
            gravity = next(same, None)
        chosen.append(Axes(columns, unit or default, device, gravity))
    return chosen


def _triads(
    normalised: Sequence[str], words: tuple[str, ...], sensor: str
) -> dict[tuple[str, str], tuple[tuple[int, int, int], float | None]]:
    """Return three columns and their unit, if named, by device and word."""
    patterns = _axis_patterns(words, sensor)
    groups: dict[tuple[str, str], dict[str, int]] = {}
    units: dict[tuple[str, str], float | None] = {}
    for column, name in enumerate(normalised):
        if match := next((match for pattern in patterns if (match := pattern.fullmatch(name))), None):
            each = match.groupdict()
            key = (each.get("device") or "", each["word"])
            groups.setdefault(key, {}).setdefault(each["axis"], column)
            unit = each["unit"] or each.get("unit_before") or ""
            units.setdefault(key, _UNITS[sensor].get(unit))
    triads = {}
    for key, columns in groups.items():
        for names in ("xyz", "012", "123", ("rightleft", "forwardback", "updown")):
            if all(name in columns for name in names):
                triads[key] = ((columns[names[0]], columns[names[1]], columns[names[2]]), units[key])
                break
    return triads


@cache
def _axis_patterns(words: tuple[str, ...], sensor: str) -> tuple[re.Pattern[str], ...]:
    long, short = [word for word in words if len(word) > 2], [word for word in words if len(word) < 3]
    units = _either(_UNITS[sensor])
    not_part = "".join(rf"(?<!{word})" for word in (*NO_GRAVITY, *STATISTICS))
    axis, rest = rf"(?:axis)?(?P<axis>{_either(map(_normalise, AXES))}|3)", "(?:axis|value|list|cal)*"
    return tuple(
        re.compile(pattern)
        for pattern, some in (
            (
                rf"(?:{_PREFIX})(?P<word>{_either(short)})(?P<axis>[xyz]){rest}(?P<unit>{units})?(?:list)?",
                short,
            ),
            (rf"(?P<word>)(?:value)?{axis}{rest}(?P<unit>{units})?", short if "" in short else ()),
            (
                rf"(?P<device>.*?){not_part}(?P<word>{_either(long)})(?P<unit_before>{units})?{axis}{rest}"
                rf"(?P<unit>{units})?(?:list)?",
                long,
            ),
            (rf"(?P<device>)(?P<axis>[xyz])(?:axis)?(?P<word>{_either(long)})(?P<unit>{units})?", long),
        )
        if some
    )


@cache
def _clock_pattern(words: str) -> re.Pattern[str]:
    """(before)(word)(after)(unit) of a name in lower case, its parts joined by _."""
    glued = _either({word for layout in LAYOUTS for sensor in SENSORS for word in _words(layout, sensor)})
    each = "|".join(word.replace("_", "_?") for word in words.split())
    return re.compile(rf"((?:.*_)?(?:{glued})?)({each})((?:_.*?)?)_?({_either(TIME_UNITS)})?(?:_?list)?")


def _names_sensor(text: str, sensor: str) -> bool:
    words = (word for layout in LAYOUTS for word in _words(layout, sensor))
    return any(word in _normalise(text) for word in words if len(word) > 2)


@cache
def _words(layout: Layout, sensor: str) -> tuple[str, ...]:
    return tuple(map(_normalise, getattr(layout, sensor).split()))


def _carried(names: Sequence[str]) -> Iterator[str]:
    """Yield names; `(x)` alone takes the rest from the name before: `Accelerometer (z) [m/s2]`."""
    complete = ""
    for name in names:
        if re.match(r"[(\[]", name) and re.search(r"\(.*?\)", complete):
            yield re.sub(r"\(.*?\)", name.replace("\\", ""), complete, count=1)
        else:
            complete = name
            yield name


def _either(words: object) -> str:
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))  # type: ignore[call-overload]


_PREFIX = r"(?:imu|field|raw|data|[\d_])*"  # of a short word
_TRANSLITERATED = str.maketrans({"°": "deg", "²": "2", "¹": "1", "µ": "u", "μ": "u"})


def _normalise(name: str) -> str:
    return "".join(letter for letter in name.lower().translate(_TRANSLITERATED) if letter.isalnum())


_UNITS = {sensor: {_normalise(unit): factor for unit, factor in UNITS[sensor].items()} for sensor in SENSORS}
