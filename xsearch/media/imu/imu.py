"""IMU recordings: accelerometer and gyroscope -> float32 [6, T] in m/s^2 and rad/s, resampled."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from xsearch.errors import Unreadable, Unsupported
from xsearch.media.imu import clock, gpmf, oxts, sensors
from xsearch.media.imu.layouts import SENSORS, Series
from xsearch.media.limits import MAX_ITEMS
from xsearch.types import MediaFile, Modality, Sample

__all__ = ["read", "telemetry"]

WINDOW_S = 5.0  # ImageBind, arXiv:2305.05665, section 3
MIN_WINDOW_S = 2.0  # a shorter remainder is dropped, unless it is the whole recording
GAP_STEPS = 10  # a step of more median steps, and longer than a window, is a gap in the recording
MIN_RATE_HZ, MAX_RATE_HZ = 1 / WINDOW_S, clock.MAX_RATE_HZ  # one sample per window; the fastest run at 32 kHz


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 5 s, hop 5 s, of the time both sensors cover, at the accelerometer's mean rate.

    Rows may be in any order; incomplete rows and repeated timestamps are dropped. Windows never span a gap
    longer than a window. Of a video its telemetry is read.
    """
    if file.mime.startswith("video/"):
        samples = telemetry(file.path)
        if (first := next(samples, None)) is None:
            raise Unsupported(f"{file.path}: a video without motion telemetry (GPMF of a GoPro)")
        yield first
        yield from samples
    elif oxts.is_part(file.path):
        yield from _windows(file.path, *oxts.read(file.path, file.companion))
    else:
        bare = file.companion is not None
        gyro = file.companion or file.path
        yield from _windows(
            file.path, sensors.read(file.path, "accel", bare=bare), sensors.read(gyro, "gyro", bare=bare)
        )


def telemetry(path: Path) -> Iterator[Sample]:
    """Yield the windows of a GoPro's telemetry in a video, by the time of the video; none if it has none."""
    signals = gpmf.signals(path)
    if len(signals) == len(SENSORS):
        yield from _windows(path, *(signals[sensor] for sensor in SENSORS), origin_s=0.0)


def _windows(path: Path, accel: Series, gyro: Series, *, origin_s: float | None = None) -> Iterator[Sample]:
    """Yield the windows of two sensors; times count from `origin_s`, by default from where both begin."""
    (accel_s, accel_xyz), (gyro_s, gyro_xyz) = (
        _ascending(path, "accel", *accel),
        _ascending(path, "gyro", *gyro),
    )
    channels = [(accel_s, channel) for channel in accel_xyz.T] + [(gyro_s, channel) for channel in gyro_xyz.T]
    rate_hz = float(1 / np.diff(accel_s)[~_is_gap(accel_s)].mean())
    if not MIN_RATE_HZ <= rate_hz <= MAX_RATE_HZ:
        raise Unsupported(
            f"{path}: sample rate {rate_hz:.3g} Hz is implausible; name the unit of its time, as time_ms"
        )
    runs = _runs(accel_s, gyro_s)
    if not runs:
        raise Unreadable(f"{path}: the two sensors do not overlap in time; check their clocks")
    origin_s = runs[0][0] if origin_s is None else origin_s
    duration_s = runs[-1][1] - origin_s + 1 / rate_hz
    longest = max(runs, key=lambda run: run[1] - run[0])
    MAX_ITEMS.check(path, sum((end - start - MIN_WINDOW_S) // WINDOW_S + 1 for start, end in runs))
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
                start_s=float(run[0] - origin_s + start_s),
                end_s=float(run[0] - origin_s + min(start_s + WINDOW_S, run_s)),
                duration_s=duration_s,
                rate_hz=rate_hz,
            )


def _ascending(path: Path, sensor: str, seconds: np.ndarray, xyz: np.ndarray) -> Series:
    """Return the complete samples of a sensor by time, at least two."""
    with np.errstate(over="ignore"):
        kept = np.isfinite(np.column_stack([xyz, seconds]).astype(np.float32)).all(axis=1)
    seconds, rows = np.unique(seconds[kept], return_index=True)
    if len(seconds) < 2:
        raise Unreadable(f"{path}: fewer than two complete {sensor} samples; replace the file")
    return seconds, xyz[kept][rows]


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
