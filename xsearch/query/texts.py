"""Texts as a model with a closed vocabulary reads them: in windows, without words it has not learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from xsearch.errors import UnknownWords
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["knows", "readable", "unknown_words"]

NAMED = 5  # words of a text for which known words are looked up, and known words that are named


def knows(backend: Backend, text: str) -> bool:
    """Whether the model has learned any word of a text, so that its vector says something."""
    vocabulary = backend.capabilities().vocabulary
    return vocabulary is None or vocabulary.unknown_share(text) < 1


def unknown_words(samples: Sequence[Sample], backend: Backend, *, anyway: bool) -> list[str]:
    """The words of a text that are not read. Raises UnknownWords if those are all, unless `anyway`."""
    vocabulary = backend.capabilities().vocabulary
    text = "\n".join(sample.data for sample in samples)
    words = [] if vocabulary is None else vocabulary.unknown(text)
    if vocabulary is None or knows(backend, text):
        return words
    if anyway:
        return []  # all are read
    near = dict.fromkeys(near for word in words[:NAMED] for near in vocabulary.near(word))
    raise UnknownWords(text, words=words, near=list(near)[:NAMED], model=backend.fingerprint.name)


def readable(samples: Sequence[Sample], backend: Backend) -> list[Sample]:
    """Samples that the model reads whole: of a long text its windows, without those of unknown words only."""
    texts = [text for sample in samples for text in backend.windows(sample.data)]
    if len(texts) > 1:
        texts = [text for text in texts if knows(backend, text)] or texts
    return [Sample(Modality.TEXT, text, text=text) for text in texts]
