"""What a decoder is: its sizes, the model whose vectors it draws, and its default settings."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import ConfigDict, Field, NonNegativeFloat, model_validator
from pydantic.dataclasses import dataclass

from xsearch.types import Modality

__all__ = ["MAX_CANDIDATES", "MAX_NOISE", "MAX_STEPS", "Crossing", "DecoderConfig"]

MAX_NOISE = 1.5  # relative to the vector: a cosine of 0.55 with it, about that of a sound and its picture
MAX_STEPS = 1000
MAX_CANDIDATES = 64
STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)
Size = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Crossing:
    """How vectors of one kind cross the gap between that kind and pictures.

    shift: add the difference between the means of pictures and of the kind (C3, arXiv:2401.08567).
    noise: the level of noise that the decoder takes the vector to have, 0 to MAX_NOISE.
    prior: share of the nearest pictures of the collection in the vector.
    """

    shift: bool = False
    noise: Annotated[float, Field(ge=0, le=MAX_NOISE)] = 0.0
    prior: Annotated[float, Field(ge=0, le=1)] = 0.0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoderConfig:
    model: str  # name of the model whose vectors it draws
    digest: str  # sha256 of that model
    dim: Size  # of the vectors
    side: Size = 64  # pixels of the pictures
    patch: Size = 8  # pixels
    width: Size = 256
    depth: Size = 6
    heads: Size = 4
    tokens: Size = 4  # of the vector
    steps: Annotated[int, Field(ge=1, le=MAX_STEPS)] = 10
    guidance: NonNegativeFloat = 3.5
    candidates: Annotated[int, Field(ge=1, le=MAX_CANDIDATES)] = 4  # of which one is kept
    crossings: dict[Modality, Crossing] = field(default_factory=dict)

    @model_validator(mode="after")
    def _check(self) -> DecoderConfig:
        if self.side % self.patch or self.width % self.heads or self.width % 4:
            raise ValueError("side is no multiple of patch, or width none of heads and of 4")
        return self
