"""Files -> samples in physical units: walk, identify, hash, decode. Knows nothing of models.

    for found in walk([Path("media")]):
        if isinstance(found, MediaFile):
            for sample in read(found): ...

One module per kind turns a file into samples; `container` opens what holds several tracks.
Every failure is a MediaError whose text starts with the path: `PATH: what is wrong; what to do`.
"""

from __future__ import annotations

from collections.abc import Iterator

from xsearch.errors import MediaError, Unreadable
from xsearch.media import audio, depth, files, image, imu, text, thermal, video
from xsearch.media.files import Skipped, absolute, asked, companions, identify, is_unchanged, sha256, walk
from xsearch.media.remote import CONNECTIONS, Remote, RemoteFile, at_hand, is_url
from xsearch.types import MediaFile, Modality, Sample

__all__ = [
    "CONNECTIONS",
    "Remote",
    "RemoteFile",
    "Skipped",
    "absolute",
    "asked",
    "at_hand",
    "companions",
    "identify",
    "is_unchanged",
    "is_url",
    "read",
    "sha256",
    "walk",
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


def read(file: MediaFile) -> Iterator[Sample]:
    """Decode a file into at least one sample; see `Sample` for shapes, dtypes and units.

    Windows come one at a time, so a long recording is never held whole. A video gives its pictures and
    then, as audio samples, its sound track. Unreadable if the file is damaged, empty or incomplete,
    which can show only after some samples have been given.
    """
    try:
        yield from _READERS[file.modality](file)
        problem = None
    except Exception as error:  # the boundary: what decoders raise on damaged input is not documented
        problem = error
    if files.has_changed(file):
        raise Unreadable(f"{file.path}: changed or vanished while it was read; ingest again") from problem
    if isinstance(problem, MediaError):
        raise problem
    if problem:
        reason = (str(problem) or type(problem).__name__).splitlines()[0]
        raise Unreadable(
            f"{file.path}: cannot be decoded as {file.modality} ({reason}); "
            "replace the file if it is damaged, or name its kind with --as KIND=GLOB"
        ) from problem
