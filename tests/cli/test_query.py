"""`query` and `compose`: one question, one answer, in every form."""

import csv
import io
import json
import re

import pytest

from xsearch.cli.query import split_weight

FIELDS = ["rank", "score", "cosine", "balanced", "id", "path", "modality", "start_s", "end_s", "text"]


def test_a_picture_finds_itself_first(run, media, index):
    result = run("query", media / "two.png", "--modality", "image", "--json", "--index", index)
    hits = json.loads(result.stdout)
    assert [list(hit) for hit in hits] == [FIELDS] * 3
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["path"] == str(media / "two.png")
    assert hits[0]["cosine"] == pytest.approx(1, abs=1e-3)


def test_the_forms_agree(run, index):
    asked = ["query", "a dog", "--index", index]
    hits = json.loads(run(*asked, "--json").stdout)
    assert len(hits) == 7
    lines = list(csv.DictReader(io.StringIO(run(*asked, "--csv").stdout)))
    assert [{k: str(v) if v is not None else "" for k, v in hit.items()} for hit in hits] == lines
    paths = run(*asked, "--paths").stdout.splitlines()
    assert paths == list(dict.fromkeys(hit["path"] for hit in hits))  # three windows of one sound: one path
    table = run(*asked).stdout.splitlines()
    assert table[0].split() == ["#", "cosine", "balanced", "kind", "path", "seconds", "text"]
    assert [line.split()[0] for line in table[1:]] == [str(hit["rank"]) for hit in hits]
    assert all(hit["path"] in line for hit, line in zip(hits, table[1:], strict=True))


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_every_kind_has_an_option(run, media, index, kind):
    what = {"text": "a dog on the beach", "image": media / "one.png", "audio": media / "tone.wav"}[kind]
    hits = json.loads(run("query", f"--{kind}", what, "--rank", "cosine", "--json", "--index", index).stdout)
    assert hits[0]["modality"] == kind
    assert hits[0]["score"] > 0.9


def test_filters_and_limits(run, index):
    asked = ["query", "dog", "--json", "--index", index]
    assert len(json.loads(run(*asked, "--top", 2).stdout)) == 2
    late = json.loads(run(*asked, "--where", "start_s >= 10").stdout)
    assert sorted(hit["start_s"] for hit in late) == [10, 20]
    assert json.loads(run(*asked, "--min-cosine", 2).stdout) == []
    nothing = run("query", "dog", "--min-cosine", 2, "--index", index)
    assert (nothing.stdout, nothing.stderr) == ("", "no items match\n")
    assert len(json.loads(run(*asked, "--modality", "image", "--modality", "text").stdout)) == 4


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "got none"),
        (["dog", "--audio", "x.wav"], "WHAT and --audio"),
        (["--text", "a", "--image", "b"], "--image and --text"),
        (["dog", "--json", "--csv"], "--json and --csv"),
        (["dog", "--where", "1; drop table items"], "drop table"),
        (["--image", "gone.jpg"], "gone.jpg"),
    ],
)
def test_a_wrong_question_is_one_line_and_exits_with_2(run, index, words, part):
    result = run("query", *words, "--index", index, code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert part in line


def test_a_missing_file_is_looked_for_as_a_text_and_says_so(run, index):
    assert "no such file: brid.jpg" in run("query", "brid.jpg", "--index", index).stderr
    assert run("query", "is there a dog?", "--index", index).stderr == ""


def test_a_file_of_no_known_kind_is_wrong_usage(run, media, index):
    assert "--depth" in run("query", media / "program.exe", "--index", index, code=2).stderr


def test_no_collection_says_how_to_make_one(run, tmp_path):
    assert "xsearch ingest" in run("query", "dog", "--index", tmp_path / "none", code=1).stderr


def test_html_writes_a_page_beside_the_table(run, index, tmp_path):
    result = run("query", "dog", "--index", index, "--html", tmp_path / "page.html")
    assert "cosine" in result.stdout
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "größe 3.png" in page
    assert str(tmp_path / "page.html") in result.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("sea.wav@0.7", ("sea.wav", 0.7)),
        ("sea.wav", ("sea.wav", 1.0)),
        ("me@home.jpg", ("me@home.jpg", 1.0)),
        ("me@home.jpg@2", ("me@home.jpg", 2.0)),
        ("@2", ("@2", 1.0)),
        ("a cage@.5", ("a cage", 0.5)),
    ],
)
def test_a_weight_is_cut_off(value, expected):
    assert split_weight(value) == expected


def test_a_file_that_ends_like_a_weight_keeps_its_name(tmp_path):
    path = tmp_path / "shot@2"
    path.touch()
    assert split_weight(str(path)) == (str(path), 1.0)
    assert split_weight(f"{path}@0.5") == (str(path), 0.5)


def test_a_sum_tells_its_length_and_the_cosine_with_each_part(run, media, index):
    one = media / "one.png"
    result = run("compose", "--image", one, "--plus-image", f"{one}@2", "--index", index, "--json")
    # 1 + 2 in the same direction
    assert "the weighted sum of 2 parts has length 3.000 before it is normalised" in result.stderr
    assert re.findall(r"^ +norm (\S+)  cosine (\S+)  (\S+) \* image", result.stderr, re.M) == [
        ("1.000", "+1.000", "+1"),
        ("2.000", "+1.000", "+2"),
    ]
    assert json.loads(result.stdout)[0]["score"] > -1


def test_kinds_are_added_and_subtracted(run, media, index):
    parts = [
        "--image",
        media / "one.png",
        "--plus-audio",
        f"{media / 'tone.wav'}@0.7",
        "--minus-text",
        "cage",
    ]
    result = run("compose", *parts, "--index", index)
    weights = re.findall(r"^ +norm .*  (\S+) \* (\w+)", result.stderr, re.M)
    assert sorted(weights) == sorted([("+1", "image"), ("+0.7", "audio"), ("-1", "text")])


def test_a_sum_that_cancels_out_is_refused(run, index):
    parts = ["--text", "a dog", "--minus-text", "a dog"]
    assert "cancel out" in run("compose", *parts, "--index", index, code=2).stderr
    assert "empty" in run("compose", "--index", index, code=2).stderr
