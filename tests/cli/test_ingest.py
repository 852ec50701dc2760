"""`ingest`: what it says and how it ends; what it does is tested with the package."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import PIPE

import numpy as np
import pytest
import soundfile
from PIL import Image

import xsearch
from xsearch.errors import XsearchError

WHAT_THERE_IS = "7 items (3 image, 1 text, 3 audio) from 5 files (3 image, 1 text, 1 audio)"


def test_counts_rate_and_skipped_files(run, media, tmp_path):
    result = run("ingest", media, "--collection", tmp_path / "c")
    assert WHAT_THERE_IS in result.stdout
    assert "items/s" in result.stdout
    assert "1  not media" in result.stdout
    assert "1  skipped" in result.stdout
    assert "model: " in result.stderr
    assert "broken.png: " in result.stderr


def test_the_second_run_embeds_nothing(run, media, index):
    before = json.loads(run("info", "--json", "--collection", index).stdout)
    result = run("ingest", media, "--collection", index)
    assert "nothing changed, 5 files are as they were" in result.stdout
    assert json.loads(run("info", "--json", "--collection", index).stdout)["items"] == before["items"]


def test_strict_fails_on_skips(run, media, index):
    run("ingest", media, "--collection", index, "--strict", code=1)


def test_a_dry_run_writes_nothing(run, media, tmp_path):
    result = run("ingest", media, "--collection", tmp_path / "c", "--dry-run")
    assert "would embed 6 files" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_an_empty_folder(run, media, tmp_path):
    assert "1 item (1 text)" in run("ingest", media / "note.txt", "--collection", tmp_path / "c").stdout
    (tmp_path / "empty").mkdir()
    assert "no media found" in run("ingest", tmp_path / "empty", "--collection", tmp_path / "c").stdout


def test_as_takes_files_as_a_kind(run, media, tmp_path):
    rules = ["--as", "thermal=one.png", "--as", "thermal=two.png"]
    result = run("ingest", media, "--collection", tmp_path / "c", *rules, "--dry-run")
    assert "2 thermal" in result.stdout


@pytest.mark.parametrize("rule", ["thermal", "smell=*.png", "thermal="])
def test_a_bad_rule_says_what_is_expected(run, media, tmp_path, rule):
    result = run("ingest", media, "--collection", tmp_path / "c", "--as", rule, code=2)
    assert "KIND=GLOB" in result.stderr


def test_vanished_files_are_pruned_when_asked(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("one.png", "two.png"):
        (tmp_path / "m" / name).write_bytes((media / name).read_bytes())
    run("ingest", tmp_path / "m", "--collection", tmp_path / "c")
    (tmp_path / "m" / "two.png").unlink()
    assert "nothing changed" in run("ingest", tmp_path / "m", "--collection", tmp_path / "c").stdout
    assert (
        "1  items of vanished"
        in run("ingest", tmp_path / "m", "--collection", tmp_path / "c", "--prune").stdout
    )


def test_a_run_that_only_skips_or_describes_says_so(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "broken.png").write_bytes((media / "broken.png").read_bytes())
    words = ["ingest", tmp_path / "m", "--collection", tmp_path / "c"]
    assert "nothing embedded" in run(*words).stdout
    (tmp_path / "m" / "one.png").write_bytes((media / "one.png").read_bytes())
    run(*words)
    (tmp_path / "table.csv").write_text("path,place\none.png,beach\n")
    described = run(*words, "--metadata", tmp_path / "table.csv").stdout
    assert "nothing changed" not in described
    assert "1  with new metadata" in described


def test_a_dry_run_tells_of_changes_as_of_something_to_do(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "one.png").write_bytes((media / "one.png").read_bytes())
    words = ["ingest", tmp_path / "m", "--collection", tmp_path / "c"]
    run(*words)
    (tmp_path / "m" / "one.png").write_bytes((media / "two.png").read_bytes())
    told = run(*words, "--dry-run").stdout
    assert "1  changed since the last run" in told
    assert "replaced" not in told


def test_a_dry_run_after_a_rename_says_what_would_move(run, media, tmp_path):
    folder, words = tmp_path / "m", ["ingest", tmp_path / "m", "--collection", tmp_path / "c"]
    folder.mkdir()
    (folder / "one.png").write_bytes((media / "one.png").read_bytes())
    run(*words)
    (folder / "one.png").rename(folder / "uno.png")
    told = run(*words, "--dry-run", "--prune").stdout
    assert told == "would embed 0 files, move 1 file; 0 unchanged; nothing was written\n"
    assert "1  moved" in run(*words).stdout


def test_other_files_are_counted_by_type_in_80_columns(run, tmp_path):
    for number, kind in enumerate(["json", "docx", "db", "ini", "xlsx", "pages", "exe"], start=1):
        for count in range(number):
            (tmp_path / f"{count}.{kind}").write_bytes(b"\0")
    (tmp_path / "a.txt").write_text("a dog")
    told = run("ingest", tmp_path, "--exclude", "*.ini", "--collection", tmp_path / "c").stdout
    assert "     24  not media (.exe 7, .pages 6, .xlsx 5, .db 3, others 3)" in told
    assert "      4  excluded" in told
    assert max(map(len, told.splitlines()[1:])) <= 80


def test_a_rule_that_matches_nothing_is_said(run, media, tmp_path):
    options = ["--as", "thermal=flir/*", "--exclude", "raw", "--dry-run", "--collection", tmp_path / "c"]
    told = run("ingest", media, *options).stderr
    assert "--as thermal=flir/* matches nothing" in told
    assert "--exclude raw matches nothing" in told


def test_an_empty_exclusion_is_refused(run, media, tmp_path):
    result = run("ingest", media, "--exclude", "", "--collection", tmp_path / "c", code=2)
    assert "--exclude: empty glob" in result.stderr
    assert not (tmp_path / "c").exists()


@pytest.fixture
def program(model, tmp_path):
    """Starts the program as a process of its own; ends it if the test does not."""
    started = []

    def start(*words):
        environment = os.environ | {"XSEARCH_MODEL": str(model), "PYTHONPATH": str(Path.cwd())}
        command = [sys.executable, "-m", "xsearch", *map(str, words)]
        started.append(subprocess.Popen(command, env=environment, stdout=PIPE, stderr=PIPE, text=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def wait_for(what, seconds=30):
    deadline = time.monotonic() + seconds
    while not (found := what()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def texts(index):
    try:
        return sorted(xsearch.open(index).items(columns=["text"])["text"].to_pylist())
    except XsearchError:
        return None


def test_a_watched_folder_is_kept_in_step(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "media" / "index"
    media.mkdir()
    (media / "a.txt").write_text("a dog")
    process = program("ingest", media, "--collection", index, "--watch", "--prune")
    assert wait_for(lambda: texts(index) == ["a dog"])
    (media / "b.txt").write_text("a cage")
    assert wait_for(lambda: texts(index) == ["a cage", "a dog"])
    (media / "a.txt").unlink()
    assert wait_for(lambda: texts(index) == ["a cage"])
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "watching; stop with Ctrl-C" in stderr
    assert stdout.count("1 item (1 text)") == 2
    assert "Traceback" not in stderr


def test_deletions_moves_and_ignore_files_are_followed(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "media" / "indexes" / "default"
    (media / "old").mkdir(parents=True)
    for name in ("a", "old/b", "old/c"):
        (media / f"{name}.txt").write_text(f"a dog {name}")
    process = program("ingest", media, "--collection", index, "--watch")
    assert wait_for(lambda: texts(index) == ["a dog a", "a dog old/b", "a dog old/c"])
    (media / "old").rename(media / "new")
    assert wait_for(lambda: paths(index, media) == ["a.txt", "new/b.txt", "new/c.txt"])
    (media / ".xsearchignore").write_text("a.*\n")
    assert wait_for(lambda: paths(index, media) == ["new/b.txt", "new/c.txt"])
    (media / ".xsearchignore").write_text("# nothing\n")
    assert wait_for(lambda: paths(index, media) == ["a.txt", "new/b.txt", "new/c.txt"])
    shutil.rmtree(media / "new")
    assert wait_for(lambda: paths(index, media) == ["a.txt"])
    (media / "@eaDir").mkdir()
    (media / "@eaDir" / "x.txt").write_text("a thumb")  # not worth a line
    (media / "new").mkdir()
    (media / "new" / "d.txt").write_text("a dog d")
    assert wait_for(lambda: paths(index, media) == ["a.txt", "new/d.txt"])
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (stdout.count("2  moved"), stdout.count("removed"), "nothing changed" in stdout) == (1, 2, False)
    assert "--prune" not in stderr


def test_a_watched_folder_that_is_gone_keeps_its_items_until_it_is_back(program, tmp_path):
    media, other, index = tmp_path / "media", tmp_path / "other", tmp_path / "index"
    for folder in (media, other):
        folder.mkdir()
        (folder / "a.txt").write_text(f"a dog {folder.name}")
    process = program("ingest", media, other / "a.txt", "--collection", index, "--watch")
    assert wait_for(lambda: texts(index) == ["a dog media", "a dog other"])
    media.rename(tmp_path / "away")
    time.sleep(1.5)
    (other / "next.txt").write_text("a cat")
    (other / "next.txt").replace(other / "a.txt")  # as editors save
    assert wait_for(lambda: texts(index) == ["a cat", "a dog media"])
    media.mkdir()  # as a mount point
    (media / "b.txt").write_text("a cage")
    assert wait_for(lambda: texts(index) == ["a cage", "a cat", "a dog media"])
    (media / "b.txt").unlink()
    assert wait_for(lambda: texts(index) == ["a cat", "a dog media"])
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert stderr.count("media is gone; its items are kept until it is back") == 1
    assert "1 item of vanished files kept; --prune removes them" in stderr


def paths(index, root):
    try:
        names = xsearch.open(index).items(columns=["path"])["path"].to_pylist()
    except XsearchError:
        return None
    return sorted(os.path.relpath(name, root) for name in names)


def test_ctrl_c_keeps_what_is_embedded_and_says_how_to_go_on(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "index"
    media.mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        soundfile.write(media / f"{i:02}.wav", rng.normal(0, 0.1, 8000 * 10), 8000)
    process = program("ingest", media, "--collection", index, "--json-progress")
    assert "progress" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "run the same command again to continue" in stderr
    assert "Traceback" not in stderr
    kept = len(xsearch.open(index))
    assert 0 < kept < 60
    assert program("ingest", media, "--collection", index).wait(60) == 0
    assert len(xsearch.open(index)) == 60


def test_progress_and_report_are_lines_of_json(run, tmp_path):
    (tmp_path / "a.txt").write_text("a dog")
    (tmp_path / "b.txt").write_text("a cat")
    lines = run("ingest", tmp_path, "--collection", tmp_path / "index", "--json-progress").stdout.splitlines()
    *progress, report = map(json.loads, lines)
    assert {line["event"] for line in progress} == {"progress"}
    assert (report["event"], report["new"], report["items"]) == ("report", {"text": 2}, {"text": 2})
    assert {"look", "embed"} <= set(report["spent"])


def test_a_disk_that_fills_up_leaves_a_good_collection(run, tmp_path, small_disk):
    media, index = tmp_path / "media", small_disk / "index"
    media.mkdir()
    (media / "first.txt").write_text("a dog")
    run("ingest", media, "--collection", index)
    for i in range(1000):
        (media / f"{i}.txt").write_text(f"a dog and {i} others")
    with (small_disk / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        while True:
            filler.write(bytes(4096))
    result = run("ingest", media, "--collection", index, code=1)
    assert "No space left on device; the collection is as it was, make room and run again" in result.stderr
    assert texts(index) == ["a dog"]
    assert "first.txt" in run("query", "a dog", "--collection", index).stdout
    (small_disk / "filler").unlink()
    run("ingest", media, "--collection", index)
    assert len(texts(index)) == 1001


@pytest.mark.parametrize("words", [["--dry-run"], ["--strict"]])
def test_a_watch_never_ends(run, media, tmp_path, words):
    result = run("ingest", media, "--collection", tmp_path / "c", "--watch", *words, code=2)
    assert "--watch does not end" in result.stderr


def test_captions_and_dates(run, model, tmp_path):
    exif = Image.Exif()
    exif[0x10E], exif[0x110] = "a dog on the beach", "Pixel 8"
    exif.get_ifd(0x8769)[0x9003] = "2024:06:01 12:30:05"
    (tmp_path / "media").mkdir()
    Image.new("RGB", (48, 32), "red").save(tmp_path / "media" / "a.jpg", exif=exif)
    Image.new("RGB", (48, 32), "blue").save(tmp_path / "media" / "b.png")
    at = ("-c", tmp_path / "with", "--model", model)
    assert "3 items (2 image, 1 text) from 2 files" in run("ingest", tmp_path / "media", *at).stdout
    found = run("query", "dog", "--sort", "date", "--where", "taken_at >= '2024-06-01'", *at).stdout
    assert found.count("2024-06-01 12:30:05") == 2
    (newest,) = json.loads(run("ls", "--json", "--sort", "date", "-n", "1", "-c", at[1]).stdout)
    assert (newest["taken_at"], newest["camera"]) == ("2024-06-01 12:30:05", "Pixel 8")
    assert "taken_at, camera, description" in run("info", "-c", at[1]).stdout
    without = ("-c", tmp_path / "without", "--model", model)
    assert (
        "2 items (2 image) from 2 files"
        in run("ingest", tmp_path / "media", *without, "--no-captions").stdout
    )
