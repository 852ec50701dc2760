"""Batches from pair tables: what step n of a stage sees depends on the seed and on n alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from xsearch.errors import MediaError, Unreadable, UsageError
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pair, Pairs
from xsearch.train.augment import mask_mels, vary
from xsearch.train.labels import codes_of, vocabulary
from xsearch.train.recipe import Bind
from xsearch.types import Modality, Sample

__all__ = ["Batch", "TableBatches", "told"]

Key = tuple[int, int, int]  # step, place in the batch, row


@dataclass(frozen=True)
class Batch:
    """Rows i of both belong together."""

    pictures: Tensor  # float32 [B, 3, size, size]; or what the resting tower made of them, [B, E]
    partners: Tensor  # the input of the other tower, [B, ...]
    labels: Tensor  # int64 [B, M]: rows that share a number are right answers for each other


class TableBatches:
    """The pairs of one modality, a batch for each step.

    seed: of the stage. processes: that share a batch. pictures: float32 [N, E], embeddings in place of
    the pictures. Raises UsageError where there are too few pairs, or no labels to balance.
    """

    def __init__(
        self,
        pairs: Pairs,
        bind: Bind,
        preprocess: Preprocess,
        *,
        seed: list[int],
        processes: int = 1,
        pictures: np.ndarray | None = None,
    ) -> None:
        self.pairs, self.bind, self.seed, self.pictures = pairs, bind, seed, pictures
        self.batch = min(bind.batch, len(pairs)) // processes * processes
        labels = pairs.labels.tolist()
        self.codes = codes_of(labels, vocabulary(labels))  # int64 [N, M]
        if not self.batch:
            raise UsageError(f"{pairs.path}: {len(pairs)} pairs are too few for {processes} processes")
        if bind.balanced and not any(labels):
            raise UsageError(f"{pairs.path}: there are no labels to balance")
        self._items = _Items(pairs, bind, preprocess, seed, shown=pictures is None)
        self._permuted = lru_cache(maxsize=2)(self._permute)

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return max(int(len(self.pairs) * self.bind.replicate) // self.batch, 1)

    def rows(self, step: int) -> np.ndarray:
        """int64 [batch]. All equally often, in an order drawn anew each time; by their weights, if these
        differ; or, balanced, every label equally often."""
        B, N = self.batch, len(self.pairs)
        rng = np.random.default_rng([*self.seed, step])
        if self.bind.balanced:
            order, starts, ends = self._classes
            turns = -(-B // len(starts))
            chosen = np.concatenate([rng.permutation(len(starts)) for _ in range(turns)])[:B]
            return order[rng.integers(starts[chosen], ends[chosen])]
        if self._shares is not None:
            return np.searchsorted(self._shares, rng.random(B), side="right").clip(max=N - 1)
        at = np.arange(step * B, (step + 1) * B)
        passes = range(at[0] // N, at[-1] // N + 1)
        return np.concatenate([self._permuted(turn)[at[at // N == turn] % N] for turn in passes])

    def batches(self, first: int, last: int, *, part: slice, workers: int = 0) -> Iterator[Batch]:
        """Those of steps first..last-1; `part` of each batch's rows: that of this process."""
        loader = DataLoader(
            self._items,
            batch_sampler=_Steps(self, range(first, last), part),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_alone if workers else None,
        )
        for made in loader:
            rows = made["rows"].numpy()
            pictures = made["pictures"] if self.pictures is None else torch.from_numpy(self.pictures[rows])
            yield Batch(pictures, made["partners"], torch.from_numpy(self.codes[rows]))

    def _permute(self, turn: int) -> np.ndarray:
        return np.random.default_rng([*self.seed, turn, 0]).permutation(len(self.pairs))

    @cached_property
    def _classes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows ordered by their first label, and where each label starts and ends."""
        _, codes = np.unique(self.codes[:, 0], return_inverse=True)
        ends = np.cumsum(np.bincount(codes))
        return np.argsort(codes, kind="stable"), np.r_[0, ends[:-1]], ends

    @cached_property
    def _shares(self) -> np.ndarray | None:
        """float64 [N]: the weights, summed up to 1; None where all are equal."""
        weights = self.pairs.weights
        return None if (weights == weights[0]).all() else np.cumsum(weights / weights.sum())


class _Items(Dataset[dict[str, Tensor]]):
    """Pairs decoded, varied and made ready for the towers; goes to the workers."""

    def __init__(
        self, pairs: Pairs, bind: Bind, preprocess: Preprocess, seed: list[int], shown: bool
    ) -> None:
        self.pairs, self.bind, self.preprocess, self.seed, self.shown = pairs, bind, preprocess, seed, shown

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """What cannot be decoded is told, and the next row stands in for it."""
        step, place, row = key
        for stand_in in range(row, row + len(self.pairs)):
            at = stand_in % len(self.pairs)
            rng = np.random.default_rng([*self.seed, step, place])
            try:
                return self._made(self.pairs[at], rng) | {"rows": torch.tensor(at)}
            except MediaError as problem:
                told(problem)
        raise Unreadable(f"{self.pairs.path}: no row can be decoded")

    def _made(self, pair: Pair, rng: np.random.Generator) -> dict[str, Tensor]:
        picture = pair.picture() if self.shown else None
        picture, partner = vary(picture, self._whole(pair.partner()), self.bind, rng)
        x = self.preprocess([partner])[0]
        if partner.modality == Modality.AUDIO:
            x = x[np.sort(rng.permutation(len(x))[: self.bind.clips])]
            x = mask_mels(x, rng) if self.bind.other else x
        made = {"partners": x}
        if picture is not None:
            made["pictures"] = self.preprocess([picture])[0]
        return made

    def _whole(self, sample: Sample) -> Sample:
        """A depth map's focal length is told before it is cropped: the default one goes by its size."""
        if sample.modality != Modality.DEPTH or sample.focal_px:
            return sample
        return replace(sample, focal_px=self.preprocess.settings.depth_focal * max(sample.data.shape))


class _Steps(Sampler[list[Key]]):
    """The keys of each step."""

    def __init__(self, source: TableBatches, steps: range, part: slice) -> None:
        self.source, self.steps, self.part = source, steps, part

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            rows = self.source.rows(step)
            yield [(step, place, int(rows[place])) for place in range(len(rows))[self.part]]

    def __len__(self) -> int:
        return len(self.steps)


def told(problem: MediaError) -> None:
    tqdm.write(f"left out: {problem}", file=sys.stderr)


def _alone(worker: int) -> None:
    torch.set_num_threads(1)  # the workers are as many as the cores
