"""Pair tables, with an backend that can be checked by hand."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.fakes import FakeBackend
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import UsageError
from xsearch.evaluate import draw, evaluate_pairs
from xsearch.models.registry import BUNDLED
from xsearch.pairs import Pair, check_pairs, read_pairs
from xsearch.scenes import render, sample
from xsearch.types import Modality

COLOURS = ("red", "lime", "blue")
WORDS = ("red", "green", "blue")
PICTURES, TEXT, AUDIO, THERMAL = Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.THERMAL


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{colour}.png" for colour in COLOURS]
    for colour, path in zip(COLOURS, paths, strict=True):
        Image.new("RGB", (8, 8), colour).save(path)
    return paths


def rows(figures: dict, section: str, *names: str) -> dict[tuple[str, ...], dict]:
    return {tuple(row[name] for name in names): row for row in figures[section]}


def test_pictures_find_their_texts_and_the_labels_their_pictures(pictures: list[Path]) -> None:
    backend = FakeBackend()
    # Two texts for each picture; "dark blue" is nearer to the second picture than to none.
    pairs = [Pair(path, word, TEXT, label=word) for path, word in zip(pictures, WORDS, strict=True)]
    pairs += [Pair(path, f"{word} {word} dark", TEXT) for path, word in zip(pictures, WORDS, strict=True)]
    found = evaluate_pairs(backend, pairs)
    assert len(backend.seen) - 3 * 7 == 3 + 6  # every picture once; the rest are prompts
    found_rows = rows(found.figures, "retrieval", "query", "answer")
    there, back = found_rows["image", "text"], found_rows["text", "image"]
    assert (there["queries"], there["items"], there["r_at_1"], there["map"]) == (3, 6, 1, 1)
    assert (back["queries"], back["items"], back["r_at_1"], back["relation"]) == (6, 3, 1, "trained")
    (zero_shot,) = found.figures["zero_shot"]
    assert (zero_shot["modality"], zero_shot["top1"], zero_shot["classes"]) == ("image", 1, 3)
    matrix = rows(found.figures, "matrix", "query", "answer")
    assert matrix["image", "text"]["p_at_1"] == 1
    assert matrix["image", "image"]["queries"] == 0  # no label twice
    (gap,) = found.figures["gap"]
    assert gap["distance"] == pytest.approx(np.sqrt(2) * 0.5 / np.sqrt(1.25), abs=0.05)  # along two axes
    assert draw(found, "a title").size[0] == 1720


def test_a_picture_and_something_more_find_what_both_mean_together(
    pictures: list[Path], tmp_path: Path
) -> None:
    table = tmp_path / "triples.csv"
    rows = ["image,other,modality,plus,plus_modality"]
    for path, plus in zip(pictures, ("blue", "red", "green"), strict=True):
        word = WORDS[pictures.index(path)]
        rows.append(f"{path},{word} {plus},text,{plus},text")
    table.write_text("\n".join([*rows, f"{pictures[0]},dark,text,,", ""]))
    assert check_pairs(table) == []
    found = evaluate_pairs(FakeBackend(), read_pairs(table)).figures
    assert {row["queries"] for row in found["retrieval"]} == {1}  # the pair that is no triple
    assert found["composition"] == {
        "image + text -> text": 1,
        "image only -> text": pytest.approx(2 / 3),  # each word is in two answers
        "text only -> text": pytest.approx(1 / 3),
    }


def test_partners_that_share_a_picture_are_compared(pictures: list[Path], tmp_path: Path) -> None:
    for path, grey in zip(pictures, (10, 90, 200), strict=True):
        Image.new("L", (8, 8), grey).save(tmp_path / f"{path.stem}_ir.png")
    pairs = [Pair(path, word, TEXT) for path, word in zip(pictures, WORDS, strict=True)]
    pairs += [Pair(path, tmp_path / f"{path.stem}_ir.png", THERMAL) for path in pictures]
    found = evaluate_pairs(FakeBackend(), pairs)
    found_rows = rows(found.figures, "retrieval", "query", "answer", "relation")
    assert ("text", "thermal", "emergent") in found_rows
    assert ("thermal", "text", "emergent") in found_rows
    assert found_rows["text", "thermal", "emergent"]["queries"] == 3
    assert not found.figures["zero_shot"]


def test_bad_media_are_counted_and_left_out(pictures: list[Path], tmp_path: Path) -> None:
    pairs = [Pair(path, word, TEXT) for path, word in zip(pictures, WORDS, strict=True)]
    pairs.append(Pair(tmp_path / "none.png", "dark", TEXT))
    done: list[int] = []
    found = evaluate_pairs(FakeBackend(), pairs, progress=done.append)
    assert (found.figures["skipped"], done) == (1, [1, 2, 3, 4])
    assert "none.png" in found.figures["skipped_first"][0]
    assert found.figures["samples"] == {"image": 3, "text": 4}
    with pytest.raises(UsageError, match="nothing to evaluate"):
        evaluate_pairs(FakeBackend(), [Pair(None, tmp_path / "none.wav", AUDIO)])


def test_classes_may_have_other_names_and_several(pictures: list[Path]) -> None:
    pairs = [Pair(None, path, PICTURES, label=label) for path, label in zip(pictures, "abc", strict=True)]
    classes = {"a": ["red"], "b": ["green", "green green"], "c": ["blue"]}
    found = evaluate_pairs(FakeBackend(), pairs, templates=["{}"], classes=classes)
    assert found.figures["zero_shot"][0]["top1"] == 1
    with pytest.raises(UsageError, match="no names for the class c"):
        evaluate_pairs(FakeBackend(), pairs, classes={"a": ["red"], "b": ["green"]})


def test_shared_labels_are_right_when_there_are_several(pictures: list[Path]) -> None:
    labels = ("warm", "cold", "cold|bright")
    pairs = [
        Pair(path, word, TEXT, label=label) for path, word, label in zip(pictures, WORDS, labels, strict=True)
    ]
    pairs.append(Pair(pictures[0], WORDS[0], TEXT, label="bright"))  # the same once more, with another label
    found = rows(evaluate_pairs(FakeBackend(), pairs).figures, "matrix", "query", "answer")
    assert found["image", "text"]["chance"] == pytest.approx((2 + 2 + 3) / 9)
    assert found["image", "text"]["p_at_1"] == 1


def test_the_bundled_model_binds_scenes_that_it_has_not_seen() -> None:
    pairs = []
    for scene in sample(24, seed=5_000_011, places=["beach", "street"]):
        moment = render(scene, width=149, height=112)
        picture, sound = io.BytesIO(), io.BytesIO()
        moment[PICTURES].data.save(picture, "PNG")
        soundfile.write(sound, moment[AUDIO].data, 16_000, format="WAV")
        for other, kind in ((sound.getvalue(), AUDIO), (moment[TEXT].data, TEXT)):
            pairs.append(Pair(picture.getvalue(), other, kind, label=scene.subject))
    found = evaluate_pairs(
        ImageBindBackend(BUNDLED), pairs, templates=["a {} on the beach", "a {} in the street"]
    )
    retrieved = rows(found.figures, "retrieval", "query", "answer")
    assert len(retrieved) == 6
    assert all(row["median_rank"] <= 2 for row in retrieved.values())  # of 24; at random 12
    classified = rows(found.figures, "zero_shot", "modality")
    assert all(row["top1"] > 0.6 for row in classified.values())  # of 12 subjects
    assert classified.keys() == {("image",), ("audio",)}
