"""`info`, `ls`, `rm`, `skipped`, `compact`, `verify`."""

import csv
import io
import json
import re
import shutil

import pytest

from xsearch.store import Store


@pytest.fixture
def copy(index, tmp_path):
    return shutil.copytree(index, tmp_path / "copy")


def ids(run, index, *words):
    return [item["id"] for item in json.loads(run("ls", "--json", "--collection", index, *words).stdout)]


def test_info_tells_counts_and_model(run, index):
    text = run("info", "--collection", index).stdout
    assert "7 (3 image, 1 text, 3 audio)" in text
    assert "tiny" in text
    assert json.loads(run("info", "--json", "--collection", index).stdout)["items"] == 7


def test_ls_lists_filters_and_limits(run, index):
    assert len(ids(run, index)) == 7
    assert len(ids(run, index, "--modality", "audio")) == 3
    assert len(ids(run, index, "--where", "path like '%größe%'")) == 1
    assert ids(run, index, "--limit", 2) == ids(run, index)[:2]
    assert re.search(r" 20 +25$", run("ls", "--collection", index).stdout, re.M)


def test_ls_without_items_says_so_on_stderr(run, index):
    result = run("ls", "--where", "id < 0", "--collection", index)
    assert (result.stdout, result.stderr) == ("", "no items match\n")


def test_duplicates_are_listed_in_groups(run, media, tmp_path):
    (tmp_path / "m").mkdir()
    for name in ("one.png", "copy.png"):
        (tmp_path / "m" / name).write_bytes((media / "one.png").read_bytes())
    (tmp_path / "m" / "two.png").write_bytes((media / "two.png").read_bytes())
    run("ingest", tmp_path / "m", "--collection", tmp_path / "c")
    words = ["ls", "--duplicates", "--collection", tmp_path / "c"]
    _, *lines = run(*words).stdout.splitlines()
    size = str((media / "one.png").stat().st_size)
    assert [line.split() for line in lines] == [
        ["1", size, str(tmp_path / "m" / name)] for name in ("copy.png", "one.png")
    ]
    (group,) = json.loads(run(*words, "--json").stdout)
    assert set(group) == {"sha256", "bytes", "paths"}
    assert "no two files" in run(*words, "--where", "path like '%two%'").stderr


def test_rm_by_id(run, copy):
    first, *rest = ids(run, copy)
    assert "removed 1 item\n" in run("rm", first, "--yes", "--collection", copy).stdout
    assert ids(run, copy) == rest


@pytest.mark.parametrize(
    ("what", "left"), [("*.png", 4), ("../**/*.png", 4), ("one.png", 6), ("tone.wav", 4), ("", 0)]
)
def test_rm_by_path_folder_and_glob(run, media, copy, what, left):
    run("rm", media / what, "--yes", "--collection", copy)
    assert len(ids(run, copy)) == left


def test_rm_by_filter_asks_first(run, copy):
    words = ["rm", "--where", "modality = 'audio'", "--collection", copy]
    assert "would remove 3 items" in run(*words, "--dry-run").stdout
    assert "not confirmed" in run(*words, input="n\n", code=1).stderr
    assert len(ids(run, copy)) == 7
    run(*words, input="y\n")
    assert len(ids(run, copy)) == 4


def test_rm_of_nothing(run, copy):
    for unknown in ("999", "9" * 20):  # which no 64 bits hold
        assert "no items match" in run("rm", unknown, "--collection", copy).stdout
    assert run("rm", "999", "--collection", copy).stderr == "0 of 1 ids are in the collection, not 999\n"
    assert "expected ids" in run("rm", "--collection", copy, code=2).stderr


def test_skipped_says_why(run, index):
    assert "broken.png" in run("skipped", "--collection", index).stdout
    (row,) = json.loads(run("skipped", "--json", "--collection", index).stdout)
    assert set(row) == {"path", "reason", "error", "when", "kind"}


def test_skipped_says_what_kind_of_trouble_it_is(run, index, copy):
    assert re.search(r"damaged .*broken\.png ", run("skipped", "-c", index).stdout)
    store = Store(copy)
    with store.writer() as writer:
        writer.skip([{"path": "/a.jpg", "reason": "not enough memory", "error": "Transient"}])
        writer.commit()
    result = run("skipped", "-c", copy)
    assert re.search(r"passing +/a\.jpg ", result.stdout)
    assert result.stderr.startswith("the next ingest tries 1 file again\n")
    rows = json.loads(run("skipped", "--json", "-c", copy).stdout)
    assert [row["kind"] for row in rows] == ["damaged", "passing"]
    assert list(csv.DictReader(io.StringIO(run("skipped", "--csv", "-c", copy).stdout))) == rows
    assert "exclude each other" in run("skipped", "--csv", "--json", "-c", copy, code=2).stderr


def test_compact_keeps_every_item(run, copy):
    before = ids(run, copy)
    run("rm", before[0], "--yes", "--collection", copy)
    run("compact", "--collection", copy)
    assert ids(run, copy) == before[1:]


def test_verify_finds_repairs_and_ingest_brings_back(run, media, copy):
    before = ids(run, copy)
    assert run("verify", "--collection", copy).stderr == f"{copy}: nothing is wrong\n"
    assert json.loads(run("verify", "--json", "--collection", copy).stdout) == []

    (vectors,) = copy.glob("segments/*/vectors.arrow")
    vectors.write_bytes(vectors.read_bytes()[:-1] + b"x")
    name = vectors.relative_to(copy)
    assert (
        f"run `xsearch verify --repair --collection {copy}`"
        in run("query", "dog", "--collection", copy, code=1).stderr
    )
    line, *lost = run("verify", "--collection", copy, code=1).stdout.splitlines()
    assert line == (
        f"{name}: a wrong sha256; with --repair: set aside with its segment: "
        "7 items are gone until the next ingest"
    )
    assert f"lost: {media / 'tone.wav'}" in lost
    assert len(lost) == 5

    (found,) = json.loads(run("verify", "--repair", "--json", "--collection", copy).stdout)
    assert (found["path"], len(found["lost"])) == (str(name), 5)
    assert (copy / "quarantine" / name).exists()
    run("verify", "--collection", copy)
    assert ids(run, copy) == []
    run("ingest", media, "--collection", copy)
    assert len(ids(run, copy)) == len(before)


def test_rm_says_what_comes_back_and_ignore_keeps_it_out(run, media, tmp_path):
    folder, index = tmp_path / "m", tmp_path / "c"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"a dog {name}")
    run("ingest", folder, "-c", index)
    dry = run("rm", folder / "a.txt", "--dry-run", "-c", index)
    assert "next ingest of its folder brings back 1 file; --ignore keeps such files out" in dry.stderr
    result = run("rm", folder / "a.txt", "--ignore", "--yes", "-c", index)
    assert result.stdout == "removed 1 item, kept 1 file out\n"
    assert "brings back" not in result.stderr
    again = run("ingest", folder, "-c", index).stdout
    assert "nothing changed" in again
    assert "1  kept out by `xsearch rm --ignore`" in again
    run("compact", "-c", index)
    assert "1 file (1 text)" in run("ingest", folder / "a.txt", "-c", index).stdout
    (folder / "b.txt").unlink()
    assert "brings back" not in run("rm", folder / "b.txt", "--yes", "-c", index).stderr  # it is gone


def test_skipped_lists_other_files_on_request(run, media, index):
    result = run("skipped", "--collection", index)
    assert "program.exe" not in result.stdout
    assert "--all lists 1 more" in result.stderr
    everything = run("skipped", "--all", "--collection", index).stdout
    assert {"broken.png", "program.exe"} <= set(everything.replace("/", " ").split())
    rows = json.loads(run("skipped", "--all", "--json", "--collection", index).stdout)
    assert {row["error"] for row in rows} == {"Unreadable", "NotMedia"}
