"""Batches from pair tables: step n of a stage depends on the seed and on n alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from xsearch.errors import MediaError, Unreadable, UsageError
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.augment import augment
from xsearch.train.labels import codes_of, same, vocabulary
from xsearch.train.mixing import mixed
from xsearch.train.pictures import Pictures
from xsearch.train.recipe import Bind
from xsearch.train.sounds import mask_mels
from xsearch.train.texts import Texts
from xsearch.types import Modality, Sample

__all__ = ["Batch", "TableBatches", "report_skipped"]

Key = tuple[int, int, int]  # step, place in the batch, row


@dataclass(frozen=True)
class Batch:
    """Tower inputs of B pairs."""

    pictures: Tensor  # float32 [B, 3, size, size]; or embeddings of the frozen vision tower, [B, E]
    partners: Tensor  # input of the partners' tower, [C, ...]; C is B, or more for texts
    labels: Tensor  # int64 [B, M]: codes of the pictures; a partner that shares one is a positive
    names: Tensor | None = None  # int64 [C, L]: codes of the partners; None: as the pictures
    kept: Tensor | None = None  # float32 [B]: of each picture; the rest is its neighbour's, see `mixing`

    def target(self, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """float32 [B, C]: the weight of each partner for each picture.

        gather: the rows of all processes; B and C are theirs.
        """
        labels = gather(self.labels)
        names = labels if self.names is None else gather(self.names)
        right = same(labels, names).float()
        if self.kept is None:
            return right
        right = F.normalize(right, p=1, dim=1)
        neighbours = right.unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
        return torch.lerp(neighbours, right, gather(self.kept)[:, None])


class TableBatches:
    """The pairs of one modality, a batch for each step.

    seed: of the stage. processes: number of processes that share a batch. pictures: of all rows, decoded; or
    float32 [N, E], embeddings in their place; None: to be decoded. Raises UsageError if there are too few
    pairs, or no labels to balance.
    """

    def __init__(
        self,
        pairs: Pairs,
        bind: Bind,
        preprocess: Preprocess,
        *,
        seed: list[int],
        processes: int = 1,
        pictures: Pictures | np.ndarray | None = None,
    ) -> None:
        self.pairs, self.bind, self.seed = pairs, bind, seed
        decoded = pictures if isinstance(pictures, Pictures) else None
        self.vectors = pictures if isinstance(pictures, np.ndarray) else None
        self._mixes = bind.mix > 0 and self.vectors is None
        shared = processes * (2 if self._mixes else 1)  # neighbours stay together
        self.batch = min(bind.batch, len(pairs)) // shared * shared
        self._further = bind.texts // processes * processes
        labels = pairs.labels.tolist()
        self.codes = codes_of(labels, vocabulary(labels))  # int64 [N, M]
        if not self.batch:
            raise UsageError(f"{pairs.path}: {len(pairs)} pairs are too few for {processes} processes")
        if bind.balanced and not any(labels):
            raise UsageError(f"{pairs.path}: no labels to balance; add labels, or set balanced = false")
        self._texts = None
        if preprocess.tokenizer is not None and set(pairs.modalities.tolist()) == {Modality.TEXT}:
            self._texts = Texts(pairs, preprocess.tokenizer, self.codes)
            self.codes = self._texts.codes
        self._items = _Items(
            pairs,
            bind,
            preprocess,
            seed,
            decoded,
            with_picture=self.vectors is None,
            with_partner=self._texts is None,
        )
        self._permuted = lru_cache(maxsize=2)(self._permute)

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return max(int(len(self.pairs) * self.bind.replicate) // self.batch, 1)

    def rows(self, step: int) -> np.ndarray:
        """int64 [batch], the rows of a step: random permutations of all, one after the other; or drawn by
        weight, where weights differ; or balanced over the labels."""
        B, N = self.batch, len(self.pairs)
        rng = np.random.default_rng([*self.seed, step])
        if self.bind.balanced:
            order, starts, ends = self._classes
            rounds = -(-B // len(starts))
            classes = np.concatenate([rng.permutation(len(starts)) for _ in range(rounds)])[:B]
            return order[rng.integers(starts[classes], ends[classes])]
        if self._cumulative is not None:
            return np.searchsorted(self._cumulative, rng.random(B), side="right").clip(max=N - 1)
        at = np.arange(step * B, (step + 1) * B)
        passes = range(at[0] // N, at[-1] // N + 1)
        return np.concatenate([self._permuted(each)[at[at // N == each] % N] for each in passes])

    def batches(self, first: int, last: int, *, part: slice, workers: int = 0) -> Iterator[Batch]:
        """The batches of steps first..last-1. part: the rows of each batch that are local to this process."""
        loader = DataLoader(
            self._items,
            batch_sampler=_Steps(self, range(first, last), part),
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            worker_init_fn=_single_thread if workers else None,
        )
        for step, items in zip(range(first, last), loader, strict=True):
            rng = np.random.default_rng([*self.seed, step, 1])
            rows = items["rows"].numpy()
            pictures = items["pictures"] if self.vectors is None else torch.from_numpy(self.vectors[rows])
            labels, names, kept = torch.from_numpy(self.codes[rows]), None, None
            if self._mixes:
                draws = rng.random((self.batch // 2, 5))[part.start // 2 : part.stop // 2]
                pictures, kept = mixed(pictures, draws, self.bind.mix)
            if self._texts is None:
                partners = items["partners"]
            else:
                draws, further = rng.random(self.batch)[part], rng.random(self._further)
                bounds = (at * self._further // self.batch for at in (part.start, part.stop))
                partners, codes = self._texts.choose(rows, draws, further[slice(*bounds)])
                names = torch.from_numpy(codes)
            yield Batch(pictures, partners, labels, names, kept)

    def _permute(self, number: int) -> np.ndarray:
        return np.random.default_rng([*self.seed, number, 0]).permutation(len(self.pairs))

    @cached_property
    def _classes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rows ordered by their first label, and the bounds of each label among them."""
        _, codes = np.unique(self.codes[:, 0], return_inverse=True)
        ends = np.cumsum(np.bincount(codes))
        return np.argsort(codes, kind="stable"), np.r_[0, ends[:-1]], ends

    @cached_property
    def _cumulative(self) -> np.ndarray | None:
        """float64 [N]: cumulative weights, normalised to 1; None if all are equal."""
        weights = self.pairs.weights
        return None if (weights == weights[0]).all() else np.cumsum(weights / weights.sum())


class _Items(Dataset[dict[str, Tensor]]):
    """Pairs, decoded, augmented and preprocessed; pickled to the workers."""

    def __init__(
        self,
        pairs: Pairs,
        bind: Bind,
        preprocess: Preprocess,
        seed: list[int],
        decoded: Pictures | None,
        *,
        with_picture: bool,
        with_partner: bool,
    ) -> None:
        self.pairs, self.bind, self.preprocess, self.seed = pairs, bind, preprocess, seed
        self.decoded, self.with_picture, self.with_partner = decoded, with_picture, with_partner

    def __getitem__(self, key: Key) -> dict[str, Tensor]:
        """A row that cannot be decoded is reported, and replaced by the next one."""
        step, place, row = key
        for candidate in range(row, row + len(self.pairs)):
            at = candidate % len(self.pairs)
            rng = np.random.default_rng([*self.seed, step, place])
            try:
                return self._inputs(at, rng) | {"rows": torch.tensor(at)}
            except MediaError as error:
                report_skipped(error)
        raise Unreadable(f"{self.pairs.path}: no row can be decoded")

    def _inputs(self, at: int, rng: np.random.Generator) -> dict[str, Tensor]:
        picture = partner = None
        if self.with_picture and self.decoded is not None:
            picture = Sample(Modality.IMAGE, self.decoded[at])
        elif self.with_picture:
            picture = self.pairs[at].picture()
        if self.with_partner:
            partner = self._with_focal(self.pairs[at].partner())
        picture, partner = augment(picture, partner, self.bind, rng)
        inputs = {}
        if partner is not None:
            x = self.preprocess([partner])[0]
            if partner.modality == Modality.AUDIO:
                x = x[np.sort(rng.permutation(len(x))[: self.bind.clips])]
                x = mask_mels(x, rng) if self.bind.other else x
            inputs["partners"] = x
        if picture is not None:
            inputs["pictures"] = self.preprocess([picture])[0]
        return inputs

    def _with_focal(self, sample: Sample) -> Sample:
        """Set the default focal length of a depth map, which depends on its size, before it is cropped."""
        if sample.modality != Modality.DEPTH or sample.focal_px:
            return sample
        return replace(sample, focal_px=self.preprocess.settings.depth_focal * max(sample.data.shape))


class _Steps(Sampler[list[Key]]):
    """Yields the keys of each step."""

    def __init__(self, source: TableBatches, steps: range, part: slice) -> None:
        self.source, self.steps, self.part = source, steps, part

    def __iter__(self) -> Iterator[list[Key]]:
        for step in self.steps:
            rows = self.source.rows(step)
            yield [(step, place, int(rows[place])) for place in range(len(rows))[self.part]]

    def __len__(self) -> int:
        return len(self.steps)


def report_skipped(error: MediaError) -> None:
    """Print on stderr that a row was left out, above any progress bar."""
    tqdm.write(f"left out: {error}", file=sys.stderr)


def _single_thread(worker: int) -> None:
    torch.set_num_threads(1)  # there are as many workers as cores
