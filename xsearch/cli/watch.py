"""`ingest --watch`: what changes below folders, for as long as they are there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from xsearch.cli import output
from xsearch.cli.table import relative
from xsearch.errors import UsageError

__all__ = ["changes"]

TICK_MS = 1000


def changes(paths: Sequence[str], collection: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Yield, at first and after changes have settled, which of `paths` exist and what was deleted below them.

    A path that is gone or has been replaced may be that of a disk that was unmounted: that deletes nothing.
    The folder of a changed ignore file counts as deleted, so that the items of excluded files are removed.
    """
    from xsearch.media import IGNORE_FILE, absolute, is_hidden

    ours, roots = absolute(collection), [absolute(path) for path in paths]

    def matters(change: object, name: str) -> bool:
        path = Path(name)
        below = [path.relative_to(root).parts for root in roots if path.is_relative_to(root)]
        visible = [not any(map(is_hidden, parts)) or parts[-1] == IGNORE_FILE for parts in below]
        return any(visible) and not path.is_relative_to(ours)

    before = [_identity(root) for root in roots]
    output.note("watching; stop with Ctrl-C")
    while True:
        identities = [_identity(root) for root in roots]
        for root, identity, old in zip(roots, identities, before, strict=True):
            if old and not identity:
                output.note(f"{relative(str(root))} is gone; its items are kept until it is back")
        before = identities
        there = [str(root) for root, identity in zip(roots, identities, strict=True) if identity]
        for number, events in enumerate(_events(there, matters)):
            deleted = [path for change, path in events if change.name == "deleted"]
            if number and ([_identity(root) for root in roots] != identities or {*deleted} & {*there}):
                break
            ignore_files = [Path(path) for _, path in events if Path(path).name == IGNORE_FILE]
            if there and (events or not number):
                yield there, [*deleted, *(str(path.parent) for path in ignore_files)]


def _events(paths: Sequence[str], matters: Callable[[object, str], bool]) -> Iterator[set[tuple[Any, str]]]:
    """Yield sets of (change, path), empty ones at first and once a second. The first says that it looks."""
    try:
        import watchfiles
    except ImportError:
        raise UsageError("--watch needs the package watchfiles: pip install 'xsearch[watch]'") from None
    with suppress(FileNotFoundError):  # gone before it looked
        if paths:
            yield from watchfiles.watch(
                *paths,
                watch_filter=matters,
                yield_on_timeout=True,
                rust_timeout=TICK_MS,
                raise_interrupt=True,
            )
    yield set()
    time.sleep(TICK_MS / 1000)
    yield set()


def _identity(root: Path) -> tuple[int, int] | None:
    """Return what tells a file or folder from another of its name; None if there is none."""
    try:
        status = os.stat(root)  # noqa: PTH116
    except OSError:
        return None
    return status.st_dev, status.st_ino
