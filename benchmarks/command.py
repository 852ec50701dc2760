"""The command line that the measuring programs share."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Self

__all__ = ["Sampler", "killed", "memory_mb", "parser", "report", "table"]


class Sampler:
    """Calls `sample` in a thread, every `period_s` seconds while the block runs."""

    period_s = 0.05

    def sample(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._ended = Event()
        self._thread = Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self.period_s):
            self.sample()


def parser(description: str | None) -> argparse.ArgumentParser:
    """Shows the module's docstring as it is, and knows `--json`."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", type=Path, help="write the figures here too")
    return made


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def killed(module: str, *arguments: str, after_s: float | None) -> bool:
    """Run a module of this folder, and kill it when it takes longer; whether it died of a SIGKILL.

    AssertionError if it failed by itself.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        _, problem = child.communicate(timeout=after_s)
    except subprocess.TimeoutExpired:
        child.kill()
        _, problem = child.communicate()
    if child.returncode not in (0, -signal.SIGKILL):
        raise AssertionError(f"the process failed by itself: {problem.decode()}")
    return child.returncode != 0


def memory_mb() -> tuple[float, float]:
    """Resident memory of this process: its own, and pages of files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: float(line.split()[1]) for line in lines if line.startswith("Rss")}
    return kilobytes["RssAnon"] / 1e3, kilobytes["RssFile"] / 1e3


def report(result: dict, markdown: Callable[[dict], str], path: Path | None) -> None:
    print(markdown(result))
    if path:
        path.write_text(json.dumps(result, indent=1))
