"""`index plan|build|tune|info`."""

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from xsearch.store import Store
from xsearch.types import Fingerprint

RECIPE = "PCAR16,IVF16,PQ16x4fs"


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A collection of 2,000 clustered items of two kinds."""
    rng = np.random.default_rng(0)
    kinds = ["image"] * 1_500 + ["text"] * 500
    centres = rng.standard_normal((40, 32))
    rows = centres[rng.integers(0, 40, 2_000)] + 0.3 * rng.standard_normal((2_000, 32))
    rows[1_500:] += 2 * rng.standard_normal(32)
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    store = Store.create(tmp_path / "many", Fingerprint("fake", "0", "1", 32))
    with store.writer() as writer:
        writer.add(pa.table({"path": [f"/{i}" for i in range(2_000)], "modality": kinds}), rows)
        writer.commit()
    return store.path


def test_a_plan_is_one_paragraph(run, many):
    assert run("index", "plan", "--collection", many).stdout.startswith("Flat on cpu for 2,000 items:")
    words = ("index", "plan", "--collection", many, "--items", 1_000_000, "--device", "cpu")
    text = run(*words).stdout
    assert text.count("\n") == 1
    assert "IVF4096" in text
    assert "of the variance" in text
    assert RECIPE in run(*words, "--recipe", RECIPE).stdout
    small = run(*words, "--memory-mb", 12).stdout
    assert "4 bytes an item" in small


def test_a_plan_past_one_machine_has_machines_and_money(run, many):
    words = ("index", "plan", "--collection", many, "--items", "1e8", "--device", "cpu", "--recipe", RECIPE)
    text = run(*words).stdout
    assert "for 100,000,000 items" in text
    assert "USD/month" in text
    assert "c7i.4xlarge" in text
    with_costs = run(*words, "--hours", 12, "--decode-ms", 20, "--embed-ms", 30, "--media-kb", 500).stdout
    assert "50.0 TB" in with_costs
    assert "20 ms" in with_costs
    assert "such as 250000 or 1e9" in run(*words[:-5], "--items", "many", code=2).stderr


@pytest.mark.parametrize(
    "recipe", ["What", "IVF16,What", "IVF0,Flat", "IVF99999999999,Flat", "HNSW32", "IVF16,PQ3"]
)
def test_a_recipe_that_faiss_rejects_is_one_line_with_the_next_step(run, many, recipe):
    for command in ("plan", "build"):
        (line,) = run("index", command, "--recipe", recipe, "-c", many, code=2).stderr.splitlines()
        assert recipe in line
        assert "use one" in line


def test_a_recipe_for_more_items_than_there_are_is_one_line(run, many):
    (line,) = run("index", "build", "--recipe", "IVF3000,Flat", "-c", many, code=2).stderr.splitlines()
    assert "use fewer lists" in line


def test_an_index_is_built_tuned_and_described(run, many, tmp_path):
    assert "nothing to tune" in run("index", "tune", "--collection", many).stdout
    assert "Flat" in run("index", "info", "--collection", many).stdout
    assert run("index", "build", "--collection", many, "--recipe", RECIPE).stdout.startswith(
        f"{RECIPE} on cpu"
    )
    before = json.loads(run("index", "info", "--collection", many, "--json").stdout)
    assert (before["recipe"], before["covered"], before["recall"]) == (RECIPE, 2_000, None)

    picture = tmp_path / "points.svg"
    table = run("index", "tune", "--collection", many, "--recall", 0.9, "--plot", picture).stdout.splitlines()
    assert "recall@10 same" in table[0]
    assert "recall@10 cross" in table[0]
    assert sum(line.endswith("<-") for line in table) == 1
    after = json.loads(run("index", "info", "--collection", many, "--json").stdout)
    assert after["recall"] >= 0.9
    kept = next(line for line in table if line.endswith("<-")).split()
    assert [str(after["nprobe"]), str(after["refine"])] == kept[:2]
    groups = ET.parse(picture).iter("{http://www.w3.org/2000/svg}g")
    assert {"all", "same", "cross", "balanced"} <= {group.get("id") for group in groups}
    assert run("verify", "--collection", many).stdout == ""


def test_what_is_out_of_reach_is_said(run, many, tmp_path):
    run("index", "build", "--collection", many, "--recipe", "IVF16,PQ2x4fs")
    result = run("index", "tune", "--collection", many, "--latency-ms", 0.0001)
    assert "out of reach" in result.stderr
    assert ".svg" in run("index", "tune", "--collection", many, "--plot", tmp_path / "x.png", code=2).stderr


def test_flat_drops_the_index(run, many):
    run("index", "build", "--collection", many, "--recipe", RECIPE)
    assert Store.open(many).snapshot().index_path is not None
    assert "Flat" in run("index", "build", "--collection", many, "--recipe", "Flat").stdout
    assert Store.open(many).snapshot().index_path is None


def test_an_index_in_several_files_is_described_tuned_and_joined(run, many):
    build = ("index", "build", "--collection", many, "--recipe", RECIPE)
    info = lambda: json.loads(run("index", "info", "--collection", many, "--json").stdout)  # noqa: E731
    run(*build, "--shards", 3)
    assert (info()["covered"], info()["shards"]) == (2_000, 3)
    run("index", "tune", "--collection", many, "--recall", 0.9)
    assert (info()["recall"] >= 0.9, info()["shards"]) == (True, 3)
    assert run("verify", "--collection", many).stdout == ""
    run("compact", "--collection", many)
    assert len(list(many.glob("index/*"))) == 1
    run(*build, "--shards", 3, "--merge")
    assert (info()["covered"], info()["shards"]) == (2_000, 1)
    for words in (["--merge"], ["--shards", 2_001], ["--engine", "ray"], ["--address", "auto"]):
        (line,) = run(*build, *words, code=2).stderr.splitlines()
        assert "shards" in line or "--engine ray" in line


def test_a_cluster_is_looked_for_before_the_training(run, many, monkeypatch):
    def init(address, **options):
        raise ConnectionError("nobody\nthere")

    ray = SimpleNamespace(is_initialized=lambda: False, init=init, shutdown=lambda: None)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr("xsearch.derive.new_trained", None)
    build = ("index", "build", "-c", many, "--engine", "ray", "--shards", 3, "--address")
    assert "no Ray cluster at auto: nobody there" in run(*build, "auto", code=2).stderr
    assert "no Ray cluster at 127.0.0.1:9: [Errno" in run(*build, "127.0.0.1:9", code=2).stderr
