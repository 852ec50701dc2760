"""Filter processes: no condition exceeds its limits, holds up another, or outlives the process that asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.store.hostile import hostile
from xsearch.errors import BadFilter, UsageError
from xsearch.store import filtering, filters

SLOW = "length(sha256(" + "sha256(" * 20 + "path" + ")" * 20 + ")) > id"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    filtering.end_processes()
    yield
    filtering.end_processes()


@pytest.fixture(scope="module")
def items() -> pa.Table:
    n = 300_000
    return pa.table({"id": np.arange(n), "path": [f"{i}.jpg" for i in range(n)], "text": ["a b c " * 20] * n})


def evaluate(where: str, items: pa.Table, shared: filters.SharedColumns | None = None) -> list[int]:
    return np.flatnonzero(filters.evaluate(where, items.column_names, items.select, shared)).tolist()


def test_what_takes_too_long_is_killed(items, monkeypatch):
    assert evaluate("length(path) = 5", items) == [*range(10)]
    (process,) = filtering.processes()
    monkeypatch.setenv("XSEARCH_WHERE_TIMEOUT_S", "0.2")
    start = time.monotonic()
    with pytest.raises(BadFilter, match=r"timed out after 0\.2 s \(XSEARCH_WHERE_TIMEOUT_S\); expected one"):
        evaluate(SLOW, items)
    assert time.monotonic() - start < 5
    assert not filtering.processes()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    monkeypatch.delenv("XSEARCH_WHERE_TIMEOUT_S")
    assert evaluate("length(path) = 5", items) == [*range(10)]


@pytest.mark.parametrize(
    "where",
    [
        "len(list_distinct(string_split(concat(" + "text, " * 50 + "text), ''))) = 1",
        "length(concat(" + "text, " * 3000 + "text)) = 1",
        "list_sort([" + "text || path, " * 1000 + "text]) is null",
    ],
)
def test_what_takes_too_much_memory_is_refused(items, monkeypatch, where):
    monkeypatch.setenv("XSEARCH_WHERE_MEMORY", "150MB")
    with pytest.raises(BadFilter, match=r"needs more than 0\.15 GB of memory \(XSEARCH_WHERE_MEMORY\)"):
        evaluate(where, items)
    assert evaluate("length(text) = 120 and id < 3", items) == [0, 1, 2]  # 35 MB of items


@pytest.mark.parametrize("seed", [0, 1])
def test_hostile_filters_stay_within_their_limits(seed, monkeypatch):
    monkeypatch.setenv("XSEARCH_WHERE_TIMEOUT_S", "0.3")
    monkeypatch.setenv("XSEARCH_WHERE_MEMORY", "300MB")
    texts = [("a" * 4000, '{"a": [1, "b"]}', "2020-01-01 ü")[i % 3] for i in range(3000)]
    items = pa.table({"id": range(3000), "path": [f"/x/{i}.jpg" for i in range(3000)], "text": texts})
    shared = filters.SharedColumns()
    for where in hostile(seed, 45):
        evaluate("length(path) > 20", items, shared)  # the process is ready
        start = time.monotonic()
        with suppress(BadFilter):
            evaluate(where, items, shared)
        assert time.monotonic() - start < 5, where[:200]  # on a loaded machine
        for process in filtering.processes():
            status = Path(f"/proc/{process}/status").read_text()
            assert int(status.partition("VmHWM:")[2].split()[0]) < 450_000, where[:200]  # 120,000 before


def test_a_slow_filter_does_not_hold_up_others(items, monkeypatch):
    def slow() -> None:
        with pytest.raises(BadFilter):
            evaluate(SLOW, items)
        ended.set()

    monkeypatch.setenv("XSEARCH_WHERE_TIMEOUT_S", "30")
    ended = threading.Event()
    threads = [threading.Thread(target=slow) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        assert evaluate("length(path) = 5 and id < 2", items) == [0, 1]
    assert not ended.is_set()
    filtering.end_processes()
    for thread in threads:
        thread.join()


def test_a_process_that_was_started_ahead_evaluates_the_first_condition(items):
    for _ in range(2):
        filtering.warm_filters()
    (started,) = filtering.processes()
    assert evaluate("length(path) = 5 and id < 2", items) == [0, 1]
    assert filtering.processes() == [started]


def test_threads_share_few_processes(items):
    answers: list[list[int]] = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(evaluate(f"length(path) = 5 and id = {i}", items)))
        for i in range(10)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [[i] for i in range(10)]
    assert len(filtering.processes()) <= filtering.MAX_PROCESSES


def test_a_process_that_was_killed_is_replaced(items):
    assert evaluate("length(path) = 5 and id < 2", items) == [0, 1]
    (process,) = filtering.processes()
    os.kill(process, signal.SIGKILL)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert evaluate("length(path) = 5 and id < 2", items) == [0, 1]


def test_columns_are_read_once(items):
    read: list[list[str]] = []

    def reader(names: list[str]) -> pa.Table:
        read.append([*names])
        return items.select(names)

    shared = filters.SharedColumns()
    for where in ("length(path) = 5", "length(path) = 6", "length(path) = length(text)"):
        filters.evaluate(where, items.column_names, reader, shared)
    assert read == [["id", "path"], ["text"]]


@pytest.mark.parametrize("name", ["XSEARCH_WHERE_TIMEOUT_S", "XSEARCH_WHERE_MEMORY"])
def test_a_limit_that_is_none_is_an_error(items, monkeypatch, name):
    monkeypatch.setenv(name, "much")
    with pytest.raises(UsageError, match=f"{name} is 'much'; expected"):
        evaluate("length(path) = 5", items)


PROGRAM = """
import os, signal, sys, threading
import pyarrow as pa
from xsearch.store import filtering, filters
n = 1_000_000
items = pa.table({"id": range(n), "path": ["a"] * n})
evaluate = lambda where: len(filters.evaluate(where, items.column_names, items.select))
evaluate("length(path) = 1 and id < 7")
print(*filtering.processes(), flush=True)
"""


def run(program: str, **options) -> subprocess.Popen[str]:
    env = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-W", "error", "-c", PROGRAM + program]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env, **options)


def ended(process: int) -> bool:
    """Whether a process ends within half a minute."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        try:
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.01)
    return False


def test_processes_end_with_the_one_that_started_them():
    with run("") as child:
        process = int(child.stdout.readline())
        assert child.wait() == 0
    assert ended(process)


def test_busy_processes_end_with_the_one_that_started_them():
    busy = f"""
threading.Thread(target=evaluate, args=({SLOW!r},)).start()
while open(f"/proc/{{filtering.processes()[0]}}/stat").read().rpartition(")")[2].split()[0] != "R":
    pass
print("busy", flush=True)
"""
    with run(busy) as child:
        process = int(child.stdout.readline())
        assert child.stdout.readline() == "busy\n"
        child.kill()
    assert ended(process)


def test_a_fork_starts_processes_of_its_own():
    fork = """
if not (fork := os.fork()):
    assert not filtering.processes()
    evaluate("length(path) = 1 and id < 5")
    print(*filtering.processes(), flush=True)
    filtering.end_processes()
    os._exit(0)
assert os.waitpid(fork, 0)[1] == 0
evaluate("length(path) = 1 and id < 3")
print(*filtering.processes())
"""
    with run(fork) as child:
        first, forked, second = map(int, child.stdout.read().split())
        assert child.wait() == 0
    assert first == second != forked


def test_modules_of_the_current_folder_are_not_imported(items, tmp_path: Path, monkeypatch):
    (tmp_path / "duckdb.py").write_text("open('imported', 'w')")
    monkeypatch.chdir(tmp_path)
    assert evaluate("length(path) = 5 and id < 2", items) == [0, 1]
    assert not (tmp_path / "imported").exists()
