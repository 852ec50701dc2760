"""Samples of any kind -> unit vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from xsearch.errors import UsageError
from xsearch.models.checkpoint import load_config, load_tower
from xsearch.models.config import TOWER_OF
from xsearch.models.imagebind import Tower
from xsearch.models.precision import precision
from xsearch.models.registry import resolve
from xsearch.models.tokenizer import Tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.models.vocabulary import unlearned
from xsearch.types import Modality, ModelStamp, Sample

__all__ = ["Embedder", "ModelEmbedder", "in_parts"]

_BATCH = {Modality.VIDEO: 4, Modality.AUDIO: 16}  # these have several clips each
_BATCH_DEFAULT = 32
_GPU_BATCHES = 8  # times as many on a GPU, or as many of them as fit


class Embedder(Protocol):
    """What ingest and search need of a model."""

    @property
    def stamp(self) -> ModelStamp: ...

    @property
    def picture_side(self) -> int | None:
        """Pixels of the square that it makes of a picture, if it looks at nothing else of it."""
        ...

    def use_threads(self, count: int) -> None:
        """Leave the other cores to somebody else."""
        ...

    @property
    def line(self) -> str:
        """How it computes, for people."""
        ...

    def unlearned(self, text: str) -> list[str]:
        """Words that it cannot know the meaning of, as far as that can be told."""
        ...

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        """Any mix of modalities -> float32 [N, dim], rows of length 1 in the order of `samples`."""
        ...


class ModelEmbedder:
    """A model folder at work. A tower is read when its first sample comes, and then kept."""

    def __init__(self, folder: Path, *, device: str = "auto", dtype: str = "auto") -> None:
        """device: a name of torch's, or "auto": CUDA where there is one. dtype: see `models.precision`."""
        self.folder = folder
        self.config, digest = load_config(folder)
        self.device = _device(device)
        self.dtype, self.line = precision(dtype, self.device, self.config)
        self.stamp = ModelStamp(
            name=self.config.name,
            digest=digest,
            preprocessing=self.config.preprocessing.stamp,
            dim=self.config.embed_dim,
        )
        self.picture_side: int | None = self.config.vision.image_size
        self.preprocess = Preprocess(self.config)
        self._threads = torch.get_num_threads()
        self._towers: dict[str, Tower] = {}

    @staticmethod
    def load(choice: str | None = None, device: str = "auto", dtype: str = "auto") -> ModelEmbedder:
        """The model that `resolve(choice)` names."""
        return ModelEmbedder(resolve(choice).folder, device=device, dtype=dtype)

    @torch.inference_mode()
    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        rows: dict[Modality, list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            rows[sample.modality].append(row)
        vectors = np.empty((len(samples), self.config.embed_dim), np.float32)
        for modality, of_kind in rows.items():
            size = _BATCH.get(modality, _BATCH_DEFAULT)
            if self.device.type == "cuda":
                size *= _GPU_BATCHES
            for first in range(0, len(of_kind), size):
                batch = of_kind[first : first + size]
                tower = self.tower(TOWER_OF[modality])
                x = self.move(self.preprocess([samples[row] for row in batch]))
                vectors[batch] = in_parts(tower, x).float().cpu().numpy()
        return vectors

    def unlearned(self, text: str) -> list[str]:
        return unlearned(text, self.folder)

    def use_threads(self, count: int) -> None:
        torch.set_num_threads(min(count, self._threads))

    def move(self, x: Tensor) -> Tensor:
        """A batch as the towers take it: on the device, numbers in the type that they compute with."""
        return x.to(self.device, self.dtype if x.is_floating_point() else None)

    def tower(self, name: str) -> Tower:
        """One of TOWERS, read from its file when first asked for."""
        if name not in self._towers:
            if name == "text":
                self.preprocess.tokenizer = Tokenizer.load(
                    self.folder / "tokenizer.json",
                    context=self.config.text.context,
                    cleaning=self.config.preprocessing.text_cleaning,
                )
            tower = load_tower(self.folder, name, self.config, dtype=self.dtype)
            self._towers[name] = tower.to(self.device)
        return self._towers[name]


def in_parts(tower: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """tower(x), in halves of the batch, and halves of those, as far as the device's memory asks for it."""
    try:
        return tower(x)
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
    torch.cuda.empty_cache()  # out here, where the exception no longer holds what was computed
    return torch.cat([in_parts(tower, half) for half in x.chunk(2)])


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (AssertionError, RuntimeError) as error:  # what torch raises without CUDA, or for a wrong name
        raise UsageError(f"cannot use device {wanted!r}: {str(error).splitlines()[0]}") from error
