"""A model that was taught few words says which it does not know."""

from __future__ import annotations

from xsearch.backend.imagebind import ImageBindBackend
from xsearch.models.vocabulary import known_words, save_words, unknown_words, words_of


def test_words_that_no_text_had_are_unlearned(tmp_path):
    save_words(words_of(["A dog on the Beach.", "two boxes, 3 cats"]), tmp_path)
    assert unknown_words("Dogs and a box by the beach in 1999", known_words(tmp_path)) == [
        "and",
        "box",
        "by",
        "in",
    ]
    assert unknown_words("the dog, the dog!", known_words(tmp_path)) == []
    assert unknown_words("a quasar? QUASAR", known_words(tmp_path)) == ["quasar"]


def test_a_model_without_a_list_does_not_complain(tmp_path):
    assert unknown_words("anything", known_words(tmp_path)) == []


def test_the_bundled_model_has_a_list():
    model = ImageBindBackend.load("bundled")
    assert unknown_words("a photo of a quasar at the beach", model.capabilities().vocabulary) == ["quasar"]
