"""Measure the scores of queries in pictures that do not have what they look for."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import numpy as np

from xsearch import scenes
from xsearch.backend import Backend
from xsearch.locate.locator import Locator
from xsearch.locate.reading import Reading
from xsearch.locate.thresholds import Thresholds
from xsearch.query import Embedded, Part, Query
from xsearch.types import Modality, Sample

__all__ = ["PICTURES", "calibrate", "query_of"]

PICTURES = 300  # of a calibration: three of them are the least share
SEED = 8  # of scenes, which no training, no generic query and no benchmark draws
SIZE = 320, 240


def calibrate(
    backend: Backend,
    *,
    pictures: int = PICTURES,
    seed: int = SEED,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Thresholds:
    """Look for the media of every scene in the picture of another one, with another subject and place."""
    locator, drawn = Locator(backend), scenes.sample(pictures, seed=seed)
    rng = np.random.default_rng(seed)
    images, vectors = [], []
    for at, scene in enumerate(drawn):
        rendered = scenes.render(scene, width=SIZE[0], height=SIZE[1])
        images.append(rendered[Modality.IMAGE].data)
        rendered[Modality.TEXT] = Sample(
            Modality.TEXT, f"a {scene.subject}"
        )  # a caption exceeds it less often
        vectors.append(dict(zip(rendered, backend.embed_query(list(rendered.values())), strict=True)))
        progress(at + 1, 2 * pictures)
    scores = defaultdict(list)
    for at, (image, scene) in enumerate(zip(images, drawn, strict=True)):
        reading = Reading(image, locator.backend)
        absent = [
            of_scene
            for other, of_scene in zip(drawn, vectors, strict=True)
            if other.subject != scene.subject and other.place != scene.place
        ]
        for kind in vectors[0]:
            query = query_of(kind, absent[rng.integers(len(absent))][kind])
            scores[kind].append(float(locator.candidates(reading, query).scores.max()))
        progress(pictures + at + 1, 2 * pictures)
    return Thresholds.measured(backend.fingerprint, {kind: np.array(of) for kind, of in scores.items()})


def query_of(kind: Modality, vector: np.ndarray) -> Embedded:
    """A query of one vector [dim], of length 1."""
    return Embedded(Query((Part(kind, vector),)), vector, vector[None], 1.0)
