"""Captions: always name subject and place, never lie about number or colour, and are grammatical."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from xsearch.scenes import caption
from xsearch.scenes.world import COLOURS, PLACES, SUBJECTS, TIMES, sample

SCENES = sample(2400, seed=11)
CAPTIONS = [caption.render(scene) for scene in SCENES]


def test_same_scene_same_caption() -> None:
    assert [caption.render(scene) for scene in SCENES[:50]] == CAPTIONS[:50]


def test_the_world_and_the_vocabulary_agree() -> None:
    assert tuple(caption.SUBJECTS) == SUBJECTS
    assert tuple(caption.PLACES) == PLACES
    assert tuple(caption.TIMES) == TIMES


def test_length_and_variety() -> None:
    assert all(1 <= len(text.split()) <= 20 for text in CAPTIONS)
    assert len(set(CAPTIONS)) > 0.85 * len(CAPTIONS)
    assert 0.3 < sum(text[0].isupper() for text in CAPTIONS) / len(CAPTIONS) < 0.5


def test_subject_and_nearly_always_place_are_named() -> None:
    without_place = 0
    for scene, text in zip(SCENES, CAPTIONS, strict=True):
        subject, place = caption.SUBJECTS[scene.subject], caption.PLACES[scene.place]
        words = " ".join([*(w for pair in subject.nouns for w in pair), *subject.noises]).lower()
        assert set(re.findall(r"[a-z]+", text.lower())) & set(re.findall(r"[a-z]+", words)) - {
            "a",
            "and",
            "the",
        }, text
        without_place += not any(phrase in text.lower() for phrase in (*place.at, *place.tags))
    assert 0.03 < without_place / len(SCENES) < 0.12


def test_an_empty_place_is_described_without_a_subject() -> None:
    for scene in SCENES[:300]:
        text = caption.render(replace(scene, count=0)).lower()
        place = caption.PLACES[scene.place]
        assert any(phrase in text for phrase in (*place.at, *place.tags, *place.ambience)), text
        assert not any(re.search(rf"\b{one}\b", text) for one, _ in caption.SUBJECTS[scene.subject].nouns), (
            text
        )


def test_colour_and_time_are_true() -> None:
    for scene, text in zip(SCENES, CAPTIONS, strict=True):
        said = set(re.findall(r"[a-z]+", text.lower().replace("gray", "grey")))
        assert said & set(COLOURS) <= {scene.colour}, text
        for time, phrases in caption.TIMES.items():
            assert time == scene.time or not any(f" {phrase}" in text for phrase in phrases), text


def test_numbers_and_plurals_are_right() -> None:
    for scene, text in zip(SCENES, CAPTIONS, strict=True):
        many = re.search(r"\b(two|three|some|several) (.*)", text.lower())
        one = re.search(r"\bone\b|\bthere is\b", text.lower())
        if scene.count == 1:
            assert not many, text
        else:
            assert not one, text
        if many:
            assert any(
                re.search(rf"\b{pair[1]}\b", many[2]) for pair in caption.SUBJECTS[scene.subject].nouns
            ), text
            assert {"two": 2, "three": 3}.get(many[1], scene.count) == scene.count, text


def test_people_wear_their_colour() -> None:
    told = [(s, t.lower().replace("gray", "grey")) for s, t in zip(SCENES, CAPTIONS, strict=True)]
    people = [(scene, text) for scene, text in told if scene.subject == "person"]
    coloured = [(scene, text) for scene, text in people if re.search(rf"\b{scene.colour}\b", text)]
    assert len(coloured) > 10
    assert all(f" in {scene.colour}" in text for scene, text in coloured)


def test_irregular_plurals() -> None:
    plurals = {one: many for s in caption.SUBJECTS.values() for one, many in s.nouns}
    assert plurals["person"] == "people"
    assert plurals["puppy"] == "puppies"
    assert plurals["woman"] == "women"
    assert plurals["dog"] == "dogs"


def test_articles_agree() -> None:
    for text in CAPTIONS:
        assert not re.search(r"\ba [aeio]|\ban [^aeio]", text.lower()), text


def test_no_template_is_left_open() -> None:
    assert not any(re.search(r"[{}]|  |^ | $", text) for text in CAPTIONS)


@pytest.mark.parametrize(
    ("subject", "place", "text"),
    [
        ("dog", "beach", "a dog on the beach"),
        ("bird", "forest", "a bird in the forest"),
        ("boat", "harbour", "a boat by the harbour"),
        ("person", "mountain", "a person in the mountains"),
    ],
)
def test_describe(subject: str, place: str, text: str) -> None:
    assert caption.describe(subject, place) == text


def test_all_words_holds_every_word_used() -> None:
    words = caption.all_words()
    assert words == sorted(set(words))
    used = {w for text in CAPTIONS for w in re.findall(r"[a-z']+", text.lower())}
    assert used <= set(words)


def test_plain_queries_use_known_words() -> None:
    queries = "dog barking, waves at the sea, church bell, city at night, people talking, car on a highway"
    assert set(re.findall(r"[a-z]+", queries)) <= set(caption.all_words())


def test_tags_are_about_one_in_seven() -> None:
    bare = {n for s in caption.SUBJECTS.values() for pair in s.nouns for n in pair}
    tags = [t for t in CAPTIONS if t.lower().split(",")[0] in bare or t.lower().split(", ")[-1] in bare]
    assert 0.05 < len(tags) / len(CAPTIONS) < 0.2
