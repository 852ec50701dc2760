"""Files that hold several tracks, opened with FFmpeg's libraries through PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xsearch.errors import Unreadable

__all__ = ["has_pictures", "opened", "picture_track"]

# Local files only, and no playlist formats (hls, concat, dash): those name other files and addresses to open.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "aac,ac3,aiff,asf,avi,caf,flac,flv,gif,matroska,mov,mp3,mpeg,mpegts,ogg,wav,w64",
}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """An open `av.container.InputContainer`. Unreadable if FFmpeg gives up, then or while it is used."""
    import av

    try:
        with av.open(str(path), options=_OPTIONS, metadata_errors="replace") as source:
            yield source
    except av.error.FFmpegError as error:
        raise Unreadable(
            f"{path}: cannot be decoded ({error.strerror}); is it damaged or encrypted?"
        ) from error


def picture_track(source: Any) -> Any | None:
    """The first video stream that is not a cover picture."""
    from av.stream import Disposition

    return next((s for s in source.streams.video if not s.disposition & Disposition.attached_pic), None)


def has_pictures(path: Path) -> bool:
    """False only for a readable file without a picture track: a sound in a video's clothes."""
    try:
        with opened(path) as source:
            return picture_track(source) is not None or not source.streams.audio
    except Exception:  # damaged in whatever way: reading it will say so
        return True
