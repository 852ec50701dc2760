"""GoPro's telemetry becomes IMU samples of its video, in the video's time."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from xsearch.errors import Unreadable
from xsearch.types import Modality

SECONDS, ACCEL_HZ, GYRO_HZ = 8, 200, 400
SCALES = {"ACCL": 418, "GYRO": 939}


def motion(rate_hz: float, axes: slice) -> np.ndarray:
    t = np.arange(round(SECONDS * rate_hz)) / rate_hz
    return np.stack([(axis + 1) * np.sin((axis + 1) * t / 2) + axis / 2 for axis in range(6)])[
        axes
    ].T  # [N, 3]


def entry(key: str, kind: bytes, size: int, count: int, data: bytes) -> bytes:
    return struct.pack(">4scBH", key.encode(), kind, size, count) + data + bytes(-len(data) % 4)


def text(key: str, value: str) -> bytes:
    data = value.encode("latin-1")
    return entry(key, b"c", 1, len(data), data)


def stream(key: str, unit: str, xyz: np.ndarray, order: str, orin: bool, stamp_us: int | None) -> bytes:
    """A STRM of xyz [N, 3], stored in another order of axes, lower case reversed."""
    signs = [1 if axis.isupper() else -1 for axis in order]
    stored = xyz[:, ["XYZ".index(axis.upper()) for axis in order]] * signs * SCALES[key]
    samples = np.round(stored).astype(">i2")
    parts = [] if stamp_us is None else [entry("STMP", b"J", 8, 1, struct.pack(">Q", stamp_us))]
    parts += [entry("TSMP", b"L", 4, 1, struct.pack(">L", len(xyz))), text("STNM", "sensor (z,x,y)")]
    parts += [text("ORIN", order), text("ORIO", "ZXY")] if orin else []
    parts += [text("SIUN", unit), entry("SCAL", b"s", 2, 1, struct.pack(">h", SCALES[key]))]
    parts.append(entry(key, b"s", 6, len(xyz), samples.tobytes()))
    return entry("STRM", b"\0", 1, sum(map(len, parts)), b"".join(parts))


def payload(second: int, *, device: str, order: str, orin: bool = False, stamped: bool = False) -> bytes:
    stamp_us = 5_000_000 + second * 1_000_000 if stamped else None
    parts = [entry("DVID", b"L", 4, 1, bytes(4)), text("DVNM", device)]
    for key, unit, rate, axes in (
        ("ACCL", "m/s²", ACCEL_HZ, slice(0, 3)),
        ("GYRO", "rad/s", GYRO_HZ, slice(3, 6)),
    ):
        xyz = motion(rate, axes)[second * rate : (second + 1) * rate]
        parts.append(stream(key, unit, xyz, order, orin, stamp_us))
    return entry("DEVC", b"\0", 1, sum(map(len, parts)), b"".join(parts))


def film(path: Path, payloads: list[bytes], jitter_ms: int = 0) -> Path:
    with av.open(str(path), "w") as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuv420p"
        data = output.add_data_stream("bin_data")
        for second, content in enumerate(payloads):
            packet = av.Packet(content)
            packet.stream, packet.time_base = data, Fraction(1, 1000)
            packet.pts = packet.dts = second * 1000 + jitter_ms * (second % 2)
            packet.duration = 1000
            output.mux(packet)
            for _ in range(10):
                output.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))))
        output.mux(pictures.encode())
    return path


@pytest.mark.parametrize(
    "about",
    [
        {"device": "Camera", "order": "ZXY"},  # HERO5
        {"device": "Hero6 Black", "order": "YxZ"},
        {"device": "GoPro Fusion", "order": "yXZ"},
        {"device": "HERO9 Black", "order": "YxZ", "orin": True},
        {"device": "HERO11 Black", "order": "zYX", "orin": True, "stamped": True},
    ],
)
def test_a_video_has_the_motion_of_its_camera(tmp_path: Path, samples, about: dict) -> None:
    content = [payload(second, **about) for second in range(SECONDS)]
    path = film(tmp_path / "GX010001.MP4", content, jitter_ms=40 * about.get("stamped", False))
    found = samples(path)
    assert [sample.modality for sample in found] == [Modality.VIDEO, Modality.IMU, Modality.IMU]
    windows = found[1:]
    assert [(sample.start_s, sample.end_s) for sample in windows] == [
        (0, 5),
        (5, pytest.approx(SECONDS, abs=0.01)),
    ]
    assert [sample.rate_hz for sample in windows] == pytest.approx([ACCEL_HZ] * 2)
    joined = np.concatenate([sample.data for sample in windows], axis=1)
    expected = np.concatenate([motion(ACCEL_HZ, slice(0, 3)), motion(ACCEL_HZ, slice(3, 6))], axis=1).T
    np.testing.assert_allclose(joined, expected[:, : joined.shape[1]], atol=2e-3)

    as_motion = samples(path, Modality.IMU)
    assert [sample.start_s for sample in as_motion] == [0, 5]
    np.testing.assert_array_equal(as_motion[0].data, windows[0].data)


def test_other_data_in_a_video_is_no_motion(tmp_path: Path, samples, caplog) -> None:
    [sample] = samples(film(tmp_path / "a.mp4", [b"other data"] * 3))
    assert sample.modality is Modality.VIDEO
    with pytest.raises(Unreadable, match=r"without motion telemetry \(GPMF of a GoPro\)"):
        samples(tmp_path / "a.mp4", Modality.IMU)

    damaged = payload(0, device="Camera", order="ZXY")[:300]
    [sample] = samples(film(tmp_path / "b.mp4", [damaged] * 3))
    assert sample.modality is Modality.VIDEO
