"""The seam between xsearch and a model: samples in, unit vectors out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from xsearch.types import Fingerprint, Modality, Sample

if TYPE_CHECKING:
    from xsearch.models.vocabulary import Vocabulary

__all__ = ["Backend", "Capabilities", "DenseBackend", "Scaling"]

Scaling = Literal["unit", "official"]


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend can do, and what it computes on and with."""

    modalities: tuple[Modality, ...]  # that it embeds
    dim: int
    image_side: int | None  # pixels of the square that an image is reduced to, if nothing else of it is used
    vocabulary: Vocabulary | None  # the words that it has learned; None: open
    device: str  # such as "cpu" or "cuda:1"
    dtype: str  # "fp32", "bf16", "fp16" or "int8"
    batch: int = 32  # samples of a kind per `embed`, of which more are no faster; at least 8: MIN_FAILURES


class Backend(Protocol):
    """A model at work. Safe to share between threads."""

    @property
    def fingerprint(self) -> Fingerprint:
        """Stored with a collection; vectors of different fingerprints are never compared."""
        ...

    def capabilities(self) -> Capabilities: ...

    def windows(self, text: str) -> Iterator[str]:
        """The pieces of a text that the model reads whole, as text samples; see `media.windows`."""
        ...

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        """Any mix of modalities -> float32 [N, dim], rows of length 1 in the order of `samples`."""
        ...

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        """Like `embed`, for samples that are searched with.

        target: the only modality that may answer, for models that embed a query differently for each.
        """
        ...


class DenseBackend(Backend, Protocol):
    """A model whose vision tower also says what is where."""

    def dense(self, pictures: Sequence[Sample]) -> np.ndarray:
        """Images -> float32 [N, h, w, dim]: unit vectors of the patches of their centre squares, by row.

        `embed` of the same pictures is what it would be without this call.
        """
        ...
