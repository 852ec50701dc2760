"""The definition of a scene: a subject in a place, and everything that varies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["COLOURS", "DURATION_S", "PLACES", "SUBJECTS", "TIMES", "TRAINING_SEED", "Scene", "sample"]

SUBJECTS = (
    "person", "dog", "bird", "frog", "car", "train", "boat", "helicopter", "drum", "bell", "clock", "fire",
)  # fmt: skip
PLACES = ("beach", "forest", "street", "field", "room", "mountain", "road", "harbour")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black", "brown", "grey")
TIMES = ("morning", "noon", "evening", "night")
TRAINING_SEED = 1  # of the scenes that models are trained on; evaluations use others
DURATION_S = 5.0  # of a scene: one IMU window of ImageBind, arXiv:2305.05665, section 3

# Subjects with natural colours.
_COLOURS_OF = {
    "dog": ("brown", "black", "white", "grey", "orange", "yellow"),
    "frog": ("green", "brown", "yellow", "orange", "red", "blue"),
    "fire": ("orange", "yellow", "red"),
}


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene of DURATION_S. Subject and place are the ground truth, the other fields nuisance variables."""

    seed: int  # determines all details that are not fields
    subject: str
    place: str
    colour: str = "red"
    count: int = 1  # 1 to 3 of the subject; 0 leaves the place empty
    size: float = 1.0  # 0.6 to 1.3: apparent size, relative to that of the subject
    x: float = 0.0  # -1 left to 1 right
    time: str = "noon"
    noise: float = 0.3  # 0 to 1: of sensors and surroundings
    loudness: float = 0.7  # 0.3 to 1
    pitch: float = 1.0  # 0.7 to 1.4: factor on the subject's base frequencies
    viewpoint: float = 0.0  # -1 to 1: horizon low to high

    def rng(self, stream: int) -> np.random.Generator:
        """An independent random generator for each use, so that modalities do not affect each other."""
        return np.random.default_rng([self.seed, stream])


def sample(
    n: int, *, seed: int, subjects: Sequence[str] = SUBJECTS, places: Sequence[str] = PLACES
) -> list[Scene]:
    """Draw `n` scenes. Each run of len(subjects) * len(places) has every combination once, shuffled.

    >>> [s.subject for s in sample(2, seed=0, subjects=["dog"], places=["beach"])]
    ['dog', 'dog']
    """
    rng = np.random.default_rng(seed)
    combinations = [(s, p) for s in subjects for p in places]
    rounds = -(-n // len(combinations))
    order = np.concatenate([rng.permutation(len(combinations)) for _ in range(rounds)])[:n]
    return [_draw(rng, *combinations[i]) for i in order]


def _draw(rng: np.random.Generator, subject: str, place: str) -> Scene:
    return Scene(
        seed=int(rng.integers(2**31)),
        subject=subject,
        place=place,
        colour=str(rng.choice(_COLOURS_OF.get(subject, COLOURS))),
        count=int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1])),
        size=float(rng.uniform(0.6, 1.3)),
        x=float(rng.uniform(-1, 1)),
        time=str(rng.choice(TIMES)),
        noise=float(rng.uniform()),
        loudness=float(rng.uniform(0.3, 1)),
        pitch=float(rng.uniform(0.7, 1.4)),
        viewpoint=float(rng.uniform(-1, 1)),
    )
