"""One loaded model for all requests and collections, which embeds together what requests bring together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property, partial
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from xsearch.serve.batching import Together
from xsearch.serve.recent import Recent
from xsearch.types import Fingerprint, Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend, Capabilities
    from xsearch.locate import Locator

__all__ = ["Models", "SharedBackend"]

TEXTS = 4096  # whose vectors are kept: 16 MB of 1024 dimensions
LONG = 1000  # letters of a text that is not kept


class SharedBackend:
    """A backend that is loaded on first use; texts are embedded once.

    load: returns the model with this fingerprint.
    """

    def __init__(self, fingerprint: Fingerprint, load: Callable[[], Backend]) -> None:
        self.fingerprint = fingerprint
        self.texts: Recent[tuple[str, Modality | None], np.ndarray] = Recent(TEXTS)
        self.embedded = self.calls = 0  # samples, and calls of the model for them
        self._load, self._lock = load, Lock()
        self._loaded: Backend | None = None
        self._together: dict[tuple[Modality, Modality | None], Together[Sample, np.ndarray]] = {}

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def model(self) -> Backend:
        """The model, loaded once. Raises ModelError."""
        if self._loaded is None:
            with self._lock:
                if self._loaded is None:
                    self._loaded = self._load()
        return self._loaded

    @cached_property
    def locator(self) -> Locator:
        """What locates queries in pictures. Raises ModelError, and UsageError for a model that cannot."""
        from xsearch.locate import Locator

        return Locator(self.model)

    def capabilities(self) -> Capabilities:
        return self.model.capabilities()

    def windows(self, text: str) -> Iterator[str]:
        return self.model.windows(text)

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        return self.embed_query(samples)

    def embed_query(self, samples: Sequence[Sample], target: Modality | None = None) -> np.ndarray:
        """As the model does, together with samples of the same kind that other threads bring meanwhile.

        Which these are moves a vector by rounding: of the bundled model in fp32 by less than 2e-7 in each
        number, to a cosine above 1 - 1e-12 with that of the sample alone, as `model` embeds it.
        """
        vectors: list[np.ndarray | None] = [self._known(sample, target) for sample in samples]
        for kind in dict.fromkeys(sample.modality for sample in samples):
            rows = [
                row for row, sample in enumerate(samples) if sample.modality is kind and vectors[row] is None
            ]
            together = self._together.setdefault(
                (kind, target),
                Together(partial(self._embed, target=target), getattr(self.model, "parallel", 1)),
            )
            for row, vector in zip(rows, together([samples[row] for row in rows]), strict=True):
                vectors[row] = vector
                if kind is Modality.TEXT and len(samples[row].data) <= LONG:
                    self.texts.put((samples[row].data, target), vector)
        return np.stack([vector for vector in vectors if vector is not None])

    def _known(self, sample: Sample, target: Modality | None) -> np.ndarray | None:
        return self.texts.get((sample.data, target)) if sample.modality is Modality.TEXT else None

    def _embed(self, samples: list[Sample], target: Modality | None) -> list[np.ndarray]:
        self.calls += 1
        self.embedded += len(samples)
        return list(self.model.embed_query(samples, target))


class Models:
    """The models of all collections that are served, by fingerprint."""

    def __init__(self) -> None:
        self._backends: dict[Fingerprint, SharedBackend] = {}

    def of(self, fingerprint: Fingerprint, load: Callable[[], Backend]) -> SharedBackend:
        return self._backends.setdefault(fingerprint, SharedBackend(fingerprint, load))

    def __iter__(self) -> Iterator[SharedBackend]:
        return iter(list(self._backends.values()))
