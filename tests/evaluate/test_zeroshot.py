"""Classes from words, on an backend that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import WORDS, FakeBackend
from xsearch.errors import UsageError
from xsearch.evaluate import class_truth, classify, mean_prototypes, read_prompts, text_prototypes
from xsearch.types import Modality, Sample


def test_a_prototype_is_the_mean_of_all_names_in_all_templates() -> None:
    backend = FakeBackend()
    classes = {"colour": ["red", "green"], "light": ["bright"]}
    found = text_prototypes(backend, classes, ["{}", "dark {}"])
    texts = [["red", "dark red", "green", "dark green"], ["bright", "dark bright"]]
    for prototype, prompts in zip(found, texts, strict=True):
        mean = backend.embed([Sample(Modality.TEXT, prompt) for prompt in prompts]).mean(axis=0)
        np.testing.assert_allclose(prototype, mean / np.linalg.norm(mean), atol=1e-6)
    assert found[0][WORDS.index("red")] == pytest.approx(found[0][WORDS.index("green")])


def test_examples_of_another_kind_make_prototypes_too() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 1, 2]]
    np.testing.assert_allclose(mean_prototypes(vectors, np.array([0, 0, 1]))[0], [0.5**0.5, 0.5**0.5, 0, 0])


def test_classification_agrees_with_a_loop() -> None:
    rng = np.random.default_rng(0)
    vectors, prototypes = rng.normal(size=(60, 5)), rng.normal(size=(8, 5))
    truth = rng.random((60, 8)) < 0.2
    truth[np.arange(60), rng.integers(7, size=60)] = True
    truth[:, 7] = False  # a class that no sample has
    found = classify(vectors, prototypes, truth)
    scores = vectors @ prototypes.T
    ranked = [sorted(range(8), key=lambda c: -row[c]) for row in scores]
    first = np.array([truth[i, order[0]] for i, order in enumerate(ranked)])
    assert found["top1"] == pytest.approx(first.mean())
    assert found["top5"] == pytest.approx(np.mean([truth[i, o[:5]].any() for i, o in enumerate(ranked)]))
    assert found["mean_per_class"] == pytest.approx(np.mean([first[truth[:, c]].mean() for c in range(7)]))
    precisions = []
    for c in range(7):
        right = truth[sorted(range(60), key=lambda i: -scores[i, c]), c]
        ranks = np.flatnonzero(right) + 1
        precisions.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
    assert found["map"] == pytest.approx(np.mean(precisions))
    assert (found["classes"], found["samples"]) == (8, 60)


def test_several_labels_are_all_right() -> None:
    truth = class_truth(["a|b", "b"], ["a", "b"])
    found = classify(np.eye(2), np.array([[0.9, 0.1], [0.1, 0.9]]), truth)
    assert (found["top1"], found["mean_per_class"]) == (1, 1)


def test_prompts_are_lines_or_json(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("a photo of a {}.\n\n{} at night\n")
    assert read_prompts(tmp_path / "prompts.txt") == (["a photo of a {}.", "{} at night"], {})
    both = {"templates": ["{}"], "classes": {"dog": ["dog", "puppy"], "cat": "cat"}}
    (tmp_path / "prompts.json").write_text(json.dumps(both))
    assert read_prompts(tmp_path / "prompts.json") == (["{}"], {"dog": ["dog", "puppy"], "cat": ["cat"]})


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "a photo", "has no {}"),
        ("a.json", "[]", "cannot be read as prompts"),
        ("a.json", "{", "cannot be read as prompts"),
        ("a.json", '{"classes": {"dog": []}}', "no name for 'dog'"),
        ("none.txt", None, "No such file"),
    ],
)
def test_other_files_are_an_error_of_the_user(tmp_path: Path, name: str, text: str, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=message):
        read_prompts(tmp_path / name)
