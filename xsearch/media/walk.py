"""Walk folders of media."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from xsearch.errors import MediaError, Reason, Transient, UsageError
from xsearch.media.exclusion import Exclusion, IgnoreFile, Skipped, is_hidden
from xsearch.media.faults import unavailable
from xsearch.media.files import absolute, identify, match_kind
from xsearch.media.imu import oxts
from xsearch.media.limits import check_settings
from xsearch.types import MediaFile, Modality

__all__ = ["walk"]


def walk(
    roots: Sequence[Path],
    *,
    kinds: Sequence[tuple[Modality, str]] = (),
    known: Callable[[Path], MediaFile | None] = lambda path: None,
    exclusion: Exclusion | None = None,
    identify: Callable[..., MediaFile] = identify,
) -> Iterator[MediaFile | Skipped]:
    """Yield every file under the roots once: roots that are files, then folders depth first, sorted by name.

    Hidden and system entries are left out unless they are roots, and so is what `exclusion` excludes, of
    which the outermost folders are yielded. Of roots that are files, only its globs apply.
    Symlinked folders are walked last and only if not visited yet, so loops terminate. The files of an
    IMU recording are yielded as one.
    kinds: see `identify`; files that match none of them and are `known` are not opened.
    identify: may do the same in another process.
    Raises UsageError if a root does not exist, or a setting of `limits` is wrong.
    """
    check_settings()
    exclusion = exclusion or Exclusion()
    tops = list(dict.fromkeys(absolute(root) for root in roots))
    for root in tops:
        if not root.exists():
            raise UsageError(f"{_printable(root)}: no such file or folder; check the path")
    yielded: set[Path] = set()  # roots that are files
    for root in tops:
        if not root.is_dir():
            file = exclusion.skip(root, root) or _examine(root, root.parent, kinds, known, identify)
            if (path := Path(file.path)) not in yielded:
                yielded.add(path)
                yield file

    folders = deque((root, root) for root in tops if root.is_dir())
    visited: set[tuple[int, int]] = set()  # (device, inode) of folders
    while folders:
        root, top = folders.popleft()
        stack: list[tuple[str, bool, bool, tuple[IgnoreFile, ...]]] = [(str(top), True, False, ())]
        while stack:
            name, is_folder, is_link, ignore_files = stack.pop()
            path = Path(name)
            try:
                path.name.encode()
                if path != top and (skip := exclusion.skip(path, root, ignore_files, is_folder=is_folder)):
                    if path not in yielded:
                        yield skip
                elif not is_folder:
                    file = _examine(path, root, kinds, known, identify)
                    if str(file.path) == name and path not in yielded:  # skips gyroscope files of pairs
                        yield file
                elif is_link:
                    folders.append((root, path))
                elif (identity := (path.stat().st_dev, path.stat().st_ino)) not in visited:
                    visited.add(identity)
                    if oxts.holds_frames(path):  # read with the file beside it
                        stack += [(str(path.with_name(oxts.TIMES)), False, False, ())] if path == top else []
                        continue
                    inner = exclusion.ignore_files(path, root)
                    with os.scandir(path) as entries:
                        stack.extend(
                            (entry.path, _is_folder(entry), entry.is_symlink(), inner)
                            for entry in sorted(entries, key=lambda entry: entry.name, reverse=True)
                            if not is_hidden(entry.name)
                        )
            except UnicodeEncodeError:
                yield Skipped(_printable(path), "file name is not valid UTF-8; rename it", Reason.UNSUPPORTED)
            except OSError as error:
                yield Skipped.of(name, path, Transient(unavailable(error)))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop
        return False


def _examine(
    path: Path,
    root: Path,
    kinds: Sequence[tuple[Modality, str]],
    known: Callable[[Path], MediaFile | None],
    identify: Callable[..., MediaFile],
) -> MediaFile | Skipped:
    try:
        if not kinds or not match_kind(path, root, kinds):
            with suppress(OSError):  # reported by `identify`
                if file := known(path):
                    return file
        return identify(path, root=root, kinds=kinds)
    except MediaError as error:
        return Skipped.of(str(path), path, error)


def _printable(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
