"""Confinement of a process that reads untrusted files.

It ends with its parent, has a limit on memory, and on Linux starts no program and opens no socket.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import select
import signal
import struct
import sys
from contextlib import suppress
from threading import Thread

__all__ = ["OVERHEAD", "end_with", "forbid_programs", "limit_memory"]

# Address space that a decoder reserves and hardly uses: libraries, stacks and heaps of threads. Measured:
# 0.75 GB with two cores; 16 threads of FFmpeg take 0.25 GB more.
OVERHEAD = 1 << 30
_ARENA_MAX = -8  # M_ of glibc's malloc.h

# Numbers of linux/seccomp.h, linux/filter.h, linux/audit.h and asm/unistd.h: execve, execveat, socket
_CALLS = {"x86_64": (0xC000003E, (59, 322, 41)), "aarch64": (0xC00000B7, (221, 281, 198))}
_NO_NEW_PRIVS, _SECCOMP, _FILTER = 38, 22, 2
_LOAD, _IF_EQUAL, _IF_ABOVE, _RETURN = 0x20, 0x15, 0x25, 0x06
_ALLOW, _DENY, _KILL = 0x7FFF0000, 0x00050000 | 1, 0x80000000  # deny: EPERM


def end_with(lifeline: int) -> None:
    """Have this process killed once the write end of a pipe is closed, as it is when its holder dies.

    On Linux the kernel does it, also while a C library is at work or the process is stopped.
    (PR_SET_PDEATHSIG would also fire when the thread ends that has started this process.)
    """
    if not hasattr(fcntl, "F_SETSIG"):
        Thread(target=_watch, args=[lifeline], daemon=True).start()
        return
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline)
    if poll.poll(0):  # it was closed before
        os.kill(os.getpid(), signal.SIGKILL)


def limit_memory(size: int) -> None:
    """Limit this process to `size` bytes, besides OVERHEAD; a lower limit stays. Write no core dumps."""
    os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"  # mimalloc reserves 1 GB
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(_ARENA_MAX, 2)  # each reserves 64 MB
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = size + OVERHEAD if most == resource.RLIM_INFINITY else min(size + OVERHEAD, most)
    with suppress(ValueError, OSError):  # macOS has no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_programs() -> None:
    """Make starting programs and opening sockets fail with EPERM from now on; no-op but on Linux."""
    if sys.platform != "linux" or platform.machine() not in _CALLS or sys.maxsize < 2**32:
        return
    architecture, calls = _CALLS[platform.machine()]
    program = [
        (_LOAD, 0, 0, 4),  # architecture, of seccomp_data
        (_IF_EQUAL, 1, 0, architecture),
        (_RETURN, 0, 0, _KILL),  # calls of 32 bits
        (_LOAD, 0, 0, 0),  # number of the call
        (_IF_ABOVE, len(calls) + 1, 0, 0x3FFFFFFF),  # x32
        *((_IF_EQUAL, len(calls) - at, 0, call) for at, call in enumerate(calls)),
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _DENY),
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in program))
    header = ctypes.create_string_buffer(struct.pack("HP", len(program), ctypes.addressof(code)))
    prctl = ctypes.CDLL(None).prctl
    prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    prctl(_SECCOMP, _FILTER, ctypes.c_void_p(ctypes.addressof(header)), 0, 0)


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.kill(os.getpid(), signal.SIGKILL)
