"""A hit, an item or a sample -> a picture, a drawing, a sound or a text: bytes and their MIME type.

    sample = load(hit)  # the window, decoded once
    waveform(sample), spectrogram(sample), sound(sample)

Every function takes what `load` takes, so one preview needs no `load`. What cannot be read or drawn is a
MediaError whose text is the reason alone, to be shown in the place of the item.
"""

from xsearch.preview.preview import Preview, plot, sound, spectrogram, text, thumbnail, waveform
from xsearch.preview.window import Item, Piece, load

__all__ = [
    "Item",
    "Piece",
    "Preview",
    "load",
    "plot",
    "sound",
    "spectrogram",
    "text",
    "thumbnail",
    "waveform",
]
