"""What a stage compares: batches of tables and of scenes, in the shares of this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.errors import MediaError, Unreadable, UsageError
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.gradients import processes, share
from xsearch.train.recipe import Recipe, Stage
from xsearch.train.scene_pairs import GRID, ROUND, ScenePairs
from xsearch.train.table_batches import Batch, TableBatches, told

__all__ = ["Part", "Seen", "Sources", "missing"]

EMBEDDED = 64  # pictures at once


@dataclass(frozen=True)
class Part:
    """Pairs of one source within a step, and what their loss counts."""

    name: str  # of the tower beside the pictures
    batch: Batch
    weight: float
    grid: tuple[int, int] | None = None  # of scenes, whose loss goes by it and not by labels


class Seen:
    """What a resting vision tower makes of the pictures."""

    def __init__(self, vision: nn.Module, preprocess: Preprocess, device: torch.device) -> None:
        self._vision, self._preprocess, self._device = vision, preprocess, device
        self._known: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def table(self, name: str, pairs: Pairs) -> tuple[Pairs, np.ndarray]:
        """The pairs whose picture can be decoded, and float32 [N, E]. Raises Unreadable if there are none."""
        if name not in self._known:
            good: list[int] = []
            self._known[name] = self._embedded(self._decoded(pairs, good)), np.array(good)
        vectors, rows = self._known[name]
        return pairs.take(rows), vectors

    def scenes(self, pictures: np.ndarray) -> np.ndarray:
        """float32 [N, E] of float16 [N, 3, size, size]."""
        if "scenes" not in self._known:
            parts = torch.from_numpy(pictures).split(EMBEDDED)
            self._known["scenes"] = self._embedded(part.float() for part in parts), np.arange(len(pictures))
        return self._known["scenes"][0]

    def _decoded(self, pairs: Pairs, good: list[int]) -> Iterator[Tensor]:
        samples = []
        for row in range(len(pairs)):
            try:
                samples.append(pairs[row].picture())
                good.append(row)
            except MediaError as problem:
                told(problem)
            if samples and (len(samples) == EMBEDDED or row + 1 == len(pairs)):
                yield self._preprocess(samples)
                samples = []
        if samples:
            yield self._preprocess(samples)

    @torch.inference_mode()
    def _embedded(self, batches: Iterable[Tensor]) -> np.ndarray:
        parts = [self._vision(x.to(self._device)).float().cpu() for x in batches]
        if not parts:
            raise Unreadable("no picture of a table can be decoded")
        found: np.ndarray = torch.cat(parts).numpy()
        return found


class Sources:
    """The pairs of one stage.

    number: of the stage. seen: None where the pictures learn. Raises UsageError where a batch cannot be
    shared by as many processes as there are.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        tables: Mapping[str, Pairs],
        scenes: ScenePairs | None,
        preprocess: Preprocess,
        seen: Seen | None,
    ) -> None:
        self._recipe, self._stage = recipe, recipe.stages[number - 1]
        self._scenes = scenes = scenes if self._stage.scenes else None
        self._seed = [recipe.seed, number]
        if self._stage.size:
            vision = replace(preprocess.config.vision, image_size=self._stage.size)
            preprocess = Preprocess(replace(preprocess.config, vision=vision), preprocess.tokenizer)
        if scenes is not None and ROUND % processes():
            raise UsageError(f"{ROUND} scenes of a step cannot be shared by {processes()} processes")
        if scenes is not None and seen is not None:
            vectors = seen.scenes(scenes.arrays["vision"])
            self._scenes = replace(scenes, arrays=scenes.arrays | {"vision": vectors})
        self._tables: dict[str, TableBatches] = {}
        for name in self._stage.bind:
            if name not in tables:
                continue
            bind, pairs, pictures = recipe.modality[name], tables[name], None
            if seen is not None and bind.image == "none":
                pairs, pictures = seen.table(name, pairs)
            self._tables[name] = TableBatches(
                pairs, bind, preprocess, seed=self._seed, processes=processes(), pictures=pictures
            )

    @property
    def steps(self) -> int:
        """Of the stage."""
        if self._stage.steps:
            return self._stage.steps
        epochs = [table.steps for table in self._tables.values()]
        if self._scenes is not None:
            epochs.append(len(self._scenes.kinds) // ROUND)
        return max(round(self._stage.epochs * max(epochs)), 1)

    def parts(self, first: int, last: int, workers: int) -> Iterator[list[Part]]:
        """Those of steps first..last-1."""
        each = max(workers // max(len(self._tables), 1), 1) if workers else 0
        streams = {
            name: table.batches(first, last, part=share(table.batch), workers=each)
            for name, table in self._tables.items()
        }
        for step in range(first, last):
            weights = {name: self._recipe.modality[name].weight for name in streams}
            found = [Part(name, next(stream), weights[name]) for name, stream in streams.items()]
            yield found + self._of_scenes(step)

    def _of_scenes(self, step: int) -> list[Part]:
        if self._scenes is None:
            return []
        stage, names = self._stage, ("vision", *self._stage.bind)
        silent = tuple(stage.towers) == ("audio",)
        batch = self._scenes.batch(step, self._seed, names, silent=silent)
        mine = {name: x[share(ROUND)] for name, x in batch.items()}
        if stage.size and mine["vision"].ndim > 2:
            mine["vision"] = F.interpolate(mine["vision"], (stage.size,) * 2, mode="bilinear", antialias=True)
        if "audio" in mine:  # one clip of a scene stands for as many as a table gives
            clips = self._recipe.modality["audio"].clips
            mine["audio"] = mine["audio"][:, None].expand(-1, clips, -1, -1, -1)
        labels = torch.arange(len(mine["vision"]))[:, None]
        return [
            Part(
                name,
                Batch(mine["vision"], mine[name], labels),
                self._recipe.scenes_weight * self._recipe.modality[name].weight,
                GRID,
            )
            for name in stage.bind
        ]


def missing(stage: Stage, tables: Mapping[str, Pairs], scenes: ScenePairs | None) -> list[str]:
    """Towers that the stage binds without any pairs."""
    return [name for name in stage.bind if name not in tables and not (scenes and stage.scenes)]
