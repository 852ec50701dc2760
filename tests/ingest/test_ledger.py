"""A run that is broken off anywhere has written each file whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from PIL import Image

from tests.fakes import FakeBackend
from xsearch.ingest import ingest, ledger
from xsearch.ingest.survey import Survey, survey
from xsearch.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three texts, a copy of one, a picture that is none, and a bad sidecar."""
    folder = tmp_path / "media"
    folder.mkdir()
    for name in ("red", "green", "blue"):
        (folder / f"{name}.txt").write_text(name)
    shutil.copy(folder / "red.txt", folder / "red copy.txt")
    (folder / "green.json").write_text("{")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def run(store: Store, folder: Path) -> None:
    ingest(store, [folder], FakeBackend(), decoders=0, prune=True, commit_items=2)


def content(store: Store) -> tuple[Counter[str], list[str]]:
    snapshot = store.snapshot()
    skipped = sorted(snapshot.skipped()["path"].to_pylist())
    return Counter(snapshot.table(["path"])["path"].to_pylist()), skipped


def change(folder: Path) -> None:
    """One file is moved, one changes, one goes, one comes and one is well again."""
    (folder / "red.txt").rename(folder / "moved.txt")
    (folder / "green.txt").write_text("green green")
    (folder / "green.json").unlink()
    (folder / "blue.txt").unlink()
    (folder / "new.txt").write_text("dark")
    Image.new("RGB", (8, 8)).save(folder / "bad.png")


def broken_off(store: Store, folder: Path, line: int) -> int:
    """Ingest until so many lines of the ledger are done. Returns how many were done."""
    done = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal done
        if frame.f_code.co_filename != ledger.__file__:
            return None
        if event == "line":
            done += 1
            if done == line:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run(store, folder)
    except KeyboardInterrupt:
        pass
    finally:
        sys.settrace(before)
    return done


def test_a_run_may_be_broken_off_at_any_line(folder: Path, tmp_path: Path) -> None:
    first = Store.create(tmp_path / "first", FakeBackend().fingerprint)
    run(first, folder)
    old = content(first)
    change(folder)
    whole = Store(Path(shutil.copytree(first.path, tmp_path / "whole")))
    lines = broken_off(whole, folder, 0)
    expected = content(whole)
    assert expected == (Counter(str(path) for path in folder.iterdir()), [])
    assert lines > 200
    for line in range(1, lines, 11):
        store = Store(Path(shutil.copytree(first.path, tmp_path / "stopped")))
        broken_off(store, folder, line)
        items, skipped = content(store)
        assert items <= old[0] | expected[0]  # nothing twice
        assert set(skipped) <= set(old[1])
        moved = {str(folder / name) for name in ("red.txt", "moved.txt")}
        assert len(moved & items.keys()) == 1
        run(store, folder)
        assert content(store) == expected
        shutil.rmtree(store.path)


def test_ctrl_c_waits_for_the_end_of_a_commit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(step: str) -> None:
        steps.append(step)
        if len(steps) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    steps: list[str] = []
    store = Store.create(tmp_path / "store", FakeBackend().fingerprint)
    writer = Store.writer
    monkeypatch.setattr(Store, "writer", lambda self: writer(self, step=interrupt))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run(store, folder)
    assert signal.getsignal(signal.SIGINT) is before
    assert sum(name.startswith("rename manifest.json") for name in steps) == 1
    assert len(store.snapshot()) == 2


def test_a_recording_of_which_one_window_fails_is_one_skip(tmp_path: Path) -> None:
    class Choosy(FakeBackend):
        batch = 1  # it fails before the rest is decoded

        def embed(self, samples: Any) -> Any:
            if any("first" in (sample.text or "") for sample in samples):
                raise ValueError("odd")
            return super().embed(samples)

    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "long.txt").write_text("first " + "red green " * 200)
    store = Store.create(tmp_path / "store", FakeBackend().fingerprint)
    report = ingest(store, [tmp_path / "media"], Choosy(), decoders=0)
    assert [Path(skip.path).name for skip in report.skipped] == ["long.txt"]
    assert len(store.snapshot()) == 0


def test_a_file_that_is_completed_after_it_was_looked_at_is_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under `--watch`, where a run may begin while somebody still writes."""

    def complete_it(*about: Any, **options: Any) -> Survey:
        result = survey(*about, **options)
        Image.new("RGB", (8, 8)).save(folder / "late.png")
        os.utime(folder / "late.png", ns=(time.time_ns(), time.time_ns()))
        return result

    (folder / "late.png").touch()
    store = Store.create(tmp_path / "store", FakeBackend().fingerprint)
    with monkeypatch.context() as patch:
        patch.setitem(ingest.__globals__, "survey", complete_it)
        run(store, folder)
    assert str(folder / "late.png") in content(store)[1]
    run(store, folder)
    assert str(folder / "late.png") in content(store)[0]
