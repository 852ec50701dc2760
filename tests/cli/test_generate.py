"""`xsearch generate`, with a decoder of random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.small_decoder import random_decoder
from xsearch.backend import load_backend


@pytest.fixture(scope="session")
def decoder(model, tmp_path_factory) -> Path:
    """The folder of a decoder of the vectors of `model`."""
    folder = tmp_path_factory.mktemp("decoder")
    random_decoder(load_backend(str(model)).fingerprint).save(folder)
    return folder


def about(path: Path) -> dict:
    with Image.open(path) as file:
        assert file.size == (16, 16)
        return json.loads(file.info["xsearch"])


def test_a_sound_is_drawn_without_a_collection(run, media, decoder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    done = run("generate", "--audio", media / "tone.wav", "-o", "sea.png", "--decoder", decoder)
    assert done.stdout == "sea.png\n"
    assert "1 picture drawn by" in done.stderr
    assert about(tmp_path / "sea.png")["parts"] == [
        {"modality": "audio", "source": str(media / "tone.wav"), "weight": 1.0}
    ]
    done = run("generate", "--from-item", 0, "--decoder", decoder, code=1)
    assert "no collection" in done.stderr


def test_the_same_command_draws_the_same_pictures(run, media, index, decoder, tmp_path):
    query = ("--image", media / "one.png", "--plus-audio", f"{media / 'tone.wav'}@0.5", "--minus", "cage")
    for name in ("first", "second"):
        settings = ("--seed", 1, "--count", 2, "--steps", 3, "--guidance", 1.5, "--decoder", decoder)
        done = run("generate", *query, *settings, "-o", tmp_path / name, "--collection", index)
        assert done.stdout.split() == [str(tmp_path / name / f"{seed}.png") for seed in (1, 2)]
        assert "-1 * text cage" in done.stderr
    assert about(tmp_path / "first" / "2.png")["seed"] == 2
    for seed in (1, 2):
        one, other = (tmp_path / name / f"{seed}.png" for name in ("first", "second"))
        assert one.read_bytes() == other.read_bytes()
    assert (tmp_path / "first" / "1.png").read_bytes() != (tmp_path / "first" / "2.png").read_bytes()


def test_an_item_is_drawn(run, media, index, decoder, tmp_path):
    items = json.loads(run("ls", "--collection", index, "--json").stdout)
    (item,) = [row for row in items if row["path"].endswith("one.png")]
    common = ("--decoder", decoder, "--collection", index, "-o")
    run("generate", "--from-item", item["id"], *common, tmp_path / "item.png")
    run("generate", "--image", media / "one.png", *common, tmp_path / "file.png")
    with Image.open(tmp_path / "item.png") as one, Image.open(tmp_path / "file.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


def test_what_was_drawn_is_searched_for(run, index, decoder, tmp_path):
    done = run(
        *("generate", "--text", "a red clock", "--then-search", "--top", 2, "--modality", "image"),
        *("--decoder", decoder, "--collection", index, "-o", tmp_path / "out.png"),
    )
    before, answers = done.stdout.split("Nearest to the query:")
    of_query, of_picture = answers.split("Nearest to what was drawn:")
    assert before.strip() == str(tmp_path / "out.png")
    assert of_query.count(".png") == of_picture.count(".png") == 2


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-o", "out.png", "--count", 2), "is one file, and --count is 2"),
        (("-o", "out.jpg"), "written as .png"),
        (("-o", "missing/out.png"), "its folder does not exist"),
        (("--norm", "official"), "for diffusers pipelines"),
    ],
)
def test_what_cannot_be_written_is_refused_before_it_is_drawn(
    run, index, decoder, tmp_path, monkeypatch, options, reason
):
    monkeypatch.chdir(tmp_path)
    done = run("generate", "--text", "a dog", "--decoder", decoder, "--collection", index, *options, code=2)
    assert reason in done.stderr
    assert not list(tmp_path.rglob("*.png"))


def test_nothing_to_draw_is_an_error(run, index, decoder, tmp_path):
    done = run("generate", "-o", tmp_path, "--decoder", decoder, "--collection", index, code=2)
    assert "the query is empty" in done.stderr
