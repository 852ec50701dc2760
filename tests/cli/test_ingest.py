"""`ingest`: what it says and how it ends; what it does is tested with the package."""

import contextlib
import json
import sys

import numpy as np
import pytest
import soundfile
from PIL import Image

import xsearch
from tests.cli.conftest import PATIENCE_S, interrupted

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


def test_what_passes_is_announced_and_tried_again(run, media, tmp_path):
    folder, words = tmp_path / "m", ["-c", tmp_path / "c", "--strict"]
    folder.mkdir()
    (folder / "link.png").symlink_to(folder / "picture.png")
    result = run("ingest", folder, *words, code=1)
    assert "link.png: cannot be opened: No such file or directory; it is a link to a file" in result.stderr
    assert result.stderr.endswith("\nthe next ingest tries 1 file again, which could not be read for now\n")
    report = json.loads(run("ingest", folder, *words, "--json-progress", code=1).stdout.splitlines()[-1])
    assert [(skip["kind"], skip["error"]) for skip in report["skipped"]] == [("passing", "Transient")]
    (folder / "picture.png").write_bytes((media / "one.png").read_bytes())
    assert "tries" not in run("ingest", folder, *words).stderr


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
    printed = run(*words, "--dry-run").stdout
    assert "1  changed since the last run" in printed
    assert "replaced" not in printed


def test_a_dry_run_after_a_rename_says_what_would_move(run, media, tmp_path):
    folder, words = tmp_path / "m", ["ingest", tmp_path / "m", "--collection", tmp_path / "c"]
    folder.mkdir()
    (folder / "one.png").write_bytes((media / "one.png").read_bytes())
    run(*words)
    (folder / "one.png").rename(folder / "uno.png")
    printed = run(*words, "--dry-run", "--prune").stdout
    assert printed == "would embed 0 files, move 1 file; 0 unchanged; nothing was written\n"
    assert "1  moved" in run(*words).stdout


def test_other_files_are_counted_by_type_in_80_columns(run, tmp_path):
    for number, kind in enumerate(["json", "docx", "db", "ini", "xlsx", "pages", "exe"], start=1):
        for count in range(number):
            (tmp_path / f"{count}.{kind}").write_bytes(b"\0")
    (tmp_path / "a.txt").write_text("a dog")
    printed = run("ingest", tmp_path, "--exclude", "*.ini", "--collection", tmp_path / "c").stdout
    assert "     24  not media (.exe 7, .pages 6, .xlsx 5, .db 3, others 3)" in printed
    assert "      4  excluded" in printed
    assert max(map(len, printed.splitlines()[1:])) <= 80


def test_a_rule_that_matches_nothing_is_reported(run, media, tmp_path):
    options = ["--as", "thermal=flir/*", "--exclude", "raw", "--dry-run", "--collection", tmp_path / "c"]
    printed = run("ingest", media, *options).stderr
    assert "--as thermal=flir/* matches nothing" in printed
    assert "--exclude raw matches nothing" in printed


def test_an_empty_exclusion_is_refused(run, media, tmp_path):
    result = run("ingest", media, "--exclude", "", "--collection", tmp_path / "c", code=2)
    assert "--exclude: empty glob" in result.stderr
    assert not (tmp_path / "c").exists()


def test_ctrl_c_keeps_what_is_embedded_and_says_how_to_go_on(program, tmp_path):
    media, index = tmp_path / "media", tmp_path / "index"
    media.mkdir()
    rng = np.random.default_rng(0)
    for i in range(60):
        soundfile.write(media / f"{i:02}.wav", rng.normal(0, 0.1, 8000 * 10), 8000)
    process = program("ingest", media, "--collection", index, "--json-progress")
    assert "progress" in process.stdout.readline()
    assert "run the same command again to continue" in interrupted(process)[1]
    kept = len(xsearch.open(index))
    assert 0 < kept < 60
    assert program("ingest", media, "--collection", index).wait(PATIENCE_S) == 0
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
    assert len(xsearch.open(index)) == 1
    assert "first.txt" in run("query", "a dog", "--collection", index).stdout
    (small_disk / "filler").unlink()
    run("ingest", media, "--collection", index)
    assert len(xsearch.open(index)) == 1001


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


def test_options_of_ray_are_checked(run, tmp_path, monkeypatch):
    at = ["-c", tmp_path / "c"]
    assert "--engine ray" in run("ingest", tmp_path, "--workers", "2", *at, code=2).stderr
    assert "--engine ray" in run("ingest", tmp_path, "--parts", "s3://bucket/parts", *at, code=2).stderr
    assert (
        "nowhere" in run("ingest", tmp_path, "--engine", "ray", "--parts", "nowhere://a", *at, code=2).stderr
    )
    assert "--watch" in run("ingest", tmp_path, "--engine", "ray", "--watch", *at, code=2).stderr
    assert "cuda:1" in run("ingest", tmp_path, "--engine", "ray", "--device", "cuda:1", *at, code=2).stderr
    monkeypatch.setitem(sys.modules, "ray", None)
    assert "pip install 'xsearch[cluster]'" in run("ingest", tmp_path, "--engine", "ray", *at, code=2).stderr
    assert "xsearch[cluster]" in run("doctor", *at).stdout
    assert not (tmp_path / "c").exists()
