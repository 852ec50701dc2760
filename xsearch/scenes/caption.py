"""English captions of scenes, from templates and synonyms.

A caption names the subject and the place, each by one of its synonyms; one in fourteen only the subject, and
that of an empty place only the place. It may also mention colour, number, size, position, time of day or
sound, always correctly. About one in seven is a pair of tags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from xsearch.scenes.world import Scene

__all__ = ["PHRASES", "all_words", "describe", "render"]

STREAM = 23  # random stream of a scene that this module draws from


@dataclass(frozen=True, slots=True)
class Subject:
    """Words for a subject: (singular, plural) nouns, and participles of its sounds ("a dog barking")."""

    nouns: tuple[tuple[str, str], ...]  # the first is the canonical one
    sounds: tuple[str, ...]  # follow the noun: "a bell ringing"
    # Phrases for the sound with its subject; {some}: "a dog" or "dogs"
    noises: tuple[str, ...]
    does: tuple[str, ...] = ()  # silent participles


@dataclass(frozen=True, slots=True)
class Place:
    """Words for a place: phrases with their preposition, tags, and its ambience."""

    at: tuple[str, ...]  # the first is the canonical one
    tags: tuple[str, ...]
    ambience: tuple[str, ...]


def _nouns(*words: str) -> tuple[tuple[str, str], ...]:
    """(singular, plural) pairs from "dog" or, if irregular, "person/people"."""
    pairs = (word.partition("/") for word in words)
    return tuple((one, many or one + "s") for one, _, many in pairs)


SUBJECTS = {
    "person": Subject(
        _nouns("person/people", "man/men", "woman/women", "human", "pedestrian"),
        ("talking", "speaking", "chatting"),
        ("{some} talking", "a human voice", "human speech", "{some} speaking"),
        ("standing", "walking", "waiting"),
    ),
    "dog": Subject(
        _nouns("dog", "dog", "puppy/puppies", "hound"),
        ("barking", "barking", "yapping", "woofing"),
        ("{some} barking", "barking", "{some} yapping"),
        ("standing", "running", "playing"),
    ),
    "bird": Subject(
        _nouns("bird", "bird", "songbird", "little bird"),
        ("singing", "chirping", "tweeting", "calling"),
        ("birdsong", "{some} singing", "{some} chirping", "bird song"),
        ("flying", "sitting"),
    ),
    "frog": Subject(
        _nouns("frog", "frog", "toad", "bullfrog"),
        ("croaking", "croaking", "ribbiting"),
        ("{some} croaking", "croaking", "a frog's croak"),
        ("sitting", "hopping"),
    ),
    "car": Subject(
        _nouns("car", "car", "automobile", "motor car", "vehicle"),
        ("driving", "revving", "with engine running", "idling"),
        ("{some} running", "a car engine", "{some} revving", "a car motor running"),
        ("parked", "standing"),
    ),
    "train": Subject(
        _nouns("train", "train", "railway train", "locomotive"),
        ("rattling past", "rolling over the rails", "clattering by", "blowing its horn"),
        ("{some} on the rails", "{some} rattling", "a train horn", "a railway"),
        ("passing", "moving"),
    ),
    "boat": Subject(
        _nouns("boat", "boat", "ship", "motorboat", "vessel"),
        ("puttering", "chugging", "with diesel engine running", "sounding its horn"),
        ("{some} chugging", "a boat engine chugging", "a ship's horn", "a boat motor"),
        ("floating", "lying"),
    ),
    "helicopter": Subject(
        _nouns("helicopter", "helicopter", "chopper"),
        ("hovering", "flying", "whirring", "with rotors chopping"),
        ("a helicopter rotor", "helicopter blades", "{some} flying", "rotor blades chopping"),
        ("in the air", "flying over"),
    ),
    "drum": Subject(
        _nouns("drum", "drum", "snare drum", "bass drum"),
        ("beating", "playing a rhythm", "being played", "pounding"),
        ("drumming", "a drum beat", "{some} beating", "drum music"),
        ("standing",),
    ),
    "bell": Subject(
        _nouns("bell", "bell", "church bell", "bronze bell"),
        ("ringing", "ringing", "tolling", "chiming"),
        ("{some} ringing", "{some} chiming", "a church bell", "bell ringing"),
        ("hanging",),
    ),
    "clock": Subject(
        _nouns("clock", "clock", "wall clock", "alarm clock"),
        ("ticking", "ticking", "going tick tock"),
        ("{some} ticking", "tick tock", "clock ticking"),
        ("standing",),
    ),
    "fire": Subject(
        _nouns("fire", "fire", "campfire", "bonfire"),
        ("crackling", "burning", "blazing", "crackling and burning"),
        ("{some} crackling", "crackling flames", "burning flames", "flames crackling"),
        ("burning",),
    ),
}

PLACES = {
    "beach": Place(
        (
            "on the beach",
            "at the beach",
            "by the sea",
            "at the seaside",
            "on the seashore",
            "by the ocean",
            "on the sand",
        ),
        ("beach", "sea", "seaside", "ocean", "shore"),
        ("waves", "surf", "ocean waves", "waves at the sea", "the sound of the sea"),
    ),
    "forest": Place(
        ("in the forest", "in the woods", "among the trees", "in a forest", "in the woodland"),
        ("forest", "woods", "trees", "woodland"),
        ("rustling leaves", "leaves in the forest", "insects in the trees"),
    ),
    "street": Place(
        ("on the street", "in the street", "in the city", "downtown", "on a city street", "in town"),
        ("street", "city", "downtown", "city street", "town"),
        ("city noise", "traffic in the city", "the hum of the city", "street noise"),
    ),
    "field": Place(
        (
            "in the field",
            "in a field",
            "in a meadow",
            "on the grass",
            "in the countryside",
            "on a grassy field",
        ),
        ("field", "meadow", "grass", "countryside"),
        ("crickets", "crickets in the grass", "crickets in a meadow"),
    ),
    "room": Place(
        ("in the room", "in a room", "indoors", "in the living room", "inside a house", "at home"),
        ("room", "indoors", "living room", "inside", "house"),
        ("room hum", "the hum of a room", "indoor ventilation hum"),
    ),
    "mountain": Place(
        ("in the mountains", "on the mountain", "on a mountainside", "up in the hills", "on a rocky peak"),
        ("mountain", "mountains", "hills", "peak"),
        ("howling wind", "wind in the mountains", "mountain wind"),
    ),
    "road": Place(
        (
            "on the road",
            "by the road",
            "on a highway",
            "at the roadside",
            "on a country road",
            "by the motorway",
        ),
        ("road", "highway", "roadside", "motorway"),
        ("cars passing", "passing traffic on the road", "highway traffic"),
    ),
    "harbour": Place(
        ("by the harbour", "in the harbour", "in the harbor", "at the port", "at the marina", "at the docks"),
        ("harbour", "harbor", "port", "marina", "docks"),
        ("water lapping", "gulls and water", "lapping water at the quay", "seagulls"),
    ),
}

TIMES = {
    "morning": ("in the morning", "at dawn", "in the early morning"),
    "noon": ("at noon", "at midday", "in daylight", "in the daytime"),
    "evening": ("in the evening", "at sunset", "at dusk"),
    "night": ("at night", "in the dark", "by night", "late at night"),
}
SIZES = (("small", "little", "tiny"), ("big", "large", "huge"))
SIDES = (("on the left", "to the left"), ("in the middle", "in the centre"), ("on the right", "to the right"))
GREYS = ("grey", "gray")

# {s}: noun with number and adjectives; {n}: noun, singular or plural; {sound}, {doing}: participles; {noise}:
# sound and subject; {p}: place with preposition; {tag}: noun of the place; {air}: its ambience.
PHRASES = {
    "sight": (
        "{s} {p}",
        "{s} {p}",
        "{s} {doing} {p}",
        "{p}, {s}",
        "a photo of {s} {p}",
        "a picture of {s} {p}",
        "there {be} {s} {p}",
        "you can see {s} {p}",
        "{s} seen {p}",
        "an image showing {s} {p}",
        "view of {s} {p}",
    ),
    "sound": (
        "{s} {sound} {p}",
        "{s} {sound} {p}",
        "{n} {sound} {p}",
        "the sound of {noise} {p}",
        "{noise} {p}",
        "a recording of {noise} {p}",
        "{air} and {s} {sound} {p}",
        "{s} {sound} {p}, {air}",
        "i hear {s} {sound} {p}",
        "{p} you can hear {s} {sound}",
    ),
    "tags": ("{n}, {tag}", "{n} {tag}", "{tag}, {n}", "{tag} {n}", "{n} {sound}, {tag}", "{n}, {air}, {tag}"),
    "brief": ("{s}", "a photo of {s}", "{s} {sound}", "{s} {doing}", "the sound of {noise}", "{noise}"),
    "empty": (
        "an empty {tag}",
        "a photo of the {tag}",
        "{tag}",
        "nothing {p}",
        "{air}",
        "the sound of {air}",
        "a recording of {air} {p}",
    ),
}  # fmt: skip
SHARES = (("sight", 0.51), ("sound", 0.28), ("tags", 0.14), ("brief", 0.07))


def article(phrase: str) -> str:
    """The phrase with its indefinite article.

    >>> article("orange car"), article("dog")
    ('an orange car', 'a dog')
    """
    return f"{'an' if phrase[0] in 'aeio' else 'a'} {phrase}"


def describe(subject: str, place: str) -> str:
    """The canonical caption of a scene.

    >>> describe("dog", "beach"), describe("person", "mountain")
    ('a dog on the beach', 'a person in the mountains')
    """
    return f"{article(SUBJECTS[subject].nouns[0][0])} {PLACES[place].at[0]}"


def all_words() -> list[str]:
    """The vocabulary of captions, lower case, sorted."""
    text: list[str] = [*GREYS, "one", "two", "three", "some", "several", "an", "a", "is", "are"]
    text += [w for s in SUBJECTS.values() for pair in s.nouns for w in pair]
    text += [w for s in SUBJECTS.values() for w in (*s.sounds, *s.noises, *s.does)]
    text += [w for p in PLACES.values() for w in (*p.at, *p.tags, *p.ambience)]
    text += [w for group in (*TIMES.values(), *SIZES, *SIDES, *PHRASES.values()) for w in group]
    text += ["red", "orange", "yellow", "green", "blue", "purple", "white", "black", "brown"]
    bare = re.sub(r"\{\w+\}", " ", " ".join(text))
    return sorted(set(re.findall(r"[a-z']+", bare)))


def _counted(rng: np.random.Generator, scene: Scene, nouns: tuple[str, str]) -> str:
    """The noun with number or article, and sometimes colour or size: "two small red boats".

    The colour of a person is that of the clothes: "a woman in red".
    """
    words = []
    if rng.random() < 0.25 and not 0.8 < scene.size < 1.1:
        words.append(str(rng.choice(SIZES[scene.size > 1])))
    words.append(nouns[scene.count > 1])
    if rng.random() < 0.4:
        colour = str(rng.choice(GREYS)) if scene.colour == "grey" else scene.colour
        words[-1] = f"{words[-1]} in {colour}" if scene.subject == "person" else f"{colour} {words[-1]}"
    noun = " ".join(words)
    if scene.count == 1:
        return article(noun) if rng.random() < 0.85 else f"one {noun}"
    number = ("two", "three")[scene.count > 2]
    return f"{number} {noun}" if rng.random() < 0.8 else f"{rng.choice(('some', 'several'))} {noun}"


def render(scene: Scene) -> str:
    """A caption of 1 to 20 words, in lower or sentence case; deterministic.

    >>> scene = Scene(seed=7, subject="dog", place="beach")
    >>> render(scene) == render(scene)
    True
    """
    rng = scene.rng(STREAM)
    subject, place = SUBJECTS[scene.subject], PLACES[scene.place]

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    nouns = subject.nouns[int(rng.integers(len(subject.nouns)))]
    kind = str(rng.choice([name for name, _ in SHARES], p=[share for _, share in SHARES]))
    kind = kind if scene.count else "empty"
    text = pick(PHRASES[kind]).format(
        s=_counted(rng, scene, nouns),
        n=nouns[scene.count > 1],
        be="is" if scene.count == 1 else "are",
        doing=pick(subject.does),
        sound=pick(subject.sounds),
        noise=pick(subject.noises).format(some=article(nouns[0]) if scene.count == 1 else nouns[1]),
        p=pick(place.at),
        tag=pick(place.tags),
        air=pick(place.ambience),
    )
    if kind == "sight" and rng.random() < 0.2:
        text += " " + pick(SIDES[0 if scene.x < -0.33 else 2 if scene.x > 0.33 else 1])
    if kind != "tags" and rng.random() < 0.3:
        text += " " + pick(TIMES[scene.time])
    if rng.random() < 0.4:
        text = text[0].upper() + text[1:] + ("." if kind != "tags" and rng.random() < 0.5 else "")
    return text
