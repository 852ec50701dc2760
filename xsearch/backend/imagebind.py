"""ImageBind's towers as a backend: samples of any kind -> unit vectors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xsearch.backend.protocol import Capabilities, Scaling
from xsearch.errors import UsageError
from xsearch.media import windows
from xsearch.models import (
    TOWER_OF,
    TOWERS,
    ImageBindConfig,
    Preprocess,
    Tokenizer,
    Tower,
    load_config,
    load_tower,
    resolve,
)
from xsearch.models.dense import dense_features
from xsearch.models.imagebind import VisionTower
from xsearch.models.precision import COMPUTED, is_wide, precision
from xsearch.models.vocabulary import Vocabulary
from xsearch.types import Fingerprint, Modality, Sample

__all__ = ["ImageBindBackend", "batch_size", "in_parts"]

_BATCH = 32  # samples
_BATCH_WIDE = 8  # of a wide model on a CPU, which takes seconds
_BATCH_CUDA = 256  # or as many of them as fit
_CLIPS = {Modality.VIDEO: 8, Modality.AUDIO: 2}  # how many samples one of these counts for
DEVICES = ("cpu", "cuda", "mps", "xpu")  # one of several as "cuda:1"


class ImageBindBackend:
    """A model folder at work. A tower is loaded when its first sample comes, and then kept.

    Safe to share between threads: a tower is loaded once, and embeds one batch at a time.
    """

    def __init__(self, folder: Path, *, device: str = "auto", dtype: str = "auto") -> None:
        """device: a torch device, or "auto": CUDA where there is one. dtype: see `models.precision`."""
        self.folder = folder
        self.config, digest = load_config(folder)
        self.device = _device(device)
        self.dtype = precision(dtype, self.device, self.config)
        self._batch = batch_size(self.device, self.config)
        self.fingerprint = Fingerprint(
            name=self.config.name,
            digest=digest,
            preprocessing=self.config.preprocessing.stamp,
            dim=self.config.embed_dim,
        )
        self.preprocess = Preprocess(self.config)
        self.vocabulary = Vocabulary.load(folder)
        self._requested = device, dtype
        self._towers: dict[str, Tower] = {}
        self._locks = {name: Lock() for name in TOWERS}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what loads it, so that another process chooses the device and reads the towers itself."""
        device, dtype = self._requested
        return partial(ImageBindBackend, device=device, dtype=dtype), (self.folder.absolute(),)

    def replicas(self, devices: Sequence[str] = ()) -> list[ImageBindBackend]:
        """The same model on these devices, each with towers of its own; see `loading.replicas`."""
        device, dtype = self._requested
        if not devices and device in ("auto", "cuda") and self.device.type == "cuda":
            devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        others = [ImageBindBackend(self.folder, device=each, dtype=dtype) for each in devices[1:]]
        if not devices or devices[0] == str(self.device):
            return [self, *others]
        return [ImageBindBackend(self.folder, device=devices[0], dtype=dtype), *others]

    @staticmethod
    def load(choice: str | None = None, device: str = "auto", dtype: str = "auto") -> ImageBindBackend:
        """The model that `resolve(choice)` names."""
        return ImageBindBackend(resolve(choice).folder, device=device, dtype=dtype)

    def capabilities(self) -> Capabilities:
        return Capabilities(
            modalities=tuple(Modality),
            dim=self.config.embed_dim,
            image_side=self.config.vision.image_size,
            vocabulary=self.vocabulary,
            device=str(self.device),
            dtype=next(name for name, dtype in COMPUTED.items() if dtype is self.dtype),
            batch=self._batch,
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the text tower, read on first use."""
        return Tokenizer.load(
            self.folder / "tokenizer.json",
            context=self.config.text.context,
            cleaning=self.config.preprocessing.text_cleaning,
            most=self.config.text.vocab,
        )

    def warm(self, modalities: Iterable[Modality] = tuple(Modality)) -> None:
        """Load the towers of these modalities now, not with their first sample."""
        for name in dict.fromkeys(TOWER_OF[modality] for modality in modalities):
            self.tower(name)

    def windows(self, text: str) -> Iterator[str]:
        """The pieces of a text that the text tower reads whole; unknown words take no room."""
        return windows(text, self._count, self.config.text.context - 2)  # without start and end

    def _count(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, as they are embedded."""
        known = self.vocabulary
        return self.tokenizer.count(texts if known is None else [known.reduce(text) for text in texts])

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        """Any mix of modalities -> float32 [N, dim], rows of length 1 in the order of `samples`."""
        return self._embed(samples, "unit")

    def embed_official(self, samples: Sequence[Sample]) -> np.ndarray:
        """The same as long as the official code makes them; see `Tower.official`."""
        return self._embed(samples, "official")

    @torch.inference_mode()
    def _embed(self, samples: Sequence[Sample], scaling: Scaling) -> np.ndarray:
        rows: dict[Modality, list[int]] = defaultdict(list)
        for row, sample in enumerate(samples):
            rows[sample.modality].append(row)
        vectors = np.empty((len(samples), self.config.embed_dim), np.float32)
        for modality, of_kind in rows.items():
            tower = self.tower(TOWER_OF[modality])
            forward = tower if scaling == "unit" else tower.official
            size = self._batch // _CLIPS.get(modality, 1)
            for first in range(0, len(of_kind), size):
                batch = of_kind[first : first + size]
                x = self.move(self.preprocess([self._readable(samples[row]) for row in batch]))
                with self._locks[TOWER_OF[modality]]:
                    vectors[batch] = in_parts(forward, x).float().cpu().numpy()
        return vectors

    def _readable(self, sample: Sample) -> Sample:
        """A text reduced to learned words, unchanged if it has none; other samples unchanged."""
        if sample.modality is not Modality.TEXT or self.vocabulary is None:
            return sample
        return replace(sample, data=self.vocabulary.reduce(sample.data) or sample.data)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        """The same as `embed`: one space serves all targets."""
        return self.embed(samples)

    @torch.inference_mode()
    def dense(self, pictures: Sequence[Sample]) -> np.ndarray:
        """Images -> float32 [N, h, w, dim], unit vectors of the patches; see `models.dense`."""
        tower = self.tower("vision")
        assert isinstance(tower, VisionTower)
        maps = []
        size = min(self._batch, _BATCH)  # a map has a vector for each patch
        for first in range(0, len(pictures), size):
            x = self.move(self.preprocess(pictures[first : first + size]))
            with self._locks["vision"]:
                maps.append(in_parts(partial(dense_features, tower), x).float().cpu().numpy())
        return np.concatenate(maps)

    def move(self, x: Tensor) -> Tensor:
        """A batch as the towers take it: on the device, numbers in their dtype, for int8 in float32."""
        dtype = torch.float32 if self.dtype is torch.int8 else self.dtype
        return x.to(self.device, dtype if x.is_floating_point() else None)

    def tower(self, name: str) -> Tower:
        """One of TOWERS, read from its file on first use."""
        if (tower := self._towers.get(name)) is not None:
            return tower  # without waiting for a batch that it embeds
        with self._locks[name]:
            if name not in self._towers:
                if name == "text":
                    self.preprocess.tokenizer = self.tokenizer
                tower = load_tower(self.folder, name, self.config, dtype=self.dtype)
                self._towers[name] = tower.to(self.device)
            return self._towers[name]


def batch_size(device: torch.device, config: ImageBindConfig) -> int:
    """How many samples are embedded at once, of which more are no faster."""
    if device.type == "cpu" and is_wide(config):
        return _BATCH_WIDE
    return _BATCH_CUDA if device.type == "cuda" else _BATCH


def in_parts(forward: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """forward(x), in halves of the batch, and halves of those, as far as the device's memory requires."""
    try:
        return forward(x)
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
    torch.cuda.empty_cache()  # out here, where the exception no longer holds what was computed
    return torch.cat([in_parts(forward, half) for half in x.chunk(2)])


def _device(requested: str) -> torch.device:
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    if requested.partition(":")[0] not in DEVICES:
        raise UsageError(f"cannot use device {requested!r}: expected auto, {', '.join(DEVICES)}")
    try:
        return torch.empty(0, device=requested).device
    except (AssertionError, RuntimeError) as error:  # what torch raises without CUDA, or for a wrong name
        raise UsageError(f"cannot use device {requested!r}: {str(error).splitlines()[0]}") from error
