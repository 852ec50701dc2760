"""`ingest --watch`: a collection follows its folders."""

import os
import shutil
import time

import pytest

import xsearch
from tests.cli.conftest import PATIENCE_S, interrupted
from xsearch.errors import XsearchError


def becomes(index, column, *expected, below=None):
    """Wait until a column of the collection has these values, sorted; paths are relative to `below`."""
    deadline, values = time.monotonic() + PATIENCE_S, None
    while values != list(expected) and time.monotonic() < deadline:
        time.sleep(0.05)
        try:
            values = sorted(xsearch.open(index).items(columns=[column])[column].to_pylist())
        except XsearchError:  # not there yet
            continue
        values = [os.path.relpath(value, below) for value in values] if below else values
    assert values == list(expected)


def test_a_watched_folder_is_kept_in_step(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "media" / "index"
    media.mkdir()
    (media / "a.txt").write_text("a dog")
    process = program("ingest", media, "--collection", index, "--watch", "--prune")
    becomes(index, "text", "a dog")
    (media / "b.txt").write_text("a cage")
    becomes(index, "text", "a cage", "a dog")
    (media / "a.txt").unlink()
    becomes(index, "text", "a cage")
    stdout, stderr = interrupted(process)
    assert "watching; stop with Ctrl-C" in stderr
    assert stdout.count("1 item (1 text)") == 2


def test_deletions_moves_and_ignore_files_are_followed(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "media" / "indexes" / "default"
    for name in ("a", "old/b", "old/c"):
        path = media / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"a dog {name}")
    process = program("ingest", media, "--collection", index, "--watch")
    becomes(index, "path", "a.txt", "old/b.txt", "old/c.txt", below=media)
    (media / "old").rename(media / "new")
    becomes(index, "path", "a.txt", "new/b.txt", "new/c.txt", below=media)
    (media / ".xsearchignore").write_text("a.*\n")
    becomes(index, "path", "new/b.txt", "new/c.txt", below=media)
    (media / ".xsearchignore").write_text("# nothing\n")
    becomes(index, "path", "a.txt", "new/b.txt", "new/c.txt", below=media)
    shutil.rmtree(media / "new")
    becomes(index, "path", "a.txt", below=media)
    (media / "@eaDir").mkdir()
    (media / "@eaDir" / "x.txt").write_text("a thumb")  # not worth a line
    (media / "new").mkdir()
    (media / "new" / "d.txt").write_text("a dog d")
    becomes(index, "path", "a.txt", "new/d.txt", below=media)
    stdout, stderr = interrupted(process)
    assert (stdout.count("2  moved"), stdout.count("removed"), "nothing changed" in stdout) == (1, 2, False)
    assert "--prune" not in stderr


def test_a_watched_folder_that_is_gone_keeps_its_items_until_it_is_back(program, tmp_path):
    media, other, index = tmp_path / "media", tmp_path / "other", tmp_path / "index"
    for folder in (media, other):
        folder.mkdir()
        (folder / "a.txt").write_text(f"a dog {folder.name}")
    process = program("ingest", media, other / "a.txt", "--collection", index, "--watch")
    becomes(index, "text", "a dog media", "a dog other")
    media.rename(tmp_path / "away")
    time.sleep(1.5)
    (other / "next.txt").write_text("a cat")
    (other / "next.txt").replace(other / "a.txt")  # as editors save
    becomes(index, "text", "a cat", "a dog media")
    media.mkdir()  # as a mount point
    (media / "b.txt").write_text("a cage")
    becomes(index, "text", "a cage", "a cat", "a dog media")
    (media / "b.txt").unlink()
    becomes(index, "text", "a cat", "a dog media")
    _, stderr = interrupted(process)
    assert stderr.count("media is gone; its items are kept until it is back") == 1
    assert "1 item of vanished files kept; --prune removes them" in stderr


@pytest.mark.parametrize("words", [["--dry-run"], ["--strict"]])
def test_a_watch_never_ends(run, media, tmp_path, words):
    result = run("ingest", media, "--collection", tmp_path / "c", "--watch", *words, code=2)
    assert "--watch does not end" in result.stderr
