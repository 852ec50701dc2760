"""What is left out of a folder: hidden entries, system folders, globs of the user, and ignore files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path

from xsearch.errors import MediaError, Reason, SkipKind, UsageError
from xsearch.media.globs import fits, matches, nfc
from xsearch.media.text import decode

__all__ = ["IGNORE_FILE", "REMOVED", "Exclusion", "IgnoreFile", "Skipped", "is_hidden"]

IGNORE_FILE = ".xsearchignore"

REMOVED = "removed with --ignore; `xsearch ingest FILE` brings it back"

# Names that operating systems and NAS use for themselves, in lower case unless that is an everyday word
_SYSTEM = {
    *("@eadir", "#recycle", "#snapshot", "@sharesnap"),  # Synology
    *("@recycle", "@recently-snapshot"),  # QNAP; the rest of it is hidden
    *("$recycle.bin", "RECYCLER", "system volume information", "found.000"),  # Windows
    *("thumbs.db", "thumbs.db:encryptable", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),
    *("__macosx", "icon\r", "network trash folder"),  # macOS; archives made there
    *("lost+found", "lost.dir", "~snapshot"),  # Linux, Android, NetApp
}


@dataclass(frozen=True, slots=True)
class Skipped:
    """A file or folder without samples. Reasons that are not failures: `Reason.is_failure`."""

    path: str  # or URL; undecodable bytes of a name are escaped as \\xNN
    reason: str  # message without the path
    error: Reason
    state: str | None = field(default=None, compare=False)  # of the file; see `ingest.known`

    @classmethod
    def of(cls, name: str, path: Path, problem: MediaError) -> Skipped:
        """Return the record of a file or folder that failed. path: of the file, as the message starts."""
        reason = " ".join(str(problem).removeprefix(f"{path}: ").split()) or "no message"
        if problem.reason.is_passing and not reason.endswith((" ingest again", " tries it again")):
            reason += "; the next ingest tries it again"
        return cls(name, reason, problem.reason)

    @property
    def kind(self) -> SkipKind | None:
        """What is wrong; None of a file that should have no items."""
        return self.error.kind


def is_hidden(name: str) -> bool:
    """Whether an entry of this name is skipped silently unless it is a root.

    >>> is_hidden(".git"), is_hidden("@eaDir"), is_hidden("$Recycle.Bin"), is_hidden("Recycler")
    (True, True, True, False)
    """
    return name.startswith(".") or _is_system(name)


def _is_system(name: str) -> bool:
    return name in _SYSTEM or name.lower() in _SYSTEM


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of an ignore file."""

    text: str  # as written
    glob: tuple[str, ...]  # parts of a path below the folder of the file, or one of a name anywhere below it
    is_name: bool
    includes: bool  # instead of excluding
    folders_only: bool


class IgnoreFile:
    """The lines of an ignore file; their syntax and meaning are gitignore's."""

    def __init__(self, path: Path, text: str) -> None:
        """path: of the file, in the folder to which it applies."""
        self.path = path
        self.problems: list[str] = []
        self._depth = len(path.parts) - 1
        self._lines = list(self._parsed(text))

    def verdict(self, path: Path, is_folder: bool) -> _Line | None:
        """Return the last line that matches an entry below the folder of this file."""
        parts = [nfc(part) for part in path.parts[self._depth :]]
        for line in reversed(self._lines):
            if line.folders_only and not is_folder:
                continue
            if fnmatchcase(parts[-1], line.glob[0]) if line.is_name else fits(parts, line.glob):
                return line
        return None

    def _parsed(self, text: str) -> Iterator[_Line]:
        for number, line in enumerate(text.splitlines(), start=1):
            line = re.sub(r"(?<!\\) +$", "", line)
            if not line or line.startswith("#"):
                continue
            pattern = line.removeprefix("!")
            *folders, name = pattern.rstrip("/").split("/")
            if not name or re.search(r"(?<!\\)(\\\\)*\\$", name):
                self.problems.append(f"{self.path}: line {number}, {line!r}, matches nothing; see gitignore")
                continue
            parts = [*(folders[1:] if folders[:1] == [""] else folders), name]
            parts += ["*"] if folders and name == "**" else []  # what is in a folder, not the folder
            glob = tuple(nfc(re.sub(r"\\(.)|\[\^", _as_fnmatch, part)) for part in parts)
            yield _Line(line, glob, not folders, pattern != line, pattern.endswith("/"))


class Exclusion:
    """What is left out below the roots of an ingest, and by which rule.

    Ignore files apply to all that is below their folder, inner ones before outer ones, also if a root is
    below that folder, but for those that exclude the root itself.
    """

    def __init__(self, globs: Sequence[str] = (), removed: Collection[str] = ()) -> None:
        """globs: see `matches`. removed: paths and URLs that the user has removed for good."""
        if not all(glob.strip() for glob in globs):
            raise UsageError("--exclude: empty glob; expected one such as 'raw', '*.tmp' or 'old/2019*'")
        self.unmatched = dict.fromkeys(globs)  # of the globs
        self.problems: list[str] = []  # of ignore files
        self._globs = [(glob, glob.rstrip("/") or "/") for glob in self.unmatched]
        self._removed = removed
        self._chains: dict[tuple[Path, Path], tuple[IgnoreFile, ...]] = {}

    def ignore_files(self, folder: Path, root: Path, *, is_copy: bool = False) -> tuple[IgnoreFile, ...]:
        """Return the ignore files that apply to the entries of a folder, the innermost first.

        is_copy: `root` mirrors a URL; folders above it are not looked at.
        """
        if (chain := self._chains.get((folder, root))) is None:
            if folder != root and folder.is_relative_to(root):
                outer = self.ignore_files(folder.parent, root, is_copy=is_copy)
            else:
                outer = () if is_copy else self._above(root)
            chain = self._chains[folder, root] = (*self._read(folder), *outer)
        return chain

    def skip(
        self,
        path: Path,
        root: Path,
        ignore_files: Sequence[IgnoreFile] = (),
        *,
        is_folder: bool = False,
        name: str = "",
    ) -> Skipped | None:
        """Return why an entry is left out, None if it is not.

        ignore_files: of its folder. name: its URL, if `path` is that of a copy. Only globs exclude a root.
        """
        name = name or str(path)
        for glob, bare in self._globs:
            if matches(path, root, bare if is_folder else glob):
                self.unmatched.pop(glob, None)
                return Skipped(name, f"excluded by --exclude {glob}", Reason.EXCLUDED)
        if path == root:
            return None
        if name in self._removed and not is_folder:  # an import may call a folder a file
            return Skipped(name, REMOVED, Reason.REMOVED)
        if rule := _excluding(path, ignore_files, is_folder):
            return Skipped(name, f"excluded by {rule}", Reason.EXCLUDED)
        return None

    def covers(self, path: Path, root: Path) -> bool:
        """Whether a file below `root` is left out, or a folder in which it is.

        Hidden files are not: they can only have been stored because they, or their folder, were a root.
        """
        parts = path.relative_to(root).parts
        if any(map(_is_system, parts)):
            return True
        folder = root
        for at, part in enumerate(parts, start=1):
            ignore_files, folder = self.ignore_files(folder, root), folder / part
            if self.skip(folder, root, ignore_files, is_folder=at < len(parts)):
                return True
        return False

    def _above(self, root: Path) -> tuple[IgnoreFile, ...]:
        """Return the ignore files of the folders above a root; none if they exclude the root."""
        chain: tuple[IgnoreFile, ...] = ()
        for folder, child in pairwise([*reversed(root.parents), root]):
            chain = (*self._read(folder), *chain)
            if _excluding(child, chain, is_folder=True):
                chain = tuple(ignore for ignore in chain if not _excluding(child, [ignore], is_folder=True))
        return chain

    def _read(self, folder: Path) -> Iterator[IgnoreFile]:
        path = folder / IGNORE_FILE
        if not os.access(folder, os.X_OK):  # nothing in it can be opened, which `walk` reports
            return
        try:
            if path.is_file():  # not a pipe, which may block
                ignore = IgnoreFile(path, decode(path))
                self.problems += ignore.problems
                yield ignore
        except MediaError as problem:
            self.problems.append(f"{problem}; it excludes nothing")
        except OSError as problem:
            self.problems.append(f"{path}: cannot be read: {problem.strerror}; it excludes nothing")


def _excluding(path: Path, ignore_files: Sequence[IgnoreFile], is_folder: bool) -> str | None:
    """Return the line that excludes an entry, after the path of its file; None if it is not excluded."""
    for ignore in ignore_files:
        if line := ignore.verdict(path, is_folder):
            return None if line.includes else f"{ignore.path}: {line.text}"
    return None


def _as_fnmatch(match: re.Match[str]) -> str:
    r"""Translate `\x` and `[^` of gitignore for `fnmatch`."""
    escaped = match[1]
    return "[!" if escaped is None else f"[{escaped}]" if escaped in "*?[" else escaped
