"""Embedders: replicas of a model, and the backend that has queries embedded by them."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.types import Fingerprint, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend, Capabilities

__all__ = ["Embedder", "Replicated", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """Samples to embed. is_query: by `embed_query`."""

    samples: Sequence[Sample]
    target: Modality | None = None
    is_query: bool = False


class Embedder:
    """A replica: the model, which embeds together what several requests bring."""

    def __init__(self, backend: bytes, environment: Mapping[str, str]) -> None:
        """backend: pickled. Raises ModelError."""
        os.environ.update(environment)
        self._backend: Backend = pickle.loads(backend)

    def warm(self, kinds: list[Modality]) -> bool:
        """Load what samples of these kinds need; whether there is anything to load."""
        load = getattr(self._backend, "warm", None)
        if load is not None:
            load(kinds)
        return load is not None

    def each(self, requests: Sequence[Request]) -> list[np.ndarray]:
        """The vectors of each request: float32 [n, dim]."""
        results: dict[int, np.ndarray] = {}
        alike: dict[tuple[Modality | None, bool], list[int]] = {}
        for at, request in enumerate(requests):
            alike.setdefault((request.target, request.is_query), []).append(at)
        for (target, is_query), rows in alike.items():
            samples = [sample for at in rows for sample in requests[at].samples]
            embed = self._backend.embed if not is_query else partial(self._backend.embed_query, target=target)
            vectors = embed(samples)
            ends = np.cumsum([len(requests[at].samples) for at in rows])
            results |= zip(rows, np.split(vectors, ends[:-1]), strict=True)
        return [results[at] for at in range(len(requests))]

    async def batch(self, requests: list[Request]) -> list[np.ndarray]:
        """`each`, beside what else the replica does."""
        return await asyncio.to_thread(self.each, requests)


class Replicated:
    """A backend whose samples are embedded elsewhere; all else is that of `local`, which loads no tower."""

    def __init__(self, local: Backend, call: Callable[..., Any]) -> None:
        """call: a method of some replica."""
        self._local, self._call = local, call

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
        self._call("warm", kinds)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        return np.asarray(self._call("embed", Request(samples)))

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        return np.asarray(self._call("embed", Request(samples, target, is_query=True)))
