"""Parsers of what users write: whatever the bytes are, a result that makes sense or one of our errors."""

from __future__ import annotations

import contextlib
import json
import warnings
from dataclasses import asdict
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from xsearch.errors import MediaError, UsageError, XsearchError
from xsearch.media import identify, read
from xsearch.metadata import Files, Metadata
from xsearch.store.manifest import Manifest, SegmentEntry, read_manifest
from xsearch.types import Fingerprint, Modality, Sample

fuzz = settings(derandomize=True, max_examples=150, deadline=None, database=None)

MANY = 1_000  # windows; more can come of no file that is made here
COLUMNS = ["t", "ax", "ay", "az", "gx", "gy", "gz"]
NAMES = st.sampled_from([*COLUMNS, "time_ms", "timestamp", "rate_hz", "acc_x_g", "Gyro Z (°/s)", "label", ""])
NUMBERS = st.floats(-1e3, 1e3).map(str) | st.integers(0, 50).map(str)
ODD_NUMBERS = st.sampled_from(["", "nan", "-inf", "1e308", "-1e308", "1e30", "5e-324", "1e999", "9" * 400])
WORDS = st.sampled_from([" ", "x", "1,5", '"', "'", "\0", "é", "٣", "true", "0x1f", "#", "1_000"])
CELLS = WORDS | st.sampled_from(["12:30:01", "2024-02-30", "9999-12-31", "2024-01-01T00:00:00Z"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def samples(path: Path, kind: Modality) -> list[Sample]:
    """Of a file; a problem with it is told on one line."""
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
def tables(draw: st.DrawFn) -> bytes:
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
@given(tables() | st.binary(max_size=300))
def test_motion(folder: Path, data: bytes) -> None:
    path = folder / "motion.csv"
    path.write_bytes(data)
    for sample in samples(path, Modality.IMU):
        assert sample.data.shape[0] == 6
        assert sample.data.shape[1] > 0
        assert np.isfinite(sample.data).all()
        assert sample.start_s < sample.end_s <= sample.duration_s * (1 + 1e-6)


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


@st.composite
def descriptions(draw: st.DrawFn) -> str:
    names = draw(st.lists(st.text(max_size=5) | st.sampled_from(["path", "id", " Year "]), max_size=5))
    cell = st.text(max_size=9) | CELLS | st.sampled_from(["a.png", "../a.png", "loop/a.png", "/", "."])
    rows = draw(st.lists(st.lists(cell, max_size=6), max_size=5))
    return "\n".join(",".join(cells) for cells in [["path", *names], *rows])


@fuzz
@given(descriptions().map(str.encode) | st.binary(max_size=200))
@example("path,year\na\0.png,1")
@example("path,year\nloop/a.png,1")
def test_tables_of_metadata(folder: Path, data: bytes | str) -> None:
    with contextlib.suppress(FileExistsError):
        (folder / "loop").symlink_to("loop")
    table = folder / "about.csv"
    table.write_bytes(data if isinstance(data, bytes) else data.encode())
    with contextlib.suppress(UsageError):
        check_columns(Metadata(Files([str(folder / "a.png")]), (), table).of(folder / "a.png"))


@fuzz
@given(JSON.map(json.dumps) | st.dictionaries(st.text(), JSON).map(json.dumps) | st.text())
@example("[" * 100_000)
@example('{"a": ' + "[" * 900 + "]" * 900 + "}")
@example('{"\\ud800": "\\udfff", " ": 1}')
@example('{"a": ' + "9" * 5_000 + "}")
def test_sidecars(folder: Path, text: str) -> None:
    (folder / "a.json").write_text(text, encoding="utf-8", errors="surrogatepass")
    with contextlib.suppress(UsageError):
        check_columns(Metadata(Files([])).of(folder / "a.png"))


def check_columns(columns: dict[str, object]) -> None:
    for name, value in columns.items():
        assert name.encode().strip()
        assert isinstance(value, None | bool | int | float | str)


MANIFEST = asdict(
    Manifest(
        Fingerprint("fake", "0", "1", 16),
        segments=(SegmentEntry("a", 1, 0, 0, {"items.parquet": "0"}),),
        tombstones=("b",),
        skipped=("c",),
    )
)
MANIFEST = {**MANIFEST, "model": MANIFEST["fingerprint"], "format": 1}
del MANIFEST["fingerprint"]


@fuzz
@given(st.dictionaries(st.sampled_from([*MANIFEST]) | st.text(), JSON), st.binary(max_size=99), st.booleans())
@example({}, b"[" * 100_000, True)
@example({}, b"5", True)
def test_manifests(folder: Path, changes: dict[str, object], data: bytes, is_raw: bool) -> None:
    text = json.dumps(MANIFEST | changes).encode(errors="surrogatepass")
    (folder / "manifest.json").write_bytes(data if is_raw else text)
    with contextlib.suppress(XsearchError):
        assert isinstance(read_manifest(folder), Manifest)
