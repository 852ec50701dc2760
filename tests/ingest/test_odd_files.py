"""Some 400 bad and odd files: each becomes items, one skip with a reason, or no media, and nothing worse."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.odd_files import Odd, write_odd_files
from xsearch.ingest import ingest
from xsearch.store import Store

WINDOWS = 60  # of a recording that are read here: 10 hours have 3,600
SECONDS, MEGABYTES = 20, 700  # the most that a file may take, and the whole; measured: 0.4 s, 280 MB

# In a process of its own, to measure memory, and to see warnings and what C libraries print.
READ_ALL = """
import json, sys, time
from itertools import islice
from pathlib import Path
from xsearch.errors import MediaError
from xsearch.media import Skipped, read, walk

for found in walk([Path(sys.argv[1])]):
    start_s, kind, count, error, reason = time.perf_counter(), None, 0, "", ""
    try:
        if isinstance(found, Skipped):
            error, reason = found.error, found.reason
        else:
            for count, sample in enumerate(islice(read(found), int(sys.argv[2])), start=1):
                kind = kind or sample.modality
    except MediaError as problem:
        error, reason = type(problem).__name__, str(problem).removeprefix(f"{found.path}: ")
    outcome = "items" if not error else "not media" if error == "NotMedia" else "skip"
    row = {"outcome": outcome, "kind": kind, "count": count, "reason": reason}
    print(json.dumps(row | {"path": str(found.path), "seconds": time.perf_counter() - start_s}))
status = Path("/proc/self/status").read_text()  # getrusage would tell of the parent's memory too
print(json.dumps(int(status.partition("VmHWM:")[2].split()[0]) / 1024))
"""


@pytest.fixture(scope="module")
def odd_files(tmp_path_factory: pytest.TempPathFactory) -> list[Odd]:
    return write_odd_files(tmp_path_factory.mktemp("media"))


@pytest.fixture(scope="module")
def folder(odd_files: list[Odd]) -> Path:
    return next(path for path in odd_files[0].path.parents if path.name.startswith("media"))


def is_expected(odd: Odd, found: dict[str, Any]) -> bool:
    if odd.outcome == "either":
        return found["outcome"] in ("items", "skip")
    return (
        odd.outcome == found["outcome"]
        and odd.reason in found["reason"]
        and odd.kind in (None, found["kind"])
        and (odd.count is None or min(odd.count, WINDOWS) == found["count"])
    )


def test_each_becomes_what_it_has_to(odd_files: list[Odd], folder: Path) -> None:
    assert len(odd_files) >= 150
    program = [sys.executable, "-W", "always", "-c", READ_ALL, folder, str(WINDOWS)]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    *rows, megabytes = map(json.loads, done.stdout.splitlines())
    found = {row["path"]: row for row in rows}
    assert sorted(found) == sorted(str(odd.path) for odd in odd_files)
    assert [
        (odd, found[str(odd.path)]) for odd in odd_files if not is_expected(odd, found[str(odd.path)])
    ] == []
    for row in rows:
        assert (row["outcome"] == "items") == (row["reason"] == "")
        assert row["reason"].isprintable()  # on one line
        assert row["seconds"] < SECONDS, row
    assert megabytes < MEGABYTES


def test_what_was_too_large_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which is set, and put back here
    (tmp_path / "media").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "media" / "a.png")
    store = Store.create(tmp_path / "collection", FakeBackend().fingerprint)
    for limit, skipped in (("63", 1), ("64", 0)):
        monkeypatch.setenv("XSEARCH_MAX_PIXELS", limit)
        report = ingest(store, [tmp_path / "media"], FakeBackend())
        assert (len(report.skipped), len(store.snapshot())) == (skipped, 1 - skipped)


def test_an_ingest_ends_with_every_file_in_one_place(
    odd_files: list[Odd], folder: Path, tmp_path: Path
) -> None:
    roots = sorted(path for path in folder.iterdir() if path.name != "hours")
    store = Store.create(tmp_path / "collection", FakeBackend().fingerprint)
    report = ingest(store, roots, FakeBackend())

    snapshot = store.snapshot()
    items = set(snapshot.items(snapshot.ids, ["path"])["path"].to_pylist())
    skipped = snapshot.skipped()["path"].to_pylist()
    listed = {str(odd.path): odd for odd in odd_files if folder / "hours" not in odd.path.parents}
    assert len(skipped) == len(set(skipped))
    assert items.isdisjoint(skipped)
    assert items | set(skipped) <= listed.keys()
    others = [listed[path] for path in listed.keys() - items - set(skipped)]
    assert {odd.outcome for odd in others} == {"not media"}
    assert len(others) == report.not_media

    again = FakeBackend()
    second = ingest(store, roots, again)
    assert again.seen == []
    assert (second.new, second.removed) == ({}, 0)
    assert second.unchanged == len(items)
    assert {skip.path for skip in second.skipped} == {skip.path for skip in report.skipped}
    assert store.snapshot().manifest.generation == snapshot.manifest.generation
