"""`export` and `import`."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


def test_there_and_back(run, index, tmp_path):
    out = tmp_path / "all.parquet"
    assert f"{out}: 7 items from {index}, " in run("export", out, "--collection", index).stdout
    words = ["import", out, "--collection", tmp_path / "new"]
    assert run(*words, "--dry-run").stdout.startswith("would add 7 items (3 image, 1 text, 3 audio)")
    assert f"{tmp_path / 'new'}: added 7 items (3 image, 1 text, 3 audio) from {out} in" in run(*words).stdout
    assert "added 0 items" in (again := run(*words).stdout)
    assert "      7  there already" in again
    query = ["query", "a dog", "--json", "--collection"]
    ours, theirs = (json.loads(run(*query, place).stdout) for place in (tmp_path / "new", index))
    assert [(hit["path"], hit["score"]) for hit in ours] == [(hit["path"], hit["score"]) for hit in theirs]


def test_export_takes_filters_and_float32(run, index, tmp_path):
    words = ["--modality", "audio", "--where", "start_s >= 10", "--float32", "--collection", index]
    assert "2 items" in run("export", tmp_path / "out", *words).stdout
    (file,) = (tmp_path / "out").iterdir()
    assert pq.read_table(file)["vector"].type == pa.list_(pa.field("element", pa.float32(), False), 32)
    assert "already" in run("export", tmp_path / "out", "--collection", index, code=2).stderr


@pytest.mark.parametrize("name", ["all.jsonl", "all.npy"])
def test_the_suffix_names_the_format(run, index, model, tmp_path, name):
    run("export", tmp_path / name, "-c", index)
    words = ["import", tmp_path / name, "-c", tmp_path / "new", "--model", model]
    assert "added 7 items" in run(*words).stdout


def test_an_export_needs_a_folder_and_a_known_suffix(run, index, tmp_path):
    assert "folder does not exist" in run("export", tmp_path / "no" / "x.csv", "-c", index, code=2).stderr
    assert list(tmp_path.iterdir()) == []
    assert ".jsonl, .npy" in run("export", tmp_path / "x.txt", "-c", index, code=2).stderr
    run("export", tmp_path / "x.csv", "-k", "text", "-c", index)
    header, line = (tmp_path / "x.csv").read_text().splitlines()
    assert header.startswith("id,path,modality")
    assert "note.txt,text" in line


def test_import_of_clip_retrieval_names_its_model(run, model, tmp_path):
    for name in ("img_emb", "metadata"):
        (tmp_path / "clip" / name).mkdir(parents=True)
    vectors = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    vectors[1] = np.nan
    np.save(tmp_path / "clip" / "img_emb" / "img_emb_0.npy", vectors)
    described = pa.table({"url": ["https://x.org/a", "https://x.org/b", "https://x.org/c"]})
    pq.write_table(described, tmp_path / "clip" / "metadata" / "metadata_0.parquet")
    words = ["import", tmp_path / "clip", "--collection", tmp_path / "new"]
    assert "--model NAME" in run(*words, code=2).stderr
    told = run(*words, "--model", model).stdout
    assert "added 2 items (2 image)" in told
    assert "1  without a vector that has a direction, left out" in told
    assert "2  vectors scaled to length 1" in told


def test_what_was_pushed_is_searched_at_its_url(run, index, tmp_path, monkeypatch):
    monkeypatch.setenv("XSEARCH_HOME", str(tmp_path / "home"))
    url = f"file://{tmp_path}/there"
    assert run("info", "-c", url, code=1).stderr.startswith(f"error: no collection at {url}; publish one")
    assert f"{url}: generation 2 of {index}, 7 files, " in run("push", url, "-c", index).stdout
    assert "nothing to send" in run("push", url, "-c", index).stdout
    for words in (
        ["query", "a dog", "--json"],
        ["compose", "--plus", "a dog", "--json"],
        ["query", "--where", "start_s >= 10", "a dog", "--json"],
        ["ls"],
        ["skipped"],
    ):
        assert run(*words, "-c", url).stdout == run(*words, "-c", index).stdout
    ours, theirs = (json.loads(run("info", "-c", place, "--json").stdout) for place in (url, index))
    assert ours | {"path": 0, "bytes": 0} == theirs | {"path": 0, "bytes": 0}
    assert ours["path"] == url
    assert "nothing is wrong" in run("verify", "-c", url).stderr
    monkeypatch.setenv("XSEARCH_COLLECTION", url)
    assert len(json.loads(run("query", "a dog", "--json").stdout)) == 7


@pytest.mark.parametrize(
    "words", [["ingest", "."], ["rm", "1"], ["compact"], ["import", "x"], ["index", "build"]]
)
def test_what_was_pushed_is_not_changed_at_its_url(run, words):
    refused = run(*words, "-c", "s3://bucket/x", code=2).stderr
    assert "s3://bucket/x is read-only: change the folder that was published there" in refused
    assert "`xsearch push s3://bucket/x --collection FOLDER`" in refused
