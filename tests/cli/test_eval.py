"""`eval`: what it prints and writes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="module")
def table(media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        f"{media}/one.png,a red picture,text,val,red",
        f"{media}/two.png,a green picture,text,val,green",
        f"{media}/größe 3.png,{media}/tone.wav,audio,train,blue",
    ]
    path = tmp_path_factory.mktemp("pairs") / "pairs.csv"
    path.write_text("\n".join(["image,other,modality,split,label", *rows]), encoding="utf-8")
    return path


def test_a_table_gives_text_json_and_a_picture(run, table, tmp_path):
    result = run("eval", "pairs", table, "-o", tmp_path / "out.json", "--plot", tmp_path / "out.png")
    for part in ("image -> text (trained)", "audio -> image", "Zero-shot", "image - audio", "T: the pair"):
        assert part in result.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    assert (figures["model"], figures["samples"]) == ("tiny", {"image": 3, "text": 2, "audio": 1})
    with Image.open(tmp_path / "out.png") as picture:
        assert (picture.mode, picture.width) == ("RGB", 1720)


def test_a_split_another_label_and_prompts_are_kept_to(run, table, tmp_path):
    (tmp_path / "prompts.txt").write_text("{} it is\n")
    words = [
        "eval",
        "pairs",
        table,
        "--split",
        "val",
        "--label",
        "other",
        "--prompts",
        tmp_path / "prompts.txt",
    ]
    run(*words, "--out", tmp_path / "out.json")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["samples"] == {"image": 2, "text": 2}
    assert figures["zero_shot"][0]["classes"] == 2
    assert figures["matrix"][0]["p_at_1"] is None  # no label twice: NaN is not JSON


def test_media_that_cannot_be_read_are_told(run, media, tmp_path):
    (tmp_path / "pairs.csv").write_text(
        f"image,other,modality\n{media}/one.png,a,text\n{media}/broken.png,b,text\n", encoding="utf-8"
    )
    assert "1 media could not be read" in run("eval", "pairs", tmp_path / "pairs.csv").stderr


def test_a_collection_is_measured_by_a_column(run, index):
    assert "text -> image" in run("eval", "collection", "-c", index, "--label", "mime").stdout
    assert "no column smell" in run("eval", "collection", "-c", index, "--label", "smell", code=1).stderr


def test_scenes_are_measured(run):
    out = run("eval", "scenes", "4").stdout
    assert "picture + sound: the first hit is right" in out


def test_a_data_set_is_measured_beside_what_was_published(run, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (9, 9)).save(tmp_path / name / "1.png")
    assert "0.777" in run("eval", "benchmark", "imagenet", tmp_path).stdout


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pairs"], "TABLE"),
        (["a.csv"], "a.csv"),
        (["pairs", "a.csv"], "a.csv"),
        (["pairs", "a.csv", "--plot", "/no/folder/a.png"], "/no/folder/a.png"),
        (["pairs", "a.csv", "-o", "/no/folder/a.json"], "/no/folder/a.json"),
        (["benchmark", "esc50"], "DIR"),
        (["benchmark", "esc51", "a"], "esc51"),
        (["collection"], "--label"),
        (["scenes", "1"], "2"),
        (["scenes", "5", "--label", "x"], "--label"),
        (["scenes", "5", "--split", "x"], "--split"),
        (["scenes", "5", "--prompts", "x"], "--prompts"),
    ],
)
def test_wrong_usage_is_one_line(run, words, part):
    (line,) = run("eval", *words, code=2).stderr.splitlines()
    assert line.startswith("error: ")
    assert part in line
