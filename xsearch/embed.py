"""Samples of any kind -> unit vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from xsearch.errors import UsageError
from xsearch.models.checkpoint import load_config, load_tower
from xsearch.models.config import TOWER_OF
from xsearch.models.imagebind import Tower
from xsearch.models.registry import resolve
from xsearch.models.tokenizer import Tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.types import Modality, ModelStamp, Sample

__all__ = ["Embedder", "ModelEmbedder"]

_BATCH = {Modality.VIDEO: 4, Modality.AUDIO: 16}  # these have several clips each
_BATCH_DEFAULT = 32


class Embedder(Protocol):
    """What ingest and search need of a model."""

    @property
    def stamp(self) -> ModelStamp: ...

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        """Any mix of modalities -> float32 [N, dim], rows of length 1 in the order of `samples`."""
        ...


class ModelEmbedder:
    """A model folder at work. A tower is read when its first sample comes, and then kept."""

    def __init__(self, folder: Path, *, device: str = "auto") -> None:
        self.folder = folder
        self.config, digest = load_config(folder)
        self.device = _device(device)
        self.stamp = ModelStamp(
            name=self.config.name,
            digest=digest,
            preprocessing=self.config.preprocessing.stamp,
            dim=self.config.embed_dim,
        )
        self._preprocess = Preprocess(self.config)
        self._towers: dict[str, Tower] = {}

    @staticmethod
    def load(choice: str | None = None, device: str = "auto") -> ModelEmbedder:
        """The model that `resolve(choice)` names; device "auto" is CUDA where there is one."""
        return ModelEmbedder(resolve(choice).folder, device=device)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        rows: dict[Modality, list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            rows[sample.modality].append(row)
        vectors = np.empty((len(samples), self.config.embed_dim), np.float32)
        for modality, of_kind in rows.items():
            size = _BATCH.get(modality, _BATCH_DEFAULT)
            for first in range(0, len(of_kind), size):
                batch = of_kind[first : first + size]
                vectors[batch] = self._embed(modality, [samples[row] for row in batch])
        return vectors

    @torch.inference_mode()
    def _embed(self, modality: Modality, samples: Sequence[Sample]) -> np.ndarray:
        tower = self._tower(TOWER_OF[modality])
        return tower(self._preprocess(samples).to(self.device)).float().cpu().numpy()

    def _tower(self, name: str) -> Tower:
        if name not in self._towers:
            if name == "text":
                self._preprocess.tokenizer = Tokenizer.load(
                    self.folder / "tokenizer.json",
                    context=self.config.text.context,
                    cleaning=self.config.preprocessing.text_cleaning,
                )
            self._towers[name] = load_tower(self.folder, name, self.config).to(self.device)
        return self._towers[name]


def _device(wanted: str) -> torch.device:
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=wanted).device
    except (AssertionError, RuntimeError) as error:  # what torch raises without CUDA, or for a wrong name
        raise UsageError(f"cannot use device {wanted!r}: {str(error).splitlines()[0]}") from error
