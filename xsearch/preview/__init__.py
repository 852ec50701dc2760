"""Previews of hits, items and samples: images, SVG, audio or text, as bytes with a MIME type.

    sample = load(hit)  # the window, decoded once
    waveform(sample), spectrogram(sample), sound(sample)

Every function also accepts what `load` accepts. What cannot be read or drawn raises MediaError with a message
without the path, for display in place of the item.
"""

from xsearch.preview.markdown import is_markdown, plain
from xsearch.preview.marks import marked
from xsearch.preview.preview import (
    Preview,
    legend,
    playable,
    plot,
    sound,
    spectrogram,
    text,
    thumbnail,
    waveform,
)
from xsearch.preview.window import Item, Piece, check, load

__all__ = [
    "Item",
    "Piece",
    "Preview",
    "check",
    "is_markdown",
    "legend",
    "load",
    "marked",
    "plain",
    "playable",
    "plot",
    "sound",
    "spectrogram",
    "text",
    "thumbnail",
    "waveform",
]
