"""A model by itself: vectors of media without a collection.

model = xsearch.load_model("bundled")
vectors = model.embed(["a dog", Path("dog.jpg"), xsearch.audio("dog.wav")])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from xsearch.backend import Backend, Scaling, load_backend
from xsearch.errors import UsageError
from xsearch.query import Query, embed, parse_each, read, readable

if TYPE_CHECKING:
    from xsearch.generate import Decoder, Drawn

__all__ = ["Model", "load_model"]


def load_model(model: str | None = None, *, device: str = "auto", dtype: str = "auto") -> Model:
    """Load a model: "bundled", "imagebind", a folder, or None for the best that is installed.

    device, dtype: what it computes on and with, such as "cuda" and "bf16"; "auto" takes the fastest.
    Raises ModelError where it is not there.
    """
    return Model(load_backend(model, device=device, dtype=dtype))


class Model:
    """Media of any kind -> vectors of one space. Safe to share between threads."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    def embed(self, media: Sequence[str | Path | Query], *, scaling: Scaling = "unit") -> np.ndarray:
        """Vectors float32 [N, dim], in the order of `media`.

        media: texts, paths, URLs, or queries such as `xsearch.image(pixels)` and sums of them. Of a recording
        of several windows, the mean direction.
        scaling: "unit": rows of length 1. "official": the length of the official code's outputs (vision 1,
        text 14.3, audio at most 20, depth 5, thermal 10, IMU 5), for a softmax over products, or a decoder.
        Raises UsageError for a file of unknown kind, and for a weighted query with official scaling;
        MediaError for a file that cannot be read.
        """
        if scaling not in get_args(Scaling):
            raise UsageError(f"scaling: expected {' or '.join(get_args(Scaling))}, got {scaling!r}")
        queries = parse_each(media)
        if not queries:
            return np.empty((0, self.backend.fingerprint.dim), np.float32)
        if scaling == "unit":
            return np.stack([query.vector for query in embed(queries, self.backend, anyway=True)])
        if (official := getattr(self.backend, "embed_official", None)) is None:
            raise UsageError(f"{self.backend.fingerprint.name} has no official scaling; leave it at unit")
        rows = []
        for query in queries:
            if len(query.parts) != 1 or query.parts[0].weight != 1:
                raise UsageError(f"{query!r}: a weighted query has no official scaling; leave it at unit")
            rows.append(official(readable(read(query.parts[0]), self.backend)).mean(axis=0))
        return np.stack(rows)

    def generate(
        self,
        query: str | Path | Query,
        *,
        decoder: Decoder | str | Path | None = None,
        anyway: bool = False,
        **settings: Any,
    ) -> list[Drawn]:
        """Draw pictures of what a query means; see `Collection.generate`."""
        from xsearch.generate import draw, load_decoder

        artist = load_decoder(decoder, device=self.backend.capabilities().device)
        artist.check(self.backend.fingerprint)
        (embedded,) = embed(parse_each([query]), self.backend, anyway=anyway)
        return draw(embedded, artist, self.backend, **settings)
