"""`query` and `compose`: one question, one answer, in every form."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest

from xsearch.models.vocabulary import save_words

FIELDS = [
    "rank", "score", "cosine", "balanced", "expected", "id", "path", "modality", "start_s", "end_s", "text",
]  # fmt: skip


def test_a_picture_finds_itself_first(run, media, index):
    result = run("query", media / "two.png", "--modality", "image", "--json", "--collection", index)
    hits = json.loads(result.stdout)
    assert [list(hit)[:11] for hit in hits] == [FIELDS] * 3
    assert all(hit["mime"] == "image/png" for hit in hits)
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["path"] == str(media / "two.png")
    assert hits[0]["cosine"] == pytest.approx(1, abs=1e-3)


def test_the_forms_agree(run, index):
    asked = ["query", "a dog", "--collection", index]
    hits = json.loads(run(*asked, "--json").stdout)
    assert len(hits) == 7
    assert {hit.pop("query") for hit in hits} == {"text"}  # what it was taken for
    lines = list(csv.DictReader(io.StringIO(run(*asked, "--csv").stdout)))
    assert list(lines[0])[:11] == FIELDS
    values = [[hit.get(name) for name in lines[0]] for hit in hits]
    assert [["" if value is None else str(value) for value in row] for row in values] == [
        list(line.values()) for line in lines
    ]
    assert set(lines[0]) == {name for hit in hits for name in hit}
    paths = run(*asked, "--paths").stdout.splitlines()
    assert paths == list(dict.fromkeys(hit["path"] for hit in hits))  # three windows of one sound: one path
    table = run(*asked).stdout.splitlines()
    header = ["rank", "cosine", "balanced", "expected", "bm25", "modality", "path", "start_s", "end_s"]
    assert table[0].split() == [*header, "text"]
    assert [line.split()[0] for line in table[1:]] == [str(hit["rank"]) for hit in hits]
    assert all(hit["path"] in line for hit, line in zip(hits, table[1:], strict=True))


def test_json_carries_the_metadata_of_the_user(run, media, tmp_path):
    (tmp_path / "table.csv").write_text(f"path,place,score\n{media}/one.png,beach,high\n")
    run("ingest", media / "one.png", "--metadata", tmp_path / "table.csv", "-c", tmp_path / "c")
    (hit,) = json.loads(run("query", media / "one.png", "--json", "-c", tmp_path / "c").stdout)
    (item,) = json.loads(run("ls", "--json", "-c", tmp_path / "c").stdout)
    assert (item["place"], item["score"]) == ("beach", "high")
    assert hit["place"] == "beach"
    assert isinstance(hit["score"], float)  # the hit's own field comes first
    known = {name: value for name, value in item.items() if value is not None and name != "score"}
    assert hit | known == hit


@pytest.mark.parametrize("kind", ["text", "image", "audio"])
def test_every_kind_has_an_option(run, media, index, kind):
    what = {"text": "a dog on the beach", "image": media / "one.png", "audio": media / "tone.wav"}[kind]
    hits = json.loads(
        run("query", f"--{kind}", what, "--rank", "cosine", "--json", "--collection", index).stdout
    )
    assert hits[0]["modality"] == kind
    assert hits[0]["score"] > 0.9


def test_filters_and_limits(run, index):
    asked = ["query", "dog", "--json", "--collection", index]
    assert len(json.loads(run(*asked, "--top", 2).stdout)) == 2
    late = json.loads(run(*asked, "--where", "start_s >= 10").stdout)
    assert sorted(hit["start_s"] for hit in late) == [10, 20]
    for option in ("--min-cosine", "--min-score"):  # its former name
        assert json.loads(run(*asked, option, 1).stdout) == []
    nothing = run("query", "dog", "--min-cosine", 1, "--collection", index)
    assert (nothing.stdout, nothing.stderr) == ("", "no items match\n")
    assert len(json.loads(run(*asked, "--modality", "image", "--modality", "text").stdout)) == 4


def test_nothing_like_it_is_said_and_left_out(run, index):
    asked = ["query", "dog", "--collection", index]
    every = json.loads(run(*asked, "--json", "--top", 100).stdout)
    some = json.loads(run(*asked, "--json", "--top", 100, "--max-expected", 1).stdout)
    assert [hit["id"] for hit in some] == [hit["id"] for hit in every if hit["expected"] <= 1]
    assert 0 < len(some) < len(every)
    far = ["query", "cat", "--collection", index, "--modality", "audio"]
    shown, nothing = run(*far), run(*far, "--max-expected", 1)
    assert len(shown.stdout.splitlines()) == 4
    (times,) = re.findall(
        r"^nothing like it here: the nearest would be found ([\d.]+) times by chance\n$", shown.stderr
    )
    assert float(times) > 1
    assert (nothing.stdout, nothing.stderr) == ("", f"no items match\n{shown.stderr}")
    assert "nothing" not in run(*asked).stderr


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ([], "got none"),
        (["dog", "--audio", "x.wav"], "WHAT and --audio"),
        (["--text", "a", "--image", "b"], "--image and --text"),
        (["dog", "--json", "--csv"], "--json and --csv"),
        (["dog", "--where", "1; drop table items"], "drop table"),
        (["--image", "gone.jpg"], "gone.jpg"),
        (["brid.jpg"], "no such file: brid.jpg"),
        (["/"], "/ is a folder"),
        (["--image", "/"], "/ is a folder"),
        (["--id", "99"], "item 99: no such item"),
        (["--id", "9" * 30], "no such item"),
        (["dog", "--id", "1"], "WHAT and --id"),
        (["dog", "--min-cosine", "7"], "expected -1 to 1"),
        ([" "], "empty"),
    ],
)
def test_a_wrong_question_is_one_line_and_exits_with_2(run, index, words, part):
    result = run("query", *words, "--collection", index, code=2)
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert part in line


def item_of(run, index, path):
    (item,) = [
        item for item in json.loads(run("ls", "--json", "-c", index).stdout) if item["path"] == str(path)
    ]
    return item["id"]


def test_it_says_as_what_the_query_is_taken(run, media, index):
    def note(*words):
        return run("query", *words, "--collection", index).stderr.partition("nothing like it here")[0]

    assert note("is there a dog?") == ""
    assert note("--text", "brid.jpg") == ""
    one, id = media / "one.png", item_of(run, index, media / "one.png")
    assert note(one) == f"query: image {one}, in the collection as item {id}\n"
    assert note("--thermal", one) == f"query: thermal {one}, in the collection as item {id}\n"
    assert note(media / "tone.wav").endswith("in the collection as 3 items\n")
    assert note("--id", id) == f"query: image item {id}\n"
    assert note("--text", one).startswith(f"{one}: searching for these words, not for the file\n")


def test_an_item_is_searched_for_by_id_as_its_file_is(run, media, index):
    id = item_of(run, index, media / "one.png")
    by_id, by_path = (
        json.loads(run("query", *what, "--json", "-c", index).stdout)
        for what in (["--id", id], [media / "one.png"])
    )
    assert by_id == by_path
    parts = ["--plus", f"item:{id}@0.5", "--minus", "a dog", "--exclude-self"]
    plus = run("compose", *parts, "--json", "-c", index)
    assert weights(plus) == [("+0.5", f"image item {id}"), ("-1", "text a dog")]
    found = [hit["id"] for hit in json.loads(plus.stdout)]
    assert len(found) == 6
    assert id not in found


def test_the_model_is_not_loaded_for_a_file_that_is_in_the_collection(media, index, model):
    program = (
        "import sys; from xsearch.cli.app import app\n"
        f"try: app(['query', {str(media / 'one.png')!r}, '-c', {str(index)!r}])\n"
        "finally: print([name for name in ('torch', 'pandas') if name in sys.modules])"
    )
    environment = {**os.environ, "XSEARCH_MODEL": str(model)}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_file_of_no_known_kind_is_wrong_usage(run, media, index):
    assert "--depth" in run("query", media / "program.exe", "--collection", index, code=2).stderr


def test_no_collection_says_how_to_make_one(run, tmp_path):
    assert "xsearch ingest" in run("query", "dog", "--collection", tmp_path / "none", code=1).stderr


def test_html_writes_a_page_beside_the_table(run, index, tmp_path):
    result = run("query", "dog", "--collection", index, "--html", tmp_path / "page.html")
    assert "cosine" in result.stdout
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "größe 3.png" in page
    assert str(tmp_path / "page.html") in result.stderr


def test_a_sum_tells_its_length_and_the_cosine_with_each_part(run, media, index):
    one = media / "one.png"
    result = run("compose", "--image", one, "--plus-image", f"{one}@2", "--collection", index, "--json")
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
    result = run("compose", *parts, "--collection", index)
    weights = re.findall(r"^ +norm .*  (\S+) \* (\w+)", result.stderr, re.M)
    assert sorted(weights) == sorted([("+1", "image"), ("+0.7", "audio"), ("-1", "text")])


def test_a_sum_that_cancels_out_is_refused(run, index):
    parts = ["--text", "a dog", "--minus-text", "a dog"]
    assert "cancel out" in run("compose", *parts, "--collection", index, code=2).stderr
    assert "empty" in run("compose", "--collection", index, code=2).stderr


def weights(result):
    return re.findall(r"^ +norm .*  (\S+) \* (\w+ .*)$", result.stderr, re.M)


def test_terms_are_added_and_subtracted_in_order(run, media, index, tmp_path):
    photo = tmp_path / "shot@2"
    photo.write_bytes((media / "one.png").read_bytes())
    parts = ["--plus", media / "one.png", "--plus", f"audio:{media / 'tone.wav'}@0.7", "--plus", f"{photo}@3"]
    parts += ["--minus", "text:cage", "--minus", "a dog@.5", "--plus-image", photo]
    result = run("compose", *parts, "-c", index)
    assert weights(result) == [
        ("+1", f"image {media / 'one.png'}"),
        ("+0.7", f"audio {media / 'tone.wav'}"),
        ("+3", f"image {photo}"),
        ("+1", f"image {photo}"),
        ("-1", "text cage"),
        ("-0.5", "text a dog"),
    ]
    same = [
        "--image",
        media / "one.png",
        "--plus-audio",
        f"{media / 'tone.wav'}@.7",
        "--plus-image",
        f"{photo}@4",
    ]
    same += ["--minus-text", "cage", "--minus-text", "a dog@.5"]
    ours, theirs = (
        json.loads(run("compose", *words, "--json", "-c", index).stdout) for words in (parts, same)
    )
    assert [hit["id"] for hit in ours] == [hit["id"] for hit in theirs]
    assert [hit["cosine"] for hit in ours] == pytest.approx([hit["cosine"] for hit in theirs], abs=1e-4)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--plus", "audio:"], "'audio:'"),
        (["--plus", "text:dog@nan"], "'dog@nan'"),
        (["--minus", ""], "''"),
        (["--text", "@2"], "'@2'"),
        (["--plus", "audio:gone.wav"], "gone.wav"),
    ],
)
def test_a_wrong_term_is_one_line_and_exits_with_2(run, index, words, part):
    (line,) = run("compose", *words, "-c", index, code=2).stderr.splitlines()
    assert part in line


def test_a_term_that_is_no_file_is_a_text_unless_it_looks_like_a_path(run, index):
    assert "no such file: brid.jpg" in run("compose", "--minus", "brid.jpg@2", "-c", index, code=2).stderr
    assert "text:sound:a" in run("compose", "--plus", "sound:a", "-c", index, code=2).stderr
    run("compose", "--plus", "text:brid.jpg@2", "-c", index)
    run("compose", "--plus", "a dog " * 100, "-c", index)  # longer than any file name


def test_words_alone_are_found_without_a_model(run, media, index):
    (hit,) = json.loads(run("query", "dog beach", "--match", "words", "--json", "-c", index).stdout)
    assert (hit["path"], hit["cosine"], hit["balanced"]) == (str(media / "note.txt"), None, None)
    assert hit["score"] == hit["bm25"] > 0
    table = run("query", "größe", "--match", "words", "-c", index).stdout.splitlines()
    assert table[0].split() == ["rank", "bm25", "modality", "path"]
    assert "größe 3.png" in table[1]
    asked = ["query", "dog beach", "--match", "words", "--csv", "-c", index]
    (line,) = csv.DictReader(io.StringIO(run(*asked).stdout))
    assert (line["cosine"], line["bm25"]) == ("", str(hit["bm25"]))
    result = run("query", "--image", media / "one.png", "--match", "words", "-c", index, code=2)
    assert "only a single text has words" in result.output


def test_a_search_by_words_imports_no_torch(index):
    program = "import sys; from xsearch.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    asked = [sys.executable, "-c", program, "query", "dog", "--match", "words", "--paths", "-c", str(index)]
    result = subprocess.run(asked, capture_output=True, check=True, text=True)
    assert result.stdout.splitlines()[-1] == "False"


@pytest.fixture(scope="module")
def learned(run, media, model, tmp_path_factory):
    """A collection of a model that has learned three words."""
    folder = tmp_path_factory.mktemp("learned")
    shutil.copytree(model, folder / "model")
    save_words(["beach", "dog", "red"], folder / "model")
    run("ingest", media, "--model", folder / "model", "-c", folder / "c")
    return folder / "c"


def test_unknown_words_are_named_and_left_out(run, learned):
    options = ["--match", "meaning", "-c", learned]
    result = run("query", "the Dogs of my grandmother on an asteroid", *options)
    assert result.stderr.startswith("the tiny model has not learned 'grandmother', 'asteroid': left out\n")
    dog = run("query", "dog", *options)
    assert dog.stdout == result.stdout
    assert "learned" not in dog.stderr


def test_a_text_of_unknown_words_only_is_no_query(run, learned):
    for asked in (["query", "my beech"], ["compose", "--text", "dog", "--minus-text", "my beech"]):
        result = run(*asked, "-c", learned, code=1)
        (line,) = result.stderr.splitlines()
        assert "no word of 'my beech'; it knows 'beach'; --anyway" in line
        assert result.stdout == ""
        assert run(*asked, "--anyway", "-c", learned).stdout


def test_a_long_text_is_searched_by_its_windows_and_says_so(run, learned, tmp_path):
    (tmp_path / "long.txt").write_text("a red dog. " * 30)
    for asked in ("a red dog. " * 30, tmp_path / "long.txt"):
        line, *_ = run("query", asked, "-c", learned).stderr.splitlines()
        assert re.search(r"longer than the tiny model .* the mean of \d+ windows$", line)


def test_a_file_of_another_kind_is_named_so(run, media, index):
    result = run("query", "--audio", media / "one.png", "-c", index, code=1)
    assert result.stderr == f"error: {media / 'one.png'}: is of kind image and cannot be read as audio\n"


def test_a_mistyped_name_gets_a_hint_at_the_stored_file(run, index, media):
    (line,) = run("query", "tone.wave.wav", "-c", index, code=2).stderr.splitlines()
    assert f"the collection has {media / 'tone.wav'}" in line
    assert "the collection has" not in run("query", "x.jpg", "-c", "/nowhere", code=2).stderr


def test_the_page_is_written_before_the_table(index, tmp_path):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    page = tmp_path / "p.html"
    command = f"'{sys.executable}' -m xsearch query --match words dog -c '{index}' --html '{page}' | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert done.stderr.strip() == f"page: {page}"
