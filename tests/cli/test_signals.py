"""Signals that end a command, sent to the program as another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

import xsearch
from tests.cli.conftest import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc")

LINE = "interrupted: nothing is lost, run the same command again to continue"


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        soundfile.write(folder / f"{i:02}.wav", rng.normal(0, 0.1, 8000 * 10), 8000)
    return folder


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def children(parent: int) -> list[int]:
    path = Path(f"/proc/{parent}/task/{parent}/children")
    threads = path.parents[1].iterdir()
    return [int(child) for thread in threads for child in (thread / "children").read_text().split()]


def wait_for_end(processes: list[int]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while any(map(is_alive, processes)):
        assert time.monotonic() < deadline, "a decoder is left"
        time.sleep(0.01)


@pytest.mark.parametrize(("number", "second"), [("SIGTERM", None), ("SIGHUP", None), ("SIGHUP", "SIGINT")])
def test_a_signal_ends_like_ctrl_c(program, media, scratch, tmp_path, number, second):
    index = tmp_path / "index"
    process = program("ingest", media, "--collection", index, "--json-progress")
    assert "progress" in process.stdout.readline()
    decoders = children(process.pid)
    assert decoders
    assert [path.name[:8] for path in scratch.iterdir()] == ["xsearch-"]
    for each in filter(None, (number, second)):
        process.send_signal(signal.Signals[each])
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 128 + signal.Signals[number]
    assert [line for line in stderr.splitlines() if line and "model" not in line][-1] == LINE
    assert "Traceback" not in stderr
    wait_for_end(decoders)
    assert list(scratch.iterdir()) == []
    assert 0 < len(xsearch.open(index)) < 60


def test_a_killed_program_leaves_no_decoder_and_its_folder_to_the_next(program, media, scratch, tmp_path):
    index = tmp_path / "index"
    process = program("ingest", media, "--collection", index, "--json-progress")
    assert "progress" in process.stdout.readline()
    decoders = children(process.pid)
    os.kill(decoders[0], signal.SIGSTOP)
    process.kill()
    process.wait()
    wait_for_end(decoders)
    assert len(list(scratch.iterdir())) == 1
    others = scratch / "xsearch-somebody"
    others.mkdir()
    assert program("ingest", media, "--collection", index).wait(PATIENCE_S) == 0
    assert list(scratch.iterdir()) == [others]
    assert len(xsearch.open(index)) == 60


def test_a_decoder_that_is_killed_costs_no_file(program, media, scratch, tmp_path):
    index = tmp_path / "index"
    process = program("ingest", media, "--collection", index, "--json-progress", "--strict")
    assert "progress" in process.stdout.readline()
    os.kill(children(process.pid)[0], signal.SIGKILL)
    assert process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert len(xsearch.open(index)) == 60


def test_what_is_ignored_stays_ignored():
    """As by nohup; and importing the package changes no handler."""
    script = """
import signal
import xsearch, xsearch.cli.app, xsearch.collection
from xsearch.cli.signals import ending
assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with ending():
    signal.raise_signal(signal.SIGHUP)
    print("on")
    signal.raise_signal(signal.SIGTERM)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr.strip()) == (143, "on\n", LINE)


def test_the_third_signal_ends_at_once():
    script = """
import signal
from xsearch.cli.signals import ending
with ending():
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGTERM)
        print("finishing", flush=True)
        signal.raise_signal(signal.SIGTERM)
        print("never", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "finishing\n")
