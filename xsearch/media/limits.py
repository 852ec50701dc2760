"""Limits on what one file may cost. Beyond one, a file is `TooLarge`, and the message names its setting.

Each is a variable of the environment, a whole number above 0; README.md lists them with their defaults.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from xsearch.errors import TooLarge, UsageError

__all__ = [
    "LIMITS",
    "MAX_CELLS",
    "MAX_CHANNELS",
    "MAX_COLUMNS",
    "MAX_DECODED_MB",
    "MAX_FRAME_PIXELS",
    "MAX_INDEX",
    "MAX_ITEMS",
    "MAX_MOTION_MB",
    "MAX_PIXELS",
    "MAX_RATE_HZ",
    "MAX_SCANS",
    "MAX_SIDECAR_COLUMNS",
    "MAX_SIDECAR_MB",
    "MAX_TABLE_MB",
    "MAX_TEXT_MB",
    "MIN_RATE_HZ",
    "Limit",
    "check_settings",
    "check_windows",
]

MB = 1 << 20
LEAST_WINDOW = 100  # bytes of 10 s: silence in FLAC takes 500


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit, its default, and what to do about a file beyond it."""

    setting: str
    default: int
    unit: str
    advice: str

    @property
    def value(self) -> int:
        """The limit in force. Raises UsageError if its setting is not a whole number above 0."""
        text = os.environ.get(self.setting)
        if not text:
            return self.default
        if not (text.isascii() and text.isdecimal() and int(text[:20]) > 0):
            raise UsageError(f"{self.setting} is {text[:40]!r}; expected a whole number above 0")
        return int(text[:20])

    @property
    def bytes(self) -> int:
        """The limit in bytes, of a limit in MB."""
        return self.value * MB

    def exceeded(self, what: str = "") -> str:
        """Return what is wrong with something beyond the limit, and what to do. what: stands for the unit."""
        verb = "lower" if self.setting.startswith("XSEARCH_MIN") else "raise"
        side = "under" if verb == "lower" else "over"
        return f"{side} {self.value:,} {what or self.unit}; {self.advice} or {verb} {self.setting}"

    def refusal(self, path: Path, what: str = "") -> TooLarge:
        """Return the error of a file beyond the limit; see `exceeded`."""
        return TooLarge(f"{path}: {self.exceeded(what)}")

    def check(self, path: Path, amount: float, what: str = "") -> None:
        """Raise TooLarge if a file has more than the limit. amount: in the limit's unit, or bytes for MB."""
        if amount > (self.bytes if self.setting.endswith("_MB") else self.value):
            raise self.refusal(path, what)


MAX_ITEMS = Limit("XSEARCH_MAX_ITEMS", 10_000, "items", "split it")  # 27 hours in windows of 10 s
# Pictures, depth maps and thermal pictures; Pillow's limit
MAX_PIXELS = Limit("XSEARCH_MAX_PIXELS", 178_956_970, "pixels", "downscale it")
# What a decoder is estimated to take, beside 40 MB for itself
MAX_DECODED_MB = Limit("XSEARCH_MAX_DECODED_MB", 1_400, "MB to decode it", "downscale it")
MAX_SCANS = Limit("XSEARCH_MAX_SCANS", 100, "scans of a JPEG", "save it again")  # cameras and programs: 10
# 12K film has 80 million; decoders keep up to 17 frames of 1.5 bytes a pixel
MAX_FRAME_PIXELS = Limit("XSEARCH_MAX_FRAME_PIXELS", 100_000_000, "pixels a frame", "downscale it")
# Entries of the tables of a container, of which FFmpeg makes an index: 46 hours at 60 frames per second
MAX_INDEX = Limit("XSEARCH_MAX_INDEX", 10_000_000, "entries in its index", "split it")
MAX_CHANNELS = Limit("XSEARCH_MAX_CHANNELS", 256, "channels", "mix it down")
MAX_RATE_HZ = Limit("XSEARCH_MAX_RATE_HZ", 10_000_000, "samples per second", "correct its rate")
MIN_RATE_HZ = Limit("XSEARCH_MIN_RATE_HZ", 100, "samples per second", "correct its rate")
MAX_TEXT_MB = Limit("XSEARCH_MAX_TEXT_MB", 16, "MB of text", "split it")
MAX_MOTION_MB = Limit("XSEARCH_MAX_MOTION_MB", 256, "MB of motion", "split it")  # 14 hours at 50 Hz
MAX_TABLE_MB = Limit("XSEARCH_MAX_TABLE_MB", 256, "MB of metadata", "split it")
MAX_CELLS = Limit("XSEARCH_MAX_CELLS", 20_000_000, "cells", "split it")  # of 70 bytes, as Python strings
MAX_COLUMNS = Limit("XSEARCH_MAX_COLUMNS", 1_000, "columns", "keep those that describe the files")
MAX_SIDECAR_MB = Limit("XSEARCH_MAX_SIDECAR_MB", 16, "MB", "keep what describes the file")
MAX_SIDECAR_COLUMNS = Limit(
    "XSEARCH_MAX_SIDECAR_COLUMNS", 100, "columns", "keep those that describe the file"
)


LIMITS = tuple(each for each in list(globals().values()) if isinstance(each, Limit))


def check_settings() -> None:
    """Raise UsageError if a setting is wrong, before it is taken for the fault of a file."""
    for limit in LIMITS:
        _ = limit.value


def check_windows(path: Path, count: float) -> None:
    """Raise TooLarge if the header of a recording states too many windows, and the file can have as many.

    A smaller file has a gap of years in its clock, or a damaged header: its windows are counted as they come.
    """
    if path.stat().st_size > count * LEAST_WINDOW:
        MAX_ITEMS.check(path, count)
