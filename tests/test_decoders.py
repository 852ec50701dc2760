"""Decoding in other processes: the same samples, and only the bad file is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from xsearch.decoders import Decoders
from xsearch.errors import Unreadable
from xsearch.media import identify
from xsearch.types import MediaFile, Modality, Sample


@pytest.fixture
def files(tmp_path: Path) -> list[MediaFile]:
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(rng.integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(tmp_path / name)
    soundfile.write(tmp_path / "long.wav", rng.normal(0, 0.1, 25 * 8000), 8000)
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:200])
    return [identify(path) for path in sorted(tmp_path.iterdir())]


def outcome(decoders: Decoders, files: list[MediaFile]) -> dict[str, list]:
    found: dict[str, list] = {}
    for file, what in decoders.decode(iter(files)):
        found.setdefault(file.path.name, []).append(what)
    return found


@pytest.mark.parametrize("count", [1, 3])
def test_processes_give_what_is_decoded_here(files, count):
    here = outcome(Decoders(0, side=32), files)
    with Decoders(count, side=32) as decoders:
        there = outcome(decoders, files)
        assert decoders.at_work == 0
    assert there.keys() == here.keys() == {file.path.name for file in files}
    for name, expected in here.items():
        assert [type(what) for what in there[name]] == [type(what) for what in expected]
        for ours, other in zip(expected, there[name], strict=True):
            if isinstance(ours, Sample):
                np.testing.assert_array_equal(ours.data, other.data)
                assert (ours.start_s, ours.width) == (other.start_s, other.width)
            else:
                assert str(ours) == str(other)
    assert there["a.png"][0].data.size == (32, 32)
    assert [type(what) for what in there["long.wav"]] == [Sample, Sample, Sample, type(None)]
    assert isinstance(there["torn.png"][-1], Unreadable)


def pipe(folder: Path) -> MediaFile:
    """A file that nobody ever writes to: whoever opens it waits."""
    os.mkfifo(folder / "waits.wav")
    return MediaFile(folder / "waits.wav", Modality.AUDIO, 1, 0, "audio/wav")


def test_a_decoder_that_hangs_costs_its_file_only(files, tmp_path):
    with Decoders(2, timeout_s=0.8) as decoders:
        found = outcome(decoders, [pipe(tmp_path), *files])
    (problem,) = found.pop("waits.wav")
    assert str(problem) == f"{tmp_path / 'waits.wav'}: decoding hangs; is it damaged?"
    assert found.keys() == {file.path.name for file in files}


def test_a_decoder_that_dies_costs_its_file_only(files, tmp_path):
    with Decoders(1) as decoders:
        child = decoders._processes[0]._child
        threading.Timer(0.8, lambda: os.kill(child.pid, signal.SIGSEGV)).start()
        found = outcome(decoders, [pipe(tmp_path), *files])
    (problem,) = found.pop("waits.wav")
    assert isinstance(problem, Unreadable)
    assert "its decoder died (SIGSEGV)" in str(problem)
    assert found.keys() == {file.path.name for file in files}


def test_processes_end_with_the_context(files):
    with Decoders(2) as decoders:
        children = [process._child for process in decoders._processes]
        next(decoders.decode(iter(files)))
    deadline = time.monotonic() + 5
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(child.poll() is not None for child in children)
