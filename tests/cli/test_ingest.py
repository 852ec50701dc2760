"""`ingest`: what it says and how it ends; what it does is tested with the package."""

import json

import pytest

WHAT_THERE_IS = "7 items (3 image, 1 text, 3 audio) from 5 files (3 image, 1 text, 1 audio)"


def test_counts_rate_and_skipped_files(run, media, tmp_path):
    result = run("ingest", media, "--index", tmp_path / "c")
    assert WHAT_THERE_IS in result.stdout
    assert "items/s" in result.stdout
    assert "1  not media" in result.stdout
    assert "1  skipped" in result.stdout
    assert "model: " in result.stderr
    assert "broken.png: " in result.stderr


def test_the_second_run_embeds_nothing(run, media, index):
    before = json.loads(run("info", "--json", "--index", index).stdout)
    result = run("ingest", media, "--index", index)
    assert "nothing changed, 5 files are as they were" in result.stdout
    assert json.loads(run("info", "--json", "--index", index).stdout)["items"] == before["items"]


def test_strict_fails_on_skips(run, media, index):
    run("ingest", media, "--index", index, "--strict", code=1)


def test_a_dry_run_writes_nothing(run, media, tmp_path):
    result = run("ingest", media, "--index", tmp_path / "c", "--dry-run")
    assert "would embed 6 files" in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_file_and_an_empty_folder(run, media, tmp_path):
    assert "1 item (1 text)" in run("ingest", media / "note.txt", "--index", tmp_path / "c").stdout
    (tmp_path / "empty").mkdir()
    assert "no media found" in run("ingest", tmp_path / "empty", "--index", tmp_path / "c").stdout


def test_as_takes_files_as_a_kind(run, media, tmp_path):
    rules = ["--as", "thermal=one.png", "--as", "thermal=two.png"]
    result = run("ingest", media, "--index", tmp_path / "c", *rules, "--dry-run")
    assert "2 thermal" in result.stdout


@pytest.mark.parametrize("rule", ["thermal", "smell=*.png", "thermal="])
def test_a_bad_rule_says_what_is_expected(run, media, tmp_path, rule):
    result = run("ingest", media, "--index", tmp_path / "c", "--as", rule, code=2)
    assert "KIND=GLOB" in result.stderr


def test_vanished_files_are_pruned_when_asked(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("one.png", "two.png"):
        (tmp_path / "m" / name).write_bytes((media / name).read_bytes())
    run("ingest", tmp_path / "m", "--index", tmp_path / "c")
    (tmp_path / "m" / "two.png").unlink()
    assert "nothing changed" in run("ingest", tmp_path / "m", "--index", tmp_path / "c").stdout
    assert (
        "1  items of vanished" in run("ingest", tmp_path / "m", "--index", tmp_path / "c", "--prune").stdout
    )


def test_a_run_that_only_skips_or_describes_says_so(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "broken.png").write_bytes((media / "broken.png").read_bytes())
    words = ["ingest", tmp_path / "m", "--index", tmp_path / "c"]
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
    words = ["ingest", tmp_path / "m", "--index", tmp_path / "c"]
    run(*words)
    (tmp_path / "m" / "one.png").write_bytes((media / "two.png").read_bytes())
    told = run(*words, "--dry-run").stdout
    assert "1  changed since the last run" in told
    assert "replaced" not in told
