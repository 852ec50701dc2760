"""The batches of a stage, from tables and from rendered scenes, local to this process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.errors import MediaError, Unreadable, UsageError
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.gradients import local_rows, world_size
from xsearch.train.pictures import Pictures
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import GRID, ROUND, ScenePairs
from xsearch.train.table_batches import Batch, TableBatches, report_skipped

__all__ = ["FrozenVision", "Part", "Sources", "require_pairs"]

BATCH = 64  # pictures per forward pass of the frozen vision tower


@dataclass(frozen=True)
class Part:
    """A step's batch from one source, and the weight of its loss."""

    name: str  # of the partners' tower
    batch: Batch
    weight: float
    grid: tuple[int, int] | None = None  # of scenes: subjects x places, in place of labels


class FrozenVision:
    """Embeddings of a vision tower that does not learn, computed once per source."""

    def __init__(self, vision: nn.Module, preprocess: Preprocess, device: torch.device) -> None:
        self._vision, self._preprocess, self._device = vision, preprocess, device
        self._cache: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def table(self, name: str, pairs: Pairs) -> tuple[Pairs, np.ndarray]:
        """The pairs whose picture decodes, and float32 [N, E]. Raises Unreadable if there are none."""
        if name not in self._cache:
            rows: list[int] = []
            self._cache[name] = self._embed(self._decode(pairs, rows)), np.array(rows)
        vectors, decoded = self._cache[name]
        return pairs.take(decoded), vectors

    def scenes(self, pictures: np.ndarray) -> np.ndarray:
        """float32 [N, E] of float16 [N, 3, size, size]."""
        if "scenes" not in self._cache:
            parts = torch.from_numpy(pictures).split(BATCH)
            self._cache["scenes"] = self._embed(part.float() for part in parts), np.arange(len(pictures))
        return self._cache["scenes"][0]

    def _decode(self, pairs: Pairs, rows: list[int]) -> Iterator[Tensor]:
        """Batches of pictures; the row of each that decodes is appended to `rows`."""
        samples = []
        for row in range(len(pairs)):
            try:
                samples.append(pairs[row].picture())
                rows.append(row)
            except MediaError as error:
                report_skipped(error)
            if samples and (len(samples) == BATCH or row + 1 == len(pairs)):
                yield self._preprocess(samples)
                samples = []
        if samples:
            yield self._preprocess(samples)

    @torch.inference_mode()
    def _embed(self, batches: Iterable[Tensor]) -> np.ndarray:
        parts = [self._vision(x.to(self._device)).float().cpu() for x in batches]
        if not parts:
            raise Unreadable("no picture of a table can be decoded")
        vectors: np.ndarray = torch.cat(parts).numpy()
        return vectors


class Sources:
    """The pairs of one stage.

    number: of the stage, from 1. vision: None where the vision tower learns. pictures: of tables, by tower,
    as far as they are decoded. Raises UsageError if a batch cannot be divided among the processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        number: int,
        tables: Mapping[str, Pairs],
        scenes: ScenePairs | None,
        preprocess: Preprocess,
        vision: FrozenVision | None,
        pictures: Mapping[str, Pictures] = MappingProxyType({}),
    ) -> None:
        self._recipe, self._stage = recipe, recipe.stages[number - 1]
        self._scenes = scenes = scenes if self._stage.scenes else None
        self._seed = [recipe.seed, number]
        if self._stage.size:
            config = replace(preprocess.config.vision, image_size=self._stage.size)
            preprocess = Preprocess(replace(preprocess.config, vision=config), preprocess.tokenizer)
        if scenes is not None and ROUND % world_size():
            raise UsageError(f"{ROUND} scenes of a step cannot be shared by {world_size()} processes")
        if scenes is not None and vision is not None:
            vectors = vision.scenes(scenes.arrays["vision"])
            self._scenes = replace(scenes, arrays=scenes.arrays | {"vision": vectors})
        self._tables: dict[str, TableBatches] = {}
        for name in self._stage.bind:
            if name not in tables:
                continue
            bind, pairs = recipe.modality[name], tables[name]
            shown: Pictures | np.ndarray | None = pictures.get(name)
            if vision is not None and bind.image == "none":
                pairs, shown = vision.table(name, pairs)
            self._tables[name] = TableBatches(
                pairs, bind, preprocess, seed=self._seed, processes=world_size(), pictures=shown
            )

    @property
    def steps(self) -> int:
        """Number of steps of the stage."""
        if self._stage.steps:
            return self._stage.steps
        epochs = [table.steps for table in self._tables.values()]
        if self._scenes is not None:
            epochs.append(len(self._scenes.kinds) // ROUND)
        return max(round(self._stage.epochs * max(epochs)), 1)

    def parts(self, first: int, last: int, workers: int) -> Iterator[list[Part]]:
        """The parts of steps first..last-1. workers: decoder processes, divided among the tables."""
        each = max(workers // max(len(self._tables), 1), 1) if workers else 0
        streams = {
            name: table.batches(first, last, part=local_rows(table.batch), workers=each)
            for name, table in self._tables.items()
        }
        weights = {name: self._recipe.modality[name].weight for name in streams}
        for step in range(first, last):
            of_tables = [Part(name, next(stream), weights[name]) for name, stream in streams.items()]
            yield of_tables + self._of_scenes(step)

    def _of_scenes(self, step: int) -> list[Part]:
        if self._scenes is None:
            return []
        stage, names = self._stage, ("vision", *self._stage.bind)
        silent = tuple(stage.towers) == ("audio",)
        batch = self._scenes.batch(step, self._seed, names, silent=silent)
        local = {name: x[local_rows(ROUND)] for name, x in batch.items()}
        if stage.size and local["vision"].ndim > 2:
            size = (stage.size,) * 2
            local["vision"] = F.interpolate(local["vision"], size, mode="bilinear", antialias=True)
        if "audio" in local:  # one clip of a scene, repeated to as many as tables have
            clips = self._recipe.modality["audio"].clips
            local["audio"] = local["audio"][:, None].expand(-1, clips, -1, -1, -1)
        labels = torch.arange(len(local["vision"]))[:, None]
        return [
            Part(
                name,
                Batch(local["vision"], local[name], labels),
                self._recipe.scenes_weight * self._recipe.modality[name].weight,
                GRID,
            )
            for name in stage.bind
        ]


def require_pairs(recipe: Recipe, tables: Mapping[str, Pairs], scenes: ScenePairs | None) -> None:
    """Raise UsageError if a stage binds a modality without any pairs."""
    for number, stage in enumerate(recipe.stages, start=1):
        for name in stage.bind:
            if name not in tables and not (scenes and stage.scenes):
                raise UsageError(f"stage {number} of the recipe: there are no pairs of pictures and {name}")
