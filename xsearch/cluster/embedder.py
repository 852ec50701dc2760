"""Embedders: replicas of a model, and the backend that has queries embedded by them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.types import Fingerprint, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend, Capabilities

__all__ = ["Embedder", "Replicated"]


class Embedder:
    """A replica: the model, ready for texts. May be shared by threads.

    Samples of different calls are not embedded together: the server batches what its requests bring, and what
    has to be to the last digit what it is elsewhere comes alone.
    """

    def __init__(self, backend: bytes, environment: Mapping[str, str]) -> None:
        """backend: pickled. Raises ModelError."""
        os.environ.update(environment)
        self._backend: Backend = pickle.loads(backend)
        self.warm([Modality.TEXT])

    def warm(self, kinds: list[Modality]) -> None:
        """Load what samples of these kinds need."""
        if (load := getattr(self._backend, "warm", None)) is not None:
            load(kinds)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        return self._backend.embed(samples)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None) -> np.ndarray:
        return self._backend.embed_query(samples, target)


class Replicated:
    """A backend whose samples are embedded elsewhere; all else is that of `local`, which loads no tower."""

    def __init__(
        self, local: Backend, call: Callable[..., Any], every: Callable[..., Any], parallel: int
    ) -> None:
        """call: calls a method of some embedder. every: of all of them. parallel: how many there are."""
        self._local, self._call, self._every = local, call, every
        self.parallel = parallel

    def __getattr__(self, name: str) -> Any:
        return getattr(self._local, name)

    @property
    def fingerprint(self) -> Fingerprint:
        return self._local.fingerprint

    def capabilities(self) -> Capabilities:
        return self._local.capabilities()

    def windows(self, text: str) -> Iterator[str]:
        return self._local.windows(text)

    def warm(self, kinds: list[Modality]) -> None:
        """Load what samples of these kinds need, in all embedders that run."""
        self._every("warm", kinds)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        return np.asarray(self._call("embed", samples))

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return np.asarray(self._call("embed_query", samples, target))
