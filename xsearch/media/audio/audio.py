"""Audio files -> 16 kHz mono windows: decoded by libsndfile, or by FFmpeg where libsndfile fails."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from xsearch.errors import TooLarge, Unreadable
from xsearch.media import container
from xsearch.media.audio import chained, mono
from xsearch.media.audio.mono import Block
from xsearch.media.faults import ForC, Watched, unless_passing, watched
from xsearch.media.limits import MAX_CHANNELS, MAX_ITEMS, MAX_RATE_HZ, MIN_RATE_HZ, check_windows
from xsearch.types import AUDIO_RATE_HZ, MediaFile, Modality, Sample

__all__ = ["read", "track"]

UNKNOWN_LENGTH = 2**63 - 1  # libsndfile's SF_COUNT_MAX, reported for streams
LOSSY = {"VORBIS", "OPUS", "MPEG_LAYER_I", "MPEG_LAYER_II", "MPEG_LAYER_III"}
FLOATS = {"FLOAT", "DOUBLE"}
MARGIN_S = 10.0  # timestamps that exceed the duration of the file by more are wrong
SILENCE = 1e-4  # peak of a silent window, -80 dB
SILENT_WINDOWS = 60  # a track that begins with ten minutes of silence gives way to the next one
# Demuxers that derive timestamps and durations from the first frame and the bit rate.
UNTIMED = {"aac", "ac3", "amr", "dts", "eac3", "flac", "mlp", "mp3", "truehd"}
LONGEST_S = 60.0  # a slower recording than MIN_RATE_HZ that is longer is a wrong header, or no sound
MOST_TRACKS = 16  # of which a sound track is chosen

log = logging.getLogger(__name__)
_quiet = partial(ForC, is_quiet=True)


def read(file: MediaFile) -> Iterator[Sample]:
    """Yield windows of 10 s, hop 10 s; the last is 1 s to 11 s long. Channels are averaged, see `downmix`.

    A float recording that exceeds full scale is divided by its peak; NaN is replaced by 0. The links of a
    chained file follow each other.
    """
    path = file.path
    with watched(path, _quiet) as whole:
        # mpg123, libsndfile's MP3 decoder, prints warnings to stderr
        sound = None if file.mime == "audio/mpeg" else _sndfile(whole)
        if links := chained.links(path, file.mime):
            yield from _chain(path, links)
        elif sound is None:
            yield from track(path)
        else:
            with sound:
                is_float, is_lossy = sound.subtype in FLOATS, sound.subtype in LOSSY
                full_scale = None if is_lossy else _peak(sound, whole) if is_float else 1.0
                duration_s = sound.frames / sound.samplerate
                yield from _samples(path, _blocks(path, sound, whole), full_scale, duration_s)


def track(path: Path) -> Iterator[Sample]:
    """Yield the windows of a container's sound track, split as by `read`, at the times of its timestamps.

    Of several tracks, the first that can be decoded and is not silent, beginning with the default one; the
    others are left out with a logged warning.
    """
    with container.opened(path) as source:
        numbers = [stream.index for stream in container.sound_tracks(path, source)]
    number = numbers[0]
    if len(numbers) > 1:
        number = next((each for each in numbers[:MOST_TRACKS] if _is_audible(path, each)), number)
        log.warning(
            "%s: of %d sound tracks only number %d is embedded",
            path,
            len(numbers),
            sorted(numbers).index(number) + 1,
        )
    yield from _track(path, number)


def _is_audible(path: Path, number: int) -> bool:
    with unless_passing(Exception):  # decoders raise undocumented exceptions on damaged input
        return any(
            np.abs(sample.data).max() > SILENCE for sample in islice(_track(path, number), SILENT_WINDOWS)
        )
    return False


def _track(path: Path, number: int) -> Iterator[Sample]:
    """Yield the windows of stream `number` of a container."""
    with container.opened(path) as source:
        stream = source.streams[number]
        codec, values = stream.codec_context.name, stream.codec_context.format
        full_scale: float | None = 1.0
        if values is not None and values.name.startswith(("flt", "dbl")):
            full_scale = None
            if codec.startswith("pcm_") or codec == "wavpack":
                with container.opened(path) as again:
                    full_scale = mono.peak(_decoded(again, again.streams[number]))
        duration_s = _duration_s(path, source, number)
        yield from _samples(path, _decoded(source, stream), full_scale, duration_s)


def _duration_s(path: Path, source: Any, number: int) -> float | None:
    """Return the duration of a container in seconds, measured if it is sound of unknown duration."""
    duration_s = container.duration_s(source)
    is_timed = UNTIMED.isdisjoint(container.formats(source))
    if container.picture_track(source) or (duration_s and is_timed and not container.may_restart(source)):
        return duration_s
    with container.opened(path) as again:
        packets = container.packets(again, again.streams[number])
        total_s = float(sum(packet.duration * packet.time_base for packet in packets if packet.duration))
    off_s = total_s - (duration_s or 0)
    is_wrong = off_s > container.LATE_S or (off_s < -container.LATE_S and not is_timed)
    return total_s if is_wrong else duration_s


def _sndfile(file: Watched) -> Any | None:
    """Return a `soundfile.SoundFile`, or None if FFmpeg should decode the file."""
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except soundfile.LibsndfileError:
        file.check()
        return None
    if 0 < sound.frames < UNKNOWN_LENGTH:
        return sound
    sound.close()
    return None


def _peak(sound: Any, file: Watched) -> float:
    highest = mono.peak(Block(0.0, sound.samplerate, values) for values in _values(sound, file))
    sound.seek(0)
    return highest


def _blocks(path: Path, sound: Any, file: Watched, part: IO[bytes] | None = None) -> Iterator[Block]:
    """Yield what libsndfile decodes of a file, or a part of it; where it gives up, FFmpeg continues."""
    done = 0
    for values in _values(sound, file):
        yield Block(0.0, sound.samplerate, values)
        done += len(values)
    if done < sound.frames:
        if part:
            part.seek(0)
        with suppress(Unreadable), container.opened(path, part) as source:
            for block in _decoded(source, container.sound_tracks(path, source)[0]):
                skipped = min(done, len(block.values))
                done -= skipped
                yield block._replace(values=block.values[skipped:])


def _values(sound: Any, file: Watched) -> Iterator[np.ndarray]:
    """Yield float32 [N, channels] as far as libsndfile can decode `file`. Raises OSError of the disk."""
    import soundfile

    # soundfile seeks behind each block, where MP3 in WAV loses its bit reservoir: as few as possible
    size = max(1, min(10 * sound.samplerate, mono.BLOCK // sound.channels))
    # Not `sound.blocks`: it refuses files that cannot be seeked, as GSM 6.10 and G.721.
    with suppress(soundfile.LibsndfileError):
        while len(values := sound.read(size, dtype="float32", always_2d=True)):
            file.check()
            yield values
    file.check()


def _chain(path: Path, links: list[tuple[int, int]]) -> Iterator[Sample]:
    """Yield the windows of a chained file. Its damaged links are left out."""
    MAX_ITEMS.check(path, len(links), "links of a chain")

    def durations() -> Iterator[float]:
        for span in links:
            with suppress(Unreadable), _link(path, span) as (_, duration_s):
                yield duration_s

    def blocks() -> Iterator[Block]:
        end_s = 0.0
        for span in links:
            start_s = end_s
            with suppress(Unreadable), _link(path, span) as (decoded, _):
                for block in decoded:
                    yield block._replace(run_s=start_s)
                    end_s += len(block.values) / block.rate_hz

    yield from _samples(path, blocks(), None, sum(durations()))


@contextmanager
def _link(path: Path, span: tuple[int, int]) -> Iterator[tuple[Iterator[Block], float]]:
    """Yield the blocks of a link and its duration."""
    start, end = span
    with watched(path, Watched) as file:
        part = chained.Link(file, start, end - start)
        quiet = _quiet(part)
        if sound := _sndfile(quiet):
            with sound:
                yield _blocks(path, sound, quiet, part), sound.frames / sound.samplerate
        else:
            part.seek(0)
            with container.opened(path, part) as source:
                yield (
                    _decoded(source, container.sound_tracks(path, source)[0]),
                    container.duration_s(source) or 0.0,
                )


def _decoded(source: Any, stream: Any) -> Iterator[Block]:
    """Yield what FFmpeg decodes of a stream, in runs by its timestamps, relative to the start of the file.

    Timestamps that jump back, as where files were concatenated, or beyond the end are taken as contiguous.
    """
    from av import AudioResampler

    origin_s = container.start_s(source)
    latest_s = (container.duration_s(source) or math.inf) + MARGIN_S
    is_timed = UNTIMED.isdisjoint(container.formats(source))
    codec = stream.codec_context
    run_s = end_s = 0.0
    clock_s: float | None = None  # where the last frame ends by its timestamp
    settings: tuple[str, str, int] | None = None
    for frame in container.frames(source, stream):
        if is_timed and frame.time is not None:
            ahead_s = frame.time - origin_s - end_s
            is_first, is_jump = clock_s is None, clock_s is None or frame.time - clock_s > container.LATE_S
            clock_s = frame.time + frame.samples / frame.sample_rate
            if ahead_s < -container.GAP_S or frame.time - origin_s > latest_s:
                origin_s += ahead_s
            elif is_jump and ahead_s > (container.LATE_S if is_first else container.GAP_S):
                run_s = end_s = end_s + ahead_s
                if is_first and codec.name == "aac" and not codec.delay:  # the container does not state it
                    run_s = end_s = clock_s - origin_s
                    continue
        if settings != (settings := (frame.format.name, frame.layout.name, frame.sample_rate)):
            # Packed format: PyAV 18.1 crashes on more than eight planes. Rate and channels are unchanged.
            to_float = AudioResampler("flt", frame.layout, frame.sample_rate)
        for part in to_float.resample(frame):
            yield Block(run_s, frame.sample_rate, part.to_ndarray().reshape(-1, frame.layout.nb_channels))
        end_s += frame.samples / frame.sample_rate


def _samples(
    path: Path, blocks: Iterable[Block], full_scale: float | None, duration_s: float | None
) -> Iterator[Sample]:
    check_windows(path, ((duration_s or 0) - mono.MIN_WINDOW_S) / mono.WINDOW_S)
    window = None
    for start_s, window in mono.windows(_checked(path, blocks, duration_s), full_scale):
        end_s = start_s + len(window) / AUDIO_RATE_HZ
        yield Sample(
            Modality.AUDIO, window, start_s=start_s, end_s=end_s, duration_s=duration_s, rate_hz=AUDIO_RATE_HZ
        )
    if window is None:
        raise Unreadable(f"{path}: no audio samples; remove or replace the file")


def _checked(path: Path, blocks: Iterable[Block], duration_s: float | None) -> Iterator[Block]:
    """Yield blocks. Raises TooLarge if a header states a rate that is none of sound, or too many channels."""
    for block in blocks:
        if block.rate_hz < MIN_RATE_HZ.value and (duration_s or math.inf) > LONGEST_S:
            problem = f"{block.rate_hz} samples per second are no sound"
            raise TooLarge(f"{path}: {problem}: {MIN_RATE_HZ.exceeded()}")
        MAX_RATE_HZ.check(path, block.rate_hz)
        MAX_CHANNELS.check(path, block.values.shape[1])
        yield block
