"""Multi-track containers, opened with PyAV."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from xsearch.errors import Unreadable, Unsupported
from xsearch.media import tracks
from xsearch.media.faults import ForC, unless_passing, watched
from xsearch.media.limits import MAX_FRAME_PIXELS, MAX_INDEX

__all__ = [
    "GAP_S",
    "LATE_S",
    "codec_options",
    "duration_s",
    "formats",
    "frames",
    "may_restart",
    "opened",
    "packets",
]
__all__ += ["picture_track", "sound_tracks", "start_s"]

# No demuxers that open other files and URLs (hls, concat, dash, sdp, image2, vobsub, the script of avisynth).
_FORMATS = """
    aac ac3 aiff amr ape au caf dsf dss dts dtshd eac3 flac g722 gsm iff ircam mlp mp3 mpc mpc8 nistsphere oma
    qcp shn tak truehd tta voc w64 wav wv
    asf avi dv flic flv gif gxf h264 hevc ivf m4v matroska mjpeg mov mpeg mpegts mpegvideo mxf nut ogg rm wtv
    yuv4mpegpipe
"""
_OPTIONS = {
    "protocol_whitelist": "none",  # containers are opened as file objects and refer to nothing else
    "format_whitelist": ",".join(_FORMATS.split()),
    "correct_ts_overflow": "0",  # it takes clocks that restart for ones that overflow, 26 hours later
}

EDGES = 1 << 20  # pixels
LATE_S = 0.1  # what starts earlier is not late: encoders add a delay of 20 to 50 ms
GAP_S = 0.5  # timestamps that are off by less, or drift, are inexact
_RESTARTED = {"mpeg", "mpegts"}  # concatenated, their clock starts anew inside; the header counts one of them


@contextmanager
def opened(path: Path, part: IO[bytes] | None = None) -> Iterator[Any]:
    """Yield an open `av.container.InputContainer`. FFmpeg errors inside the block become Unreadable.

    part: a part of the file, to be opened in its place. Raises OSError if the disk fails, which FFmpeg takes
    for the end of the file, TooLarge if the file states an index without end.
    """
    import av

    # Tags in another encoding than UTF-8: PyAV 19 escapes their bytes, earlier ones raise by default.
    lenient = {"metadata_errors": "surrogateescape"} if int(av.__version__.partition(".")[0]) < 19 else {}
    try:
        with nullcontext(ForC(part)) if part else watched(path, ForC) as file:
            if not part:
                tracks.check_index(file, path)
            with av.open(file, options=_OPTIONS | codec_options(), **lenient) as source:
                yield source
    except av.error.FFmpegError as error:
        if isinstance(error, (LookupError, NotImplementedError, av.error.PatchWelcomeError)):
            raise Unsupported(f"{path}: of a format that FFmpeg cannot decode; convert it") from error
        reason = (
            error.strerror if isinstance(error, OSError) else "damaged, encrypted or an unsupported format"
        )
        raise Unreadable(
            f"{path}: cannot be decoded by FFmpeg ({reason}); replace or convert the file"
        ) from error


def codec_options() -> dict[str, str]:
    """Return the options that limit the memory of a decoder; FFmpeg counts the edges of frames as well."""
    return {"max_pixels": str(2 * MAX_FRAME_PIXELS.value + EDGES)}


def formats(source: Any) -> set[str]:
    """Return FFmpeg's names of the format."""
    return set(source.format.name.split(","))


def may_restart(source: Any) -> bool:
    """Whether the clock of a container may start anew inside, where files were concatenated."""
    return not _RESTARTED.isdisjoint(formats(source))


def picture_track(source: Any) -> Any | None:
    """Return the first video stream that is not cover art, or None."""
    from av.stream import Disposition

    return next((s for s in source.streams.video if not s.disposition & Disposition.attached_pic), None)


def packets(source: Any, stream: Any) -> Iterator[Any]:
    """Yield the packets of a stream. Raises TooLarge if there are too many."""
    for count, packet in enumerate(source.demux(stream)):
        MAX_INDEX.check(Path(source.name), count)
        yield packet


def frames(source: Any, stream: Any) -> Iterator[Any]:
    """Yield the frames of a stream up to where its file is damaged; skip damaged packets, as players do."""
    from av.error import FFmpegError

    with unless_passing(FFmpegError):
        for packet in packets(source, stream):
            with unless_passing(FFmpegError):
                yield from packet.decode()


def start_s(source: Any) -> float:
    """Return the time of the first frame on the clock of a container, in seconds."""
    return float((source.start_time or 0) / 1e6)  # microseconds


def duration_s(source: Any) -> float | None:
    """Return the duration that the header states, in seconds; None if it states none."""
    if not source.duration:
        return None
    is_end = "matroska" in source.format.name and start_s(source) > LATE_S  # by the clock of the file
    return float(source.duration / 1e6) - is_end * start_s(source)


def sound_tracks(path: Path, source: Any) -> list[Any]:
    """Return the decodable audio streams, the default ones first. Raises Unsupported if there are none."""
    from av.stream import Disposition

    streams = [stream for stream in source.streams.audio if stream.codec_context]
    if not streams:
        reason = "unsupported audio codec; convert it" if source.streams.audio else "no audio in it"
        raise Unsupported(f"{path}: {reason}")
    return sorted(streams, key=lambda stream: not stream.disposition & Disposition.default)
