"""Globs: those of the user, by one rule for all options, and those of ignore files, by gitignore's."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from glob import escape
from pathlib import Path
from unicodedata import normalize

__all__ = ["fits", "matches", "nfc"]


def matches(path: Path, root: Path | None, glob: str) -> bool:
    """Whether a user's glob matches a file or folder at or below `root`, both absolute; None: its folder.

    The glob is compared with the name and with the path below `root`, before which it may repeat the last
    folders of `root`. If it is absolute or starts with `./` or `../`, it is also compared with the absolute
    path. `*` also matches `/`, `**/` also nothing, `folder/` everything in a folder.
    """
    top = root if root and root != path else path.parent
    glob_at = _patterns(glob, str(top), root is not None, _current_folder())
    text = nfc(str(path))
    return bool(
        glob_at.name.match(nfc(path.name))
        or (text.startswith(glob_at.top) and glob_at.below.match(text[len(glob_at.top) :]))
        or glob_at.absolute.match(text)
    )


def fits(path: Sequence[str], glob: Sequence[str]) -> bool:
    """Whether the parts of a path are those of a glob, where `**` stands for any number of them.

    >>> fits(("a", "b.jpg"), ("a", "*.jpg")), fits(("a", "b", "c.jpg"), ("a", "*.jpg"))
    (True, False)
    >>> fits(("a", "b", "c.jpg"), ("a", "**", "*.jpg")), fits(("a", "c.jpg"), ("a", "**", "*.jpg"))
    (True, True)
    """
    if not path or not glob:
        return not path and set(glob) <= {"**"}
    if glob[0] == "**":
        return fits(path, glob[1:]) or fits(path[1:], glob)
    return fnmatchcase(path[0], glob[0]) and fits(path[1:], glob[1:])


def nfc(text: str) -> str:
    """Compose accents: macOS and archives made there decompose those of file names."""
    return text if text.isascii() else normalize("NFC", text)


@dataclass(frozen=True, slots=True)
class _Patterns:
    """A glob, compiled for the entries below a root."""

    top: str  # the root and a slash
    name: re.Pattern[str]
    below: re.Pattern[str]  # paths relative to the root
    absolute: re.Pattern[str]


@lru_cache
def _patterns(glob: str, root: str, may_repeat: bool, current: str) -> _Patterns:
    glob = nfc(os.path.expanduser(glob.partition("://")[2] or glob))  # noqa: PTH111  of a URL: host and path
    top, end = nfc(root).rstrip("/"), "/*" * glob.endswith("/")
    parts = os.path.normpath(glob).strip("/").split("/")
    if glob.startswith("/"):
        return _Patterns(f"{top}/", _compiled(), _compiled(), _compiled(f"/{'/'.join(parts)}{end}"))
    ups = parts.count("..")  # at the beginning only
    inner, tops = "/".join(parts[ups:]) + end, top.split("/")
    is_local = glob.startswith(("./", "../"))
    repeated = [n for n in range(1, len(parts)) if may_repeat and parts[:n] == tops[-n:]]
    below = ["/".join(parts[n:]) + end for n in repeated]
    below += [inner] * (not ups) + [f"**/{inner}"] * (bool(end) and len(parts) == 1)
    return _Patterns(
        f"{top}/",
        _compiled(*[inner] * (len(parts) == 1 and not end and not is_local)),
        _compiled(*below),
        _compiled(*[f"{escape(os.path.normpath(Path(current, *parts[:ups])))}/{inner}"] * is_local),
    )


def _compiled(*globs: str) -> re.Pattern[str]:
    """Return a pattern of all globs; brackets are also taken literally, as in `[2024] Trip`."""
    more = [glob.replace("**/", "") for glob in globs if "**/" in glob]
    literal = [glob.replace("[", "[[]") for glob in (*globs, *more) if "[" in glob]
    return re.compile("|".join(map(translate, (*globs, *more, *literal))) or r"(?!)")


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # deleted
        return "/"
