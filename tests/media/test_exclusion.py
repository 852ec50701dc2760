"""What is left out of a walk, and what globs of the user match."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from xsearch.errors import Reason, UsageError
from xsearch.media import Exclusion, Skipped, matches, walk


def fill(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("red")
    return root


def walked(*roots: Path, exclusion: Exclusion | None = None) -> tuple[list[str], list[str]]:
    """Names of the files that are taken, and of what is excluded."""
    found = list(walk(roots, exclusion=exclusion))
    top = roots[0] if roots[0].is_dir() else roots[0].parent
    skipped = [os.path.relpath(skip.path, top) for skip in found if isinstance(skip, Skipped)]
    return [os.path.relpath(file.path, top) for file in found if not isinstance(file, Skipped)], skipped


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", "@Recently-Snapshot", ".@__thumb", "~snapshot"),
        *("$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", "System Volume Information", "FOUND.000"),
        *("__MACOSX", ".fseventsd", ".Spotlight-V100", ".Trashes", ".AppleDouble", "Network Trash Folder"),
        *("lost+found", ".Trash-1000", "LOST.DIR", ".thumbnails"),
    ],
)
def test_folders_of_the_system_are_no_media_unless_they_are_roots(tmp_path: Path, name: str) -> None:
    fill(tmp_path, "a.txt", f"{name}/b.txt", f"deep/{name}/c.txt", f"deep/{name}s/d.txt")
    visible = [] if name.startswith(".") else [f"deep/{name}s/d.txt"]
    assert walked(tmp_path) == (["a.txt", *visible], [])
    assert walked(tmp_path / name) == (["b.txt"], [])


@pytest.mark.parametrize("name", ["recycler", "Recycled", "found", "snapshot", "eaDir", "Lost and found"])
def test_everyday_names_are_no_system_folders(tmp_path: Path, name: str) -> None:
    assert walked(fill(tmp_path, f"{name}/a.txt")) == ([f"{name}/a.txt"], [])


def test_files_of_the_system_are_not_even_counted(tmp_path: Path) -> None:
    assert walked(fill(tmp_path, "Thumbs.db", "desktop.ini", "ehthumbs.db", "Icon\r", "._a.jpg")) == ([], [])


@pytest.mark.parametrize(
    ("glob", "taken"),
    [
        ("raw", ["a.txt", "b.tmp.txt", "sub/x.txt"]),
        ("raw/", ["a.txt", "b.tmp.txt", "sub/x.txt"]),
        ("./raw", ["a.txt", "b.tmp.txt", "sub/raw/d.txt", "sub/x.txt"]),
        ("raw/*", ["a.txt", "b.tmp.txt", "sub/raw/d.txt", "sub/x.txt"]),
        ("**/raw/*", ["a.txt", "b.tmp.txt", "sub/x.txt"]),
        ("sub/raw", ["a.txt", "b.tmp.txt", "raw/c.txt", "sub/x.txt"]),
        ("media/sub", ["a.txt", "b.tmp.txt", "raw/c.txt"]),
        ("*.tmp.*", ["a.txt", "raw/c.txt", "sub/raw/d.txt", "sub/x.txt"]),
        ("[a-b]*", ["raw/c.txt", "sub/raw/d.txt", "sub/x.txt"]),
        ("media", ["a.txt", "b.tmp.txt", "raw/c.txt", "sub/raw/d.txt", "sub/x.txt"]),
        ("Raw", ["a.txt", "b.tmp.txt", "raw/c.txt", "sub/raw/d.txt", "sub/x.txt"]),
    ],
)
def test_globs_exclude_files_and_whole_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, glob: str, taken: list[str]
) -> None:
    media = fill(tmp_path / "media", "a.txt", "b.tmp.txt", "raw/c.txt", "sub/raw/d.txt", "sub/x.txt")
    monkeypatch.chdir(media)
    exclusion = Exclusion([glob])
    assert walked(media, exclusion=exclusion)[0] == taken
    assert bool(exclusion.unmatched) == (len(taken) == 5)


def test_an_excluded_folder_is_one_entry_that_is_not_opened(tmp_path: Path) -> None:
    fill(tmp_path, "old/deep/a.txt", "b.txt")
    os.mkfifo(tmp_path / "old" / "pipe")
    (skip, file) = reversed(list(walk([tmp_path], exclusion=Exclusion(["old"]))))
    assert file == next(walk([tmp_path / "b.txt"]))
    assert skip == Skipped(str(tmp_path / "old"), "excluded by --exclude old", Reason.EXCLUDED)


def test_globs_apply_to_files_that_the_shell_has_listed_and_never_to_a_folder_that_is_a_root(
    tmp_path: Path,
) -> None:
    fill(tmp_path, "old/a.txt", "old/a_thumb.txt")
    files = sorted((tmp_path / "old").iterdir())
    assert walked(*files, exclusion=Exclusion(["*_thumb*"])) == (["a.txt"], ["a_thumb.txt"])
    assert walked(tmp_path / "old", exclusion=Exclusion(["old"]))[0] == ["a.txt", "a_thumb.txt"]


def test_an_empty_glob_is_refused() -> None:
    with pytest.raises(UsageError, match="empty glob"):
        Exclusion(["raw", " "])


@pytest.mark.parametrize("here", [".", "media", "media/flir", "elsewhere"])
@pytest.mark.parametrize(
    ("glob", "name", "is_match"),
    [
        ("flir/*", "flir/a.png", True),
        ("flir/*", "flir/deep/a.png", True),
        ("flir/", "flir/a.png", True),
        ("flir/", "x/flir/a.png", True),
        ("flir/*", "x/flir/a.png", False),
        ("flir/*", "flir.png", False),
        ("*/flir/*", "x/flir/a.png", True),
        ("**/flir/*.png", "flir/a.png", True),
        ("**/flir/**/*.png", "x/flir/a.png", True),
        ("media/flir/*", "flir/a.png", True),
        ("media/flir/", "flir/a.png", True),
        ("{}/media/flir/*", "flir/a.png", True),
        ("{}/media/../media/./flir/*", "flir/a.png", True),
        ("{}/*.png", "flir/a.png", True),
        ("{}/other/*", "flir/a.png", False),
        ("a.png", "flir/a.png", True),
        ("*.png", "flir/a.png", True),
        ("*.PNG", "flir/a.png", False),
        ("a*", "flir/b.png", False),
        ("[ab].png", "flir/a.png", True),
        ("[2024] trip/*", "[2024] trip/a.png", True),
        ("[2024]*", "2.png", True),
        ("größe*", "gro\u0308ße.png", True),
        ("gro\u0308ße*", "größe.png", True),
        ("mem:///media/flir/*", "flir/a.png", True),
        ("file://{}/media/flir/*", "flir/a.png", True),
        ("*", "flir/a.png", True),
    ],
)
def test_a_glob_means_the_same_from_every_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, glob: str, name: str, is_match: bool
) -> None:
    for folder in ("media/flir", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / here)
    root = tmp_path / "media"
    assert matches(root / name, root, glob.format(tmp_path)) == is_match


@pytest.mark.parametrize(
    ("here", "glob"),
    [
        (".", "./media/flir/*"),
        ("media", "./flir/*"),
        ("media/flir", "./*"),
        ("media/flir", "../flir/*.png"),
        ("elsewhere", "../media/flir/*"),
        ("elsewhere", "./flir/*"),  # below PATH
    ],
)
def test_a_glob_may_start_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: str, glob: str
) -> None:
    for folder in ("media/flir", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / here)
    root = tmp_path / "media"
    assert matches(root / "flir" / "a.png", root, glob)
    assert not matches(root / "other" / "a.jpg", root, glob)


NAMES = ["a", "b", "foo", "bar", "a.jpg", "b.txt", "x y", "#h", "!n", "[1]", "foo.d"]
LINES = """a|foo|*.jpg|*|**|f*|?|[ab]|[a-c]*|[!a]|[^a]*|f[oO]o|foo/|/a|a/|/foo/|a/b|foo/*|foo/**|**/a|**/foo/
**/|a/**/b|a/**/b.txt|/**|foo/**/|*/|*/*|a**b|foo**|!a|!foo/|!*.jpg|!/a|!*/|!**/|!foo/bar|\\#h|\\!n|\\[1\\]|\\*|\\a
x y|x\\ y|x y |bar/ |# c||/*|foo/b*|*.d/|a/*.jpg|*.*|foo\\|!|/|//a|a//b|[|[]"""


def test_an_ignore_file_is_read_as_git_reads_its_own(tmp_path: Path) -> None:
    random.seed(0)
    lines = LINES.replace("\n", "|").split("|")
    for number in range(30):
        root = tmp_path / str(number)
        folders = [root]
        while folders:
            folder = folders.pop()
            folder.mkdir()
            for name in random.sample(NAMES, 4):
                if random.random() < 0.5 and len(folder.relative_to(root).parts) < 3:
                    folders.append(folder / name)
                else:
                    (folder / name).write_text("red")
        inside = [root, *(path for path in sorted(root.rglob("*")) if path.is_dir())]
        for folder in random.sample(inside, min(2, len(inside))):
            (folder / ".xsearchignore").write_text("\n".join(random.sample(lines, 3)))
        git = ["git", "-C", str(root), "-c", "core.quotePath=false"]
        subprocess.run([*git, "init", "--quiet"], check=True)
        listed = [*git, "ls-files", "--others", "-z", "--exclude-per-directory=.xsearchignore"]
        names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0")
        expected = sorted(name for name in names if name and not name.endswith(".xsearchignore"))
        found = [each for each in walk([root]) if getattr(each, "error", None) is not Reason.EXCLUDED]
        taken = [str(each.path) for each in found]
        assert sorted(os.path.relpath(path, root) for path in taken) == expected, number


def test_an_ignore_file_applies_below_its_folder_also_to_roots_inside(tmp_path: Path) -> None:
    fill(tmp_path, "a/b/x.txt", "a/b/keep.txt", "a/b/y.tmp.txt", "a/private/z.txt", "a/private/y.tmp.txt")
    (tmp_path / ".xsearchignore").write_text("# all\r\n*.txt\r\n!keep.txt\r\n", encoding="utf-16")
    (tmp_path / "a" / ".xsearchignore").write_text("!x.txt\nprivate/\n")
    assert walked(tmp_path / "a")[0] == ["b/keep.txt", "b/x.txt"]
    assert walked(tmp_path / "a" / "b")[0] == ["keep.txt", "x.txt"]
    assert walked(tmp_path / "a" / "private")[0] == []  # of the outer file
    (tmp_path / ".xsearchignore").unlink()
    assert walked(tmp_path / "a" / "private")[0] == ["y.tmp.txt", "z.txt"]  # asked for by name
    assert walked(tmp_path / "a" / "b" / "x.txt")[0] == ["x.txt"]


@pytest.mark.parametrize("kind", ["folder", "binary", "pipe", "locked", "link"])
def test_an_ignore_file_that_cannot_be_read_excludes_nothing(tmp_path: Path, kind: str) -> None:
    path = fill(tmp_path, "a.txt") / ".xsearchignore"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(path)
    else:
        path.write_bytes(bytes(range(256)) * 9 if kind == "binary" else b"*")
    if kind == "locked":
        path.chmod(0)
        if os.access(path, os.R_OK):
            pytest.skip("root may read everything")
    exclusion = Exclusion()
    assert walked(tmp_path, exclusion=exclusion) == (["a.txt"], [])
    assert [str(path) in problem for problem in exclusion.problems] == [True] * (kind in ("binary", "locked"))


def test_a_line_that_matches_nothing_is_said(tmp_path: Path) -> None:
    (fill(tmp_path, "a.txt", "b.txt") / ".xsearchignore").write_text("b.txt\n!\nfoo\\\n")
    exclusion = Exclusion()
    assert walked(tmp_path, exclusion=exclusion) == (["a.txt"], ["b.txt"])
    assert [problem.split(": ")[1] for problem in exclusion.problems] == [
        "line 2, '!', matches nothing; see gitignore",
        "line 3, 'foo\\\\', matches nothing; see gitignore",
    ]


def test_names_of_either_unicode_form_are_excluded(tmp_path: Path) -> None:
    (fill(tmp_path, "gro\u0308ße.txt", "é.txt") / ".xsearchignore").write_text("größe.txt\ne\u0301.txt\n")
    assert walked(tmp_path)[0] == []


def test_a_linked_folder_is_excluded_by_its_name_there(tmp_path: Path) -> None:
    fill(tmp_path, "media/a.txt", "elsewhere/b.txt")
    (tmp_path / "media" / "link").symlink_to(tmp_path / "elsewhere")
    assert walked(tmp_path / "media")[0] == ["a.txt", "link/b.txt"]
    assert walked(tmp_path / "media", exclusion=Exclusion(["link"])) == (["a.txt"], ["link"])
    assert walked(tmp_path / "media", exclusion=Exclusion(["link/b*"])) == (["a.txt"], ["link/b.txt"])
