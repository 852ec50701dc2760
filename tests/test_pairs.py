"""Pair tables of every format, with files, bytes and shards."""

from __future__ import annotations

import csv
import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from PIL import Image

from xsearch.errors import MediaError, UsageError
from xsearch.pairs import Pairs, check_pairs, read_pairs
from xsearch.types import Modality


def test_what_is_added_to_a_picture_is_checked_too(tmp_path: Path) -> None:
    table = tmp_path / "triples.jsonl"
    whole = {"image": None, "other": "b", "modality": "text", "plus": "lost.wav", "plus_modality": "audio"}
    rows = [whole, whole | {"plus_modality": "smell"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    first, second = check_pairs(table)
    assert (first.row, first.column, first.reason.split(": ")[-1]) == (1, "plus", "No such file or directory")
    assert "plus_modality 'smell'; expected one of image" in second.reason


def encoded(picture: Image.Image, format: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, format)
    return file.getvalue()


def sound(seconds: float, format: str = "WAV") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, 0.5 * np.sin(np.arange(round(seconds * 16_000)) * 0.1), 16_000, format=format)
    return file.getvalue()


JPEG = encoded(Image.new("RGB", (40, 30), "red"), "JPEG")
DEPTH = encoded(Image.fromarray(np.full((30, 40), 2_000, np.uint16)), "PNG")  # 2 m
THERMAL = encoded(Image.new("L", (40, 30), 51), "PNG")
MOTION = np.arange(6 * 300, dtype=np.float32).reshape(300, 6)

OTHERS = {
    "text": b"a red square",
    "audio": sound(12, "OGG"),
    "depth": DEPTH,
    "thermal": THERMAL,
}


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """A row of every kind whose bytes are in the table, two rows in a group."""
    count = len(OTHERS)
    table = pa.table({
        "image": [JPEG] * count,
        "other": list(OTHERS.values()),
        "modality": list(OTHERS),
        "weight": [2.0, None, 0.5, 1.0],
        "split": [None, "val", None, "val"],
        "label": [["square", "red"]] * count,
        "focal_px": [None, None, 50.0, None],
        "unit_m": [None, None, 0.0005, None],
        "names": [["red", "square"]] * count,
    })  # fmt: skip
    pq.write_table(table, tmp_path / "pairs.parquet", row_group_size=2)
    return tmp_path / "pairs.parquet"


def test_bytes_become_samples_of_every_kind(parquet: Path) -> None:
    pairs = read_pairs(parquet)
    assert pairs.modalities.tolist() == list(OTHERS)
    assert pairs.weights.tolist() == [2, 1, 0.5, 1]
    assert pairs.splits.tolist() == ["train", "val", "train", "val"]
    text, audio, depth, thermal = (pair.partner() for pair in pairs)
    assert pairs[0].picture().data.size == (40, 30)
    assert (text.data, pairs[0].other) == ("a red square", "a red square")
    assert (len(audio.data), audio.duration_s) == (160_000, pytest.approx(12))  # the first window
    assert (depth.data.max(), depth.focal_px) == (1.0, 50)  # in halves of a millimetre
    assert thermal.data.mean() == pytest.approx(0.2)
    assert pairs[-1].label == "square|red"
    assert pairs[-1].extra["names"] == ["red", "square"]


def test_a_row_may_have_several_texts(tmp_path: Path) -> None:
    table = tmp_path / "texts.jsonl"
    rows = [{"image": None, "other": texts, "modality": "text"} for texts in (["a dog", "dogs"], ["a", " "])]
    table.write_text("\n".join(map(json.dumps, rows)))
    pairs = Pairs(table)
    assert pairs[0].texts == ("a dog", "dogs")
    assert pairs[0].partner().data == "a dog"
    assert [(row.row, row.reason) for row in check_pairs(table)] == [(2, "empty text")]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "texts.parquet")
    assert Pairs(tmp_path / "texts.parquet")[0].texts == ("a dog", "dogs")


def test_a_split_is_part_of_a_table_and_rows_keep_their_places(parquet: Path) -> None:
    pairs = read_pairs(parquet, split="val")
    assert [pair.modality for pair in pairs] == ["audio", "thermal"]
    assert pairs.rows.tolist() == [1, 3]
    assert [pair.modality for pair in pairs[1:]] == ["thermal"]
    with pytest.raises(UsageError, match="no row of split 'test'; it has train, val"):
        read_pairs(parquet, split="test")


def test_pairs_travel_as_their_path(parquet: Path) -> None:
    pairs = read_pairs(parquet, split="val")
    assert pairs[0].other == OTHERS["audio"]  # read, and yet not in the pickle
    there = pickle.dumps(pairs)
    assert len(there) < 1_000
    assert [pair.other for pair in pickle.loads(there)] == [pair.other for pair in pairs]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet", ".arrow"])
def test_paths_are_relative_to_the_table(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "a.jpg").write_bytes(JPEG)
    (tmp_path / "media" / "a.png").write_bytes(DEPTH)  # no `depth` in its name
    rows = [
        {"image": "media/a.jpg", "other": "media/a.png", "modality": "depth", "label": "007", "focal_px": 50},
        {"image": None, "other": "12", "modality": "text", "label": None, "focal_px": None},
    ]
    path = tmp_path / f"pairs{suffix}"
    match suffix:
        case ".csv":
            with path.open("w", newline="") as file:
                lines = csv.DictWriter(file, list(rows[0]))
                lines.writeheader()
                lines.writerows(rows)
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, rows)))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        case ".arrow":
            table = pa.Table.from_pylist(rows)
            with pa.ipc.new_file(path, table.schema) as file:
                file.write_table(table)
    pairs = read_pairs(path)
    assert check_pairs(pairs, decode=True) == []
    assert pairs.labels.tolist() == ["007", None]
    assert pairs[0].image == tmp_path / "media" / "a.jpg"
    depth = pairs[0].partner()
    assert (depth.data.mean(), depth.focal_px) == (2.0, 50)
    assert (pairs[1].image, pairs[1].partner().data) == (None, "12")
    with pytest.raises(MediaError, match="no picture"):
        pairs[1].picture()


def test_tables_of_hugging_face_hold_bytes_or_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(DEPTH)
    rows = [
        {
            "image": {"bytes": JPEG, "path": "x.jpg"},
            "other": {"bytes": None, "path": "a.png"},
            "modality": "depth",
        },
        {"image": None, "other": {"bytes": THERMAL, "path": None}, "modality": "thermal"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    pairs = read_pairs(tmp_path / "pairs.parquet")
    assert (pairs[0].image, pairs[0].other, pairs[1].image) == (JPEG, tmp_path / "a.png", None)
    assert check_pairs(pairs, decode=True) == []


def test_motion_is_numbers_with_a_rate_or_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "walk.npy", MOTION)
    header = "time_s,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
    timed = np.column_stack([np.arange(300) / 50, MOTION])
    np.savetxt(tmp_path / "walk.csv", timed, "%.9g", ",", header=header, comments="")
    numbers = pa.array([MOTION.tolist()], pa.list_(pa.list_(pa.float32())))
    pq.write_table(
        pa.table({"image": [None], "other": numbers, "modality": ["imu"], "rate_hz": [50.0]}),
        tmp_path / "numbers.parquet",
    )
    (tmp_path / "files.csv").write_text(
        "image,other,modality,rate_hz\n,walk.npy,imu,50\n,walk.csv,imu,\n,walk.npy,imu,\n"
    )
    samples = [pair.partner() for pair in (*read_pairs(tmp_path / "numbers.parquet"),)]
    samples += [pair.partner() for pair in read_pairs(tmp_path / "files.csv")[:2]]
    for sample in samples:
        assert sample.modality is Modality.IMU
        assert sample.rate_hz == pytest.approx(50)
        np.testing.assert_allclose(sample.data, MOTION[:250].T, rtol=1e-5)  # 5 s of 6
    (bad,) = check_pairs(tmp_path / "files.csv", decode=True)
    assert (bad.row, bad.column) == (3, "other")
    assert "rate_hz" in bad.reason


def test_shards_pair_a_picture_with_everything_beside_it(tmp_path: Path) -> None:
    npy = io.BytesIO()
    np.save(npy, MOTION)
    about = json.dumps({"rate_hz": 50, "weight": 2, "split": "val"}).encode()
    members = {
        "000.jpg": JPEG, "000.txt": b"a red square", "000.flac": sound(2, "FLAC"), "000.cls": b"square\n",
        "001.png": encoded(Image.new("RGB", (8, 8)), "PNG"),
        "001.depth.png": DEPTH, "001.thermal.png": THERMAL,
        "001.npy": npy.getvalue(), "001.json": about,
        "002.jpeg": JPEG, "002.json": b'{"caption": "from JSON", "url": "x"}', "002.unknown": b"",
    }  # fmt: skip
    for shard in range(2):
        with tarfile.open(tmp_path / f"shard-{shard:04}.tar", "w") as tar:
            for name, data in members.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
    pairs = read_pairs(tmp_path / "shard-{0000..0001}.tar")
    kinds = ["text", "audio", "depth", "thermal", "imu", "text"]
    assert pairs.modalities.tolist() == 2 * kinds
    assert pairs.weights.tolist() == 2 * [1, 1, 2, 2, 2, 1]
    assert pairs.labels.tolist()[:3] == ["square", "square", None]
    assert pairs[4].partner().rate_hz == 50
    assert (pairs[5].other, pairs[5].extra) == ("from JSON", {"caption": "from JSON", "url": "x"})
    assert check_pairs(pairs, decode=True) == []
    assert len(read_pairs(tmp_path / "shard-0001.tar", split="val")) == 3
    assert pickle.loads(pickle.dumps(pairs))[7].partner().data.shape == (32_000,)


BAD = [
    ({"modality": "smell"}, "modality", "'smell'; expected one of image, text"),
    ({"weight": float("nan")}, "weight", "finite"),
    ({"weight": -1.0}, "weight", "at least 0"),
    ({"image": b"not a picture"}, "image", "looks like an unknown format, not image"),
    ({"image": b""}, "image", "empty"),
    ({"other": JPEG, "modality": "audio"}, "other", "looks like image, not audio"),
    ({"other": THERMAL, "modality": "depth"}, "other", "8-bit"),
    ({"other": b"\xff\xfe\xff", "modality": "text"}, "other", "UTF-8"),
    ({"other": b" ", "modality": "text"}, "other", "empty text"),
    ({"other": None}, "other", "empty"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_rows_are_told_and_the_others_left_alone(tmp_path: Path, number: int) -> None:
    change, column, reason = BAD[number]
    good = {"image": JPEG, "other": DEPTH, "modality": "depth", "weight": 1.0}
    pq.write_table(pa.Table.from_pylist([good, good | change, good]), tmp_path / "pairs.parquet")
    (bad,) = check_pairs(tmp_path / "pairs.parquet")
    assert (bad.row, bad.column) == (2, column)
    assert reason in bad.reason


def test_damage_shows_when_decoded_and_its_message_names_no_temporary_file(tmp_path: Path) -> None:
    rows = [
        {"image": JPEG, "other": DEPTH[:60], "modality": "depth"},
        {"image": None, "other": b"RIFF    WAVE", "modality": "audio"},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "pairs.parquet")
    assert check_pairs(tmp_path / "pairs.parquet") == []
    bad = check_pairs(tmp_path / "pairs.parquet", decode=True)
    assert [(problem.row, problem.column) for problem in bad] == [(1, "other"), (2, "other")]
    assert bad[0].reason.startswith("depth of 60 bytes: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,other\na,b\n", "no column modality"),
        ("image,other,modality\na,b,text\na,b,smell\n", "row 2: modality 'smell'"),
        ("image,other,modality,weight\na,b,text,heavy\n", "row 1: weight"),
        ("", "cannot be read"),
    ],
)
def test_a_wrong_table_is_one_clear_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(UsageError, match=message):
        read_pairs(tmp_path / "pairs.csv")


@pytest.mark.parametrize("name", ["pairs.xlsx", "none.csv", "none.parquet", "none.tar", "none.arrow"])
def test_a_missing_or_unknown_file_is_an_error_of_the_user(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Pairs(tmp_path / name)


def test_a_cut_off_shard_is_an_error_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(b"no archive" * 100)
    with pytest.raises(UsageError, match="cannot be read"):
        read_pairs(tmp_path / "shard.tar")
