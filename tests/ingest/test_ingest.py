"""Ingest: everything once, nothing lost, whatever the files are."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image

import xsearch.ingest
from tests.fakes import FakeBackend
from xsearch import media
from xsearch.errors import MissingPackage, ModelError, UsageError
from xsearch.ingest import Progress, Report
from xsearch.models.vocabulary import Vocabulary
from xsearch.store import Store
from xsearch.types import MediaFile, Modality, Sample

ingest = functools.partial(xsearch.ingest.ingest, decoders=0)  # in this process, which starts faster
IMAGE, TEXT, AUDIO = Modality.IMAGE, Modality.TEXT, Modality.AUDIO


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "collection", FakeBackend().fingerprint)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures, a text, 25 s of sound, a broken picture and a file that is no media."""
    folder = tmp_path / "my médïa"
    (folder / "deep").mkdir(parents=True)
    picture(folder / "red.png", (255, 0, 0))
    picture(folder / "deep" / "blue.png", (0, 0, 255))
    (folder / "green.txt").write_text("green")
    soundfile.write(folder / "low.wav", 0.5 * np.sin(np.arange(25 * 8000) * 0.1), 8000)
    (folder / "broken.png").write_bytes((folder / "red.png").read_bytes()[:40])
    (folder / "program.exe").write_bytes(b"MZ\x00\x01")
    return folder


def picture(path: Path, colour: tuple[int, int, int]) -> None:
    Image.new("RGB", (24, 16), colour).save(path)


def rows(store: Store) -> list[dict[str, Any]]:
    """Everything about every live item, with its vector, without its id."""
    snapshot = store.snapshot()
    items = snapshot.items(snapshot.ids).drop_columns("id").to_pylist()
    for item, vector in zip(items, snapshot.vectors(snapshot.ids), strict=True):
        item["vector"] = vector.tolist()
    return sorted(items, key=lambda item: (item["path"], item["modality"], item["start_s"] or 0))


def names(store: Store) -> list[str]:
    return [Path(row["path"]).name for row in rows(store)]


def run(store: Store, folder: Path, **options: Any) -> tuple[Report, FakeBackend]:
    backend = FakeBackend()
    return ingest(store, [folder], backend, **options), backend


def test_every_file_is_an_item_or_a_skip_or_no_media(store: Store, folder: Path) -> None:
    report, _ = run(store, folder)
    assert report.files == {IMAGE: 3, TEXT: 1, AUDIO: 1}
    assert report.new == {IMAGE: 2, TEXT: 1, AUDIO: 1}
    assert report.items == {IMAGE: 2, TEXT: 1, AUDIO: 3}
    assert report.not_media == 1
    assert report.items_per_s > 0
    (skip,) = report.skipped
    assert skip.path == str(folder / "broken.png")
    assert str(folder) not in skip.reason
    assert names(store) == ["blue.png", "green.txt", "low.wav", "low.wav", "low.wav", "red.png"]
    assert store.snapshot().skipped()["path"].to_pylist() == [str(folder / "broken.png")]


def test_an_item_says_where_it_is_from(store: Store, folder: Path) -> None:
    run(store, folder)
    red, sound = rows(store)[-1], rows(store)[3]
    status = (folder / "red.png").stat()
    assert (red["path"], red["bytes"], red["mtime_ns"]) == (
        str(folder / "red.png"),
        status.st_size,
        status.st_mtime_ns,
    )
    assert (red["width"], red["height"], red["mime"], len(red["sha256"])) == (24, 16, "image/png", 64)
    assert (sound["start_s"], sound["end_s"], sound["duration_s"]) == (10, 20, 25)


def test_vectors_belong_to_their_items(store: Store, folder: Path) -> None:
    _, backend = run(store, folder)
    for sample in backend.seen:
        mine = [
            row
            for row in rows(store)
            if row["modality"] == sample.modality and row["start_s"] == sample.start_s
            if np.allclose(row["vector"], backend.embed([sample])[0], atol=1e-3)
        ]
        assert len(mine) == 1
        backend.seen = []


def test_a_text_is_stored_as_windows_with_the_share_of_unknown_words(store: Store, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("red " * 50 + "\n\n" + "the dark quasar " * 12)
    backend = FakeBackend(vocabulary=Vocabulary(["red", "dark"]))
    assert ingest(store, [tmp_path / "note.txt"], backend).items == {TEXT: 2}
    assert [row["text"] for row in rows(store)] == [("red " * 50).strip(), ("the dark quasar " * 12).strip()]
    assert [row["unknown_share"] for row in rows(store)] == [0, 0.5]
    assert [sample.data for sample in backend.seen] == [row["text"] for row in rows(store)]
    assert ingest(store, [tmp_path / "note.txt"], FakeBackend(fail_after=0)).unchanged == 1
    (tmp_path / "note.txt").write_text("quasar")
    ingest(store, [tmp_path / "note.txt"], FakeBackend())
    assert [row["unknown_share"] for row in rows(store)] == [None]  # of an open vocabulary


def test_a_second_run_embeds_nothing_and_tries_no_bad_file_again(store: Store, folder: Path) -> None:
    first, _ = run(store, folder)
    before, generation = rows(store), store.snapshot().manifest.generation
    report, backend = run(store, folder)
    assert backend.seen == []
    assert report.unchanged == 4
    assert report.new == {}
    assert report.skipped == first.skipped
    assert rows(store) == before
    assert store.snapshot().manifest.generation == generation


def test_a_bad_file_is_tried_again_when_it_changes(store: Store, folder: Path) -> None:
    run(store, folder)
    shutil.copy2(folder / "red.png", folder / "broken.png")  # with an old mtime
    report, _ = run(store, folder)
    assert report.skipped == ()
    assert len(store.snapshot().skipped()) == 0
    assert "broken.png" in names(store)


def test_a_changed_file_replaces_its_items(store: Store, folder: Path) -> None:
    run(store, folder)
    (folder / "green.txt").write_text("red red")
    report, backend = run(store, folder)
    assert [sample.data for sample in backend.seen] == ["red red"]
    assert (report.changed, report.unchanged) == (1, 3)
    assert [row["text"] for row in rows(store) if row["modality"] == TEXT] == ["red red"]


def test_a_file_that_becomes_unreadable_loses_its_items(store: Store, folder: Path) -> None:
    run(store, folder)
    (folder / "red.png").write_bytes((folder / "red.png").read_bytes()[:50])
    run(store, folder)
    assert "red.png" not in names(store)
    assert len(store.snapshot().skipped()) == 2


@pytest.mark.parametrize("content", [b"", b"MZ\x00\x01"])
def test_a_file_that_is_no_longer_media_loses_its_items(store: Store, folder: Path, content: bytes) -> None:
    (folder / "clip").write_bytes((folder / "red.png").read_bytes())
    run(store, folder)
    assert "clip" in names(store)
    (folder / "clip").write_bytes(content)
    run(store, folder)
    assert "clip" not in names(store)
    assert "red.png" in names(store)


def test_a_known_file_that_no_rule_takes_any_more_keeps_its_items(store: Store, folder: Path) -> None:
    np.save(folder / "far.npy", np.ones((4, 4), np.float32))
    run(store, folder, kinds=[(Modality.DEPTH, "*.npy")])
    report, _ = run(store, folder)
    assert (report.unchanged, report.not_media) == (5, 1)
    assert "far.npy" in names(store)


def test_a_skip_is_forgotten_with_its_file_or_its_reason(store: Store, folder: Path) -> None:
    (folder / "red.json").write_text("{")
    for name in ("gone.png", "program.png", "kept.png"):
        (folder / name).write_bytes(b"")
    (folder / "kept.png").write_bytes((folder / "broken.png").read_bytes()[:20])
    run(store, folder)
    assert len(store.snapshot().skipped()) == 5
    (folder / "gone.png").unlink()
    (folder / "program.png").rename(folder / "program.txt2")
    (folder / "red.json").write_text("{}")
    run(store, folder / "deep")
    assert len(store.snapshot().skipped()) == 5
    run(store, folder)
    skipped = store.snapshot().skipped()["path"].to_pylist()
    assert sorted(Path(path).name for path in skipped) == ["broken.png", "kept.png"]
    generation = store.snapshot().manifest.generation
    run(store, folder)
    assert store.snapshot().manifest.generation == generation


def test_a_rule_makes_a_skipped_file_be_tried_again(store: Store, folder: Path) -> None:
    Image.new("L", (16, 16), 90).save(folder / "grey.png")
    run(store, folder, kinds=[(Modality.DEPTH, "grey.png")])
    assert "grey.png" not in names(store)
    run(store, folder, kinds=[(Modality.THERMAL, "grey.png")])
    assert "grey.png" in names(store)


def test_a_missing_package_makes_a_file_be_tried_again(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(file: MediaFile) -> Iterator[Sample]:
        raise MissingPackage(f"{file.path}: needs more")

    with monkeypatch.context() as patch:
        patch.setitem(media._READERS, IMAGE, lacking)
        run(store, folder)
        generation = store.snapshot().manifest.generation
        assert len(run(store, folder)[0].skipped) == 3
        assert store.snapshot().manifest.generation == generation
    run(store, folder)
    assert {"red.png", "blue.png"} <= set(names(store))


def test_a_touched_file_is_hashed_but_not_embedded(store: Store, folder: Path) -> None:
    run(store, folder)
    os.utime(folder / "red.png", ns=(1, 1))
    report, backend = run(store, folder)
    assert backend.seen == []
    assert (report.unchanged, report.changed, report.duplicates) == (4, 0, 0)
    assert [row["mtime_ns"] for row in rows(store) if row["path"].endswith("red.png")] == [1]
    assert run(store, folder)[0].unchanged == 4


def test_a_moved_file_keeps_its_vectors_and_user_columns(store: Store, folder: Path) -> None:
    (folder / "low.json").write_text('{"place": "sea"}')
    run(store, folder)
    (folder / "low.json").unlink()
    (folder / "low.wav").rename(folder / "deep" / "sea.wav")
    report, backend = run(store, folder)
    assert backend.seen == []
    assert (report.moved, report.duplicates, report.removed) == (1, 0, 0)
    moved = [row for row in rows(store) if row["modality"] == AUDIO]
    assert [row["path"] for row in moved] == [str(folder / "deep" / "sea.wav")] * 3
    assert {row["place"] for row in moved} == {"sea"}


def test_two_files_that_swap_their_names(store: Store, folder: Path) -> None:
    run(store, folder)
    before = {row["path"]: row["vector"] for row in rows(store) if row["modality"] == IMAGE}
    red, blue = folder / "red.png", folder / "deep" / "blue.png"
    red.rename(folder / "x"), blue.rename(red), (folder / "x").rename(blue)
    report, backend = run(store, folder)
    after = {row["path"]: row["vector"] for row in rows(store) if row["modality"] == IMAGE}
    assert backend.seen == []
    assert report.changed == 2
    assert after == {str(red): before[str(blue)], str(blue): before[str(red)]}


def test_a_copy_of_a_changed_file_has_its_new_content(store: Store, folder: Path) -> None:
    run(store, folder)
    old, new = folder / "deep" / "old.txt", folder / "deep" / "new.txt"
    shutil.copy(folder / "green.txt", old)
    for path in (folder / "green.txt", new):
        path.write_text("red red")
    report, backend = run(store, folder)
    assert len(backend.seen) == 1
    assert (report.duplicates, report.changed) == (2, 1)
    texts = {Path(row["path"]).name: row["text"] for row in rows(store) if row["modality"] == TEXT}
    assert texts == {"green.txt": "red red", "new.txt": "red red", "old.txt": "green"}


@pytest.mark.parametrize("in_one_run", [True, False])
def test_duplicates_are_embedded_once(store: Store, folder: Path, in_one_run: bool) -> None:
    (folder / "low.json").write_text('{"place": "sea"}')
    if not in_one_run:
        run(store, folder)
    shutil.copy(folder / "low.wav", folder / "deep" / "copy.wav")
    shutil.copy(folder / "broken.png", folder / "deep" / "broken2.png")
    report, backend = run(store, folder)
    assert len(backend.seen) == (6 if in_one_run else 0)
    assert report.duplicates == 1
    assert sum(report.new.values()) == (5 if in_one_run else 1)
    assert report.items == (store.snapshot().counts() if in_one_run else {AUDIO: 3})
    copies = [row for row in rows(store) if row["path"].endswith("copy.wav")]
    originals = [row for row in rows(store) if row["path"].endswith("low.wav")]
    assert [row["vector"] for row in copies] == [row["vector"] for row in originals]
    assert {row["place"] for row in copies} == {None}
    assert {Path(skip.path).name for skip in report.skipped} == {"broken.png", "broken2.png"}


def test_prune_removes_what_is_gone_and_only_below_the_given_folders(store: Store, folder: Path) -> None:
    run(store, folder)
    (folder / "low.wav").unlink()
    (folder / "deep" / "blue.png").unlink()
    assert run(store, folder)[0].removed == 0
    assert run(store, folder / "deep", prune=True, dry_run=True)[0].removed == 1
    assert run(store, folder / "deep", prune=True)[0].removed == 1
    assert names(store) == ["green.txt", "low.wav", "low.wav", "low.wav", "red.png"]
    assert run(store, folder, prune=True)[0].removed == 3
    assert names(store) == ["green.txt", "red.png"]


def test_a_path_may_go_up(store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(store, folder)
    (folder / "green.txt").unlink()
    monkeypatch.chdir(folder / "deep")
    assert run(store, Path("..") / "deep" / "..", prune=True)[0].removed == 1


def test_a_rule_may_change_the_kind_of_a_known_file(store: Store, folder: Path) -> None:
    Image.new("L", (16, 16), 90).save(folder / "grey.png")
    run(store, folder)
    report, _ = run(store, folder, kinds=[(Modality.THERMAL, "grey.png")])
    assert report.new == {Modality.THERMAL: 1}
    assert [row["modality"] for row in rows(store) if row["path"].endswith("grey.png")] == ["thermal"]


def test_a_dry_run_writes_nothing_and_needs_no_collection(store: Store, folder: Path) -> None:
    report = ingest(None, [folder], None, dry_run=True)
    assert report.new == {IMAGE: 3, TEXT: 1, AUDIO: 1}
    run(store, folder)
    generation = store.snapshot().manifest.generation
    (folder / "green.txt").write_text("dark")
    report = ingest(store, [folder], None, dry_run=True)
    assert (report.new, report.changed, report.unchanged) == ({TEXT: 1}, 1, 3)
    assert store.snapshot().manifest.generation == generation


def test_a_folder_that_is_not_there(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nowhere"):
        run(store, tmp_path / "nowhere")


def test_an_empty_folder(store: Store, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    report, _ = run(store, tmp_path / "empty")
    assert (report.files, report.skipped, report.items_per_s) == ({}, (), 0)


def test_the_collection_itself_is_no_media(store: Store, folder: Path) -> None:
    run(store, folder)
    report, _ = run(store, folder.parent)
    assert report.unchanged == 4
    assert report.not_media == 1


# ---------------------------------------------------------------- interruptions


@pytest.mark.parametrize("commit_items", [1, 3, 1000])
@pytest.mark.parametrize("fail_after", [0, 1, 4, 5])
def test_a_stopped_run_is_finished_by_the_next(
    tmp_path: Path, folder: Path, commit_items: int, fail_after: int
) -> None:
    whole = Store.create(tmp_path / "whole", FakeBackend().fingerprint)
    run(whole, folder)
    store = Store.create(tmp_path / "stopped", FakeBackend().fingerprint)
    with pytest.raises(KeyboardInterrupt):
        ingest(store, [folder], FakeBackend(fail_after=fail_after), commit_items=commit_items)
    run(store, folder)
    assert rows(store) == rows(whole)


def test_what_is_committed_is_not_embedded_again(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:03}.txt").write_text(f"red {number}")
    with pytest.raises(KeyboardInterrupt):
        ingest(store, [folder], FakeBackend(fail_after=70), commit_items=10)
    kept = len(store.snapshot())
    assert kept == 64  # two batches of 32
    _, backend = run(store, folder)
    assert len(backend.seen) == 100 - kept


@pytest.mark.parametrize("step", ["/items.parquet", "create .manifest.json.", "create .manifest.copy.json."])
def test_a_stop_in_the_middle_of_a_commit_writes_nothing_twice(
    store: Store, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def stop(name: str) -> None:
        if step in name and not stopped:
            stopped.append(name)
            raise KeyboardInterrupt

    stopped: list[str] = []
    writer = Store.writer
    monkeypatch.setattr(Store, "writer", lambda self: writer(self, step=stop))
    with pytest.raises(KeyboardInterrupt):
        run(store, folder, commit_items=1)
    assert len(names(store)) == ("copy" in step)
    run(store, folder)
    assert names(store) == ["blue.png", "green.txt", "low.wav", "low.wav", "low.wav", "red.png"]


def test_a_run_that_fails_keeps_what_it_has_finished(store: Store, folder: Path) -> None:
    with pytest.raises(ModelError):
        ingest(store, [folder], Choosy(ModelError("no tower"), dark=TEXT))
    assert names(store) == ["blue.png", "red.png"]


def test_commits_follow_the_clock(store: Store, folder: Path) -> None:
    run(store, folder, commit_s=0.0)
    assert store.snapshot().manifest.generation >= 4


# ---------------------------------------------------------------- bad files and bad models


class Choosy(FakeBackend):
    """Fails for dark texts, for everything of one kind, or for everything."""

    def __init__(
        self, problem: Exception | None, *, always: bool = False, dark: Modality | None = None
    ) -> None:
        super().__init__()
        self.problem, self.always, self.dark = problem, always, dark

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        bad = np.array([self.always or s.text == "dark" or s.modality == self.dark for s in samples])
        if self.problem and bad.any():
            raise self.problem
        vectors = super().embed(samples)
        vectors[bad] = np.nan
        return vectors


@pytest.mark.parametrize("problem", [ValueError("odd\nshape"), None])
def test_a_sample_that_the_model_cannot_embed_costs_its_file_only(
    store: Store, folder: Path, problem: Exception | None
) -> None:
    (folder / "bad.txt").write_text("dark")
    report = ingest(store, [folder], Choosy(problem))
    assert {Path(skip.path).name for skip in report.skipped} == {"bad.txt", "broken.png"}
    assert all("\n" not in skip.reason for skip in report.skipped)
    assert len(store.snapshot()) == 6


@pytest.mark.parametrize("problem", [ValueError("broken model"), ModelError("weights are missing")])
def test_a_model_that_fails_for_everything_is_not_the_fault_of_the_files(
    store: Store, folder: Path, problem: Exception
) -> None:
    for number in range(32):  # a whole batch: the pictures still wait
        (folder / f"{number}.txt").write_text(f"red {number}")
    with pytest.raises(ModelError, match=str(problem)):
        ingest(store, [folder], Choosy(problem, always=True))
    assert not [path for path in store.snapshot().skipped()["path"].to_pylist() if path.endswith(".txt")]


def test_two_bad_files_are_two_bad_files(store: Store, folder: Path) -> None:
    (folder / "green.txt").write_text("dark")
    (folder / "other.txt").write_text("dark ")
    report = ingest(store, [folder], Choosy(ValueError("odd"), dark=TEXT))
    assert {Path(skip.path).name for skip in report.skipped} == {"broken.png", "green.txt", "other.txt"}
    assert len(store.snapshot()) == 5


# ---------------------------------------------------------------- metadata


def test_user_columns_come_from_tables_and_sidecars(store: Store, folder: Path, tmp_path: Path) -> None:
    (folder / "metadata.csv").write_text(
        "path,Year,Score,id,ok\nred.png,2021,0.5,a7,true\ndeep/blue.png,2022,1,b8,false\n"
    )
    (folder / "red.json").write_text(json.dumps({"year": 1999, "tags": ["a", "b"]}))
    table = tmp_path / "more.csv"
    table.write_text("path,year\nother/place/my médïa/green.txt,7\ngreen.txt,8\n", encoding="utf-8-sig")
    run(store, folder, metadata=table)
    by_name = {Path(row["path"]).name: row for row in rows(store)}
    red, blue = by_name["red.png"], by_name["blue.png"]
    assert (red["year"], red["score"], red["id_"], red["ok"], red["tags"]) == (
        1999,
        0.5,
        "a7",
        True,
        '["a", "b"]',
    )
    assert (blue["year"], blue["score"], blue["id_"], blue["ok"], blue["tags"]) == (
        2022,
        1.0,
        "b8",
        False,
        None,
    )
    assert by_name["green.txt"]["year"] == 8
    assert by_name["low.wav"]["year"] is None
    snapshot = store.snapshot()
    assert len(snapshot.select("year > 2000 AND ok")) == 0
    assert len(snapshot.select("year > 2000")) == 1


def test_a_row_about_a_file_is_about_no_other_of_its_name(store: Store, folder: Path) -> None:
    picture(folder / "deep" / "red.png", (9, 0, 0))
    (folder / "metadata.csv").write_text("path,place\nred.png,sea\nblue.png,sky\n")
    run(store, folder)
    places = {row["path"]: row["place"] for row in rows(store) if row["place"]}
    assert places == {str(folder / "red.png"): "sea", str(folder / "deep" / "blue.png"): "sky"}


def test_an_inner_table_wins_over_an_outer_one(store: Store, folder: Path) -> None:
    (folder / "metadata.csv").write_text("path,place\ndeep/blue.png,sea\n")
    (folder / "deep" / "metadata.csv").write_text("path,place\nblue.png,sky\n")
    run(store, folder)
    assert [row["place"] for row in rows(store) if row["path"].endswith("blue.png")] == ["sky"]


def test_new_metadata_reaches_known_files_without_embedding(store: Store, folder: Path) -> None:
    run(store, folder)
    (folder / "metadata.csv").write_text("path,place\nlow.wav,sea\n")
    report, backend = run(store, folder)
    assert backend.seen == []
    assert (report.unchanged, report.described) == (4, 1)
    assert [row["place"] for row in rows(store)] == [None, None, "sea", "sea", "sea", None]
    generation = store.snapshot().manifest.generation
    run(store, folder)
    assert store.snapshot().manifest.generation == generation


def test_a_bad_sidecar_is_said_and_its_file_is_still_an_item(store: Store, folder: Path) -> None:
    (folder / "red.json").write_text("{")
    report, _ = run(store, folder)
    assert {Path(skip.path).name for skip in report.skipped} == {"broken.png", "red.json"}
    assert "red.png" in names(store)
    (folder / "red.json").write_text('{"place": "sea"}')
    run(store, folder)
    assert store.snapshot().skipped()["path"].to_pylist() == [str(folder / "broken.png")]


@pytest.mark.parametrize("content", ["name,year\nred.png,1\n", "", "path\0\1"])
def test_only_a_requested_table_ends_the_run_before_it_begins(
    store: Store, folder: Path, tmp_path: Path, content: str
) -> None:
    (folder / "metadata.csv").write_text(content)
    with pytest.raises(UsageError, match=r"metadata\.csv: "):
        run(store, folder, metadata=folder / "metadata.csv")
    for _ in range(2):
        report, _ = run(store, folder)
        (note,) = report.notes
        assert note.startswith(f"not used: {folder / 'metadata.csv'}: ")
        assert [Path(skip.path).name for skip in report.skipped] == ["broken.png"]
        assert report.not_media == 2


def test_rows_that_match_no_file_are_noted_on_every_run(store: Store, folder: Path) -> None:
    run(store, folder)
    path = folder / "metadata.jsonl"
    names = ["RED.png", "broken.png", "program.exe", "gone.png"]
    path.write_text("\n".join(json.dumps({"file_name": name, "place": "sea"}) for name in names))
    note = f"1 of 4 rows of {path} matches no file, such as 'gone.png'"
    for options, described in (({"dry_run": True}, 1), ({}, 1), ({}, 0)):
        report, _ = run(store, folder, **options)
        assert (report.notes, report.described, report.not_media) == ((note,), described, 1)
    path.write_text('{"file_name": "red.png", "place": "sky"}')
    report, backend = run(store, folder)
    assert (report.notes, report.described, backend.seen) == ((), 1, [])
    assert [row["place"] for row in rows(store) if row["place"]] == ["sky"]
    with pytest.raises(UsageError, match="No such file"):
        run(store, folder, metadata=folder / "gone.csv")


def test_a_table_that_is_named_among_the_files_is_used(store: Store, folder: Path) -> None:
    (folder / "Metadata.CSV").write_text("file_name,place\nred.png,sea\n")
    report = ingest(store, [folder / "red.png", folder / "Metadata.CSV"], FakeBackend())
    assert (report.not_media, report.notes) == (0, ())
    assert [row["place"] for row in rows(store)] == ["sea"]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl", "metadata.parquet"])
def test_a_pipe_or_a_folder_called_like_a_table_is_none(store: Store, folder: Path, name: str) -> None:
    os.mkfifo(folder / name)
    (folder / "deep" / name).mkdir()
    report, _ = run(store, folder)
    assert report.notes == (f"not used: {folder / name}: not a regular file",)
    assert len(report.skipped) == 1


def test_columns_of_mixed_types_become_text(store: Store, folder: Path) -> None:
    (folder / "red.json").write_text('{"code": 7, "big": 123456789012345678901234567890}')
    (folder / "green.json").write_text('{"code": "x", "big": 1}')
    (folder / "low.json").write_text('{"code": true, "big": 0.5, "depth": NaN}')
    run(store, folder)
    generation = store.snapshot().manifest.generation
    assert run(store, folder)[0].described == 0
    assert store.snapshot().manifest.generation == generation
    by_name = {Path(row["path"]).name: row for row in rows(store)}
    assert (by_name["red.png"]["code"], by_name["green.txt"]["code"]) == ("7", "x")
    assert by_name["red.png"]["big"] == "123456789012345678901234567890"


# ---------------------------------------------------------------- progress and threads


def test_progress_counts_files_to_the_end(store: Store, folder: Path) -> None:
    steps: list[Progress] = []
    run(store, folder, progress=steps.append)
    assert [step.done for step in steps] == [1, 2, 3, 4, 5]
    assert {step.total for step in steps} == {5}
    last = steps[-1]
    assert (last.items, last.skipped) == ({IMAGE: 2, TEXT: 1, AUDIO: 3}, 1)
    assert last.bytes == sum(path.stat().st_size for path in folder.rglob("*.*") if path.suffix != ".exe")


def test_the_report_says_where_the_time_went(store: Store, folder: Path) -> None:
    report, _ = run(store, folder)
    assert set(report.spent) == {"look", "wait", "embed", "write", "index"}
    assert 0 < sum(report.spent.values()) <= report.seconds
