"""`demo`: what it refuses; that its answers are good is measured with the model."""

import pytest

from xsearch.cli.demo import _labelled
from xsearch.models import registry
from xsearch.types import Hit, Modality


def test_a_folder_of_somebody_else_is_left_alone(run, tmp_path):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "mine.txt").write_text("mine")
    (line,) = run("demo", "--out", tmp_path, code=2).stderr.splitlines()
    assert "--out" in line
    assert [path.name for path in tmp_path.rglob("*")] == ["media", "mine.txt"]


def test_the_model_is_the_bundled_one_whatever_is_installed(run, tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "BUNDLED", tmp_path / "gone")
    assert "bundled" in run("demo", "--out", tmp_path / "demo", code=1).stderr  # $XSEARCH_MODEL is another


@pytest.mark.parametrize(
    ("text", "extra", "shown"),
    [
        ("a dog", {"subject": "dog", "place": "beach"}, "a dog"),
        (None, {"subject": "dog", "place": "beach"}, "(dog, beach)"),
        (None, {"subject": None, "place": None}, None),
        (None, {}, None),
    ],
)
def test_a_hit_is_labelled_if_its_scene_is_known(text, extra, shown):
    assert (
        _labelled(Hit(1, 0.5, 0.5, None, None, 1, "a.png", Modality.IMAGE, text=text, extra=extra)).text
        == shown
    )
