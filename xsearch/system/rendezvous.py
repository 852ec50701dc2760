"""Where a server on this machine waits for the programs of its user: a Unix socket for each folder it serves.

The sockets are in a folder that only their user can enter, and not in what is served: that may be read-only,
on another machine, a copy, or from somebody else, and nothing in it can say whom to trust. They are named for
the device and inode of a folder: short, the same for every path to it, and different for a copy.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

__all__ = ["address", "announced", "is_private", "sockets"]

BACKLOG = 128


def sockets() -> Path | None:
    """The folder of the sockets of this user, whether it exists or not; None where there are no such sockets.

    It does not depend on the environment, which may be another for a service, a cron job, or in a terminal.
    """
    if not hasattr(os, "getuid") or not hasattr(socket, "AF_UNIX"):
        return None
    user = os.getuid()
    if is_private(session := Path(f"/run/user/{user}")):
        return session / "xsearch"
    return Path(f"/tmp/xsearch-{user}")


def is_private(folder: Path) -> bool:
    """Whether only this user can enter a folder; a link to one is none."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def address(folder: Path) -> Path | None:
    """Where a server of `folder` waits, if one does; None if none can, or `folder` does not exist."""
    if (place := sockets()) is None:
        return None
    try:
        status = folder.stat()
    except OSError:
        return None
    return place / f"{status.st_dev:x}-{status.st_ino:x}"


@contextmanager
def announced(folders: Sequence[Path]) -> Iterator[list[socket.socket]]:
    """Listen for the programs that search these folders, while the block runs; no more than one server does.

    Folders that another server serves have no socket, and none has where there cannot be any.
    """
    with ExitStack() as stack:
        each = (_listening(stack, path) for path in map(address, folders) if path is not None)
        yield [listener for listener in each if listener is not None]


def _listening(stack: ExitStack, path: Path) -> socket.socket | None:
    with suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    if not is_private(path.parent) or _answers(path):
        return None
    listener = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.unlink(missing_ok=True)  # of a process with this id that was killed
        listener.bind(str(beside))
        listener.listen(BACKLOG)
        beside.replace(path)  # also in the place of one that nobody listens at
    except OSError:
        beside.unlink(missing_ok=True)
        return None
    stack.callback(_remove, path, path.lstat().st_ino)
    return listener


def _answers(path: Path) -> bool:
    """Whether somebody listens at a socket; whoever was killed has left it behind."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:  # busy
            return True
    return True


def _remove(path: Path, inode: int) -> None:
    """Remove a socket that is still ours."""
    with suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()
