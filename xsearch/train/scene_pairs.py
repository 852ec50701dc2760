"""Rendered scenes as training pairs: rendered once, preprocessed, and cached on disk.

A batch holds every subject in every place once, and every empty place, so that it has no false negatives.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from xsearch.models.config import TOWER_OF, TOWERS, ImageBindConfig
from xsearch.models.tokenizer import Tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.scenes import PLACES, SUBJECTS, Scene, caption, render, sample
from xsearch.system.terminal import unescaped
from xsearch.types import Modality

__all__ = ["ScenePairs", "tower_inputs"]

COMBINATIONS = len(SUBJECTS) * len(PLACES)
GRID = (len(SUBJECTS) + 1, len(PLACES))  # of a batch: the empty places first, then each subject
ROUND = GRID[0] * GRID[1]
CAPTIONS = 4  # phrasings of each scene
_STREAM = 11  # random stream of a scene that this module draws from


def tower_inputs(scenes: list[Scene], preprocess: Preprocess) -> dict[str, Tensor]:
    """The input of each tower, row by row the same scene; text is [scenes, CAPTIONS, context]."""
    moments = []
    for scene in scenes:
        rng = scene.rng(_STREAM)
        moment = render(scene, width=int(rng.integers(112, 160)), height=112)
        # Depth cameras differ in resolution, hence in focal length in pixels.
        moment[Modality.DEPTH] = replace(moment[Modality.DEPTH], focal_px=float(rng.uniform(250, 600)))
        moments.append(moment)
    batches = {TOWER_OF[kind]: preprocess([m[kind] for m in moments]) for kind in moments[0]}
    captions = [caption.render(replace(s, seed=s.seed + i)) for s in scenes for i in range(CAPTIONS)]
    assert preprocess.tokenizer is not None
    batches["text"] = preprocess.tokenizer.encode(captions).unflatten(0, (len(scenes), CAPTIONS))
    return batches


@dataclass(frozen=True)
class ScenePairs:
    """Tower inputs of rounds of 104 scenes, float16 (text int16)."""

    arrays: dict[str, np.ndarray]
    kinds: np.ndarray  # int64 [rounds * 104]: rows of one kind have the same subject in the same place

    @staticmethod
    def render(
        folder: Path,
        preprocess: Preprocess,
        *,
        rounds: int,
        workers: int,
        seed: int,
    ) -> ScenePairs:
        """Render into `folder`, skipping the rounds that an earlier call has finished there."""
        scenes = _rounds(rounds, seed)
        config, tokenizer = preprocess.config, preprocess.tokenizer
        assert tokenizer is not None
        digest = hashlib.sha256((config.to_json() + tokenizer.backend.to_str()).encode()).hexdigest()[:12]
        folder = folder / f"scenes-{seed}-{digest}"
        folder.mkdir(parents=True, exist_ok=True)
        todo = [r for r in range(rounds) if not (folder / f"{r:05d}.done").exists()]
        jobs = [(folder, r, scenes[r * ROUND : (r + 1) * ROUND], config, tokenizer) for r in todo]
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            bar = {"desc": "scenes", "unit": "round", "file": unescaped(sys.stderr)}
            list(tqdm(pool.map(_render_round, jobs), total=len(jobs), **bar))
        first = _open_round(folder, 0)
        arrays = {name: np.empty((rounds * ROUND, *a.shape[1:]), a.dtype) for name, a in first.items()}
        for r in range(rounds):
            for name, a in _open_round(folder, r).items():
                arrays[name][r * ROUND : (r + 1) * ROUND] = a
        kinds = sorted({_kind(scene) for scene in scenes})
        return ScenePairs(arrays, np.array([kinds.index(_kind(scene)) for scene in scenes]))

    def batch(
        self, step: int, seed: Sequence[int], names: Sequence[str], *, silent: bool = False
    ) -> dict[str, Tensor]:
        """The inputs of these towers in one step: 104 scenes, one of each kind, in the order of GRID.

        An epoch has every scene once, each with a random caption and a random audio clip.

        silent: pair the sound of an empty place with any picture of that place, empty or not.
        """
        epoch, number = divmod(step, len(self.kinds) // ROUND)
        rows = np.argsort(self.kinds, kind="stable").reshape(ROUND, -1)  # [104, rounds]
        chosen = np.random.default_rng([*seed, epoch]).permuted(rows, axis=1)[:, number]
        rng = np.random.default_rng([*seed, epoch, number])
        pictured = chosen.reshape(GRID).copy()
        if silent:
            pictured[0] = pictured[rng.integers(GRID[0], size=GRID[1]), np.arange(GRID[1])]
        inputs = {
            name: torch.from_numpy(self.arrays[name][pictured.ravel() if name == "vision" else chosen])
            for name in names
        }
        for name in ("text", "audio"):
            if (variants := inputs.get(name)) is not None:
                inputs[name] = variants[np.arange(ROUND), rng.integers(variants.shape[1], size=ROUND)]
        return {name: x.long() if name == "text" else x.float() for name, x in inputs.items()}


def _rounds(rounds: int, seed: int) -> list[Scene]:
    full = sample(rounds * COMBINATIONS, seed=seed)
    empty = [replace(s, count=0) for s in sample(rounds * len(PLACES), seed=seed + 1, subjects=SUBJECTS[:1])]
    scenes = []
    for r in range(rounds):
        scenes += full[r * COMBINATIONS : (r + 1) * COMBINATIONS]
        scenes += empty[r * len(PLACES) : (r + 1) * len(PLACES)]
    return scenes


def _kind(scene: Scene) -> tuple[str, str]:
    return (scene.subject if scene.count else "", scene.place)


def _render_round(job: tuple[Path, int, list[Scene], ImageBindConfig, Tokenizer]) -> None:
    folder, number, scenes, config, tokenizer = job
    torch.set_num_threads(1)  # there are as many workers as cores
    inputs = tower_inputs(scenes, Preprocess(config, tokenizer))
    for name, x in inputs.items():
        array = x.numpy().astype(np.int16 if name == "text" else np.float16)
        np.save(folder / f"{number:05d}.{name}.npy", array)
    (folder / f"{number:05d}.done").touch()


def _open_round(folder: Path, number: int) -> dict[str, np.ndarray]:
    return {name: np.load(folder / f"{number:05d}.{name}.npy", mmap_mode="r") for name in TOWERS}
