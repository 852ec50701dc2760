"""Units, parts and the ledger, with a worker in this process: without Ray."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from platform import node
from typing import Any
from uuid import uuid4

import fsspec
import numpy as np
import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.small_files import one_of_each
from xsearch.cluster import part
from xsearch.cluster.engine import embed_all, take_over
from xsearch.cluster.units import Unit
from xsearch.cluster.worker import Job, Source, Worker
from xsearch.errors import ModelError, Reason, StoreError, Transient
from xsearch.ingest import Report, ingest
from xsearch.ingest.survey import Survey
from xsearch.ingest.work import Action, Embedded, prepare
from xsearch.ingest.work import item as row_of
from xsearch.store import Store
from xsearch.system.objects import objects_at
from xsearch.types import Modality, Sample

XMP = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:description><rdf:Alt>
<rdf:li>{}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


class Inline:
    """An engine with one worker, here. url: of parts.

    fail_after: parts, then KeyboardInterrupt. dies: with all parts written, and none collected.
    """

    def __init__(
        self, files: int = 3, fail_after: int | None = None, url: str | None = None, *, dies: bool = False
    ) -> None:
        self.files, self.fail_after, self.url, self.dies = files, fail_after, url, dies
        self.units: list[Unit] = []

    def __call__(self, survey: Survey, ledger: Any, backend: Any, clock: Any, *, captions: bool) -> None:
        place = part.place_of(ledger.collection, self.url)
        parts = objects_at(place)
        stated = backend.fingerprint, {"captions": captions}
        work = take_over(survey, ledger, parts, *stated)
        with part.marked(parts) as mark:
            worker = Worker(job(place, mark, backend, survey))
            worker.start()

            def written(units: Iterator[Unit]) -> Iterator[Unit]:
                for unit in units:
                    if len(self.units) == self.fail_after:
                        raise KeyboardInterrupt
                    self.embed(worker, unit)
                    self.embed(worker, unit)  # a retry
                    self.units.append(unit)
                    if not self.dies:
                        yield unit
                if self.dies:
                    raise KeyboardInterrupt

            embed_all(work, written, survey, ledger, parts, *stated, files=self.files)

    def embed(self, worker: Worker, unit: Unit) -> None:
        worker.embed(unit)


def job(place: str, mark: str, backend: FakeBackend, survey: Survey | None = None) -> Job:
    remotes = {name: Source.of(remote) for name, remote in survey.remotes.items()} if survey else {}
    return Job(place, mark, remotes, pickle.dumps(backend), backend.fingerprint, True, 0, {})


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


def test_a_part_that_a_killed_driver_has_left_is_taken_over(folder: Path, tmp_path: Path) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    run(expected, folder)
    with pytest.raises(KeyboardInterrupt):
        run(store, folder, engine=Inline(100, dies=True))
    assert content(store)[0] == []
    failing = FakeBackend(fail_after=0)  # whatever is embedded now
    ingest(store, [folder], failing, decoders=0, engine=Inline(100))
    assert content(store) == content(expected)


def test_parts_are_taken_over_file_by_file(folder: Path, tmp_path: Path) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    with pytest.raises(KeyboardInterrupt):
        run(store, folder, engine=(first := Inline(5, dies=True)))
    parts, lost = store.path / part.FOLDER, first.units[0]
    (parts / lost.name).write_bytes(b"damaged")
    (folder / "a.txt").write_text("green blue")  # every unit is another one
    (folder / "red copy.txt").unlink()  # red.txt was the copy of a file that is gone
    run(expected, folder)
    engine = Inline(4)
    run(store, folder, engine=engine)
    again = [task.file.name for unit in engine.units for task in unit.tasks({})]
    names = {str(folder / name) for name in ("a.txt", "red.txt", "bad.png", "z bad.png")}
    assert sorted(again) == sorted(names.union(task.file.name for task in lost.tasks({})))
    assert content(store) == content(expected)
    assert not list(parts.iterdir())


def test_a_damaged_part_is_written_again(folder: Path, tmp_path: Path) -> None:
    store = new_store(tmp_path / "parts")
    engine = Inline(5)
    run(store, folder, engine=engine)
    place, unit = part.place_of(store.path, None), engine.units[0]
    parts = objects_at(place)
    with part.marked(parts) as mark:
        worker = Worker(job(place, mark, FakeBackend()))
        worker.start()
    path = store.path / part.FOLDER / unit.name
    worker.embed(unit)
    whole, written = path.read_bytes(), path.stat().st_mtime_ns
    worker.embed(unit)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])
    assert part.read(parts, unit.name) is None
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
    for unit in narrow.units:
        rows = unit.work.to_pylist()
        sizes = [row["bytes"] * (64 if row["modality"] == "text" else 1) for row in rows]
        assert len(rows) == 1 or sum(sizes) <= 2000
    paths = [[task.file.name for unit in each.units for task in unit.tasks({})] for each in (engine, narrow)]
    assert paths[0] == paths[1]


def test_a_node_with_another_model_is_refused(tmp_path: Path) -> None:
    place = part.place_of(new_store(tmp_path / "c").path, None)
    with part.marked(objects_at(place)) as mark:
        here = job(place, mark, FakeBackend())
        with pytest.raises(ModelError, match="the same on every node"):
            Worker(replace(here, backend=pickle.dumps(FakeBackend(gap=0.7)))).start()


def test_a_node_with_other_folders_is_refused(tmp_path: Path) -> None:
    places = [part.place_of(new_store(tmp_path / name).path, None) for name in "ab"]
    with part.marked(objects_at(places[0])) as mark:
        for place in (places[1], str(tmp_path / "nowhere"), f"memory://{uuid4().hex}"):
            with pytest.raises(StoreError, match=f"{node()} does not have the folder {place}"):
                Worker(job(place, mark, FakeBackend())).start()


def test_the_place_of_parts_does_not_depend_on_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_store(tmp_path / "c")
    monkeypatch.chdir(tmp_path)
    assert part.place_of(Path("c"), None) == str(tmp_path / "c" / part.FOLDER)
    assert part.place_of(Path("c"), "d") == str(tmp_path / "d")
    assert part.place_of(Path("c"), "s3://bucket/parts") == "s3://bucket/parts"


def test_pictures_that_differ_only_in_what_is_said_of_them_are_all_embedded(
    folder: Path, tmp_path: Path
) -> None:
    stores = [new_store(tmp_path / name) for name in ("local", "parts")]
    for name in ("copy 1.png", "copy 2.png", "z copy.png"):
        shutil.copy(folder / "green.png", folder / name)
    for store in stores:
        run(store, folder)
    for word, name in enumerate(("green.png", "copy 1.png", "z copy.png"), start=1):
        (folder / f"{name}.xmp").write_text(XMP.format(word * "green "))
    shutil.copy(folder / "green.png", folder / "z new.png")
    expected, engine = run(stores[0], folder), Inline(100)
    assert counts(run(stores[1], folder, engine=engine)) == counts(expected)
    assert content(stores[1]) == content(stores[0])
    assert [unit.stored is None for unit in engine.units] == [False, True]


def test_a_part_that_another_collection_has_taken_away_is_missed(folder: Path, tmp_path: Path) -> None:
    class Robbed(Inline):
        def embed(self, worker: Worker, unit: Unit) -> None:
            super().embed(worker, unit)
            (tmp_path / "c" / part.FOLDER / unit.name).unlink()

    with pytest.raises(StoreError, match=r"damaged or gone.*this collection alone"):
        run(new_store(tmp_path / "c"), folder, engine=Robbed())


def test_devices_of_this_machine_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="devices"):
        run(new_store(tmp_path / "c"), folder, engine=Inline(), devices=["cpu"])


class Unmounted(Inline):
    """An engine whose worker lacks a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def embed(self, worker: Worker, unit: Unit) -> None:
        self.folder.rename(away := self.folder.with_name("away"))
        super().embed(worker, unit)
        away.rename(self.folder)


def test_media_that_a_worker_lacks_are_no_failures_of_theirs(folder: Path, tmp_path: Path) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    with pytest.raises(StoreError, match=f"{node()} cannot open {folder}/.*same paths"):
        run(store, folder, engine=Unmounted(folder))
    assert not store.snapshot().skipped()
    run(expected, folder)
    run(store, folder, engine=Inline())
    assert content(store) == content(expected)


def test_what_has_failed_in_a_killed_run_is_tried_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, expected = new_store(tmp_path / "parts"), new_store(tmp_path / "local")
    with monkeypatch.context() as patch:
        patch.setattr("xsearch.ingest.work.media.sha256", busy)
        with pytest.raises(KeyboardInterrupt):
            run(store, folder, engine=Inline(dies=True))
    assert len(list((store.path / part.FOLDER).iterdir())) > 3
    run(expected, folder)
    assert counts(run(store, folder, engine=Inline()))["skipped"]
    assert content(store) == content(expected)


def busy(path: Path, companion: Path | None = None) -> str:
    raise Transient(f"{path}: a decoder timed out")


def test_a_model_that_has_worked_may_fail_for_a_unit(tmp_path: Path) -> None:
    (folder := tmp_path / "media").mkdir()
    for number in range(16):
        (folder / f"{number:02}.txt").write_text(f"{'red' if number < 8 else 'odd'} {number}")
    stores = [new_store(tmp_path / name) for name in ("local", "parts")]
    for store, engine in zip(stores, (None, Inline(8)), strict=True):
        ingest(store, [folder], Odd(), decoders=0, engine=engine, commit_s=0)
    assert len(stores[1].snapshot()) == 8
    assert content(stores[1]) == content(stores[0])


def test_a_model_that_fails_names_its_node(tmp_path: Path) -> None:
    (folder := tmp_path / "media").mkdir()
    for number in range(8):
        (folder / f"{number}.txt").write_text(f"odd {number}")
    with pytest.raises(ModelError, match=f"{node()}: the model fails"):
        ingest(new_store(tmp_path / "c"), [folder], Odd(), decoders=0, engine=Inline(8))


def test_a_copy_of_a_file_that_changes_meanwhile_is_tried_again(tmp_path: Path) -> None:
    """Parts may be of two runs, between which a server has changed a file without a trace."""

    def changing(survey: Survey, ledger: Any, backend: Any, clock: Any, *, captions: bool) -> None:
        first, second = map(prepare, survey.tasks(Action.EMBED))
        assert (ledger.claim(first), ledger.claim(second)) == (True, False)
        sample, changed = Sample(Modality.TEXT, "red"), replace(first, sha256="0" * 64)
        ledger.add(Embedded(changed, [row_of(changed, sample)], list(backend.embed([sample]))))

    (folder := tmp_path / "media").mkdir()
    for name in "ab":
        (folder / f"{name}.txt").write_text("blue")
    store = new_store(tmp_path / "c")
    ingest(store, [folder], FakeBackend(), decoders=0, engine=changing)
    (skip,) = store.snapshot().skipped().to_pylist()
    assert (Path(skip["path"]).name, skip["error"]) == ("b.txt", Reason.TRANSIENT)
    assert run(store, folder).new == {Modality.TEXT: 1}
    assert not store.snapshot().skipped()


class Odd(FakeBackend):
    """A backend that fails for odd texts."""

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if any("odd" in str(sample.data) for sample in samples):
            raise RuntimeError("odd")
        return super().embed(samples)


def test_ray_is_imported_only_to_be_used() -> None:
    program = "import sys, xsearch.cluster, xsearch.cli.ingest; print('ray' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "False\n"
