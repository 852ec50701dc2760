"""Which backend: by name, by folder, or the one whose vectors a collection holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from xsearch.errors import ModelError, ModelMismatch
from xsearch.media import absolute
from xsearch.types import Fingerprint

if TYPE_CHECKING:
    from xsearch.backend.imagebind import ImageBindBackend
    from xsearch.backend.protocol import Backend

__all__ = ["full_name", "load_backend", "load_matching", "model_source", "replicas"]

NAMED = ("bundled", "imagebind")  # models that need no folder


def load_backend(model: str | None = None, *, device: str = "auto", dtype: str = "auto") -> ImageBindBackend:
    """The model of this name or folder. Raises ModelError where it is not there."""
    from xsearch.backend.imagebind import ImageBindBackend  # torch: a second that only embedding waits for

    return ImageBindBackend.load(model, device, dtype)


def load_matching(
    fingerprint: Fingerprint, source: str | None, *, device: str = "auto", dtype: str = "auto"
) -> ImageBindBackend:
    """The model of this fingerprint: at its source, the default one, or one with a name.

    Raises ModelMismatch where none of them is.
    """
    candidates = []
    for model in dict.fromkeys((source, None, *NAMED)):
        try:
            candidates.append(load_backend(model, device=device, dtype=dtype))
        except ModelError:
            continue
        if candidates[-1].fingerprint == fingerprint:
            return candidates[-1]
    names = dict.fromkeys(full_name(backend.fingerprint, fingerprint) for backend in candidates)
    stored = full_name(fingerprint, candidates[0].fingerprint) if candidates else fingerprint.name
    raise ModelMismatch(stored=stored, given=", ".join(names) or "none")


def replicas(backend: Backend, devices: Sequence[str] = ()) -> Sequence[Backend]:
    """The backend on these devices, by default where it is: on all GPUs, if it is on no particular one.

    Models that cannot be elsewhere stay alone.
    """
    make: Callable[[Sequence[str]], Sequence[Backend]] | None = getattr(backend, "replicas", None)
    return make(devices) if make else [backend]


def model_source(model: str | None) -> str:
    """The `--model` value that finds this model from everywhere."""
    from xsearch.models.registry import resolve  # torch

    choice = resolve(model)
    return choice.name if choice.name in NAMED else str(absolute(choice.folder))


def full_name(fingerprint: Fingerprint, other: Fingerprint) -> str:
    """The name, and where that is not what differs, what does."""
    if fingerprint.name != other.name:
        return fingerprint.name
    return f"{fingerprint.name} (weights {fingerprint.digest[:8]}, preprocessing {fingerprint.preprocessing})"
