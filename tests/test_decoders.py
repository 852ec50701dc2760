"""Decoding in other processes: the same samples, and only the bad file is lost."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile
from PIL import Image

from tests import hostile_jobs as jobs
from xsearch.decoders import Decoders, settings
from xsearch.decoders.pool import _Run
from xsearch.decoders.process import Job, Process
from xsearch.decoders.wire import PREFIX, Garbage, decode, encode, sizes
from xsearch.decoders.worker import once
from xsearch.errors import TooLarge, Transient, Unreadable, UsageError
from xsearch.media import identify
from xsearch.system.confine import OVERHEAD
from xsearch.system.memory import total_memory
from xsearch.types import MediaFile, Modality, Sample

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let decoders import the jobs of these tests."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


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
        assert not any(process.jobs for process in decoders._processes)
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


# ---------------------------------------------------------------- a second try


def job(decoders: Decoders, function: Callable[..., object], path: Path, *args: object) -> list[object]:
    """The values of a generator function, as `decode` and `read` have them."""
    return list(decoders._values(Job(path, function, (path, *args), 30.0)))


def test_a_file_whose_decoder_dies_is_tried_once_more(tmp_path):
    with Decoders(1) as decoders:
        for after, number in [(0, signal.SIGKILL), (3, signal.SIGSEGV), (4, signal.SIGTERM)]:
            samples = job(decoders, jobs.killed, tmp_path / str(after), 1, number, after)
            assert [sample.start_s for sample in samples] == [0, 1, 2, 3, 4]
        assert decoders.call(jobs.exits, tmp_path / "a", 1) == "done"
        assert decoders.call(jobs.fails, tmp_path / "b", 1) == "done"


@pytest.mark.parametrize(
    ("number", "what"),
    [
        (signal.SIGKILL, "killed (SIGKILL) twice"),
        (signal.SIGSEGV, "crashed (SIGSEGV) twice (the file may be damaged, or a decoding library at fault)"),
    ],
)
def test_what_kills_two_decoders_is_a_passing_trouble(tmp_path, number, what):
    path = tmp_path / "a"
    with Decoders(1) as decoders:
        values = _Run(decoders, iter([Job(path, jobs.killed, (path, 2, number, 2), 30.0)]), 1, is_stream=True)
        *received, (_, problem) = values.events()
    assert isinstance(problem, Transient)
    assert str(problem) == f"{path}: decoder {what}; the next ingest tries it again"
    assert [sample.start_s for _, sample in received] == [0, 1]  # once
    assert path.read_bytes() == b".."


def test_what_fails_twice_is_said_once_with_both_reasons(tmp_path):
    with Decoders(1) as decoders:
        with pytest.raises(Transient, match=r"decoder ended with exit code 7 twice; the next ingest"):
            decoders.call(jobs.exits, tmp_path / "a", 2)
        with pytest.raises(Transient, match="Input/output error"):
            decoders.call(jobs.fails, tmp_path / "b", 2)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b".."


def test_a_decoder_that_hangs_costs_its_file_only(files, tmp_path):
    """Also one that holds the interpreter, or is stopped."""
    with Decoders(2, timeout_s=2.0) as decoders, ThreadPoolExecutor(3) as threads:
        hanging = [
            threads.submit(decoders.call, jobs.hangs_with_gil, tmp_path / f"{times}", times)
            for times in (1, 2)
        ]
        assert len(data(list(decoders.read(files[0])))) == 1
        assert hanging[0].result() == "done"
        with pytest.raises(Transient) as problem:
            hanging[1].result()
        stopped = threads.submit(decoders.call, jobs.stops, tmp_path / "b")
        with pytest.raises(Transient, match="timed out"):
            stopped.result()
    why = "decoder timed out after 0.5 s twice (XSEARCH_DECODE_TIMEOUT_S raises the limit)"
    assert str(problem.value) == f"{tmp_path / '2'}: {why}; the next ingest tries it again"
    assert is_gone(int((tmp_path / "b").read_text()))


def test_a_folder_of_files_that_hang_has_a_bound(tmp_path):
    """Each that is late twice halves the limit; at a quarter there is no second try."""
    paths = [tmp_path / name for name in "abcd"]
    with Decoders(1) as decoders:
        waiting = iter([Job(path, once, (jobs.hangs_with_gil, path, 9), 1.0) for path in paths])
        problems = [str(problem) for _, problem in _Run(decoders, waiting, 1, is_stream=True).events()]
    late = [re.search(r"after (.*) \(", problem)[1] for problem in problems]
    assert late == ["1 s twice", "0.5 s twice", "0.25 s", "0.25 s"]
    assert [path.stat().st_size for path in paths] == [2, 2, 1, 1]


def test_what_no_worker_sends_ends_it(tmp_path):
    with Decoders(1, timeout_s=4.0) as decoders:
        for what, then in [("half a header", "end"), ("half a body", "hang"), ("garbage", "hang")]:
            assert decoders.call(jobs.writes, tmp_path / what, 1, what, then) == "done"


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("\xff", b""),
        ("[" * 100_000, b""),
        ("{}", b""),
        ('["os", ["system"]]', b""),
        ('["error", ["UsageError", ""]]', b""),
        ('["error", ["SystemExit", ""]]', b""),
        ('["MediaFile", {"path": "/a"}]', b""),
        ('["value", {"datetime": "never"}]', b""),
    ],
)
def test_a_message_is_data_of_known_kinds(header, body):
    with pytest.raises(Garbage):
        decode(memoryview(header.encode("latin-1")), memoryview(body))


@pytest.mark.parametrize(
    "form",
    [
        ["float32", 3],
        ["float32", -1, -4],
        ["float32", "4"],
        ["float32", 1 << 40, 1 << 40],
        ["object", 4],
        ["RGB", 2, 2],
        ["text"],
        [],
    ],
)
def test_an_array_has_the_bytes_of_its_shape(form):
    beginning, body = encode(Sample(Modality.AUDIO, np.zeros(4, np.float32)))
    kind, content = json.loads(beginning[PREFIX.size :])
    np.testing.assert_array_equal(
        decode(memoryview(beginning)[PREFIX.size :], memoryview(body)).data, np.zeros(4)
    )
    with pytest.raises(Garbage):
        decode(memoryview(json.dumps([kind, content | {"form": form}]).encode()), memoryview(body))


def test_a_message_has_a_bound():
    for lengths in ((1 << 31, 0), (10, 1 << 60)):
        with pytest.raises(Garbage):
            sizes(PREFIX.pack(*lengths), 1 << 30)


# ---------------------------------------------------------------- limits


def test_a_decoder_has_a_memory_limit_and_its_file_a_second_try_with_all_of_it(tmp_path, monkeypatch):
    with Decoders(2) as decoders:
        size, cores = decoders.call(jobs.limits, tmp_path)
        assert cores == 0
        assert size <= total_memory() + OVERHEAD
        share = settings.memory(2)
        assert decoders.call(jobs.needs, tmp_path / "a", share + OVERHEAD) == share + OVERHEAD
        with pytest.raises(
            Transient, match=r"out of memory in a decoder of .* GB, then .* \(XSEARCH_DECODER_M"
        ):
            decoders.call(jobs.needs, tmp_path / "b", 2 * total_memory())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == b".."
    monkeypatch.setenv("XSEARCH_DECODER_MEMORY", "0.5")
    with Decoders(1) as decoders:
        assert decoders.call(jobs.limits, tmp_path)[0] == 500_000_000 + OVERHEAD
    monkeypatch.setenv("XSEARCH_DECODER_MEMORY", "much")
    with Decoders(1) as decoders, pytest.raises(UsageError, match="'much': expected a number above 0"):
        decoders.warm()


def test_a_file_that_lacked_memory_is_tried_again_alone(tmp_path):
    """While it has the memory of all, no other job is at work."""
    paths = [tmp_path / str(at) for at in range(6)]
    with Decoders(2) as decoders:
        all = [Job(path, once, (jobs.alone, path, path == paths[1], tmp_path), 30.0) for path in paths]
        events = list(_Run(decoders, iter(all), 2, is_stream=True).events())
        values = {path: value for path, value in events if value is not None}
    assert values == {path: [] for path in paths} | {paths[1]: ["alone"]}


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp")
def test_a_decoder_starts_no_program_and_opens_no_socket(tmp_path):
    with Decoders(1) as decoders:
        assert decoders.call(jobs.attempts, tmp_path) == ["program", "socket"]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/memory.max": "1000\n"}, 1000),
        ({"proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "max\n"}, None),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "2000\n"}, 2000),
        (
            {
                "proc/self/cgroup": "5:cpu:/\n4:memory:/docker/x\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000\n",
            },
            3000,
        ),
    ],
)
def test_the_memory_is_that_of_the_machine_or_of_a_control_group(tmp_path, files, expected):
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert total_memory(tmp_path) == (expected or machine)


def test_settings_reach_processes_that_run_already(files, monkeypatch):
    with Decoders(1) as decoders:
        assert len(list(decoders.read(files[0]))) == 1
        monkeypatch.setenv("XSEARCH_MAX_PIXELS", "100")
        with pytest.raises(TooLarge):
            list(decoders.read(files[0]))


# ---------------------------------------------------------------- life and death


def is_gone(process: int) -> bool:
    """Whether a process has ended, after at most ten seconds."""
    for _ in range(1000):
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
@pytest.mark.parametrize("job", ["busy", "stops", "process"])
def test_decoders_die_with_their_parent(tmp_path, job):
    """Also in a C library that holds the interpreter, or stopped, or idle."""
    script = f"""
import time
from pathlib import Path
from tests import hostile_jobs
from xsearch.decoders import shared
shared().call(hostile_jobs.{job}, Path({str(tmp_path / "a")!r}))
time.sleep(60)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": str(ROOT)}
    ) as parent:
        while not (tmp_path / "a").is_file() or not (text := (tmp_path / "a").read_text()):
            assert parent.poll() is None
            time.sleep(0.01)
        parent.kill()
    assert is_gone(int(text))


def test_decoders_outlive_the_thread_that_has_started_them(tmp_path):
    with Decoders(1) as decoders, ThreadPoolExecutor(1) as thread:
        first = thread.submit(decoders.call, jobs.process, tmp_path / "a").result()
        thread.shutdown()
        assert decoders.call(jobs.process, tmp_path / "a") == first


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
        assert not any(process.jobs for process in decoders._processes)


def test_a_process_that_died_while_it_was_idle_is_replaced(files):
    with Decoders(1) as decoders:
        decoders.warm()
        (process,) = decoders._processes
        process._child.kill()
        process._child.wait()
        assert len(list(decoders.read(files[0]))) == 1
    with pytest.raises(ValueError, match="closed"):
        list(decoders.read(files[0]))


def test_a_pool_that_is_busy_starts_no_process_to_end_it_again(files):
    with Decoders(1) as decoders:
        samples = decoders.read(next(file for file in files if file.path.suffix == ".wav"))
        next(samples)
        (working,) = decoders._processes
        decoders.warm()
        list(samples)
        assert decoders._processes == list(decoders._idle) == [working]


def test_a_stream_may_be_left_in_the_middle_of_a_file(files):
    recording = [file for file in files if file.path.name == "long.wav"]
    with Decoders(1) as decoders:
        stream = decoders.decode(iter(recording))
        next(stream)
        stream.close()
        assert len(list(decoders.read(recording[0]))) == 3


def test_processes_end_with_the_context(files):
    with Decoders(2) as decoders:
        stream = decoders.decode(iter(files))
        next(stream)
        children = [process._child for process in decoders._processes]
        assert len(children) == 2
    deadline = time.monotonic() + 5
    while any(child.poll() is None for child in children) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert all(child.poll() is not None for child in children)
    stream.close()


def test_a_process_that_two_threads_kill_closes_its_socket_once() -> None:
    process, closed = Process(1 << 30), []
    process.socket.close()
    process.socket = Mock(close=lambda: (time.sleep(0.05), closed.append(True)))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: process.kill(), range(2)))
    assert (process.dead, closed) == (True, [True])
