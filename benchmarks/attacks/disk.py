"""A disk that fails, for the program: operations fail, or the power does, at the n-th of them."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xsearch.system.folder import Folder

__all__ = ["KINDS", "Fault", "install"]

KINDS = ("ENOSPC", "EIO", "full", "kill", "power")


@dataclass(frozen=True)
class Fault:
    """What happens at an operation: it fails (ENOSPC, EIO), it and later ones do (full), or all ends.

    at: the number of the operation, from 0; "count": no fault, the number of operations is written to `out`.
    out: a power cut leaves there what of `collection` is on the disk.
    """

    kind: str
    at: int
    seed: int
    collection: str
    out: str

    def environment(self) -> dict[str, str]:
        values = (self.kind, self.at, self.seed, self.collection, self.out)
        return {"XSEARCH_TORTURE_FAULT": "\n".join(map(str, values))}


def install() -> None:
    """Make the disk of this process fail as its environment says."""
    if not (values := os.environ.get("XSEARCH_TORTURE_FAULT")):
        return
    kind, at, seed, collection, out = values.split("\n")
    disk = _Disk(Fault(kind, int(at), int(seed), collection, out))
    plain: Callable[..., None] = Folder.__init__

    def init(self: Folder, path: Path, step: Any = lambda name: None, **more: Any) -> None:
        def both(name: str) -> None:
            disk.reached(name)
            step(name)

        plain(self, path, step if more.get("within") else both, **more)

    Folder.__init__ = init  # type: ignore[method-assign]


class _Disk:
    """Counts operations, and knows what of a collection is sure to outlast the power."""

    def __init__(self, fault: Fault) -> None:
        self._fault, self._count = fault, 0
        self._root = Path(fault.collection)
        self._files: dict[int, bytes] = {}  # content that was flushed, by inode
        self._folders: dict[int, dict[str, int]] = {}  # names that were flushed, and their inodes
        self._held: list[int] = []  # open files: an inode in use is not given again
        self._fsync = os.fsync
        if fault.kind == "power":
            os.fsync = self._flushed
            for path in (self._root.parent, *self._root.rglob("*"), *[self._root] * self._root.exists()):
                descriptor = os.open(path, os.O_RDONLY)
                self._note(descriptor)
                os.close(descriptor)

    def reached(self, name: str) -> None:
        at, self._count = self._count, self._count + 1
        match self._fault.kind:
            case "count":
                Path(self._fault.out).write_text(str(self._count))
            case "ENOSPC" | "EIO" as kind if at == self._fault.at:
                raise OSError(getattr(errno, kind), os.strerror(getattr(errno, kind)), name)
            case "full" if at >= self._fault.at and name.split()[0] in ("create", "write", "mkdir", "fsync"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
            case "kill" if at == self._fault.at:
                os.kill(os.getpid(), signal.SIGKILL)
            case "power" if at == self._fault.at:
                self._leave(random.Random(self._fault.seed))
                os.kill(os.getpid(), signal.SIGKILL)

    def _flushed(self, descriptor: int) -> None:
        self._fsync(descriptor)
        self._note(descriptor)

    def _note(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not (path.is_relative_to(self._root) or path == self._root.parent):
            return
        self._held.append(os.dup(descriptor))
        if path.is_dir():
            self._folders[path.stat().st_ino] = {child.name: child.lstat().st_ino for child in path.iterdir()}
        else:
            self._files[path.stat().st_ino] = path.read_bytes()

    def _leave(self, rng: random.Random) -> None:
        """Write what is on the disk: what was flushed, and any part of what was not."""
        names = self._folders[self._root.parent.stat().st_ino]
        if self._root.exists() and (self._root.name in names or rng.random() < 0.5):
            self._copy(self._root, Path(self._fault.out), rng)

    def _copy(self, folder: Path, to: Path, rng: random.Random) -> None:
        to.mkdir(parents=True)
        now = {child.name: child for child in folder.iterdir()} if folder.is_dir() else {}
        flushed = self._folders.get(folder.stat().st_ino, {})
        for name in sorted({*now, *flushed}):
            inode = now[name].stat().st_ino if name in now else None
            if inode != flushed.get(name) and rng.random() < 0.5:
                inode = flushed.get(name)  # the change of the name is lost
            if inode is None:
                continue
            if name in now and now[name].stat().st_ino == inode and now[name].is_dir():
                self._copy(now[name], to / name, rng)
            elif inode in self._folders:  # a folder that was deleted, or moved
                self._restore(inode, to / name)
            elif inode in self._files:
                (to / name).write_bytes(self._files[inode])
            elif name in now and now[name].stat().st_ino == inode:
                (to / name).write_bytes(_torn(now[name].read_bytes(), rng))

    def _restore(self, inode: int, to: Path) -> None:
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for name, child in self._folders[inode].items():
            if child in self._files:
                (to / name).write_bytes(self._files[child])
            elif child in self._folders:
                self._restore(child, to / name)


def _torn(content: bytes, rng: random.Random) -> bytes:
    """What is on the disk of a file that was never flushed: all, a part, or blocks in any order."""
    match rng.randrange(4):
        case 0:
            return content
        case 1:
            return b""
        case 2:
            return content[: rng.randrange(len(content) + 1)]
    blocks = [content[at : at + 512] for at in range(0, len(content), 512)]
    return b"".join(block if rng.random() < 0.5 else bytes(len(block)) for block in blocks)
