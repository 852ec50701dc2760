"""Names that people type: which of them are meant as paths, and what to say where there is no such file."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from xsearch.media.formats import EXTENSIONS, FOREIGN

__all__ = ["looks_like_path", "why_no_file"]

# `/`, `./`, `../`, `~/`, `C:\` and `scheme://` start a path and no sentence
_ROOTED = re.compile(r"/|(~|\.\.?)[/\\]|[a-z]:[/\\]|[a-z][a-z0-9+.-]+://", re.IGNORECASE)
# Files that are no media or not yet: an error serves better than a search for the words of such a name
_OTHER_FILE = re.compile(
    r".+\.(7z|docx?|gz|html?|jsonl?|odt|pdf|pptx?|rar|tar|tgz|xlsx?|xml|ya?ml|zip)", re.IGNORECASE | re.DOTALL
)
_LISTED = 10_000  # names of a folder that a suggestion is chosen from


def looks_like_path(name: str) -> bool:
    """Whether a name is meant as a path rather than as words.

    It is if it names a folder; starts like a path; ends in the extension of a file and is one token or has a
    separator; or has a separator, no white space, and a parent folder that exists.

    >>> [looks_like_path(name) for name in ("brid.jpg", "./brid", "old photos/brid.jpg", "a.mp4?")]
    [True, True, True, False]
    >>> [looks_like_path(text) for text in ("and/or", "version 2.0", "a 3.5 mm jack", "AC/DC", "")]
    [False, False, False, False, False]
    """
    if not name.strip():
        return False
    if _ROOTED.match(name) or os.path.isdir(name):  # noqa: PTH112  a name with a NUL is no folder
        return True
    is_nested, is_token = "/" in name or os.sep in name, not re.search(r"\s", name)
    if is_token or is_nested:
        extension = os.path.splitext(name)[1].lower()  # noqa: PTH122
        if extension in EXTENSIONS or extension in FOREIGN or _OTHER_FILE.fullmatch(name):
            return True
    return is_token and is_nested and os.path.isdir(os.path.dirname(name.rstrip("/")) or ".")  # noqa: PTH112, PTH120


def why_no_file(path: str | Path) -> str:
    """Return why a path is not a file, with the nearest name in its folder if there is one near.

    A leading `~` is not expanded: a shell does that, and `Path.expanduser`.
    """
    name = str(path)
    if os.path.isdir(name):  # noqa: PTH112
        return f"{name} is a folder, not a file"
    if os.path.lexists(name):
        return f"{name} is not a regular file"
    near = _near(Path(name))
    hint = "; ~ is not expanded here" if name.startswith("~") else f"; did you mean {near}?" if near else ""
    return f"no such file: {name}{hint}"


def _near(path: Path) -> Path | None:
    """The path in the same folder whose name is most like this one's."""
    try:
        with os.scandir(path.parent) as entries:
            names = {entry.name.lower(): entry.name for entry in islice(entries, _LISTED)}
    except (OSError, ValueError):
        return None
    nearest = get_close_matches(path.name.lower(), names, n=1)
    return path.with_name(names[nearest[0]]) if nearest else None
