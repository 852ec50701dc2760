"""Closed, full and unread standard streams: an honest exit code, one line, no traceback, no lost commit."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from xsearch.integrity import verify
from xsearch.store import Store

FULL = "error: cannot write the output: No space left on device\n"
CLOSED = "error: cannot write the output: Bad file descriptor\n"


@pytest.fixture
def shell(model: Path, index: Path, tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """`shell("ls > /dev/full")` -> exit code and stderr of the program."""

    def shell(words: str) -> tuple[int, str]:
        command = ["bash", "-c", f"set -o pipefail; {shlex.quote(sys.executable)} -m xsearch {words}"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "XSEARCH_MODEL": str(model)}
        environment["XSEARCH_COLLECTION"] = str(index)
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            cwd=tmp_path,
            check=False,
        )
        return done.returncode, done.stderr

    return shell


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["--help", "--version", "ls", "ls --json", "query dog --csv", "info", "index info", "models list"],
)
def test_a_full_output_is_one_line(command, shell):
    code, stderr = shell(f"{command} > /dev/full")
    assert code == 1
    assert stderr.endswith(FULL)
    assert stderr.count("error") == 1


@pytest.mark.parametrize("command", ["--help", "ls", "query dog --csv"])
def test_a_closed_output_is_one_line(command, shell):
    code, stderr = shell(f"{command} >&-")
    assert code == 1
    assert stderr.endswith(CLOSED)


@pytest.mark.parametrize("command", ["--help", "ls --json", "query dog --csv"])
def test_a_reader_that_has_gone_ends_it_silently(command, shell):
    code, stderr = shell(f"{command} | true")
    assert code in (0, 1)  # 0 if all was written before the reader went
    assert "rror" not in stderr


@pytest.mark.parametrize("streams", ["2>&-", "2>/dev/full", "<&-", "<&- 2>&-"])
def test_messages_that_cannot_be_written_change_nothing(streams, shell):
    assert shell(f"ls {streams}")[0] == 0
    assert shell(f"ls -c nowhere {streams}")[0] == 1


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full", "--json-progress >/dev/full"])
def test_nothing_that_was_ingested_is_lost(streams, shell, media, tmp_path):
    code, _ = shell(f"ingest {shlex.quote(str(media / 'note.txt'))} -c c {streams}")
    assert code == 1
    assert len(Store.open(tmp_path / "c").snapshot()) == 1
    assert verify(tmp_path / "c") == []


def test_without_a_terminal_nothing_is_confirmed(shell):
    code, stderr = shell("rm 1 <&-")
    assert (code, stderr.splitlines()[-1].endswith("error: not confirmed, nothing was done")) == (1, True)
