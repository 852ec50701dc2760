"""Texts, motion, EXIF and XMP: samples and facts that make sense, or one of our errors."""

from __future__ import annotations

import io
import math
import warnings
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.mutation import CELLS, ODD_NUMBERS, fuzz, mutated
from xsearch.errors import MediaError
from xsearch.media import facts, identify, read
from xsearch.media.facts import values, xmp
from xsearch.media.imu.layouts import axes, clocks, sensor_of
from xsearch.types import MediaFile, Modality, Sample

MANY = 1_000  # windows; more can come of no file that is made here
COLUMNS = ["t", "ax", "ay", "az", "gx", "gy", "gz"]
NAMES = st.sampled_from([*COLUMNS, "time_ms", "timestamp", "rate_hz", "acc_x_g", "Gyro Z (°/s)", "label", ""])
NUMBERS = st.floats(-1e3, 1e3).map(str) | st.integers(0, 50).map(str)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("media")


def samples(path: Path, kind: Modality) -> list[Sample]:
    """Of a file; a problem with it is reported on one line."""
    problem, found = "", list[Sample]()
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")  # as an error it would be a reason to refuse the file
        try:
            found += islice(read(identify(path, kinds=[(kind, "*")])), MANY)
        except MediaError as error:
            problem = str(error)
    assert warned == []
    assert len(found) < MANY
    assert found or problem.startswith(f"{path}: ")
    assert len(problem.splitlines()) <= 1
    return found


@st.composite
def recordings(draw: st.DrawFn) -> bytes:
    """Mostly what is nearly an IMU recording."""
    usual, cut = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    header = draw(st.permutations(COLUMNS) if usual else st.lists(NAMES, min_size=7, max_size=9))
    size, columns = draw(st.integers(2, 9)), []
    for _ in header:
        cells = draw(st.sampled_from([NUMBERS] * 6 + [NUMBERS | ODD_NUMBERS, NUMBERS | CELLS]))
        columns.append(draw(st.lists(cells, min_size=size, max_size=size)))
    delimiter, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", "\r", "\n\n"]))
    text = end.join(delimiter.join(cells) for cells in [header, *zip(*columns, strict=True)])
    data = text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"])))
    return data if cut else data[: draw(st.integers(0, len(data)))]


@fuzz
@given(recordings() | mutated("imu") | st.binary(max_size=300))
def test_motion(folder: Path, data: bytes) -> None:
    path = folder / "motion.csv"
    path.write_bytes(data)
    for sample in samples(path, Modality.IMU):
        assert sample.data.shape[0] == 6
        assert sample.data.shape[1] > 0
        assert np.isfinite(sample.data).all()
        assert sample.start_s < sample.end_s <= sample.duration_s * (1 + 1e-6)


PIECES = [
    "acc",
    "gyr",
    "gyro",
    "linear",
    "body",
    "_",
    " ",
    "(",
    ")",
    "[g]",
    "x",
    "y",
    "z",
    "0",
    "1",
    "m/s^2",
    "°/s",
]
PIECES += ["time", "ms", "imu", "axis", "mean", "gravity", "é", "w", "a", "alpha", "加速度", "\0", "A" * 300]


@fuzz
@given(
    st.lists(st.lists(st.sampled_from(PIECES), max_size=5).map("".join), max_size=12), st.text(max_size=20)
)
@example(["imu_" * 60 + "x"] * 3, "")
@example(["accmeanrmsstd" * 60], "")
def test_names_of_columns(names: list[str], above: str) -> None:
    for bare in ("", "accel", "gyro"):
        for found in axes(names, above, bare=bare).values():
            assert set(found.columns) <= set(range(len(names)))
            assert found.factor > 0
    for sensor in ("accel", "gyro"):
        assert all(0 <= clock.column < len(names) for clock in clocks(names, sensor))
    for name in names:
        sensor_of(name)


@fuzz
@given(st.binary(max_size=300))
@example(b"\xff\xfe\x00\xd8")
@example(b"\0" * 9)
def test_bytes_as_text(folder: Path, data: bytes) -> None:
    path = folder / "bytes.txt"
    path.write_bytes(data)
    for sample in samples(path, Modality.TEXT):
        assert sample.data.strip()
        sample.data.encode()


@fuzz
@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from(" \n"), min_size=1),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    st.integers(1, 40),
)
def test_text_in_unicode(folder: Path, text: str, encoding: str, times: int) -> None:
    written = (text.lstrip("\ufeff") + " ") * times
    path = folder / f"{encoding}.txt"
    path.write_bytes(written.encode(encoding))
    texts = [sample.data for sample in samples(path, Modality.TEXT)]
    assert "".join(texts).split() == written.split()


def check_facts(stated: dict[str, Any]) -> None:
    for name, value in stated.items():
        assert isinstance(value, facts.COLUMNS[name])
        if isinstance(value, str):
            assert value.strip()
            assert len(value.encode()) <= values.LONGEST
        elif isinstance(value, datetime):
            assert 1800 <= value.year < 2200
        else:
            assert math.isfinite(value)
    assert abs(stated.get("latitude", 0)) <= 90
    assert abs(stated.get("longitude", 0)) <= 180


@fuzz
@given(mutated("xmp"))
@example(b'<!DOCTYPE x [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><x>&b;</x>')
@example(b"<a>" * 50_000)
@example(b"<?xml version='1.0' encoding='idna'?><a/>")
def test_xmp(folder: Path, data: bytes) -> None:
    xmp.columns(data)
    path = folder / "xmp.png"
    if not path.exists():
        Image.new("RGB", (2, 2)).save(path)
    path.with_suffix(".xmp").write_bytes(data)
    check_facts(facts.facts(MediaFile(path, Modality.IMAGE, 1, 1)))


TAGS = st.sampled_from(
    [0x010E, 0x010F, 0x0110, 0x0112, 0x0132, 0x013B, 0x4746, 0x9C9B, 0x8769, 0x8825, 0x882A]
)
INNER = st.sampled_from(
    [0x829A, 0x829D, 0x8827, 0x9003, 0x9011, 0x9201, 0x920A, 0x9286, 0xA434, 1, 2, 3, 4, 5, 6]
)
EXIF = st.integers(0, 1 << 31) | st.binary(max_size=20) | st.text(st.characters(codec="ascii"), max_size=20)
EXIF |= st.sampled_from(
    ["2024:06:01 14:30:05", "0000:00:00 00:00:00", "9999:99:99 99:99:99", "N", "W", 0.5, -1.0]
)


@fuzz
@given(
    st.dictionaries(TAGS, EXIF, max_size=5),
    st.dictionaries(INNER, EXIF, max_size=4),
    st.integers(0, 400),
    st.binary(max_size=4),
)
def test_exif(folder: Path, tags: dict[int, Any], inner: dict[int, Any], at: int, piece: bytes) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif.update({tag: value for tag, value in tags.items() if tag not in (0x8769, 0x8825)})
    for tag in (0x8769, 0x8825):
        if tag in tags:
            exif.get_ifd(tag).update(inner)
    try:
        written = exif.tobytes()
    except Exception:  # Pillow writes less than can be read
        return
    Image.new("RGB", (2, 2)).save(file, "JPEG", exif=written[:at] + piece + written[at + len(piece) :])
    path = folder / "exif.jpg"
    path.write_bytes(file.getvalue())
    check_facts(facts.facts(MediaFile(path, Modality.IMAGE, 1, 1)))


NUMERIC = st.text("0123456789.,:/+-eENSWZT f°'", max_size=24)


@fuzz
@given(
    NUMERIC | st.floats() | st.integers() | st.tuples(st.floats(), st.floats()) | st.binary(max_size=9),
    NUMERIC,
)
@example("1" * 400, "S")
@example("1e" + "9" * 400, "")
@example("9" * 5_000 + "/1", "")
def test_values(value: Any, text: str) -> None:
    number = values.number(value)
    assert number is None or math.isfinite(number)
    degrees = values.degrees(value, text)
    assert degrees is None or abs(degrees) <= 180
    for stated in (values.taken(value, text), values.location(text)):
        check_facts({name: stated[name] for name in stated if stated[name] is not None})
