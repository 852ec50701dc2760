"""Which files the names in a column mean."""

from __future__ import annotations

import os
import time
import unicodedata
from pathlib import Path

import pytest

from xsearch.metadata.files import Files, Match

NFC, NFD = (unicodedata.normalize(form, "café.jpg") for form in ("NFC", "NFD"))


def match(paths: list[str], names: list[str | None], folder: str = "/m", **options: bool) -> Match:
    return Files(paths, ["/m"]).match(names, folder, **options)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("a.jpg", "/m/a.jpg"),
        ("./sub/../a.jpg", "/m/a.jpg"),
        (" a.jpg ", "/m/a.jpg"),
        ("sub\\b.jpg", "/m/sub/b.jpg"),
        (".\\sub\\b.jpg", "/m/sub/b.jpg"),
        ("/m/sub/b.jpg", "/m/sub/b.jpg"),
        ("file:///m/sub/b.jpg", "/m/sub/b.jpg"),
        ("/sub/b.jpg", "/m/sub/b.jpg"),
        ("/home/anna/pictures/sub/b.jpg", "/m/sub/b.jpg"),
        ("C:\\Users\\Anna\\sub\\b.jpg", "/m/sub/b.jpg"),
        ("C:sub\\b.jpg", None),
        ("\\\\server\\share\\sub\\b.jpg", "/m/sub/b.jpg"),
        ("~/Pictures/a.jpg", "/m/a.jpg"),
        ("../input/dataset/a.jpg", "/m/a.jpg"),
        ("https://host/media/sub/b.jpg?width=9#top", "/m/sub/b.jpg"),
        ("https://host/d%C3%A9j%C3%A0%20vu.jpg", "/m/déjà vu.jpg"),
        ("s3://bucket/sub/b.jpg", "/m/sub/b.jpg"),
        ("https://[", None),
        ("b.jpg", "/m/sub/b.jpg"),
        ("m/a.jpg", "/m/a.jpg"),
        ("other/b.jpg", None),
        ("A.JPG", "/m/a.jpg"),
        ("Sub/B.jpg", "/m/sub/b.jpg"),
        ("B.JPG", "/m/sub/b.jpg"),
        ("straße.jpg", "/m/STRASSE.JPG"),
        (NFC, f"/m/{NFD}"),
        ("\\odd.jpg", "/m/\\odd.jpg"),
        ("sub", None),
        ("a", None),
        ("\0", None),
        ("", None),
        (None, None),
        ("x" * 5_000, None),
    ],
)
def test_a_name_means_the_file_that_its_writer_had_in_mind(name: str | None, path: str | None) -> None:
    odd = [f"/m/{NFD}", "/m/STRASSE.JPG", "/m/déjà vu.jpg", "/m/\\odd.jpg"]
    found = match(["/m/a.jpg", "/m/sub/b.jpg", "/elsewhere/c.jpg", *odd], [None, name])
    assert found.rows == ({path: 1} if path else {})
    assert found.missing == ([0] if path else [0, 1])


def test_names_that_differ_only_in_case_or_form_are_told_apart_if_both_exist() -> None:
    paths = ["/m/a.jpg", "/m/A.jpg", f"/m/{NFC}", f"/m/{NFD}"]
    names = ["A.jpg", "a.jpg", "a.JPG", NFC, NFD]
    found = match(paths, names)
    assert found.rows == {"/m/A.jpg": 0, "/m/a.jpg": 1, f"/m/{NFC}": 3, f"/m/{NFD}": 4}
    assert found.missing == [2]
    assert match([f"/m/sub{path[2:]}" for path in paths], names).rows == {
        path.replace("/m", "/m/sub"): row for path, row in found.rows.items()
    }


def test_a_name_relative_to_the_table_is_no_end_of_other_paths() -> None:
    found = match(["/m/a.jpg", "/m/sub/a.jpg", "/m/sub/b.jpg", "/m/deep/b.jpg"], ["a.jpg", "b.jpg"])
    assert found.rows == {"/m/a.jpg": 0, "/m/sub/b.jpg": 1, "/m/deep/b.jpg": 1}
    assert found.exact == 1


def test_the_longest_name_of_a_file_counts_and_then_the_last_row() -> None:
    paths = ["/m/x/y/a.jpg", "/m/z/a.jpg"]
    assert match(paths, ["y/a.jpg", "a.jpg"]).rows == {"/m/x/y/a.jpg": 0, "/m/z/a.jpg": 1}
    found = match(paths, ["z/a.jpg", "a.jpg", "z/a.jpg", "a.jpg"])
    assert found.rows == {"/m/x/y/a.jpg": 3, "/m/z/a.jpg": 2}
    assert found.missing == []


def test_a_table_describes_the_files_below_its_folder() -> None:
    paths = ["/m/one/a.jpg", "/m/two/a.jpg", "/m/two/b.jpg"]
    assert match(paths, ["a.jpg", "b.jpg"], "/m/one").rows == {"/m/one/a.jpg": 0}
    assert match(paths, ["../two/b.jpg"], "/m/one").rows == {"/m/two/b.jpg": 0}
    assert match(paths, ["b.jpg", "one/a.jpg"], "/tables", anywhere=True).rows == {
        "/m/two/b.jpg": 0,
        "/m/one/a.jpg": 1,
    }
    assert match(paths, ["/home/anna/two/b.jpg"], "/tables", anywhere=True).rows == {"/m/two/b.jpg": 0}


def test_of_several_names_of_another_machine_the_one_that_is_most_alike_counts() -> None:
    names: list[str | None] = ["/ds/train/1.jpg", "/ds/val/1.jpg", "/ds/val/2.jpg"]
    assert match(["/m/val/1.jpg", "/m/val/2.jpg"], names, "/m/val").rows == {
        "/m/val/1.jpg": 1,
        "/m/val/2.jpg": 2,
    }
    flat = match(["/m/1.jpg", "/m/2.jpg"], names)
    assert flat.rows == {"/m/2.jpg": 2}
    assert flat.missing == [0, 1]


def test_a_row_about_a_file_that_was_left_out_is_not_missing(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    for name in ("here/a.jpg", "outside.jpg", "here/.hidden.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "here" / "folder").mkdir()
    (tmp_path / "link").symlink_to("here")
    files = Files([str(tmp_path / "here" / "a.jpg")], [str(tmp_path / "here")])
    names = ["../outside.jpg", ".hidden.jpg", "../link/a.jpg", "folder", "gone.jpg"]
    found = files.match(names, str(tmp_path / "here"))
    assert found.rows == {str(tmp_path / "here" / "a.jpg"): 2}
    assert found.missing == [3, 4]


def test_a_root_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.jpg").touch()
    (tmp_path / "link").symlink_to("real")
    files = Files([str(tmp_path / "link" / "a.jpg")], [str(tmp_path / "link")])
    assert files.match(["a.jpg"], str(tmp_path / "real")).rows == {str(tmp_path / "link" / "a.jpg"): 0}


def test_matching_takes_time_in_proportion(tmp_path: Path) -> None:
    """Everywhere the same file name: comparing each with each takes minutes."""
    count = 20_000
    paths = [f"/m/deep/{at}/image.jpg" for at in range(count)]
    files, start_s = Files(paths, ["/m"]), os.times().user
    assert len(files.match([f"{at}/image.jpg" for at in range(count)], "/m").rows) == count
    assert len(files.match([f"D:\\deep\\{at}\\IMAGE.jpg" for at in range(count)], "/m").rows) == count
    assert len(files.match(["image.jpg"] * count, "/m").rows) == count
    assert os.times().user - start_s < 10


def test_names_of_any_length_take_no_time() -> None:
    names = ["a/" * 500_000, "a/" * 4_000 + "b.jpg", "x" * 10**6, "/b.jpg" * 1_000, "\\" * 10**6]
    begin = time.process_time()
    found = Files(["/m/b.jpg"], ["/m"]).match(names * 5, "/m", anywhere=True)
    assert time.process_time() - begin < 5
    assert set(found.rows) == {"/m/b.jpg"}
