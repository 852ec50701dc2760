"""What an ingest leaves out, what becomes of items of files that it leaves out, and what it says of them."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pytest

from tests.fakes import DIM
from tests.ingest.conftest import fill
from xsearch.collection import Collection
from xsearch.errors import Reason, SkipKind
from xsearch.ingest import others
from xsearch.types import Modality


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(
        tmp_path / "media", "a.txt", "b.txt", "old/c.txt", "old/d.tmp.txt", "x.json", "y.json", "z.db"
    )


def write(root: Path, *names: str) -> Path:
    """Files with texts of their own."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"red {name}")
    return root


def stored(collection: Collection, root: Path) -> list[str]:
    return sorted(
        os.path.relpath(path, root) for path in collection.items(columns=["path"])["path"].to_pylist()
    )


def lines(collection: Collection, root: Path) -> dict[str, str]:
    """What `skipped --all` lists beyond failures: path -> reason."""
    rows = collection.skipped(everything=True).to_pylist()
    failures = collection.skipped()["path"].to_pylist()
    return {
        os.path.relpath(row["path"], root): row["reason"].replace(f"{root}/", "")
        for row in rows
        if row["path"] not in failures
    }


def test_what_is_excluded_is_counted_and_listed(collection: Collection, folder: Path) -> None:
    (folder / ".xsearchignore").write_text("b.*\n")
    report = fill(collection, folder, exclude=["old", "*.db"])
    assert stored(collection, folder) == ["a.txt"]
    assert (report.excluded, report.not_media, report.not_media_types) == (3, 2, {".json": 2})
    assert report.notes == ()
    listed = lines(collection, folder)
    assert listed.pop("x.json") == listed.pop("y.json")
    assert listed == {
        "b.txt": "excluded by .xsearchignore: b.*",
        "old": "excluded by --exclude old",
        "z.db": "excluded by --exclude *.db",
    }
    assert len(collection.skipped()) == collection.stats()["skipped"] == 0


def test_the_list_follows_the_folder_and_a_second_run_writes_nothing(
    collection: Collection, folder: Path, tmp_path: Path
) -> None:
    other = write(tmp_path / "other", "o.json")
    fill(collection, folder, exclude=["old"])
    fill(collection, other)
    generation = collection.summary()["generation"]
    fill(collection, folder, other, exclude=["old"])
    assert collection.summary()["generation"] == generation
    (folder / "x.json").unlink()
    fill(collection, folder)
    assert set(lines(collection, folder)) == {"y.json", "z.db", "../other/o.json"}
    collection.compact()
    assert set(lines(collection, folder)) == {"y.json", "z.db", "../other/o.json"}


def test_the_list_is_bounded_and_counts_the_rest(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(others, "LISTED", 5)
    monkeypatch.setattr(others, "LISTED_OF_TYPE", 3)
    monkeypatch.setattr(others, "TYPES", 1)
    folder = write(tmp_path / "media", *(f"{n}.json" for n in range(10)), *(f"{n}.db" for n in range(4)))
    write(folder, "Makefile", "frame.0001", "frame.0002")
    report = fill(collection, folder, exclude=["9.*"])
    assert report.not_media_types == {".json": 9, ".db": 4, "": 3}
    listed = lines(collection, folder)
    assert [listed.pop(f"{n}.{kind}") is not None for n in (0, 1) for kind in ("db", "json")] == [True] * 4
    assert listed.pop("2.db")
    assert listed == {
        "**/*.json": "7 more files, not media; 1 more file, excluded",
        "**/*": "4 more files, not media",
    }
    generation = collection.summary()["generation"]
    fill(collection, folder, exclude=["9.*"])
    assert collection.summary()["generation"] == generation


def test_items_of_excluded_files_are_as_those_of_vanished_ones(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    (folder / "b.txt").unlink()
    report = fill(collection, folder, exclude=["old"])
    assert report.notes == (
        "1 item of vanished files kept; --prune removes them",
        "2 items of excluded files kept; --prune removes them",
    )
    assert stored(collection, folder) == ["a.txt", "b.txt", "old/c.txt", "old/d.tmp.txt"]
    preview = fill(collection, folder, exclude=["old"], prune=True, dry_run=True)
    assert (preview.removed, preview.notes) == (3, ())
    assert fill(collection, folder, exclude=["old"], prune=True).removed == 3
    assert stored(collection, folder) == ["a.txt"]
    assert fill(collection, folder).new == {Modality.TEXT: 2}


def test_prune_may_be_about_some_paths_only(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    shutil.rmtree(folder / "old")
    (folder / "a.txt").unlink()
    (folder / "b.txt").unlink()
    report = fill(collection, folder, prune=[folder / "ol", folder / "old", folder / "b.txt"])
    assert report.removed == 3
    assert report.notes == ("1 item of vanished files kept; --prune removes them",)
    assert stored(collection, folder) == ["a.txt"]


def test_what_earlier_releases_stored_of_system_folders_is_reported_and_pruned(
    collection: Collection, folder: Path
) -> None:
    write(folder, "#recycle/c.txt", ".hidden/d.txt")
    fill(collection, folder, folder / "#recycle", folder / ".hidden")  # as roots: asked for
    assert len(stored(collection, folder)) == 6
    assert fill(collection, folder).notes == ("1 item of excluded files kept; --prune removes them",)
    assert fill(collection, folder, prune=True).removed == 1
    assert ".hidden/d.txt" in stored(collection, folder)  # was never taken unasked


def test_a_file_that_is_not_visited_for_another_reason_keeps_its_items(
    collection: Collection, folder: Path
) -> None:
    (folder / "link").symlink_to(folder / "old")
    fill(collection, folder / "link")
    assert fill(collection, folder, prune=True).removed == 0  # its folder has been visited by another name
    assert {"link/c.txt", "old/c.txt"} <= set(stored(collection, folder))


def test_a_skipped_file_that_is_excluded_is_no_longer_a_failure(collection: Collection, folder: Path) -> None:
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert len(fill(collection, folder).skipped) == 1
    assert fill(collection, folder, exclude=["bad.png"]).skipped == ()
    assert len(collection.skipped()) == 0
    assert len(fill(collection, folder).skipped) == 1


def test_an_excluded_table_describes_nothing(collection: Collection, folder: Path) -> None:
    write(folder, "@eaDir/metadata.csv")
    (folder / "metadata.csv").write_text("path,place\na.txt,beach\n")
    fill(collection, folder, exclude=["metadata.csv"])
    assert "place" not in collection.items().column_names
    fill(collection, folder)
    assert "beach" in collection.items()["place"].to_pylist()


def test_rules_that_match_nothing_are_reported(collection: Collection, folder: Path) -> None:
    rules = [(Modality.TEXT, "old/*"), (Modality.THERMAL, "flir/*"), (Modality.TEXT, "b.txt")]
    notes = fill(collection, folder, kinds=rules, exclude=["b.txt", "raw"], dry_run=True).notes
    assert [note.split(" matches nothing")[0] for note in notes] == [
        "--as thermal=flir/*",
        "--as text=b.txt",  # excluded
        "--exclude raw",
    ]


def test_a_removed_file_does_not_come_back_unless_it_is_named(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    assert collection.remove(paths=[folder / "old"], ignore=True) == 2
    (folder / "old" / "c.txt").write_text("red, changed")
    write(folder, "old/new.txt")
    report = fill(collection, folder)
    assert (report.ignored, report.new) == (2, {Modality.TEXT: 1})
    assert stored(collection, folder) == ["a.txt", "b.txt", "old/new.txt"]
    collection.compact()
    assert fill(collection, folder, kinds=[(Modality.TEXT, "old/*")]).ignored == 2
    removed = {name: reason for name, reason in lines(collection, folder).items() if name.startswith("old/")}
    assert set(removed) == {"old/c.txt", "old/d.tmp.txt"}
    assert all("xsearch ingest FILE" in reason for reason in removed.values())

    assert fill(collection, folder / "old").ignored == 2  # its folder is not the file itself
    assert fill(collection, folder / "old" / "c.txt").new == {Modality.TEXT: 1}
    assert fill(collection, folder).ignored == 1
    assert "old/c.txt" in stored(collection, folder)


def test_a_removed_file_is_not_back_when_its_disk_is(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    collection.remove(paths=[folder / "a.txt"], ignore=True)
    (folder / "a.txt").rename(folder.parent / "a.txt")
    fill(collection, folder, prune=True)
    (folder.parent / "a.txt").rename(folder / "a.txt")
    assert fill(collection, folder).ignored == 1


def test_only_files_without_items_are_ignored(collection: Collection, folder: Path) -> None:
    (folder / "long.txt").write_text("\n\n".join(["red " * 50] * 3))
    fill(collection, folder)
    long = str(folder / "long.txt")
    ids = collection.items(where=f"path = '{long}'", columns=["id"])["id"].to_pylist()
    assert len(ids) > 1
    collection.remove(iter(ids[:1]), ignore=True)
    assert lines(collection, folder).keys() == {"x.json", "y.json", "z.db"}
    collection.remove(iter(ids[1:]), ignore=True)
    assert "long.txt" in lines(collection, folder)
    assert fill(collection, folder).new == {}


def test_a_folder_that_an_import_calls_a_file_is_not_kept_out(collection: Collection, folder: Path) -> None:
    items = pa.table({"path": [str(folder / "old")], "modality": ["text"]})
    with collection.store.writer() as writer:
        (id,) = writer.add(items, np.eye(1, DIM, dtype=np.float32))
        writer.commit()
    collection.remove([id], ignore=True)
    assert fill(collection, folder).ignored == 0
    assert "old/c.txt" in stored(collection, folder)


def test_a_file_may_be_ignored_after_it_was_removed(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    collection.remove(paths=[folder / "a.txt"])
    assert collection.emptied(paths=[folder / "a.txt", folder / "b.txt"]) == [
        str(folder / "a.txt"),
        str(folder / "b.txt"),
    ]
    assert collection.remove(paths=[folder / "a.txt"], ignore=True) == 0
    assert fill(collection, folder).ignored == 1


def test_a_dry_run_knows_what_is_moved_without_reading(
    collection: Collection, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(collection, folder)
    (folder / "old").rename(folder / "older")
    hashed: list[Path] = []
    sha256 = "xsearch.media.sha256"
    monkeypatch.setattr(sha256, lambda path, companion=None: hashed.append(path) or "")
    report = fill(collection, folder, dry_run=True)
    assert (report.moved, report.new, report.notes, hashed) == (2, {}, (), [])
    monkeypatch.undo()
    assert fill(collection, folder).moved == 2


def test_a_dry_run_reads_files_of_the_size_of_a_vanished_one(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    text = (folder / "a.txt").read_text()
    (folder / "a.txt").unlink()
    (folder / "moved.txt").write_text(text)  # with another mtime
    (folder / "other.txt").write_text(text.replace("a", "e"))
    report = fill(collection, folder, dry_run=True, prune=True)
    assert (report.moved, report.new, report.removed) == (1, {Modality.TEXT: 1}, 0)


def test_a_dry_run_says_what_is_wrong_with_sidecars(collection: Collection, folder: Path) -> None:
    (folder / "a.json").write_text("{")
    (skip,) = fill(collection, folder, dry_run=True).skipped
    assert (skip.path, skip.error) == (str(folder / "a.json"), Reason.SIDECAR)
    assert fill(collection, folder).skipped == (skip,)


def test_a_sidecar_that_is_too_large_is_recorded_until_it_is_smaller(
    collection: Collection, folder: Path
) -> None:
    fields = {str(number): number for number in range(101)}
    (folder / "a.json").write_text(json.dumps(fields))
    for again in range(2):
        (skip,) = fill(collection, folder, dry_run=not again).skipped
        assert (skip.path, skip.error) == (str(folder / "a.json"), Reason.LARGE_SIDECAR)
        assert skip.error.kind is SkipKind.TOO_LARGE
        assert skip.reason.startswith("over 100 columns; ")
    fill(collection, folder)
    assert collection.skipped()["path"].to_pylist() == [skip.path]
    del fields["100"]
    (folder / "a.json").write_text(json.dumps(fields))
    fill(collection, folder)
    assert len(collection.skipped()) == 0
    assert collection.items(where="path like '%/a.txt'")["99"].to_pylist() == [99]


def test_a_url_is_listed_without_what_is_excluded(collection: Collection, folder: Path) -> None:
    write(folder, "@eaDir/e.txt", "$RECYCLE.BIN/f.txt", "old/deep/g.txt", "private/h.txt")
    (folder / ".xsearchignore").write_text("private/\n*.tmp.*\n")
    (folder / "old" / ".xsearchignore").write_text("!d.tmp.txt\n/deep\n")
    system = fsspec.filesystem("memory")
    system.put(str(folder), "/media", recursive=True)
    try:
        url = "memory://media"
        report = fill(
            collection, url, exclude=["b.txt", f"{url}/z.*"], kinds=[(Modality.TEXT, "media/x.json")]
        )
        names = [path.removeprefix(f"{url}/") for path in collection.items()["path"].to_pylist()]
        assert sorted(names) == ["a.txt", "old/c.txt", "old/d.tmp.txt", "x.json"]
        assert (report.excluded, report.not_media, report.notes) == (4, 1, ())
        reasons = {row["path"]: row["reason"] for row in collection.skipped(everything=True).to_pylist()}
        assert reasons[f"{url}/private"] == f"excluded by {url}/.xsearchignore: private/"
        collection.remove(paths=[f"{url}/a.txt"], ignore=True)
        assert fill(collection, url, prune=True).ignored == 1
        assert len(collection) == 3
        assert fill(collection, f"{url}/a.txt").new == {Modality.TEXT: 1}
    finally:
        system.rm("/media", recursive=True)


def test_archives_are_apart_and_globs_mean_the_same_in_them(collection: Collection, tmp_path: Path) -> None:
    urls = []
    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for file in ("a.txt", "old/b.txt", "__MACOSX/._a.txt", "__MACOSX/c.txt"):
                archive.writestr(file, f"red {name} {file}")
        urls.append(f"zip://::file://{tmp_path / f'{name}.zip'}")
    report = fill(collection, *urls, exclude=["old/*"])
    assert (report.new, report.excluded) == ({Modality.TEXT: 2}, 2)
    assert sorted(collection.items()["text"].to_pylist()) == ["red one a.txt", "red two a.txt"]
