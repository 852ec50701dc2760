"""The program is run in this process, on a real collection, with a tiny model of random weights."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from typer.testing import CliRunner

from tests.thin_model import save_thin_model
from xsearch.cli.app import app
from xsearch.models import train_tokenizer

Run = Callable[..., Any]
PATIENCE_S = 600  # on a machine that is busy; nothing waits without need


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder."""
    folder = tmp_path_factory.mktemp("tiny")
    tokenizer = train_tokenizer(["a dog on the beach, a red clock, a cage"] * 9, 300, context=16)
    save_thin_model(folder, tokenizer, dim=32, context=16, mirrored=True)
    return folder


@pytest.fixture(scope="session")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures, a sound of 25 s, a text, a damaged picture and a file that is no media."""
    folder = tmp_path_factory.mktemp("my médïa")
    for name, colour in (("one", "red"), ("two", "green"), ("größe 3", "blue")):
        Image.new("RGB", (48, 32), colour).save(folder / f"{name}.png")
    soundfile.write(folder / "tone.wav", 0.5 * np.sin(np.arange(25 * 8000) * 0.1), 8000)
    (folder / "note.txt").write_text("a dog on the beach", encoding="utf-8")
    (folder / "broken.png").write_bytes((folder / "one.png").read_bytes()[:60])
    (folder / "program.exe").write_bytes(b"MZ\x00\x01")
    return folder


@pytest.fixture(scope="session")
def run(model: Path) -> Run:
    """`run("query", "dog")` -> what it printed; it must exit with `code`, and end without a traceback."""

    def run(*words: object, code: int = 0, input: str = "") -> Any:
        result = CliRunner().invoke(
            app, [str(word) for word in words], input=input, env={"XSEARCH_MODEL": str(model)}
        )
        assert result.exit_code == code, result.output
        assert isinstance(result.exception, SystemExit | None)  # anything else ends with a traceback
        return result

    return run


@pytest.fixture(scope="session")
def index(run: Run, media: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The media as a collection; tests that change it work on a copy."""
    folder = tmp_path_factory.mktemp("indexes") / "default"
    run("ingest", media, "--collection", folder)
    return folder


@pytest.fixture
def program(model: Path) -> Iterator[Callable[..., Popen[str]]]:
    """Starts the program as another process; ends it if the test does not."""
    started = []

    def start(*words: object) -> Popen[str]:
        environment = os.environ | {"XSEARCH_MODEL": str(model), "PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", "xsearch", *map(str, words)]
        started.append(subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def interrupted(process: Popen[str]) -> tuple[str, str]:
    """Send Ctrl-C to a program; return its stdout and stderr."""
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    return stdout, stderr
