"""What a decoder may do when a hostile file, a tired machine or an unlucky user has got hold of it.

Each is a job of a worker process, called with a path, and does its harm in the first `times` tries, which it
counts in that file.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from xsearch.decoders.wire import PREFIX, encode
from xsearch.errors import Transient
from xsearch.types import Modality, Sample


def wave(number: int) -> Sample:
    return Sample(Modality.AUDIO, np.full(1000, number, np.float32), start_s=float(number), rate_hz=16_000)


def tries(path: Path) -> int:
    """Count this try; return how many there were before."""
    with path.open("ab") as file:
        file.write(b".")
    return path.stat().st_size - 1


def killed(path: Path, times: int, number: int, after: int = 0) -> Iterator[Sample]:
    """Yield five samples; after some of them, get a signal."""
    harmful = tries(path) < times
    for at in range(5):
        if harmful and at == after:
            os.kill(os.getpid(), number)
            time.sleep(60)
        yield wave(at)


def exits(path: Path, times: int) -> str:
    if tries(path) < times:
        os._exit(7)
    return "done"


def hangs_with_gil(path: Path, times: int) -> str:
    if tries(path) < times:
        hold()
    return "done"


def busy(path: Path) -> None:
    process(path)
    hold()


def hold() -> None:
    """Compute for hours, without letting other threads of Python run."""
    re.match("(a*)*b", "a" * 40)


def process(path: Path) -> int:
    path.write_text(str(os.getpid()))
    return os.getpid()


def needs(path: Path, size: int) -> int:
    tries(path)
    return len(np.empty(size, np.uint8))


def alone(path: Path, lacks: bool, folder: Path) -> list[str]:
    """Say whether no other job is at work; `lacks`: after a first try that fails for lack of memory."""
    if lacks and not tries(path):
        raise MemoryError
    (folder / f"{path.name}.works").touch()
    time.sleep(0.2)
    others = list(folder.glob("*.works"))
    (folder / f"{path.name}.works").unlink()
    return ["alone"] * (len(others) == 1 and lacks)


def fails(path: Path, times: int) -> str:
    if tries(path) < times:
        raise Transient(f"{path}: Input/output error")
    return "done"


def writes(path: Path, times: int, what: str, then: str) -> str:
    """Write to the parent what no worker does; then hang or end."""
    if tries(path) < times:
        parent = next(filter(None, map(_socket, range(3, 4096))))
        beginning, body = encode(wave(1))
        message = {
            "half a header": beginning[: PREFIX.size + 20],
            "half a body": beginning + bytes(body)[:100],
            "garbage": b"GET / HTTP/1.1\r\n\r\n" * 10,
        }[what]
        parent.sendall(message)
        if then == "end":
            os._exit(0)
        time.sleep(60)
    return "done"


def _socket(descriptor: int) -> socket.socket | None:
    with suppress(OSError):
        return socket.socket(fileno=descriptor)
    return None


def attempts(path: Path) -> list[str]:
    """Try what a decoder may not do; return what fails."""

    def refused(act: object) -> bool:
        try:
            act()
        except PermissionError:
            return True
        return False

    acts = {
        "program": lambda: subprocess.run(["true"]),
        "socket": lambda: socket.socket(),
        "thread": lambda: threading.Thread(target=int).start(),
    }
    return [name for name, act in acts.items() if refused(act)]


def limits(path: Path) -> list[int]:
    import resource

    return [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CORE)]


def stops(path: Path) -> str:
    process(path)
    os.kill(os.getpid(), signal.SIGSTOP)
    return "done"
