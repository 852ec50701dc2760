"""`locate`, and `query --locate`: what they print and write; a model of random weights locates anything."""

import json

import pytest
from PIL import Image

from xsearch.locate import Thresholds
from xsearch.locate.thresholds import SHARES
from xsearch.types import Modality


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "street.png"
    image = Image.new("RGB", (96, 64), "grey")
    image.paste("red", (10, 10, 40, 40))
    image.save(path)
    return path


@pytest.fixture
def anything(monkeypatch):
    """Thresholds that anything exceeds."""
    scores = {str(kind): [-99.0] * len(SHARES) for kind in Modality}
    table = Thresholds("", "", 0, scores)
    monkeypatch.setattr(Thresholds, "of", lambda fingerprint: table)


def test_boxes_are_printed_and_drawn(run, picture, media, tmp_path, anything):
    marked = tmp_path / "marked.png"
    result = run("locate", "--image", picture, "--audio", media / "tone.wav", "-o", marked)
    header, first, *_ = result.stdout.splitlines()
    assert header.split() == ["score", "left", "top", "right", "bottom"]
    left, top, right, bottom = map(int, first.split()[1:])
    assert 0 <= left < right <= 96
    assert 0 <= top < bottom <= 64
    assert "false alarms were not measured" in result.stderr
    with Image.open(marked) as drawn, Image.open(picture) as plain:
        assert drawn.size == plain.size
        assert drawn.tobytes() != plain.tobytes()


def test_json_has_boxes_in_pixels(run, picture, anything):
    result = run("locate", "--image", picture, "a dog", "--minus", "a cage", "--json")
    found = json.loads(result.stdout)
    assert (found["picture"], found["width"], found["height"]) == (str(picture), 96, 64)
    assert found["false_alarms"] is None
    assert set(found["boxes"][0]) == {"left", "top", "right", "bottom", "score"}
    assert "weighted sum of 2 parts" in result.stderr


def test_what_is_not_there_is_said(run, picture, monkeypatch):
    scores = {str(kind): [99.0] * len(SHARES) for kind in Modality}
    monkeypatch.setattr(Thresholds, "of", lambda fingerprint: Thresholds("", "", 0, scores))
    result = run("locate", "--image", picture, "a dog")
    assert result.stdout == ""
    assert f"not found in {picture}" in result.stderr
    assert json.loads(run("locate", "--image", picture, "a dog", "--json").stdout)["boxes"] == []


def test_what_is_missing_is_asked_for(run, picture, tmp_path):
    assert "--image PICTURE" in run("locate", "a dog", code=2).stderr
    assert "what to look for" in run("locate", "--image", picture, code=2).stderr
    assert "ends in" in run("locate", "--image", picture, "a dog", "-o", tmp_path / "x.txt", code=2).stderr
    assert "no such file" in run("locate", "--image", tmp_path / "gone.png", "a dog", code=2).stderr.lower()


def test_hits_are_marked(run, index, tmp_path, anything):
    page = tmp_path / "page.html"
    words = ("query", "--text", "a dog", "--collection", index, "-k", "image", "--match", "meaning")
    plain, located = (json.loads(run(*words, *more, "--json").stdout) for more in ((), ("--locate",)))
    assert "boxes" not in plain[0]
    assert [hit["path"] for hit in located] == [hit["path"] for hit in plain]
    assert all(0 <= hit["boxes"][0]["left"] < hit["boxes"][0]["right"] <= 1 for hit in located)
    before = run(*words, "--html", page) and page.read_text()
    run(*words, "--locate", "--html", page)
    assert page.read_text() != before
    assert "boxes" in run(*words, "--locate").stdout.splitlines()[0]
