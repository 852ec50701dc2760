"""Sound files and sound tracks: decoders, chained files, and the windows of mono that models take."""

from xsearch.media.audio.audio import GAP_S, RESTARTED, SILENCE, read, track

__all__ = ["GAP_S", "RESTARTED", "SILENCE", "read", "track"]
