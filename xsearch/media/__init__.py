"""Walk, identify, hash and decode media files into samples in physical units. Independent of any model.

    for file in walk([Path("media")]):
        if isinstance(file, MediaFile):
            for sample in read(file): ...

One module per modality decodes files; `container` opens multi-track formats.
Every failure is a MediaError whose message starts with the path: `PATH: what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xsearch.errors import MediaError, Transient, Unreadable
from xsearch.media import audio, depth, facts, files, formats, image, imu, limits, text, thermal, video
from xsearch.media.exclusion import IGNORE_FILE, REMOVED, Exclusion, Skipped, is_hidden
from xsearch.media.faults import lacks_memory, passing, reading
from xsearch.media.files import (
    absolute,
    count,
    identify,
    is_gone,
    is_metadata,
    match_kind,
    mtime_ns,
    sha256,
    unchanged,
)
from xsearch.media.globs import fits, matches, nfc
from xsearch.media.imu.recordings import owners
from xsearch.media.names import looks_like_path, why_no_file
from xsearch.media.remote import CONNECTIONS, Remote, RemoteFile, at_hand, fetched, is_url, listed
from xsearch.media.splitting import windows
from xsearch.media.walk import walk
from xsearch.types import MediaFile, Modality, Sample

__all__ = [
    "CONNECTIONS",
    "IGNORE_FILE",
    "REMOVED",
    "Exclusion",
    "Remote",
    "RemoteFile",
    "Skipped",
    "absolute",
    "at_hand",
    "count",
    "fetched",
    "fits",
    "identify",
    "is_gone",
    "is_hidden",
    "is_metadata",
    "is_url",
    "lacks_memory",
    "listed",
    "looks_like_path",
    "match_kind",
    "matches",
    "mtime_ns",
    "nfc",
    "owners",
    "passing",
    "read",
    "reading",
    "sha256",
    "unchanged",
    "walk",
    "why_no_file",
    "windows",
]

_READERS = {
    Modality.IMAGE: image.read,
    Modality.TEXT: text.read,
    Modality.AUDIO: audio.read,
    Modality.VIDEO: video.read,
    Modality.DEPTH: depth.read,
    Modality.THERMAL: thermal.read,
    Modality.IMU: imu.read,
}
_COMMON = {  # what every reader reads
    Modality.IMAGE: "PNG or JPEG",
    Modality.TEXT: "UTF-8",
    Modality.AUDIO: "WAV or FLAC",
    Modality.VIDEO: "MP4",
    Modality.DEPTH: "PNG of 16 bits",
    Modality.THERMAL: "PNG",
    Modality.IMU: "CSV",
}


def read(file: MediaFile, *, with_facts: bool = False) -> Iterator[Sample]:
    """Decode a file into at least one sample; see `Sample` for shapes, dtypes and units.

    Windows are decoded lazily, so memory does not grow with duration. A video yields its frames, then its
    sound track as audio samples, then a GoPro's motion as IMU samples. with_facts: each sample is `about`
    what the file states, which opens it once more. Raises Unreadable if the file is damaged, empty, truncated
    or too large, Transient if something else is to blame, possibly after some samples have been yielded;
    UsageError if a setting of `limits` is wrong.
    """
    limits.check_settings()
    try:
        with reading(file.path):
            about = facts.facts(file) if with_facts else {}
            for count, sample in enumerate(_READERS[file.modality](file), start=1):
                limits.MAX_ITEMS.check(file.path, count)
                yield replace(sample, about=about) if about else sample
        problem = None
    except Exception as error:  # decoders raise undocumented exceptions on damaged input
        problem = error
    if files.has_changed(file):
        raise Transient(f"{file.path}: modified or deleted while being read; ingest again") from problem
    if isinstance(problem, MediaError):
        raise problem
    if problem:
        name = f" ({formats.title(file.mime)})" if file.mime else ""
        raise Unreadable(
            f"{file.path}: {file.modality}{name} that cannot be decoded: damaged, or an unsupported variant; "
            f"convert it to {_COMMON[file.modality]}, or name its kind with --as KIND=GLOB"
        ) from problem
