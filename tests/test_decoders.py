"""Decoding in other processes: the same samples, and only the bad file is lost."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from PIL import Image

from xsearch.decoders import Decoders, _Process
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
        assert decoders.busy == 0
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
    assert str(problem) == f"{tmp_path / 'waits.wav'}: decoding timed out; file may be damaged"
    assert found.keys() == {file.path.name for file in files}


def test_a_decoder_that_dies_costs_its_file_only(files, tmp_path):
    with Decoders(1) as decoders:
        child = decoders._processes[0]._child
        threading.Timer(0.8, lambda: os.kill(child.pid, signal.SIGSEGV)).start()
        found = outcome(decoders, [pipe(tmp_path), *files])
    (problem,) = found.pop("waits.wav")
    assert isinstance(problem, Unreadable)
    assert "decoder crashed (SIGSEGV)" in str(problem)
    assert found.keys() == {file.path.name for file in files}


def data(samples: list[Sample]) -> list[np.ndarray]:
    return [np.asarray(sample.data) for sample in samples]


@pytest.mark.parametrize("count", [0, 2])
def test_a_request_gets_all_samples_of_its_file_or_its_problem(files, count):
    here = outcome(Decoders(0), files)
    with Decoders(count) as decoders:
        for file in files:
            *expected, problem = here[file.path.name]
            if problem:
                with pytest.raises(Unreadable, match=re.escape(str(problem))):
                    list(decoders.read(file))
            else:
                np.testing.assert_equal(data(list(decoders.read(file))), data(expected))


def test_many_requests_at_once_beside_a_stream_that_waits(files):
    good = [file for file in files if file.path.name != "torn.png"]
    expected = {file: data([what for _, what in Decoders(0).decode(iter([file])) if what]) for file in good}
    with Decoders(2) as decoders, ThreadPoolExecutor(6) as threads:
        stream = decoders.decode(iter(good))
        next(stream)
        for file, samples in zip(good * 5, threads.map(decoders.read, good * 5), strict=True):
            np.testing.assert_equal(data(samples), expected[file])
        assert len(decoders._processes) <= 4
        rest = [what for _, what in stream]
        assert len([what for what in rest if isinstance(what, Sample)]) == 5
        assert decoders.busy == 0


def test_a_request_that_hangs_or_ends_its_process_costs_nobody_else_anything(files, tmp_path):
    good = next(file for file in files if file.path.name == "long.wav")
    with Decoders(2, timeout_s=3.0) as decoders, ThreadPoolExecutor(4) as threads:
        hanging = threads.submit(lambda: list(decoders.read(pipe(tmp_path))))
        others = [threads.submit(lambda: list(decoders.read(good))) for _ in range(6)]
        assert [len(other.result()) for other in others] == [3] * 6
        with pytest.raises(Unreadable, match="decoding timed out"):
            hanging.result()

        waits = MediaFile(tmp_path / "waits.wav", Modality.AUDIO, 1, 0)
        dying = threads.submit(lambda: list(decoders.read(waits)))
        while not decoders.busy:
            time.sleep(0.01)
        next(process for process in decoders._processes if process.files)._child.kill()
        assert len(list(decoders.read(good))) == 3
        with pytest.raises(Unreadable, match=r"decoder crashed \(SIGKILL\)"):
            dying.result()


def test_a_process_that_died_while_it_was_idle_is_replaced(files):
    with Decoders(1) as decoders:
        (process,) = decoders._processes
        process._child.kill()
        process._child.wait()
        assert len(list(decoders.read(files[0]))) == 1
    with pytest.raises(ValueError, match="closed"):
        list(decoders.read(files[0]))


def test_a_stream_may_be_left_in_the_middle_of_a_file(files):
    recording = [file for file in files if file.path.name == "long.wav"]
    with Decoders(1) as decoders:
        stream = decoders.decode(iter(recording))
        next(stream)
        stream.close()
        assert len(list(decoders.read(recording[0]))) == 3


def test_processes_end_with_the_context(files):
    with Decoders(2) as decoders:
        children = [process._child for process in decoders._processes]
        next(decoders.decode(iter(files)))
    deadline = time.monotonic() + 5
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(child.poll() is not None for child in children)


def test_a_process_that_two_threads_kill_closes_its_socket_once() -> None:
    process, closed = _Process(None), []
    process.socket.close()
    process.socket = Mock(close=lambda: (time.sleep(0.05), closed.append(True)))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: process.kill(), range(2)))
    assert (process.dead, closed) == (True, [True])
