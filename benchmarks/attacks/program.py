"""The program in a process of its own, with the fake model, to be killed, measured and made to fail.

python -m benchmarks.attacks.program ingest media -c collection    # as `xsearch`
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks.attacks import disk
from benchmarks.attacks.world import Backend, Wrong
from benchmarks.command import Sampler

__all__ = ["COMMIT_ITEMS", "Hand", "Memory", "Program", "memory_of", "offspring", "run"]

MARK = "XSEARCH_TORTURE"  # environment variable by which the processes of a run are recognised
READY = "XSEARCH_TORTURE_READY"  # descriptor that is written to when the imports are done
COMMIT_ITEMS = 8  # so that an ingest has many commits
LIMIT_S = 240.0  # the most that a command may take
GONE_S = 15.0  # the most that a decoder may outlive its parent


class Program:
    """A running command."""

    def __init__(self, *arguments: str | Path, scratch: Path, **environment: str) -> None:
        """scratch: its TMPDIR and XSEARCH_HOME."""
        self.mark, self.arguments = uuid4().hex, [str(argument) for argument in arguments]
        scratch.mkdir(parents=True, exist_ok=True)
        self._ready, theirs = os.pipe()
        self.start_s = time.monotonic()
        self._out = (scratch / f"{self.mark}.out").open("w+b")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.attacks.program", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=subprocess.STDOUT,
            env=os.environ
            | {"TMPDIR": str(scratch), "XSEARCH_HOME": str(scratch), MARK: self.mark, READY: str(theirs)}
            | {"OMP_NUM_THREADS": "1", "COLUMNS": "200"}
            | environment,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)

    def wait_until_ready(self) -> None:
        """Wait until the imports are done; returns at once if it has died of itself."""
        os.read(self._ready, 1)

    def wait(self, limit_s: float = LIMIT_S) -> int:
        """Return its exit code. Raises Wrong if it hangs."""
        try:
            return self.process.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Wrong(f"hangs: {' '.join(self.arguments)}") from None
        finally:
            if self.process.returncode is None:
                self.end()

    def end(self) -> None:
        """Kill it and its children; close what was opened for it."""
        for pid in (self.process.pid, *self.children()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    @property
    def output(self) -> str:
        self._out.flush()
        return Path(self._out.name).read_text(errors="replace")

    def close(self) -> None:
        """Close and delete its output. Raises Wrong if processes that it started are left."""
        try:
            until = time.monotonic() + GONE_S
            while left := self.children():
                if time.monotonic() > until:
                    for pid in left:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                    raise Wrong(f"{len(left)} processes are left after: {' '.join(self.arguments)}")
                time.sleep(0.02)
        finally:
            if self.process.poll() is None:
                self.end()
            os.close(self._ready)
            self._out.close()
            Path(self._out.name).unlink(missing_ok=True)

    def children(self) -> list[int]:
        """The living processes that it, or one of them, has started."""
        mark = f"{MARK}={self.mark}".encode()
        return [pid for pid in _pids() if pid != self.process.pid and mark in _read(pid, "environ")]

    def decoders(self) -> list[int]:
        return [pid for pid in self.children() if b"xsearch.decoders" in _read(pid, "cmdline")]


def run(*arguments: str | Path, scratch: Path, check: bool = True, **environment: str) -> str:
    """Run a command to its end and return its output. Raises Wrong if it hangs, or, `check`, fails."""
    program = Program(*arguments, scratch=scratch, **environment)
    try:
        code = program.wait()
        if (check and code) or code not in (0, 1, 2) or "Traceback" in program.output:
            raise Wrong(f"exit code {code} of {' '.join(program.arguments)}: {program.output[-2000:]}")
        return program.output
    finally:
        program.close()


def _pids() -> Iterator[int]:
    return (int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit())


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def offspring(pid: int) -> list[int]:
    """The living descendants of a process."""
    parents = {
        each: int(_read(each, "stat").rpartition(b")")[2].split()[1] or 0)
        for each in _pids()
        if _read(each, "stat")
    }
    found = [pid]
    for parent in found:
        found += [child for child, of in parents.items() if of == parent]
    return found[1:]


def memory_of(pid: int) -> int:
    """The most bytes that a process has had in memory; 0 if it has ended."""
    _, found, rest = _read(pid, "status").partition(b"VmHWM:")
    return int(rest.split()[0]) << 10 if found else 0


class Memory(Sampler):
    """Measure a program and its children while the block runs: `main` and `child`, bytes at most."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.main = self.child = 0

    def sample(self) -> None:
        self.main = max(self.main, memory_of(self._program.process.pid))
        self.child = max(self.child, *map(memory_of, self._program.children()), 0)


class Hand:
    """A process that calls functions, so that a crash, a hang or a lot of memory is that of a round only."""

    CALLS = 300  # until a fresh one is started

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._process: Any = None
        self._left = 0

    def __call__(self, function: Callable[..., Any], *arguments: Any, limit_s: float = LIMIT_S) -> Any:
        """Return what the function returns. Raises Wrong if it does anything but that."""
        if self._process is None or not self._left or not self._process.is_alive():
            self.close()
            self._left = self.CALLS
            self._ours, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
        self._left -= 1
        self._ours.send((function, arguments))
        try:
            if not self._ours.poll(limit_s):
                self.close()
                raise Wrong(f"hangs: {function.__name__}")
            good, result = self._ours.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            raise Wrong(f"crashed: {function.__name__}, exit code {self._process.exitcode}") from None
        if not good:
            raise Wrong(result)
        return result

    @property
    def pid(self) -> int | None:
        return self._process and self._process.pid

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._ours.close()
            self._process = None


def _serve(parent: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.disable()
    with suppress(EOFError, OSError):
        while True:
            function, arguments = parent.recv()
            try:
                answer = True, function(*arguments)
            except Wrong as problem:
                answer = False, str(problem)
            except BaseException:
                answer = False, traceback.format_exc()
            parent.send(answer)


def main() -> None:
    import faiss  # noqa: F401  before the clock of a kill starts

    import xsearch.cli
    import xsearch.cli.app
    from xsearch import collection, ingest

    # The seam of the program to its model is the choice by name; the fake one has no name.
    collection.load_backend = collection.load_matching = lambda *_, **__: Backend()
    collection.model_source = lambda model: model
    collection.ingest = partial(ingest.ingest, commit_items=COMMIT_ITEMS)
    disk.install()
    os.write(int(os.environ[READY]), b"1")
    xsearch.cli.main()


if __name__ == "__main__":
    main()
