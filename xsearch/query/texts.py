"""Texts as a model with a closed vocabulary reads them: in windows, without words it has not learned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from xsearch.errors import UnknownWords
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = ["Reading", "knows", "read_text", "readable", "unknown_words"]

NAMED = 5  # words of a text for which known words are looked up, and known words that are named


class Reading(NamedTuple):
    """A text as it is embedded."""

    samples: list[Sample]  # `readable`
    left_out: list[str]  # words that are not read
    is_unread: bool  # the model has learned none of its words, and reads them all


def knows(backend: Backend, text: str) -> bool:
    """Whether the model has learned any word of a text, so that its vector says something."""
    vocabulary = backend.capabilities().vocabulary
    return vocabulary is None or vocabulary.unknown_share(text) < 1


def read_text(samples: Sequence[Sample], backend: Backend, *, anyway: bool) -> Reading:
    """Read a text. Raises UnknownWords if the model has learned none of its words, unless `anyway`."""
    vocabulary = backend.capabilities().vocabulary
    if vocabulary is None:
        return Reading(readable(samples, backend), [], is_unread=False)
    text = "\n".join(sample.data for sample in samples)
    words, is_unread = vocabulary.unknown(text), not knows(backend, text)
    if anyway or not is_unread:
        return Reading(readable(samples, backend), [] if is_unread else words, is_unread)
    raise unknown_words(text, backend)


def unknown_words(text: str, backend: Backend) -> UnknownWords:
    """The exception for a text of which the model has learned no word, with similar words that it knows."""
    vocabulary = backend.capabilities().vocabulary
    assert vocabulary is not None
    words = vocabulary.unknown(text)
    near = dict.fromkeys(near for word in words[:NAMED] for near in vocabulary.near(word))
    return UnknownWords(text, words=words, near=list(near)[:NAMED], model=backend.fingerprint.name)


def readable(samples: Sequence[Sample], backend: Backend) -> list[Sample]:
    """Samples that the model reads whole: of a long text its windows, without those of unknown words only."""
    if samples[0].modality is not Modality.TEXT:
        return list(samples)
    texts = [text for sample in samples for text in backend.windows(sample.data)]
    if len(texts) > 1:
        texts = [text for text in texts if knows(backend, text)] or texts
    return [Sample(Modality.TEXT, text, text=text) for text in texts]
