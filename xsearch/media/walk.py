"""Walk folders of media."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from xsearch.errors import MediaError, Reason, UsageError
from xsearch.media import oxts
from xsearch.media.files import absolute, identify, match_kind
from xsearch.types import MediaFile, Modality

__all__ = ["Skipped", "walk"]


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder without samples. Reason.NOT_MEDIA is not an error."""

    path: str  # or URL; undecodable bytes of a name are escaped as \\xNN
    reason: str  # message without the path
    error: Reason


def walk(
    roots: Sequence[Path],
    *,
    kinds: Sequence[tuple[Modality, str]] = (),
    known: Callable[[Path], MediaFile | None] = lambda path: None,
) -> Iterator[MediaFile | Skipped]:
    """Yield every file under the roots once: roots that are files, then folders depth first, sorted by name.

    Hidden entries are skipped unless they are roots. Symlinked folders are walked last and only if not
    visited yet, so loops terminate. The files of an IMU recording are yielded as one.
    kinds: see `identify`; files that match none of them and are `known` are not opened.
    Raises UsageError if a root does not exist.
    """
    tops = list(dict.fromkeys(absolute(root) for root in roots))
    for root in tops:
        if not root.exists():
            raise UsageError(f"{_printable(root)}: no such file or folder; check the path")
    yielded: set[Path] = set()  # roots that are files
    for root in tops:
        if not root.is_dir():
            file = _examine(root, root.parent, kinds, known)
            if (path := Path(file.path)) not in yielded:
                yielded.add(path)
                yield file

    folders = deque((root, root) for root in tops if root.is_dir())
    visited: set[tuple[int, int]] = set()  # (device, inode) of folders
    while folders:
        root, top = folders.popleft()
        stack = [top]
        while stack:
            path = stack.pop()
            try:
                path.name.encode()
                if not path.is_dir():
                    file = _examine(path, root, kinds, known)
                    if str(file.path) == str(path) and path not in yielded:  # skips gyroscope files of pairs
                        yield file
                elif path.is_symlink() and path != top:
                    folders.append((root, path))
                elif (identity := (path.stat().st_dev, path.stat().st_ino)) not in visited:
                    visited.add(identity)
                    if oxts.holds_frames(path):  # read with the file beside it
                        stack += [path.with_name(oxts.TIMES)] if path == top else []
                        continue
                    with os.scandir(path) as entries:
                        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
                    stack.extend(path / name for name in reversed(names))
            except UnicodeEncodeError:
                yield Skipped(_printable(path), "file name is not valid UTF-8; rename it", Reason.UNREADABLE)
            except OSError as error:
                yield Skipped(str(path), f"cannot be opened: {error.strerror}", Reason.UNREADABLE)


def _examine(
    path: Path,
    root: Path,
    kinds: Sequence[tuple[Modality, str]],
    known: Callable[[Path], MediaFile | None],
) -> MediaFile | Skipped:
    try:
        if not kinds or not match_kind(path, root, kinds):
            with suppress(OSError):  # reported by `identify`
                if file := known(path):
                    return file
        return identify(path, root=root, kinds=kinds)
    except MediaError as error:
        return Skipped(str(path), str(error).removeprefix(f"{path}: "), error.reason)


def _printable(path: Path) -> str:
    return os.fsencode(path).decode(errors="backslashreplace")
