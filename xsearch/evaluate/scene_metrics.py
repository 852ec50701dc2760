"""Evaluation on held-out rendered scenes: retrieval between six modalities, and composition.

Scenes with the same subject and place are relevant to each other; with IMU on either side those with the same
place, for the motion of the wearer depends on the place alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from xsearch.evaluate.evaluation import Evaluation, gaps, matrix
from xsearch.evaluate.metrics import composition, precision_at_1
from xsearch.scenes import PLACES, SUBJECTS, Scene, render, sample
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["MODALITIES", "embed_scenes", "evaluate_scenes"]

MODALITIES = (
    Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.DEPTH, Modality.THERMAL, Modality.IMU,
)  # fmt: skip
WIDTH, HEIGHT = 149, 112  # pixels
HELD_OUT, QUERIES = 1_000_003, 2_000_003  # seeds, far from scenes.world.TRAINING_SEED


def evaluate_scenes(backend: Backend, scenes: int, *, triples: int | None = None) -> Evaluation:
    """P@1 and R@10 between all modalities, composition, and a colour histogram baseline.

    triples: queries picture + sound -> picture; by default a third of the scenes.
    """
    held_out = sample(scenes, seed=HELD_OUT)
    vectors = embed_scenes(backend, held_out)
    truth = {place_only: _classes(held_out, place_only=place_only) for place_only in (False, True)}
    rows = matrix(vectors, lambda a, b: (truth[Modality.IMU in (a, b)],) * 2)
    for row in rows:
        row["right"] = "place" if Modality.IMU in (row["query"], row["answer"]) else "subject and place"
    count = triples or -(-scenes // 3)
    composed = _composition(backend, vectors[Modality.IMAGE], held_out, count)
    figures = {
        "scenes": scenes,
        "matrix": rows,
        "composition": composed,
        "composition_queries": dict.fromkeys(composed, count),
        "colour_histogram": _colour_histogram(held_out),
        "gap": gaps(vectors),
    }
    return Evaluation(figures, vectors)


def embed_scenes(backend: Backend, scenes: Sequence[Scene]) -> dict[Modality, np.ndarray]:
    """float32 [scenes, D] of each modality, unit rows."""
    parts: dict[Modality, list[np.ndarray]] = {m: [] for m in MODALITIES}
    for start in range(0, len(scenes), 50):
        moments = [_moment(scene) for scene in scenes[start : start + 50]]
        for m in MODALITIES:
            parts[m].append(backend.embed([moment[m] for moment in moments]))
    return {m: np.concatenate(rows) for m, rows in parts.items()}


def _moment(scene: Scene) -> dict[Modality, Sample]:
    """A scene at the size of the model's input, its focal length that of a 640 x 480 camera."""
    moment = render(scene, width=WIDTH, height=HEIGHT)
    depth = moment[Modality.DEPTH]
    assert depth.focal_px is not None
    return moment | {Modality.DEPTH: replace(depth, focal_px=depth.focal_px * 480 / HEIGHT)}


def _classes(scenes: Sequence[Scene], *, place_only: bool) -> np.ndarray:
    """int64 [scenes]: scenes with equal codes are relevant to each other."""
    place = np.array([PLACES.index(s.place) for s in scenes])
    subject = np.array([SUBJECTS.index(s.subject) for s in scenes])
    return place if place_only else place + len(PLACES) * subject


def _composition(
    backend: Backend, gallery: np.ndarray, scenes: Sequence[Scene], triples: int
) -> dict[str, float]:
    """picture(S at A) + sound of place B: share of queries whose nearest picture shows S at B."""
    rng = np.random.default_rng(QUERIES)
    pictured = sample(triples, seed=QUERIES)
    others = [str(rng.choice([p for p in PLACES if p != s.place])) for s in pictured]
    sounds = [
        replace(s, seed=int(rng.integers(2**31)), place=p, count=0)
        for s, p in zip(pictured, others, strict=True)
    ]
    parts = {
        "picture": backend.embed([render(s, width=WIDTH, height=HEIGHT)[Modality.IMAGE] for s in pictured]),
        "sound": backend.embed([render(s)[Modality.AUDIO] for s in sounds]),
    }
    expected = _classes(
        [replace(s, place=p) for s, p in zip(pictured, others, strict=True)], place_only=False
    )
    return composition(parts, gallery, (expected, _classes(scenes, place_only=False)))


def _colour_histogram(scenes: Sequence[Scene]) -> float:
    """P@1 of pictures by their 4 x 4 x 4 colour histograms: a baseline without a model."""
    rows = []
    for scene in scenes:
        pixels = np.asarray(render(scene)[Modality.IMAGE].data).reshape(-1, 3) // 64
        rows.append(np.bincount(pixels @ np.array([16, 4, 1]), minlength=64) ** 0.5)
    unit = np.stack(rows) / np.linalg.norm(rows, axis=1, keepdims=True)
    truth = _classes(scenes, place_only=False)
    return precision_at_1(unit, unit, (truth, truth), skip_self=True)
