"""Globs: those of the user, by one rule for all options, and those of ignore files, by gitignore's."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase, translate
from functools import lru_cache
from glob import escape
from itertools import product
from pathlib import Path
from unicodedata import normalize

__all__ = ["fits", "matches", "nfc"]


def matches(path: Path, root: Path | None, glob: str) -> bool:
    """Whether a user's glob matches a file or folder at or below `root`, both absolute; None: its folder.

    The glob is compared with the name and with the path below `root`, before which it may repeat the last
    folders of `root`; from `/`, `./` or `../` on with the absolute path, and from `./` on with the path below
    `root` if the current folder is not below it. `*` also matches `/`, `**/` also nothing, and `folder/` all
    that is in such a folder.
    """
    top = root if root and root != path else path.parent
    glob_at = _patterns(glob, str(top), root is not None, _current_folder())
    text = nfc(str(path))
    return bool(
        glob_at.name.match(nfc(path.name))
        or (text.startswith(glob_at.top) and glob_at.below.match(text[len(glob_at.top) :]))
        or glob_at.absolute.match(text)
    )


def fits(path: Sequence[str], glob: tuple[str, ...]) -> bool:
    """Whether the parts of a path are those of a glob, where `**` stands for any number of them.

    >>> fits(("a", "b.jpg"), ("a", "*.jpg")), fits(("a", "b", "c.jpg"), ("a", "*.jpg"))
    (True, False)
    >>> fits(("a", "b", "c.jpg"), ("a", "**", "*.jpg")), fits(("a", "c.jpg"), ("a", "**", "*.jpg"))
    (True, True)
    """
    reached = _passed({0}, glob)  # positions in the glob: time is bounded by their number, whatever it is
    for part in path:
        stays = {at for at in reached if glob[at : at + 1] == ("**",)}
        moves = {at + 1 for at in reached - stays if at < len(glob) and fnmatchcase(part, glob[at])}
        reached = _passed(stays | moves, glob)
    return len(glob) in reached


def _passed(reached: set[int], glob: tuple[str, ...]) -> set[int]:
    """Return positions and those behind each `**` there, which may stand for nothing."""
    passed = set(reached)
    for at in reached:
        while glob[at : at + 1] == ("**",):
            at += 1
            passed.add(at)
    return passed


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
    scheme, _, url = glob.partition("://")
    if url:  # host and path are folders of a copy
        glob = url if scheme == "file" else url.lstrip("/")
    glob = nfc(os.path.expanduser(glob))  # noqa: PTH111
    parts, end = os.path.normpath(glob).strip("/").split("/"), "/*" * glob.endswith("/")
    top = nfc(root).rstrip("/")
    names, below, absolute = [], [], []
    ups = parts.count("..")  # at the beginning
    rest = "/".join(parts[ups:]) + end
    is_local = glob.startswith(("./", "../"))
    if glob.startswith("/"):
        absolute.append(f"/{rest}")
    elif is_local:
        absolute.append(f"{escape(os.path.normpath(Path(current, *parts[:ups])))}/{rest}")
    elif len(parts) == 1:
        names.append(rest)  # of a folder: nothing, a name has no slash
        below += [f"**/{rest}"] if end else []
    if not (glob.startswith("/") or ups or (is_local and f"{current}/".startswith(f"{root}/"))):
        below.append(rest)
        tops = top.split("/") if may_repeat else []
        below += ["/".join(parts[n:]) + end for n in range(1, len(parts)) if parts[:n] == tops[-n:]]
    return _Patterns(f"{top}/", *map(_compiled, (names, below, absolute)))


def _compiled(globs: Sequence[str]) -> re.Pattern[str]:
    """Return a pattern of all globs; brackets are also taken literally, as in `[2024] Trip`."""
    forms = [form for glob in globs for form in _forms(glob)]
    literal = [form.replace("[", "[[]") for form in forms if "[" in form]
    return re.compile("|".join(map(translate, forms + literal)) or r"(?!)")


def _forms(glob: str) -> Iterator[str]:
    """Yield a glob with each `**/` as it is and left out.

    >>> sorted(_forms("**/a/**/b"))
    ['**/a/**/b', '**/a/b', 'a/**/b', 'a/b']
    """
    first, *others = re.split(r"(?:^|(?<=/))\*\*/", glob, maxsplit=5)
    for joints in product(("**/", ""), repeat=len(others)):
        yield first + "".join(joint + part for joint, part in zip(joints, others, strict=True))


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109
    except FileNotFoundError:  # deleted
        return "/"
