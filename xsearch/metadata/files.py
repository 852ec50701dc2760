"""Files by the names that people and programs write for them."""

from __future__ import annotations

import os
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from urllib.parse import unquote, urlsplit

from xsearch.media import nfc

__all__ = ["Files", "Match"]

LONGEST, DEEPEST = 8192, 64  # letters of a name, and the folders at its end that are compared
_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_DRIVE = re.compile(r"[a-z]:", re.IGNORECASE)
_ELSEWHERE = re.compile(rf"{_DRIVE.pattern}|//|~", re.IGNORECASE)  # a drive, a share, somebody's home


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """The files that the names in a column mean."""

    rows: Mapping[str, int]  # by path of a file: the last row that means it
    missing: Sequence[int]  # rows that mean no file
    exact: int  # files named by a whole path, or by one relative to the folder


class Files:
    """The files below some folders.

    Two names are the same file's if they are equal, else if they are equal in Unicode NFC, else if one file
    alone has that name in any case. Backslashes are slashes.
    """

    def __init__(self, paths: Iterable[str], roots: Iterable[str] = ()) -> None:
        """paths: absolute and normalised. roots: the folders."""
        self._paths, self._roots = frozenset(paths), list(dict.fromkeys(roots))

    def match(self, names: Sequence[str | None], folder: str, *, anywhere: bool = False) -> Match:
        """Return the files that `names`, in a table in `folder`, mean; takes O(names + files).

        A name is relative to the folder, else the end of the path of one or more files below it. A URL or an
        absolute path of another machine means the file whose path relative to the folder it ends in.
        anywhere: whether files may as well be below any root.
        """
        missing = set(range(len(names)))
        exact: dict[str, int] = {}
        alike: dict[str, int] = {}
        tails: _Rows = defaultdict(lambda: defaultdict(list))  # by path of a file
        ends: _Rows = defaultdict(lambda: defaultdict(list))  # by folded name
        bases = [folder, *self._roots] if anywhere else [folder]
        for row, name in enumerate(names):
            if not name or "\0" in name or len(name) > LONGEST:
                continue
            path: str | None = os.path.normpath(os.path.join(folder, name))  # noqa: PTH118
            if path in self._paths:
                exact[path] = row
                missing.discard(row)
                continue
            parts, path = _split(name, folder)
            if path and (file := self._at(path)):
                alike[file] = row
                missing.discard(row)
            elif path and os.path.lexists(path):
                if file := self._linked(path):
                    alike[file] = row
                if not os.path.isdir(path):  # noqa: PTH112  outside the folders, or left out there
                    missing.discard(row)
            elif file := None if path and path.startswith(f"{folder}/") else self._tail(parts, bases):
                tails[file]["/".join(parts)].append(row)
            elif parts:
                ends[_folded("/".join(parts))]["/".join(parts)].append(row)
        rows: dict[str, int] = {}
        for path, by_name in tails.items():
            shared = {name: _shared(path, name) for name in by_name}
            longest = [name for name in shared if shared[name] == max(shared.values())]
            if len(longest) == 1:  # several names, say of `train/1.jpg` and `val/1.jpg`, cannot all mean it
                rows[path] = by_name[longest[0]][-1]
                missing.difference_update(by_name[longest[0]])
        for end, paths in self._ending(ends, "" if anywhere else folder):
            for name, its_rows in ends[end].items():
                if meant := _same(f"/{name}", paths):
                    rows |= dict.fromkeys(meant, its_rows[-1])
                    missing.difference_update(its_rows)
        return Match(rows | alike | exact, sorted(missing), len(alike | exact))

    def _at(self, path: str) -> str | None:
        """Return the file at a path."""
        if path in self._paths:
            return path
        return next(iter(_same(path, self._by_folded.get(_folded(path), []))), None)

    def _linked(self, path: str) -> str | None:
        """Return the file that an existing path leads to through symbolic links."""
        target = os.path.realpath(path)
        for root, real in self._real_roots.items():
            if target.startswith(f"{real}/") and (file := self._at(root + target[len(real) :])):
                return file
        return self._at(target)

    def _tail(self, parts: Sequence[str], bases: Iterable[str]) -> str | None:
        """Return the file below a base whose relative path is the longest end of `parts`."""
        for start in range(max(len(parts) - DEEPEST, 0), len(parts)):
            for base in bases:
                if file := self._at("/".join([base, *parts[start:]])):
                    return file
        return None

    def _ending(self, ends: Mapping[str, object], folder: str) -> Iterator[tuple[str, list[str]]]:
        """Yield each of `ends` that ends paths of files below the folder, and these; each file once."""
        names = {end.rpartition("/")[2] for end in ends}
        ending: dict[str, list[str]] = defaultdict(list)
        first, last = (bisect_left(self._sorted, f"{folder}{mark}") for mark in "/0")  # 0 comes after /
        for path in self._sorted[first:last] if ends else []:
            end = _folded(path)
            if end.rpartition("/")[2] in names:
                while end and end not in ends:
                    end = end.partition("/")[2]
                if end:
                    ending[end].append(path)
        yield from ending.items()

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self._paths)

    @cached_property
    def _by_folded(self) -> dict[str, list[str]]:
        by_folded: dict[str, list[str]] = defaultdict(list)
        for path in self._paths:
            by_folded[_folded(path)].append(path)
        return dict(by_folded)

    @cached_property
    def _real_roots(self) -> dict[str, str]:
        return {root: os.path.realpath(root) for root in self._roots}


_Rows = defaultdict[str, defaultdict[str, list[int]]]  # by name


def _split(name: str, folder: str) -> tuple[list[str], str | None]:
    """Return the parts of a name, and the local path it stands for; None if it is of another machine.

    >>> _split("photos\\\\a.jpg", "/m"), _split("C:\\\\photos\\\\a.jpg", "/m")
    ((['photos', 'a.jpg'], '/m/photos/a.jpg'), (['photos', 'a.jpg'], None))
    >>> _split("https://host/photos/a%20b.jpg?width=9", "/m"), _split("../a.jpg", "/m")
    ((['host', 'photos', 'a b.jpg'], None), (['a.jpg'], '/a.jpg'))
    """
    name = name.strip().replace("\\", "/")
    is_local = not _ELSEWHERE.match(name)
    if _URL.match(name):
        with suppress(ValueError):  # an invalid host
            url = urlsplit(name.partition("::")[0])
            name, is_local = f"{url.netloc}/{unquote(url.path)}", url.scheme == "file"
    parts = [part for part in name.split("/") if part not in ("", ".")]
    path = os.path.normpath("/".join(["" if name.startswith("/") else folder, *parts])) if is_local else None
    return [part for part in parts if part != ".." and not _DRIVE.fullmatch(part)], path


def _folded(name: str) -> str:
    return nfc(name).replace("\\", "/").casefold()


def _same(name: str, paths: Sequence[str]) -> Sequence[str]:
    """Return those of `paths` that end in `name`; all do if case and Unicode form are ignored."""
    for form in (str, nfc):
        if exactly := [path for path in paths if form(path).endswith(form(name))]:
            return exactly
    return paths if len(paths) == 1 else []


def _shared(path: str, name: str) -> int:
    """Return how many parts the ends of two names share."""
    pairs = zip(*(reversed(_folded(each).split("/")) for each in (path, name)), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
