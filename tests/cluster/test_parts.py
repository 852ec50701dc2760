"""Units, parts and the ledger, with a worker in this process: without Ray."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.small_files import one_of_each
from xsearch.cluster import part
from xsearch.cluster.engine import collect, take_over
from xsearch.cluster.units import Unit, cut
from xsearch.cluster.worker import Job, Source, Worker
from xsearch.errors import ModelError
from xsearch.ingest import Report, ingest
from xsearch.ingest.survey import Survey
from xsearch.store import Store
from xsearch.types import Modality


class Inline:
    """An engine with one worker, here. fail_after: parts, then KeyboardInterrupt. url: of parts."""

    def __init__(self, files: int = 3, fail_after: int | None = None, url: str | None = None) -> None:
        self.files, self.fail_after, self.url = files, fail_after, url
        self.units: list[Unit] = []

    def __call__(self, survey: Survey, ledger: Any, backend: Any, clock: Any, *, captions: bool) -> None:
        worker = Worker(job(ledger.collection, backend, survey, self.url))
        worker.start()
        parts = part.parts_of(ledger.collection, self.url)
        stated = backend.fingerprint, {"captions": captions}
        work = take_over(survey, ledger, parts, *stated)

        def written() -> Iterator[Unit]:
            for unit in cut(work, survey.remotes, ledger.candidates, *stated, files=self.files):
                if len(self.units) == self.fail_after:
                    raise KeyboardInterrupt
                worker.embed(unit)
                worker.embed(unit)  # a retry
                self.units.append(unit)
                yield unit

        collect(written(), survey, ledger, parts)


def job(collection: Path, backend: FakeBackend, survey: Survey | None = None, url: str | None = None) -> Job:
    remotes = {name: Source.of(remote) for name, remote in survey.remotes.items()} if survey else {}
    return Job(collection, url, remotes, pickle.dumps(backend), backend.fingerprint, True, 0, {})


def new_store(path: Path) -> Store:
    return Store.create(path, FakeBackend().fingerprint)


def run(store: Store, *paths: Path | str, engine: Inline | None = None, **options: Any) -> Report:
    return ingest(store, paths, FakeBackend(), decoders=0, engine=engine, **options)


def content(store: Store) -> tuple[list[Any], list[Any]]:
    """Everything about every item, with its vector, without its id; and the skipped files."""
    snapshot = store.snapshot()
    items = snapshot.items(snapshot.ids).drop_columns("id").to_pylist()
    for item, vector in zip(items, snapshot.vectors(snapshot.ids), strict=True):
        item["vector"] = vector.tolist()
    skipped = snapshot.skipped(everything=True).drop_columns("when").to_pylist()
    order = lambda row: str((row["path"], row.get("modality"), row.get("start_s")))  # noqa: E731
    columns = [{name: item[name] for name in sorted(item)} for item in items]
    return sorted(columns, key=order), sorted(skipped, key=order)


def counts(report: Report) -> dict[str, Any]:
    names = ("files", "new", "items", "changed", "unchanged", "duplicates", "moved", "described", "removed")
    return {name: getattr(report, name) for name in names} | {"skipped": sorted(map(str, report.skipped))}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A file of every kind, texts, duplicates, a described picture, damage, a bad sidecar and no media."""
    folder = tmp_path / "media"
    folder.mkdir()
    one_of_each(folder, np.full((24, 32, 3), 200, np.uint8))
    for name in ("red", "green", "blue", "dark"):
        (folder / f"{name}.txt").write_text(name)
        Image.new("RGB", (24, 16), "black" if name == "dark" else name).save(folder / f"{name}.png")
    shutil.copy(folder / "red.txt", folder / "red copy.txt")  # in one unit
    shutil.copy(folder / "blue.png", folder / "z.png")  # in others
    (folder / "red.png.json").write_text('{"title": "a red square", "stars": 3, "price": 0.5}')
    (folder / "green.txt.json").write_text("{")
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    shutil.copy(folder / "bad.png", folder / "z bad.png")
    (folder / "program.exe").write_bytes(b"MZ\x00\x01")
    return folder


@pytest.mark.parametrize("files", [1, 3, 100])
def test_all_is_as_the_local_engine_makes_it(folder: Path, tmp_path: Path, files: int) -> None:
    local, parts = new_store(tmp_path / "local"), new_store(tmp_path / "parts")
    expected, report = run(local, folder), run(parts, folder, engine=Inline(files))
    assert content(parts) == content(local)
    assert counts(report) == counts(expected)
    assert not list((parts.path / part.FOLDER).iterdir())
    engine = Inline(files)
    assert run(parts, folder, engine=engine).unchanged == sum(expected.new.values())
    assert not engine.units


def test_changes_are_as_the_local_engine_makes_them(folder: Path, tmp_path: Path) -> None:
    local, parts = new_store(tmp_path / "local"), new_store(tmp_path / "parts")
    run(local, folder)
    run(parts, folder, engine=Inline())
    (folder / "red.txt").rename(folder / "moved.txt")
    (folder / "green.png").rename(folder / "moved.png")
    (folder / "green.txt").write_text("green green")
    (folder / "blue.txt").unlink()
    (folder / "new.txt").write_text("dark dark")
    os.utime(folder / "image.jpg", ns=(1, 1))  # touched
    Image.new("RGB", (8, 8)).save(folder / "bad.png")
    (folder / "red.png.json").write_text('{"title": "a red square", "stars": 4}')
    expected = run(local, folder, prune=True)
    engine = Inline()
    report = run(parts, folder, engine=engine, prune=True)
    assert content(parts) == content(local)
    assert counts(report) == counts(expected)
    assert expected.moved == 2
    assert any(unit.stored for unit in engine.units)


def test_copies_of_stored_files_are_not_embedded(folder: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "parts")
    run(store, folder, engine=Inline())
    before = content(store)
    for path in folder.glob("*.png"):
        os.utime(path, ns=(2, 2))
    Path(folder / "bad.png").unlink()
    engine = Inline(100)
    backend = FakeBackend()
    ingest(store, [folder], backend, decoders=0, engine=engine)
    (unit,) = engine.units
    names = {task.file.path.name for task in unit.tasks({})}
    assert names >= {"red.png", "green.png", "z.png"}
    assert {Path(name).name for name in unit.stored} >= {"red.png", "green.png", "z.png"}
    assert len(content(store)[0]) == len(before[0])


def test_a_run_that_is_broken_off_is_continued(folder: Path, tmp_path: Path) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    run(expected, folder)
    with pytest.raises(KeyboardInterrupt):
        run(store, folder, engine=Inline(4, fail_after=2))
    assert 0 < len(content(store)[0]) < len(content(expected)[0])
    run(store, folder, engine=Inline(4))
    assert content(store) == content(expected)


def test_a_part_that_a_killed_driver_has_left_is_taken_over(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    run(expected, folder)
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "collect", lambda units, *others: next(units) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(store, folder, engine=Inline(100))
    assert content(store)[0] == []
    failing = FakeBackend(fail_after=0)  # whatever is embedded now
    ingest(store, [folder], failing, decoders=0, engine=Inline(100))
    assert content(store) == content(expected)


def test_parts_are_taken_over_file_by_file(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    with monkeypatch.context() as patch:
        patch.setitem(globals(), "collect", lambda units, *others: list(units) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(store, folder, engine=(first := Inline(5)))
    parts, lost = store.path / part.FOLDER, first.units[0]
    (parts / lost.name).write_bytes(b"damaged")
    (folder / "a.txt").write_text("green blue")  # every unit is another one
    (folder / "red copy.txt").unlink()  # red.txt was the copy of a file that is gone
    run(expected, folder)
    engine = Inline(4)
    run(store, folder, engine=engine)
    again = [task.file.name for unit in engine.units for task in unit.tasks({})]
    names = {str(folder / name) for name in ("a.txt", "red.txt")}
    assert sorted(again) == sorted(names.union(task.file.name for task in lost.tasks({})))
    assert content(store) == content(expected)
    assert not list(parts.iterdir())


def test_a_damaged_part_is_written_again(folder: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "parts")
    engine = Inline(5)
    run(store, folder, engine=engine)
    worker, unit = Worker(job(store.path, FakeBackend())), engine.units[0]
    worker.start()
    path = store.path / part.FOLDER / unit.name
    worker.embed(unit)
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    worker.embed(unit)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    assert part.read(part.parts_of(store.path, None), unit.name) is None
    worker.embed(unit)
    assert path.read_bytes() == whole
    assert run(store, folder).items == {}
    assert not path.exists()  # nothing refers to it


def test_files_and_parts_may_be_at_urls(folder: Path, tmp_path: Path) -> None:
    (folder / "depth" / "camera.json").parent.mkdir(exist_ok=True)
    (folder / "depth" / "camera.json").write_text('{"focal_px": 500}')
    Image.fromarray(np.full((8, 8), 2000, np.uint16)).save(folder / "depth" / "1.png")
    for sensor in ("accel", "gyro"):
        rows = "\n".join(f"{i / 100},{i % 7},{i % 5},1" for i in range(600))
        (folder / f"walk_{sensor}.csv").write_text(f"t,x,y,z\n{rows}\n")
    memory, name = fsspec.filesystem("memory"), uuid4().hex
    memory.put(str(folder), f"/{name}/media", recursive=True)
    url, parts = f"memory://{name}/media", f"memory://{name}/parts"
    stores = [new_store(tmp_path / each) for each in ("local", "parts")]
    rule = [(Modality.DEPTH, "dark.png")]
    expected = run(stores[0], url, kinds=rule)
    with pytest.raises(KeyboardInterrupt):
        run(stores[1], url, kinds=rule, engine=Inline(4, url=parts, fail_after=2))
    run(stores[1], url, kinds=rule, engine=Inline(5, url=parts))
    assert content(stores[1]) == content(stores[0])
    assert not memory.find(f"/{name}/parts")
    assert not list((stores[1].path / part.FOLDER).iterdir())
    again = run(stores[1], url, kinds=rule, engine=Inline(url=parts))
    assert again.unchanged == sum(expected.new.values())


def test_the_name_of_a_part_states_what_is_in_it(folder: Path, tmp_path: Path) -> None:
    def names(**changes: Any) -> set[str]:
        engine = Inline(100)
        store = new_store(tmp_path / f"{len(list(tmp_path.iterdir()))}")
        run(store, folder, engine=engine, **changes)
        return {unit.name for unit in engine.units}

    first = names()
    assert names() == first
    (folder / "red.txt").write_text("red red")
    assert not names() & first


def test_units_are_cut_by_files_and_by_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Inline(4)
    run(new_store(tmp_path / "a"), folder, engine=engine)
    sizes = [len(unit.work) for unit in engine.units]
    assert max(sizes) == 4
    assert sizes[:-1] == [4] * (len(sizes) - 1)
    monkeypatch.setattr("xsearch.cluster.units.UNIT_BYTES", 2000)
    narrow = Inline(4)
    run(new_store(tmp_path / "b"), folder, engine=narrow)
    assert all(len(unit.work) == 1 or sum(unit.work["bytes"].to_pylist()) <= 2000 for unit in narrow.units)
    paths = [[task.file.name for unit in each.units for task in unit.tasks({})] for each in (engine, narrow)]
    assert paths[0] == paths[1]


def test_a_node_with_another_model_is_refused(tmp_path: Path) -> None:
    store = new_store(tmp_path / "c")
    other = Job(
        store.path, None, {}, pickle.dumps(FakeBackend(gap=0.7)), FakeBackend().fingerprint, True, 0, {}
    )
    with pytest.raises(ModelError, match="the same on every node"):
        Worker(other).start()


def test_ray_is_imported_only_to_be_used() -> None:
    program = "import sys, xsearch.cluster, xsearch.cli.ingest; print('ray' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
