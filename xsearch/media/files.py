"""Identify the kind of files, hash their bytes. Reads no more than the kind requires."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

from xsearch.errors import NotMedia, Unreadable
from xsearch.media import container, depth, imu, text, thermal
from xsearch.media.globs import matches
from xsearch.system.durable import digest
from xsearch.types import MediaFile, Modality

__all__ = [
    "EXTENSIONS",
    "HEAD",
    "METADATA",
    "absolute",
    "companions",
    "guess",
    "has_changed",
    "identify",
    "is_unchanged",
    "match_kind",
    "sha256",
]

# Magic bytes at the start of a file; `_magic` handles prefixes shared by several formats.
_MAGIC = {
    b"\xff\xd8\xff": "image/jpeg",
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"GIF87a": "image/gif",
    b"GIF89a": "image/gif",
    b"II*\x00": "image/tiff",
    b"MM\x00*": "image/tiff",
    b"\x76\x2f\x31\x01": "image/x-exr",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": "video/x-ms-asf",
    b"FLV\x01": "video/x-flv",
    b"\x00\x00\x01\xba": "video/mpeg",
    b"\x93NUMPY": "application/x-npy",
    b"PAR1": "application/vnd.apache.parquet",
}
_RIFF = {b"WAVE": "audio/wav", b"WEBP": "image/webp", b"AVI ": "video/x-msvideo"}
EXTENSIONS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".bmp": "image/bmp",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".heic": "image/heic",
    ".heif": "image/heic",
    ".avif": "image/avif",
    ".pfm": "image/x-portable-floatmap",
    ".exr": "image/x-exr",
    ".txt": "text/plain",
    ".md": "text/markdown",
    ".csv": "text/csv",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".m4a": "audio/mp4",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
    ".mkv": "video/x-matroska",
    ".webm": "video/webm",
    ".avi": "video/x-msvideo",
    ".wmv": "video/x-ms-asf",
    ".flv": "video/x-flv",
    ".mpg": "video/mpeg",
    ".mpeg": "video/mpeg",
    ".npy": "application/x-npy",
    ".npz": "application/x-npz",
    ".parquet": "application/vnd.apache.parquet",
}
_ARRAYS = {"application/x-npy", "image/x-portable-floatmap", "image/x-exr"}  # depth, depending on the name
_TABLES = {"text/csv", "application/x-npz", "application/vnd.apache.parquet"}  # IMU, depending on the columns
_FOLDERS = {"depth": Modality.DEPTH, "thermal": Modality.THERMAL, "ir": Modality.THERMAL}
_NAMES = {Modality.DEPTH: re.compile(r"depth"), Modality.THERMAL: re.compile(r"thermal|_ir(?![a-z])")}
_FITS = {Modality.DEPTH: depth.fits, Modality.THERMAL: thermal.fits}
METADATA = "metadata.csv"  # user columns, in any folder
HEAD = 512  # bytes needed to detect a format


def identify(
    path: Path, *, root: Path | None = None, kinds: Sequence[tuple[Modality, str]] = ()
) -> MediaFile:
    """Determine a file's kind: by `kinds`, else by folder and name, else by content, else by extension.

    kinds: (modality, glob) rules, first match wins; see `matches` for globs. Folders and names (`depth/`,
    `*thermal*`, `*_ir*`) count only if the format can hold such data: a colour JPEG is never a depth map.
    Either file of an IMU pair returns the accelerometer's MediaFile with the gyroscope's as `companion`;
    a depth map's is its `camera.json`. The size is the sum of both, the mtime the later one.
    Raises NotMedia for an unsupported file, Unreadable if it is empty, incomplete or cannot be opened.
    """
    path = absolute(path)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise NotMedia(f"{path}: not a regular file")
        with path.open("rb") as file:
            mime = _magic(file.read(HEAD)) or EXTENSIONS.get(path.suffix.lower(), "")
        rule = match_kind(path, root and absolute(root), kinds)
        if status.st_size == 0 and (mime or rule):
            raise Unreadable(f"{path}: empty file; remove or replace it")
        kind = rule or _kind_by_name(path, mime)
        if kind is None:
            kind, mime = _kind_by_content(path, mime)
        companion = None
        if kind is Modality.IMU:
            path, companion = imu.recording(path, requested=rule is not None)
        elif kind is Modality.DEPTH:
            companion = depth.camera(path)
        size, mtime_ns = _size_mtime(path, companion)
        if kind is Modality.TEXT:
            text.check_size(path, size)
    except OSError as error:
        raise Unreadable(f"{path}: cannot be opened: {error.strerror}; check its permissions") from error
    return MediaFile(path, kind, size, mtime_ns, mime, companion)


def guess(path: Path, head: bytes = b"") -> Modality | None:
    """Guess the kind of a file from its name and first bytes; None if unsupported."""
    mime = _magic(head) or EXTENSIONS.get(path.suffix.lower(), "")
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


def companions(file: MediaFile) -> list[Path | None]:
    """Return the companions that a file may have been read with; None stands for no companion."""
    if file.modality is Modality.DEPTH:
        return [depth.camera(file.path)]
    partners = imu.partners(file.path, "accel") if file.modality is Modality.IMU else ()
    return [None, *(path for path in partners if path.is_file())]


def is_unchanged(file: MediaFile) -> bool:
    """Whether size and mtime match the file on disk, alone or with a companion. Opens nothing."""
    return any(_size_mtime(file.path, path) == (file.bytes, file.mtime_ns) for path in companions(file))


def match_kind(path: Path, root: Path | None, kinds: Sequence[tuple[Modality, str]]) -> Modality | None:
    """Return the kind of the first rule that matches a path at or below `root`; see `matches`."""
    return next((modality for modality, glob in kinds if matches(path, root, glob)), None)


def sha256(path: Path, companion: Path | None = None) -> str:
    """Return the SHA-256 hex digest of a file; with a companion, that of both digests.

    Raises Unreadable if one cannot be opened.
    """
    try:
        digests = [digest(part) for part in (path, companion) if part]
    except OSError as error:
        raise Unreadable(f"{path}: cannot be opened: {error.strerror}; check its permissions") from error
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def absolute(path: str | Path) -> Path:
    """Return the normalised absolute path, as stored. Unlike `Path.resolve`, keeps symlinks."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _size_mtime(path: Path, companion: Path | None) -> tuple[int, int]:
    """Return the total size and the latest mtime of a file and its companion."""
    stats = [part.stat() for part in (path, companion) if part]
    return sum(status.st_size for status in stats), max(status.st_mtime_ns for status in stats)


def _kind_by_name(path: Path, mime: str) -> Modality | None:
    name = path.stem.lower()
    named = [kind for kind, pattern in _NAMES.items() if pattern.search(name)]
    kinds = named + [_FOLDERS[part.lower()] for part in reversed(path.parts[:-1]) if part.lower() in _FOLDERS]
    return next((kind for kind in dict.fromkeys(kinds) if _FITS[kind](path, mime)), None)


def _kind_by_content(path: Path, mime: str) -> tuple[Modality, str]:
    if path.name == METADATA:
        raise NotMedia(f"{path}: metadata table")
    if mime in _TABLES:
        return Modality.IMU, mime
    if mime in _ARRAYS:
        raise NotMedia(
            f"{path}: array of unknown content; if it is a depth map, pass --as 'depth=*{path.suffix}'"
        )
    family, _, format = mime.partition("/")
    if family == "video" and not container.has_pictures(path):
        return Modality.AUDIO, f"audio/{format}"
    if family in ("image", "text", "audio", "video"):
        return Modality(family), mime
    raise NotMedia(f"{path}: unsupported file type; set its kind with --as KIND=GLOB")


def _magic(head: bytes) -> str:
    """Detect the MIME type from the first HEAD bytes of a file; "" if unknown."""
    for magic, mime in _MAGIC.items():
        if head.startswith(magic):
            return mime
    if int.from_bytes(head[:2], "big") & 0xFFE6 == 0xFFE2:  # MPEG layer III sync word
        return "audio/mpeg"
    if head[:4] in (b"RIFF", b"RF64"):
        return _RIFF.get(head[8:12], "")
    if head[:4] == b"OggS":
        return "video/ogg" if b"theora" in head else "audio/ogg"
    if head[:4] == b"\x1a\x45\xdf\xa3":  # EBML
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # the reserved fields distinguish it from text
        return "image/bmp"
    if head[4:8] == b"ftyp":  # ISO 14496-12: major brand, then compatible brands
        brands = head[8 : int.from_bytes(head[:4], "big")]
        if b"avif" in brands:
            return "image/avif"
        if brands[:4] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1"):
            return "image/heic"
        return "video/quicktime" if brands[:4] == b"qt  " else "video/mp4"
    return ""
