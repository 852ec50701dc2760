"""Batches from pair tables: what step n sees depends on the seed and on n alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from xsearch.errors import MediaError, Unreadable
from xsearch.models.config import TOWER_OF
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.augment import mask_mels, vary
from xsearch.train.recipe import Bind

__all__ = ["Batch", "TableBatches"]

Key = tuple[int, int, int]  # step, place in the batch, row


@dataclass(frozen=True)
class Batch:
    """Rows i of both belong together."""

    pictures: Tensor  # float32 [B, 3, size, size]; or what the resting tower made of them, [B, E]
    partners: Tensor  # the input of the other tower, [B, ...]
    labels: Tensor | None = None  # int64 [B]: rows of one label are right answers for each other


class TableBatches(Dataset[dict[str, Tensor]]):
    """The pairs of one modality.

    pictures: float32 [N, E], embeddings to give in place of the pictures.
    """

    def __init__(
        self,
        pairs: Pairs,
        bind: Bind,
        preprocess: Preprocess,
        *,
        seed: int,
        pictures: np.ndarray | None = None,
    ) -> None:
        self.pairs, self.bind, self.preprocess = pairs, bind, preprocess
        self.seed, self.pictures = seed, pictures
        self.batch = min(bind.batch, len(pairs))
        names = [label for label in pairs.labels.tolist() if label]
        self.codes: np.ndarray | None = None  # int64 [N]; a row without a label has one of its own
        if names:
            known = {name: code for code, name in enumerate(sorted(set(names)))}
            own = len(known) + np.arange(len(pairs))
            self.codes = np.array(
                [known.get(name, own[row]) for row, name in enumerate(pairs.labels.tolist())]
            )

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return len(self.pairs) // self.batch

    def rows(self, step: int) -> np.ndarray:
        """int64 [batch]: those of a step. At most once in an epoch; or, balanced, all labels as often."""
        B, N = self.batch, len(self.pairs)
        weights = self.pairs.weights
        rng = np.random.default_rng([self.seed, step])
        if self.bind.balanced and self.codes is not None:
            _, codes = np.unique(self.codes, return_inverse=True)
            classes = codes.max() + 1
            chosen = np.concatenate([rng.permutation(classes) for _ in range(-(-B // classes))])[:B]
            order = np.argsort(codes, kind="stable")
            ends = np.cumsum(np.bincount(codes))
            starts = np.r_[0, ends[:-1]]
            return order[rng.integers(starts[chosen], ends[chosen])]
        if (weights != weights[0]).any():
            return rng.choice(N, B, p=weights / weights.sum())
        epoch, number = divmod(step, self.steps)
        order = np.random.default_rng([self.seed, epoch]).permutation(N)
        return order[number * B : (number + 1) * B]

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """What is left out because it cannot be decoded is told, and the next row stands in for it."""
        step, place, row = key
        for stand_in in range(row, row + len(self)):
            try:
                return self._made(step, place, stand_in % len(self))
            except MediaError as problem:
                tqdm.write(f"left out: {problem}", file=sys.stderr)
        raise Unreadable(f"{self.pairs.path}: no row can be decoded")

    def _made(self, step: int, place: int, row: int) -> dict[str, Tensor]:
        pair, rng = self.pairs[row], np.random.default_rng([self.seed, step, place])
        picture = None if self.pictures is not None else pair.picture()
        picture, partner = vary(picture, pair.partner(), self.bind, rng)
        x = self.preprocess([partner])[0]
        if TOWER_OF[partner.modality] == "audio":
            x = x[np.sort(rng.permutation(len(x))[: self.bind.clips])]
            x = mask_mels(x, rng) if self.bind.other else x
        if picture is None:
            assert self.pictures is not None
            shown = torch.from_numpy(self.pictures[row])
        else:
            shown = self.preprocess([picture])[0]
        return {"pictures": shown, "partners": x, "rows": torch.tensor(row)}

    def batches(self, first: int, last: int, *, part: slice, workers: int = 0) -> Iterator[Batch]:
        """Those of steps first..last-1; `part` of each batch's rows: that of this process."""
        loader = DataLoader(
            self,
            batch_sampler=_Steps(self, range(first, last), part),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_alone if workers else None,
        )
        for made in loader:
            labels = None if self.codes is None else torch.from_numpy(self.codes)[made["rows"]]
            yield Batch(made["pictures"], made["partners"], labels)

    def __len__(self) -> int:
        return len(self.pairs)


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


def _alone(worker: int) -> None:
    torch.set_num_threads(1)  # the workers are as many as the cores
