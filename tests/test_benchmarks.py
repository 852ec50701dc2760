"""The measuring programs, on as little as they work with."""

import json
import sys

import pytest

from benchmarks import corpus, emergence, readme, scenes
from xsearch.models.registry import BUNDLED
from xsearch.scenes import sample, write


def test_scenes_are_timed():
    result = scenes.run(2)
    assert result["scenes_per_s"] > 0
    assert "scenes/s" in scenes.markdown(result)


def test_emergence_compares_every_pair_of_modalities():
    result = json.loads(json.dumps(emergence.run("bundled", scenes=104, triples=8)))
    assert len(result["matrix"]) == 36
    by_pair = {(row["query"], row["answer"]): row for row in result["matrix"]}
    assert by_pair["image", "text"]["relation"] == "trained"
    assert by_pair["audio", "text"]["relation"] == "emergent"
    assert by_pair["imu", "text"]["right"] == "place"
    # Far above the chance of 1 in 96 on scenes that the model has not seen.
    assert by_pair["image", "text"]["p_at_1"] > 0.5
    assert by_pair["audio", "text"]["p_at_1"] > 0.3
    assert set(result["composition"]) == {"picture + sound", "picture only", "sound only"}
    assert "| image |" in emergence.markdown(result)


def test_every_file_of_a_corpus_is_accounted_for(tmp_path):
    write(sample(1, seed=0), tmp_path, width=96, height=72)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    result = corpus.run(tmp_path, labels=None, model="bundled")
    assert result["unaccounted"] == []
    assert len(result["skipped"]) == 1
    assert set(result["items_by_kind"]) == {"image", "text", "audio", "video", "depth", "thermal", "imu"}
    assert result["second_run_embedded"] == 0


@pytest.mark.parametrize("page", readme.PAGES)
def test_pages_show_what_the_program_says(page):
    text = (readme.ROOT / page).read_text(encoding="utf-8")
    assert text == readme.filled(text), "run python -m benchmarks.readme"


def test_the_card_is_about_the_weights_beside_it():
    from xsearch.models.checkpoint import load_config

    measured = json.loads((readme.RESULTS / "emergence.json").read_text())
    assert measured["digest"] == load_config(BUNDLED)[1]


def test_emergence_measures_the_bundled_model_unless_told(monkeypatch):
    monkeypatch.setattr(emergence, "run", lambda model, **_: sys.exit(model))
    monkeypatch.setattr(sys, "argv", ["emergence"])
    with pytest.raises(SystemExit, match="bundled"):
        emergence.main()
