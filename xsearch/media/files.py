"""Identify the kind of files, hash their bytes. Reads no more than the kind requires."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from xsearch.errors import NotMedia, Unreadable
from xsearch.media import conventions, depth, formats, text, thermal, tracks
from xsearch.media.faults import reading
from xsearch.media.formats import HEAD
from xsearch.media.globs import matches
from xsearch.media.imu import oxts, recordings
from xsearch.media.limits import check_settings
from xsearch.system.durable import digest
from xsearch.types import MediaFile, Modality

if TYPE_CHECKING:
    from xsearch.media.remote import RemoteFile

__all__ = [
    "HEAD",
    "absolute",
    "companions",
    "count",
    "guess",
    "has_changed",
    "identify",
    "is_gone",
    "is_metadata",
    "match_kind",
    "mtime_ns",
    "sha256",
    "unchanged",
]

_ARRAYS = {"application/x-npy", "image/x-portable-floatmap", "image/x-exr"}  # depth, depending on the name
# IMU, depending on the columns
_TABLES = {"text/csv", "text/tab-separated-values", "application/x-npz", "application/vnd.apache.parquet"}
_FITS = {Modality.DEPTH: depth.fits, Modality.THERMAL: thermal.fits}
METADATA = re.compile(r"metadata\.(csv|tsv|jsonl|parquet)", re.IGNORECASE)  # user columns, in any folder


def identify(
    path: Path,
    *,
    root: Path | None = None,
    kinds: Sequence[tuple[Modality, str]] = (),
    elsewhere: Callable[[Path], MediaFile] | None = None,
) -> MediaFile:
    """Determine a file's kind: by `kinds`, else by folder and name, else by content, else by extension.

    kinds: (modality, glob) rules, first match wins; see `matches` for globs. Folders and names
    (`lowres_depth/`, `lwir/`, `cat_ir.png`; see `media.conventions`) count only if the format can hold such
    data: a colour JPEG is never a depth map.
    Either file of an IMU pair returns the accelerometer's MediaFile with the gyroscope's as `companion`;
    a depth map's is its `camera.json`. The size is the sum of both, the mtime the later one.
    A text file is a recording if its first HEAD bytes have a header with sensors, or its folder is an `oxts`.
    elsewhere: identifies, in another process, a file that has to be opened as what it is.
    Raises NotMedia for an unsupported file, Unreadable if it is empty or incomplete, Transient if it cannot
    be opened.
    """
    if root is None:
        check_settings()  # `walk` has
    path = absolute(path)
    with reading(path):
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotMedia(f"{path}: not a regular file")
        with path.open("rb") as file:
            head = file.read(HEAD)
        mime = formats.detect(path, head)
        rule = match_kind(path, root and absolute(root), kinds)
        if status.st_size == 0 and (mime or rule):
            raise Unreadable(f"{path}: empty file; remove or replace it")
        if elsewhere is not None and _is_opened(path, mime, head, rule):
            return elsewhere(path)
        kind = rule or _kind_by_name(path, mime)
        if kind is None:
            kind, mime = _kind_by_content(path, mime, head)
        companion = None
        if kind is Modality.IMU and not mime.startswith("video/"):
            path, companion = recordings.recording(path, requested=rule is not None)
        elif kind is Modality.DEPTH:
            companion = depth.camera(path)
        size, mtime_ns = _size_mtime(path, companion)
        if kind is Modality.TEXT:
            text.check_size(path, size)
    return MediaFile(path, kind, size, mtime_ns, mime, companion)


def guess(path: Path, head: bytes = b"") -> Modality | None:
    """Guess the kind of a file from its name and first bytes; None if unsupported."""
    mime = formats.detect(path, head)
    if mime in _TABLES or mime in _ARRAYS:
        return Modality.IMU if mime in _TABLES else Modality.DEPTH
    family = mime.partition("/")[0]
    return Modality(family) if family in list(Modality) else None


def has_changed(file: MediaFile) -> bool:
    """Whether a file was modified or deleted since it was identified."""
    try:
        return _size_mtime(file.path, file.companion) != (file.bytes, file.mtime_ns)
    except OSError:
        return True


def mtime_ns(status: os.stat_result) -> int:
    """Return the mtime of a file within int64: some file systems store any year."""
    return max(min(status.st_mtime_ns, (1 << 63) - 1), -1 << 63)


def companions(file: MediaFile) -> list[Path | None]:
    """Return the companions that a file may have been read with; None stands for no companion."""
    if file.modality is Modality.DEPTH:
        return [depth.camera(file.path)]
    if file.modality is not Modality.IMU:
        return [None]
    if (folder := oxts.folder(file.path)) is not None:
        return [folder]
    return [None, *(path for path in recordings.partners(file.path, "accel") if path.is_file())]


def unchanged(file: MediaFile) -> MediaFile | None:
    """Return a file, with its companion, if size and mtime match those on disk. Opens nothing."""
    for path in companions(file):
        if _size_mtime(file.path, path) == (file.bytes, file.mtime_ns):
            return replace(file, companion=path)
    return None


def count(file: MediaFile | RemoteFile) -> int:
    """Return the number of files of a recording: two of a pair, all rows of a folder; 1 for other media."""
    if file.modality is not Modality.IMU or file.companion is None:
        return 1
    return 1 + (len(oxts.frames(file.companion)) if file.companion.is_dir() else 1)


def is_gone(name: str) -> bool:
    """Whether a file was deleted; not if it only cannot be reached, as in a folder without permission."""
    try:
        os.lstat(name)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return True
    except OSError:
        pass
    return False


def is_metadata(path: Path) -> bool:
    """Whether a file is called like a table of user columns."""
    return METADATA.fullmatch(path.name) is not None


def match_kind(path: Path, root: Path | None, kinds: Sequence[tuple[Modality, str]]) -> Modality | None:
    """Return the kind of the first rule that matches a path at or below `root`; see `matches`."""
    return next((modality for modality, glob in kinds if matches(path, root, glob)), None)


def sha256(path: Path, companion: Path | None = None) -> str:
    """Return the SHA-256 hex digest of a file; with a companion, that of both digests.

    Raises Transient if one cannot be opened.
    """
    with reading(path):
        digests = [digest(part) for part in _parts(path, companion)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def absolute(path: str | Path) -> Path:
    """Return the normalised absolute path, as stored. Unlike `Path.resolve`, keeps symlinks."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _size_mtime(path: Path, companion: Path | None) -> tuple[int, int]:
    """Return the total size and the latest mtime of a file and its companion."""
    stats = [part.stat() for part in _parts(path, companion)]
    return sum(status.st_size for status in stats), max(map(mtime_ns, stats))


def _parts(path: Path, companion: Path | None) -> list[Path]:
    if companion is None:
        return [path]
    return [path, *(oxts.frames(companion) if companion.is_dir() else [companion])]


def _is_opened(path: Path, mime: str, head: bytes, rule: Modality | None) -> bool:
    """Whether it takes more than the first bytes to identify a file: its tracks, columns or values."""
    if rule is not None:
        return rule is Modality.IMU
    if mime in _TABLES or mime.startswith("video/") or next(conventions.named(path), None) is not None:
        return True
    return mime.startswith("text/") and recordings.may_be_table(path, head)


def _kind_by_name(path: Path, mime: str) -> Modality | None:
    candidates = dict.fromkeys(conventions.named(path))
    return next((kind for kind in candidates if _FITS[kind](path, mime)), None)


def _kind_by_content(path: Path, mime: str, head: bytes) -> tuple[Modality, str]:
    if is_metadata(path):
        raise NotMedia(f"{path}: metadata table")
    if mime in _TABLES or (mime.startswith("text/") and _is_recording(path, head)):
        return Modality.IMU, mime
    if mime in _ARRAYS and not formats.is_colour_exr(head):
        raise NotMedia(
            f"{path}: array of unknown content; if it is a depth map, pass --as 'depth=*{path.suffix}'"
        )
    family, _, format = mime.partition("/")
    if family == "video" and not tracks.has_pictures(path, mime):
        return Modality.AUDIO, f"audio/{format}"
    if family in ("image", "text", "audio", "video"):
        return Modality(family), mime
    if name := formats.foreign(path, head):
        raise NotMedia(f"{path}: unsupported image format ({name}): convert it to PNG")
    raise NotMedia(f"{path}: unsupported file type; set its kind with --as KIND=GLOB")


def _is_recording(path: Path, head: bytes) -> bool:
    """Whether a text file is a recording, or half of one."""
    try:
        return recordings.may_be_table(path, head) and bool(recordings.recording(path))
    except NotMedia:
        return oxts.is_part(path)  # which is then reported as incomplete, and no text
