"""Scratch folders and files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from xsearch.system import scratch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_they_are_for_this_user_alone_and_removed(folder: Path) -> None:
    with scratch.folder() as inner, scratch.file(b"abc") as file:
        assert sorted(folder.iterdir()) == sorted([inner, file])
        assert file.read_bytes() == b"abc"
        assert [path.stat().st_mode & 0o77 for path in (inner, file)] == [0, 0]
        (inner / "deep").mkdir()
    assert list(folder.iterdir()) == []


def test_those_of_killed_processes_are_removed_by_the_next(folder: Path) -> None:
    killed = f"""
import os, signal, tempfile
tempfile.tempdir = {str(folder)!r}
from xsearch.system import scratch
with scratch.folder() as inner, scratch.file(b""):
    (inner / "a").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert len(list(folder.iterdir())) == 2
    victim = folder / "victim"
    victim.mkdir()
    (victim / "kept").touch()
    link = folder / f"{scratch.PREFIX}link"
    link.symlink_to(victim)
    with scratch.folder() as inner:
        assert set(folder.iterdir()) == {victim, link, inner}
        assert list(victim.iterdir())


def test_those_in_use_are_kept(folder: Path) -> None:
    with scratch.folder() as inner, scratch.file(b"") as file:
        other = f"""
import tempfile
tempfile.tempdir = {str(folder)!r}
from xsearch.system import scratch
with scratch.folder(): pass
"""
        subprocess.run([sys.executable, "-c", other], check=True)
        assert inner.is_dir()
        assert file.is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_those_of_others_are_kept(folder: Path) -> None:
    theirs = folder / f"{scratch.PREFIX}theirs"
    theirs.mkdir()
    os.chown(theirs, 12345, -1)
    scratch._remove_stale.cache_clear()
    with scratch.file(b""):
        assert theirs.is_dir()
