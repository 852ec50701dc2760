"""Public data sets, in folders of their layout with made-up media in them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.fakes import FakeBackend
from xsearch.cli.eval import Benchmark
from xsearch.errors import UsageError
from xsearch.evaluate import BENCHMARKS, evaluate_benchmark
from xsearch.types import Modality

TONES = {"red": 100, "green": 1_000, "blue": 4_000}  # Hz, as the fake hears them


def tone(path: Path, hz: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.5 * np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * hz), 16_000)


def table(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)


def esc50(folder: Path) -> None:
    for name, hz in TONES.items():
        tone(folder / "audio" / f"1-{name}.wav", hz)
    rows = [{"filename": f"1-{name}.wav", "fold": 1, "target": 0, "category": name} for name in TONES]
    table(folder / "meta" / "esc50.csv", rows)


def clotho(folder: Path) -> None:
    for name, hz in TONES.items():
        tone(folder / "evaluation" / f"{name}.wav", hz)
    rows = [
        {"file_name": f"{name}.wav", **{f"caption_{n}": " ".join([name] * n) for n in range(1, 6)}}
        for name in TONES
    ]
    table(folder / "clotho_captions_evaluation.csv", rows)


def audiocaps(folder: Path) -> None:
    tone(folder / "test" / "Yred.wav", 100)
    tone(folder / "test" / "green_30.wav", 1_000)
    rows = [
        {"audiocap_id": n, "youtube_id": name, "start_time": 30, "caption": name}
        for n, name in enumerate(("red", "green", "blue"))  # the last video is gone
    ]
    table(folder / "test.csv", rows)


def sun_rgbd(folder: Path) -> None:
    for sensor, scene, metres in (
        ("kv1/NYUdata", "kitchen", 1),
        ("kv1/NYUdata", "cafe", 2),
        ("xtion", "office", 3),
    ):
        recording = folder / sensor / scene
        (recording / "depth_bfx").mkdir(parents=True)
        millimetres = np.full((6, 8), metres * 1000, np.uint16)
        rotated = (millimetres << 3) | (millimetres >> 13)
        Image.fromarray(rotated.astype(np.uint16)).save(recording / "depth_bfx" / "a.png")
        (recording / "scene.txt").write_text(scene)
        (recording / "intrinsics.txt").write_text("518.9 0 4 0 518.9 3 0 0 1 \n")


def llvip(folder: Path) -> None:
    (folder / "infrared" / "test").mkdir(parents=True)
    (folder / "Annotations").mkdir()
    pixels = np.full((100, 120), 20, np.uint8)
    pixels[10:50, 20:40] = 240
    Image.fromarray(pixels).save(folder / "infrared" / "test" / "190001.jpg")
    box = "<xmin>20</xmin><ymin>10</ymin><xmax>40</xmax><ymax>50</ymax>"
    text = f"<annotation><object><name>person</name><bndbox>{box}</bndbox></object></annotation>"
    (folder / "Annotations" / "190001.xml").write_text(text)


def ego4d(folder: Path) -> None:
    videos = [{"video_uid": name, "scenarios": [name.title()]} for name in ("red", "green")]
    videos += [{"video_uid": "no-imu", "scenarios": ["Red"]}, {"video_uid": "unlabelled", "scenarios": []}]
    (folder / "imu").mkdir()
    (folder / "ego4d.json").write_text(json.dumps({"videos": videos}))
    axes = [f"{sensor}_{axis}" for sensor in ("gyro", "accl") for axis in "xyz"]
    for moving, name in enumerate(("red", "green")):
        rows = [
            {"component_idx": 0, "component_timestamp_ms": 5 * n, "canonical_timestamp_ms": 5 * n}
            | {axis: (9 + n / 2_100) * (axis == f"accl_{'xyz'[moving]}") for axis in axes}
            for n in range(2_100)  # 10.5 s
        ]
        table(folder / "imu" / f"{name}.csv", rows)


def imagenet(folder: Path) -> None:
    for id, colour in (("n01", "red"), ("n02", "blue")):
        (folder / "val" / id).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(folder / "val" / id / "a.JPEG")
    (folder / "LOC_synset_mapping.txt").write_text("n01 red, crimson\nn02 blue\n")


MAKERS: dict[str, Callable[[Path], None]] = {
    "esc50": esc50,
    "clotho": clotho,
    "audiocaps": audiocaps,
    "nyu-d": sun_rgbd,
    "sun-d": sun_rgbd,
    "llvip": llvip,
    "ego4d": ego4d,
    "imagenet": imagenet,
}


def evaluated(name: str, folder: Path) -> tuple[dict, FakeBackend]:
    MAKERS[name](folder)
    backend = FakeBackend()
    return evaluate_benchmark(backend, name, folder).figures, backend


def test_every_benchmark_is_offered_and_tested() -> None:
    assert [str(name) for name in Benchmark] == list(BENCHMARKS) == list(MAKERS)


@pytest.mark.parametrize(
    ("name", "kind", "samples", "classes"),
    [
        ("esc50", "audio", 3, 3),
        ("nyu-d", "depth", 2, 10),
        ("sun-d", "depth", 2, 2),
        ("llvip", "thermal", 2, 2),
        ("ego4d", "imu", 4, 2),
        ("imagenet", "image", 2, 2),
    ],
)
def test_classes_come_with_their_published_figure(tmp_path, name, kind, samples, classes) -> None:
    figures, _ = evaluated(name, tmp_path)
    (row,) = figures["zero_shot"]
    assert (row["modality"], row["samples"], row["classes"]) == (kind, samples, classes)
    assert row["published"] == BENCHMARKS[name].published
    if kind in ("audio", "imu", "image"):  # what the fake understands
        assert row["top1"] == 1


@pytest.mark.parametrize(("name", "captions", "skipped"), [("clotho", 15, 0), ("audiocaps", 2, 1)])
def test_captions_find_their_sounds(tmp_path, name, captions, skipped) -> None:
    figures, _ = evaluated(name, tmp_path)
    rows = {(row["query"], row["answer"]): row for row in figures["retrieval"]}
    assert rows["text", "audio"]["queries"] == captions
    assert rows["text", "audio"]["r_at_1"] == 1
    assert rows["text", "audio"]["relation"] == "emergent"
    assert (figures["skipped"], rows["text", "audio"]["published"]) == (skipped, BENCHMARKS[name].published)
    assert "published" not in rows["audio", "text"]


def test_depth_of_sun_rgbd_is_rotated_back_and_knows_its_camera(tmp_path) -> None:
    _, backend = evaluated("sun-d", tmp_path)
    depth = [sample for sample in backend.seen if sample.modality is Modality.DEPTH]
    assert [sample.data.max() for sample in depth] == pytest.approx([1, 3])  # the cafe is none of its classes
    assert [sample.baseline_m for sample in depth] == [0.075, 0.095]
    assert depth[0].focal_px == 518.9


def test_a_list_of_the_test_split_is_kept_to(tmp_path) -> None:
    (tmp_path / "test.txt").write_text("kv1/NYUdata/kitchen\n")
    sun_rgbd(tmp_path)
    assert [pair.label for pair in BENCHMARKS["sun-d"].pairs(tmp_path)] == ["kitchen"]


def test_people_are_cut_out_and_background_shows_none(tmp_path) -> None:
    llvip(tmp_path)
    person, background = BENCHMARKS["llvip"].pairs(tmp_path)
    assert (person.label, background.label) == ("person", "background")
    hot, cold = person.partner().data, background.partner().data
    assert hot.shape == cold.shape == (40, 20)
    assert hot.mean() > 0.8
    assert cold.max() < 0.3  # JPEG rings a little


@pytest.mark.parametrize("name", MAKERS)
def test_another_folder_is_one_clear_error(tmp_path, name) -> None:
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(UsageError, match=f"{BENCHMARKS[name].title} has "):
            evaluate_benchmark(FakeBackend(), name, folder)


def test_a_table_with_other_columns_is_one_clear_error(tmp_path) -> None:
    table(tmp_path / "meta" / "esc50.csv", [{"file": "a.wav"}])
    with pytest.raises(UsageError, match="ESC-50 has meta"):
        evaluate_benchmark(FakeBackend(), "esc50", tmp_path)
