"""Multi-track containers, opened with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xsearch.errors import Unreadable

__all__ = ["has_pictures", "opened", "picture_track"]

# Local files only, and no playlist demuxers (hls, concat, dash): they open other files and URLs.
_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "aac,ac3,aiff,asf,avi,caf,flac,flv,gif,matroska,mov,mp3,mpeg,mpegts,ogg,wav,w64",
}


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Yield an open `av.container.InputContainer`. FFmpeg errors inside the block become Unreadable."""
    import av

    # Tags in another encoding than UTF-8: PyAV 19 escapes their bytes, earlier ones raise by default.
    lenient = {"metadata_errors": "surrogateescape"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        with av.open(str(path), options=_OPTIONS, **lenient) as source:
            yield source
    except av.error.FFmpegError as error:
        raise Unreadable(
            f"{path}: cannot be decoded ({error.strerror}); the file may be damaged or encrypted"
        ) from error


def picture_track(source: Any) -> Any | None:
    """Return the first video stream that is not cover art, or None."""
    from av.stream import Disposition

    return next((s for s in source.streams.video if not s.disposition & Disposition.attached_pic), None)


def has_pictures(path: Path) -> bool:
    """Return False only for a readable, audio-only container."""
    try:
        with opened(path) as source:
            return picture_track(source) is not None or not source.streams.audio
    except Exception:  # damaged: `read` reports it
        return True
