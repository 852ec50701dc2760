"""Sound files and sound tracks: decoders, chained files, and the windows of mono that models take."""

from xsearch.media.audio.audio import SILENCE, read, track

__all__ = ["SILENCE", "read", "track"]
