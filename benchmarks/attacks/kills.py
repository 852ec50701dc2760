"""Kills: commands and their decoders are killed or stopped at random instants, and others follow."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from subprocess import TimeoutExpired

from benchmarks.attacks.commands import Commands, left_behind
from benchmarks.attacks.program import Hand, Program, run
from benchmarks.attacks.world import Wrong

__all__ = ["Kills"]

SIGNALS = ("SIGKILL", "SIGKILL", "SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
DECODERS = ("SIGKILL", "SIGSTOP")  # for decoders


class Kills:
    """After every kill the collection opens and holds what was committed; in the end it holds everything."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._commands = Commands(folder, hand, scale)
        self._scratch = folder / "scratch"
        self._usual_s: dict[str, float] = {}

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        name = rng.choice([*Commands.NAMES, "ingest", "decoders", "decoders"])
        return self._of_decoders(folder, rng) if name == "decoders" else self._of(name, folder, rng)

    def _of(self, name: str, folder: Path, rng: random.Random) -> Counter[str]:
        command = self._commands.make(name, folder / "c", rng)
        tried = Counter[str]()
        for _ in range(rng.randint(1, 3)):
            sent = rng.choice(SIGNALS)
            scratch, what = self._scratch / str(time.monotonic_ns()), f"{sent} of {name}"
            program = Program(*command.arguments, scratch=scratch)
            try:
                program.wait_until_ready()
                start_s, usual_s = time.monotonic(), self._usual_s.get(name, 1.0)
                with suppress(TimeoutExpired):
                    program.process.wait(rng.uniform(0, usual_s))
                if program.process.poll() is None:
                    program.process.send_signal(getattr(signal, sent))
                    tried[what] += 1
                else:
                    self._usual_s[name] = (usual_s + time.monotonic() - start_s) / 2
                number = getattr(signal, sent)
                if (code := program.wait()) not in (0, 1, 128 + number, -number):
                    raise Wrong(f"{what}: exit code {code}: {program.output[-2000:]}")
                if "Traceback" in program.output:
                    raise Wrong(f"{what}: {program.output[-2000:]}")
            finally:
                program.close()
            if sent != "SIGKILL" and (left := left_behind(scratch, command.path)):
                raise Wrong(f"after {what}: {left} left")
            shutil.rmtree(scratch)
            self._commands.check(command, what)
        self._commands.end(command, f"kills of {name}")
        return tried

    def _of_decoders(self, folder: Path, rng: random.Random) -> Counter[str]:
        """Kill or stop decoders, up to three; the ingest ends all the same."""
        sent, tried = rng.choice(DECODERS), Counter[str]()
        command, what = self._commands.make("ingest", folder / "c", rng), f"{sent} of a decoder"
        program = Program(*command.arguments, scratch=self._scratch, XSEARCH_DECODE_TIMEOUT_S="5")
        try:
            program.wait_until_ready()
            times = rng.randint(1, 3)
            while program.process.poll() is None and tried.total() < times:
                decoders = program.decoders()
                time.sleep(rng.uniform(0, 0.2))
                if decoders:
                    with suppress(ProcessLookupError):
                        os.kill(rng.choice(decoders), getattr(signal, sent))
                        tried[what] += 1
            if code := program.wait():
                raise Wrong(f"{what}: exit code {code}: {program.output[-2000:]}")
        finally:
            program.close()
        if left := left_behind(self._scratch, command.path):
            raise Wrong(f"after {what}: {left} left")
        self._commands.check(command, what)
        run("ingest", self._commands.media, "-c", command.path, scratch=self._scratch)
        self._commands.whole(command.path, what)
        return tried
