"""Faults: any operation of a writer fails, the power fails, the disk gets full."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from collections import Counter
from pathlib import Path

from benchmarks.attacks.commands import SPARE, Command, Commands, left_behind
from benchmarks.attacks.disk import KINDS, Fault
from benchmarks.attacks.program import Hand, Program, run
from benchmarks.attacks.world import Wrong

__all__ = ["Faults"]

SMALL = range(20, 2_000, 20)  # kB that a small disk has left


class Faults:
    """A failing disk ends a command in one line: what was committed stays, and another run goes on."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._commands = Commands(folder, hand, scale)
        self._scratch = folder / "scratch"
        self._operations: dict[str, int] = {}  # of a command, undisturbed
        self._mounted = folder / "disk"
        self._mounted.mkdir()
        self._kinds = (*KINDS, "small disk") if _mount(self._mounted, 100) else KINDS
        _unmount(self._mounted)

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        name, kind = rng.choice(Commands.NAMES), rng.choice(self._kinds)
        if kind == "small disk":
            return self._small_disk(name, rng)
        count = self._count(name, folder / "count")
        command = self._commands.make(name, folder / "c", rng)
        after = folder / "after"
        fault = Fault(kind, rng.randrange(count), rng.randrange(1 << 30), str(command.path), str(after))
        what = f"{kind} in {name}"
        code = self._run(command, f"{what} at {fault.at} of {count}", fault.environment())
        if kind == "power" and code:  # it was reached
            if command.path.exists():
                shutil.rmtree(command.path)
            if after.exists():
                after.rename(command.path)
        self._commands.check(command, f"{what} at {fault.at}", spare=SPARE)
        self._commands.end(command, f"{what} at {fault.at}", is_cut=kind == "power")
        return Counter({what: 1})

    def _run(self, command: Command, what: str, environment: dict[str, str]) -> int:
        """Run a command that may fail, but not noisily."""
        scratch = self._scratch / str(time.monotonic_ns())
        program = Program(*command.arguments, scratch=scratch, **environment)
        try:
            code = program.wait()
            is_killed = environment and code == -9
            if not is_killed and (code not in (0, 1) or "Traceback" in program.output):
                raise Wrong(f"{what}: exit code {code}: {program.output[-2000:]}")
            if code == 1 and sum(line.startswith("error: ") for line in program.output.splitlines()) != 1:
                raise Wrong(f"{what}: not one line of error: {program.output[-2000:]}")
        finally:
            program.close()
        if not is_killed and (left := left_behind(scratch)):
            raise Wrong(f"after {what}: {left} left")
        shutil.rmtree(scratch)
        return code

    def _count(self, name: str, folder: Path) -> int:
        """The number of operations of a command."""
        if name not in self._operations:
            command = self._commands.make(name, folder / "c", random.Random(0))
            fault = Fault("count", 0, 0, str(command.path), str(folder / "operations"))
            run(*command.arguments, scratch=self._scratch, **fault.environment())
            self._operations[name] = int((folder / "operations").read_text())
        return self._operations[name]

    def _small_disk(self, name: str, rng: random.Random) -> Counter[str]:
        """On a disk that gets full; there is room later."""
        kilobytes = rng.choice(SMALL)
        what = f"small disk in {name}"
        _mount(self._mounted, 100_000)
        try:
            command = self._commands.make(name, self._mounted / "c", rng)
            used = sum(path.lstat().st_blocks // 2 for path in self._mounted.rglob("*"))
            _mount(self._mounted, used + kilobytes, again=True)
            self._run(command, f"{what}, {kilobytes} kB", {})
            self._commands.check(command, f"{what}, {kilobytes} kB", spare=SPARE)
            _mount(self._mounted, 100_000, again=True)
            self._commands.end(command, f"{what}, {kilobytes} kB")
        finally:
            _unmount(self._mounted)
        return Counter({what: 1})


def _mount(folder: Path, kilobytes: int, *, again: bool = False) -> bool:
    """Mount a disk of this size, which only root may."""
    options = f"{'remount,' * again}size={kilobytes}k"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return not subprocess.run(command, capture_output=True, check=False).returncode


def _unmount(folder: Path) -> None:
    if os.path.ismount(folder):
        subprocess.run(["umount", "-l", str(folder)], check=True)
