"""Which names are meant as paths, and what is said of those that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from xsearch.media import looks_like_path, why_no_file

PATHS = [
    *("nofile.jpg", "scan.PDF", "x.tar.gz", "my photos/a dog.jpg", "no/such/folder/a.wav", "a.json"),
    *("IMG_1.CR2", "film.MTS", "memo.aiff", "logo.svg", "scan.jp2"),
    *("/etc", "/no/such", "./a", "../a", "~/a", "c:\\a b", "C:/a", "htps://host/a"),
    *("sub", "sub/", "sub/brid", "brid/", "two words"),
]
TEXTS = [
    *("a dog", "and/or", "version 2.0", "a 3.5 mm jack", "AC/DC", "what is this?", "a.jpg?", "my dog.jpg"),
    *(
        "",
        " ",
        "...",
        "e.g.",
        "U.S.A.",
        "node.js",
        "sub/a b",
        "n/a",
        "1:2",
        "C: drive",
        "~",
        "x" * 9000,
        "a\0/b",
    ),
]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sub", "two words"):
        (tmp_path / name).mkdir()
    (tmp_path / "sub" / "Bird.JPG").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", PATHS)
def test_paths(name: str) -> None:
    assert looks_like_path(name)


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name: str) -> None:
    assert not looks_like_path(name)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("sub", "sub is a folder, not a file"),
        ("sub/brid.jpg", "no such file: sub/brid.jpg; did you mean sub/Bird.JPG?"),
        ("sub/ship.wav", "no such file: sub/ship.wav"),
        ("no/brid.jpg", "no such file: no/brid.jpg"),
        ("~/brid.jpg", "no such file: ~/brid.jpg; ~ is not expanded here"),
        ("/dev/null", "/dev/null is not a regular file"),
    ],
)
def test_why_there_is_no_file(path: str, why: str) -> None:
    assert why_no_file(path) == why_no_file(Path(path)) == why
