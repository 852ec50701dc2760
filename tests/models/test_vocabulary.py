"""What a model that has learned few words makes of a text."""

from __future__ import annotations

import pickle

import pytest

from xsearch.backend.imagebind import ImageBindBackend
from xsearch.models.vocabulary import Vocabulary, save_words, words_of
from xsearch.types import Modality, Sample

WORDS = "dog puppies bus leaf woman child mouse barking running driving fly harbour grey parked beach wave"


@pytest.fixture(scope="module")
def known() -> Vocabulary:
    return Vocabulary([*WORDS.split(), "two", "the", "in"])


@pytest.mark.parametrize(
    ("form", "words"),
    {
        "dog": "dog dogs Dogs DOG'S dog2",
        "puppies": "puppy puppies",
        "bus": "buses",
        "leaf": "leaves",
        "woman": "women woman's",
        "child": "children",
        "mouse": "mice",
        "barking": "bark barks barked barking",
        "running": "run runs ran",
        "driving": "drive drives drove driven",
        "fly": "flies flying flew",
        "harbour": "harbor harbors harbours",
        "grey": "gray",
        "parked": "park parking",
        "wave": "waves waved waving",
        "two": "two",
        None: "cat dot doge bu leafy car bee barn run-up of 犬 123 it",
    }.items(),
)
def test_forms_of_a_learned_word_are_known(known, form, words):
    assert {word: known.known_form(word) for word in words.split()} == dict.fromkeys(words.split(), form)


def test_a_singular_comes_before_its_plural():
    both = Vocabulary(["dog", "dogs", "glass", "glasses"])
    assert [both.known_form(word) for word in ("dogs", "glasses", "glass")] == ["dog", "glasses", "glass"]


@pytest.mark.parametrize(
    ("text", "unknown", "share"),
    [
        ("The dogs, the DOG!", [], 0),
        ("a quasar? QUASAR by the dog", ["quasar"], 2 / 3),
        ("It's not the dog's, don't you see", ["see"], 1 / 2),
        ("a sea-dog on the beach in 1999", ["sea"], 1 / 3),
        ("犬が走る。 dog", ["犬が走る"], 1 / 2),
        ("नमस्ते สวัสดี", ["नमस्ते", "สวัสดี"], 1),
        ("two of the", [], 1),  # nothing that a picture shows
        ("123", [], 1),
        ("🐕 ...", [], 1),
    ],
)
def test_words_without_a_learned_form_are_unknown(known, text, unknown, share):
    assert known.unknown(text) == unknown
    assert known.unknown_share(text) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "reduced"),
    [
        ("Two dogs barked at the cat!", "dog barking"),
        ("the dog barking in the harbour.", "the dog barking in the harbour."),  # as it was learned
        ("a wave", "a wave"),
        ("the cat", ""),
        ("123", ""),
    ],
)
def test_a_text_is_reduced_to_what_was_learned(known, text, reduced):
    assert known.reduce(text) == reduced
    assert known.reduce(reduced) == reduced


def test_near_words_are_spelled_alike(known):
    assert known.near("harbuor") == ["harbour"]
    assert known.near("Beech") == ["beach"]
    assert known.near("grandmother") == known.near("tho") == known.near("犬") == []


def test_a_vocabulary_is_kept_with_its_model(tmp_path):
    assert Vocabulary.load(tmp_path) is None
    save_words(words_of([["A dog on the Beach.", "a dog"], ["two boxes, 3 cats"]]), tmp_path)
    known = Vocabulary.load(tmp_path)
    assert known is not None
    assert sorted(known.words) == ["beach", "boxes", "cats", "dog", "on", "the", "two"]
    assert pickle.loads(pickle.dumps(known)).words == known.words


def test_the_bundled_model_has_one():
    known = ImageBindBackend.load("bundled").capabilities().vocabulary
    assert known is not None
    assert known.unknown("a photo of a quasar at the beach") == ["quasar"]
    assert {known.known_form(word) for word in known.words} <= known.words


def test_a_text_is_embedded_as_what_the_model_has_learned_of_it():
    model = ImageBindBackend.load("bundled")
    texts = ("dog", "DOGS!", "my grandmother's dogs", "犬")
    singular, plural, longer, unknown = model.embed([Sample(Modality.TEXT, text) for text in texts])
    assert (singular == plural).all()
    assert (singular == longer).all()
    assert not (singular == unknown).all()
