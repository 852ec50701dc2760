"""IMU tables under many names become one uniform recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from xsearch.errors import NotMedia, Unreadable
from xsearch.media import identify, walk
from xsearch.types import Modality

RATE = 100.0
AXES = ("ax", "ay", "az", "gx", "gy", "gz")


def motion(seconds: float, rate: float = RATE) -> tuple[np.ndarray, np.ndarray]:
    """Times [N] and signal [6, N]: slow sines, so that interpolation hardly errs."""
    t = np.arange(round(seconds * rate)) / rate
    return t, np.stack([np.sin((axis + 1) * t / 2) for axis in range(6)])


def write_csv(path: Path, columns: dict[str, np.ndarray], delimiter: str = ",", comma: bool = False) -> Path:
    rows = [delimiter.join(columns)]
    rows += [delimiter.join(f"{value:.9f}" for value in row) for row in zip(*columns.values(), strict=True)]
    text = "\n".join(rows[1:]) + "\n"
    path.write_text(rows[0] + "\n" + (text.replace(".", ",") if comma else text))
    return path


@pytest.mark.parametrize(
    "names",
    [
        "ax ay az gx gy gz",
        "acc_x acc_y acc_z gyro_x gyro_y gyro_z",
        "AccX AccY AccZ GyrX GyrY GyrZ",
        "accelerometer-x accelerometer-y accelerometer-z gyroscope-x gyroscope-y gyroscope-z",
        "accel_x_list accel_y_list accel_z_list gyro_x_list gyro_y_list gyro_z_list",
        "linear_acceleration.x linear_acceleration.y linear_acceleration.z "
        "angular_velocity.x angular_velocity.y angular_velocity.z",
        "accel_0 accel_1 accel_2 gyro_0 gyro_1 gyro_2",
    ],
)
def test_usual_names(tmp_path, samples, names):
    t, signal = motion(4)
    order = [3, 1, 5, 0, 2, 4]  # columns may stand in any order
    columns = {names.split()[k]: signal[k] for k in order} | {"label": t * 0, "t": t}
    [sample] = samples(write_csv(tmp_path / "a.csv", columns))
    assert (sample.modality, sample.data.dtype) == (Modality.IMU, np.float32)
    assert sample.rate_hz == pytest.approx(RATE)
    np.testing.assert_allclose(sample.data, signal, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "per_second"),
    [
        ("time", 1),
        ("timestamp", 1e3),
        ("timestamp", 1e6),
        ("%time", 1e9),
        ("Time (s)", 1),
        ("t_ms", 1e3),
        ("timestamp_us", 1e6),
        ("time [µs]", 1e6),
        ("timestampNs", 1e9),
        ("seconds_elapsed", 1),
        ("accel_time_list", 1),
    ],
)
def test_units_of_time(tmp_path, samples, name, per_second):
    t, signal = motion(3)
    stamps = (t + 1000) * per_second
    [sample] = samples(write_csv(tmp_path / "a.csv", {name: stamps, **dict(zip(AXES, signal, strict=True))}))
    assert sample.rate_hz == pytest.approx(RATE, rel=1e-4)
    assert (sample.start_s, sample.end_s) == (0, pytest.approx(3))


def test_a_unit_in_the_name_outranks_the_guess(tmp_path, samples):
    t, signal = motion(60, rate=1)  # 1 Hz in seconds looks like milliseconds
    named = dict(zip(AXES, signal, strict=True))
    assert samples(write_csv(tmp_path / "a.csv", {"time_s": t, **named}))[0].rate_hz == pytest.approx(1)
    assert samples(write_csv(tmp_path / "b.csv", {"time": t, **named}))[0].rate_hz == pytest.approx(1000)


@pytest.mark.parametrize(
    ("accel", "gyro"),
    [("acc_{}_g", "gyro_{}_dps"), ("Acc {} (g)", "Gyro {} (deg/s)"), ("a{}[G]", "w{} [°/s]")],
)
def test_units_of_motion(tmp_path, samples, accel, gyro):
    t, signal = motion(3)
    names = [accel.format(axis) for axis in "xyz"] + [gyro.format(axis) for axis in "xyz"]
    [sample] = samples(write_csv(tmp_path / "a.csv", {"t": t, **dict(zip(names, signal, strict=True))}))
    np.testing.assert_allclose(sample.data[:3], signal[:3] * 9.80665, atol=1e-5)
    np.testing.assert_allclose(sample.data[3:], signal[3:] * np.pi / 180, atol=1e-6)


def test_parquet_npz_and_other_delimiters_agree_with_csv(tmp_path, samples):
    t, signal = motion(3)
    columns = {"t": t, **dict(zip(AXES, signal, strict=True))}
    write_csv(tmp_path / "tabs.csv", columns, delimiter="\t")
    write_csv(tmp_path / "comma.csv", columns, delimiter=";", comma=True)
    headed = write_csv(tmp_path / "headed.csv", columns)
    headed.write_text("\ufeff# a recording\n\n" + headed.read_text(), encoding="utf-8")
    pyarrow.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    dates = pa.array((t * 1e9).astype("int64") + 1_700_000_000 * 10**9, pa.timestamp("ns"))
    pyarrow.parquet.write_table(pa.table({**columns, "t": dates}), tmp_path / "dates.parquet")
    np.savez(tmp_path / "a.npz", **columns)
    np.savez(tmp_path / "matrix.npz", t=t, accel=signal[:3].T, gyro=signal[3:])
    np.savez(tmp_path / "six.npz", imu=signal.T, rate_hz=RATE)
    assert len(list(tmp_path.iterdir())) == 8
    for path in sorted(tmp_path.iterdir()):
        [sample] = samples(path)
        assert sample.rate_hz == pytest.approx(RATE, rel=1e-5)
        np.testing.assert_allclose(sample.data, signal, atol=1e-5, err_msg=path.name)


def test_rows_in_disorder_twice_or_broken_change_nothing(tmp_path, samples):
    t, signal = motion(4)
    whole = write_csv(tmp_path / "a.csv", {"t": t, **dict(zip(AXES, signal, strict=True))})
    head, *rows = whole.read_text().splitlines()
    np.random.default_rng(5).shuffle(rows)
    text = "\n".join([head, *rows, rows[7], "3.999,1,2,,4,5,6", "0.5,1"])
    (tmp_path / "b.csv").write_text(text)
    [expected], [sample] = samples(whole), samples(tmp_path / "b.csv")
    np.testing.assert_allclose(sample.data, expected.data, atol=1e-6)


def test_uneven_times_are_interpolated_to_the_mean_rate(tmp_path, samples):
    t = np.sort(np.random.default_rng(2).uniform(0, 4, 401))
    t[0], t[-1] = 0, 4
    signal = np.stack([t * (axis + 1) for axis in range(6)])  # linear: interpolation is exact
    [sample] = samples(write_csv(tmp_path / "a.csv", {"t": t, **dict(zip(AXES, signal, strict=True))}))
    assert sample.rate_hz == pytest.approx(100)
    grid = np.arange(401) / 100
    np.testing.assert_allclose(sample.data, np.stack([grid * (axis + 1) for axis in range(6)]), atol=1e-4)


@pytest.mark.parametrize(("seconds", "ends"), [(0.5, [0.5]), (6.9, [5]), (7, [5, 7]), (12, [5, 10, 12])])
def test_windows(tmp_path, samples, seconds, ends):
    t, signal = motion(seconds)
    found = samples(write_csv(tmp_path / "a.csv", {"t": t, **dict(zip(AXES, signal, strict=True))}))
    assert [sample.end_s for sample in found] == pytest.approx(ends)
    assert [sample.start_s for sample in found] == [0, 5, 10][: len(ends)]
    assert [sample.duration_s for sample in found] == [pytest.approx(seconds)] * len(ends)
    joined = np.concatenate([sample.data for sample in found], axis=1)
    np.testing.assert_allclose(joined, signal[:, : joined.shape[1]], atol=1e-6)


def test_after_a_gap_the_windows_begin_anew(tmp_path, samples):
    t, signal = motion(21)
    kept = ((t < 7.5) | (t >= 13)) & (np.abs(t - 2) > 0.5)  # 6 s are a gap, one is not
    columns = {"t": t[kept], **dict(zip(AXES, signal[:, kept], strict=True))}
    found = samples(write_csv(tmp_path / "a.csv", columns))
    assert [sample.start_s for sample in found] == pytest.approx([0, 5, 13, 18])
    assert [sample.end_s for sample in found] == pytest.approx([5, 7.5, 18, 21], abs=0.1)
    assert [sample.duration_s for sample in found] == pytest.approx([21] * 4, abs=0.1)
    np.testing.assert_allclose(found[2].data[:, 0], signal[:, 1300], atol=1e-6)


@pytest.mark.parametrize(
    ("accel", "gyro", "columns"),
    [
        ("walk_accel.csv", "walk_gyro.csv", ("accel_x", "accel_y", "accel_z", "gyro_x", "gyro_y", "gyro_z")),
        ("Accelerometer.csv", "Gyroscope.csv", ("x", "y", "z", "x", "y", "z")),
        ("1-ACC.csv", "1-GYR.csv", ("acc_0", "acc_1", "acc_2", "gyr_0", "gyr_1", "gyr_2")),
    ],
)
def test_two_files_are_one_recording(tmp_path, samples, accel, gyro, columns):
    t, signal = motion(5)
    write_csv(tmp_path / accel, {"time": t, **dict(zip(columns[:3], signal[:3], strict=True))})
    slow, turning = motion(5, rate=50)
    write_csv(tmp_path / gyro, {"time": slow, **dict(zip(columns[3:], turning[3:], strict=True))})

    [file] = walk([tmp_path])
    assert (file.path, file.companion) == (tmp_path / accel, tmp_path / gyro)
    assert file.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert identify(tmp_path / gyro) == identify(tmp_path / accel) == file
    assert list(walk([tmp_path / gyro, tmp_path / accel, tmp_path])) == [file]
    [sample] = samples(tmp_path / gyro)
    assert sample.rate_hz == pytest.approx(RATE)
    np.testing.assert_allclose(sample.data, signal[:, : sample.data.shape[1]], atol=2e-3)
    assert sample.data.shape[1] == 499  # until the slower gyroscope's last row


def test_half_a_recording_says_what_is_missing(tmp_path):
    t, signal = motion(2)
    path = write_csv(tmp_path / "a_gyro.csv", {"t": t, **dict(zip(AXES[3:], signal, strict=False))})
    with pytest.raises(Unreadable, match=r"only gyro columns .*\*_accel\.csv"):
        identify(path)


def test_other_tables_are_not_media_unless_ordered(tmp_path):
    path = write_csv(tmp_path / "prices.csv", {"time": np.arange(3), "x": np.arange(3), "y": np.arange(3)})
    with pytest.raises(NotMedia, match="--metadata"):
        identify(path)
    with pytest.raises(Unreadable, match="no accelerometer and gyroscope columns"):
        identify(path, kinds=[(Modality.IMU, "*.csv")])


@pytest.mark.parametrize(
    ("clock", "reason"),
    [
        ({}, "neither a time column nor rate_hz; add one"),
        ({"rate_hz": np.zeros(9)}, "rate_hz is 0.0"),
        ({"t": np.ones(9)}, "fewer than two complete accel samples"),
        ({"time_s": np.arange(9) * 1e7}, "sample rate 1e-07 Hz is implausible; name the unit of its time"),
        ({"time_ns": np.arange(9)}, r"sample rate 1e\+09 Hz is implausible; name the unit of its time"),
    ],
)
def test_a_recording_without_time_is_unreadable(tmp_path, samples, clock, reason):
    path = write_csv(tmp_path / "a.csv", clock | dict.fromkeys(AXES, np.arange(9.0)))
    with pytest.raises(Unreadable, match=reason):
        samples(path)


def test_clocks_that_never_meet_are_unreadable(tmp_path, samples):
    t, signal = motion(2)
    write_csv(tmp_path / "a_accel.csv", {"t": t, **dict(zip(AXES[:3], signal[:3], strict=True))})
    write_csv(tmp_path / "a_gyro.csv", {"t": t + 50, **dict(zip(AXES[3:], signal[3:], strict=True))})
    with pytest.raises(Unreadable, match="do not overlap in time"):
        samples(tmp_path / "a_accel.csv")
