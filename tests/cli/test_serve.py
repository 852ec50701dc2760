"""The options of `serve`, and what is printed of answers that lack shards. A server at work: tests/serve."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Run
from xsearch.cli import served
from xsearch.cluster.serving import Options
from xsearch.query import Hits


@pytest.mark.parametrize(
    "words",
    [
        ("--address", "auto"),
        ("--embedders", 1),
        ("--searchers", 2),
        ("--shard-timeout", 10),
        ("--allow-partial",),
    ],
    ids=lambda words: words[0],
)
def test_options_of_ray_need_it(run: Run, index: Path, words: tuple[Any, ...]) -> None:
    printed = run("serve", "-c", index, *words, code=2)
    assert words[0] in printed.output
    assert "are options of --engine ray" in printed.output


class Made:
    """A `Serving` that notes how it is made, and what is to be embedded with."""

    def __init__(self, address: str | None, options: Options) -> None:
        self.address, self.options = address, options

    def __enter__(self) -> Made:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def backend(self, local: Any, device: str) -> Any:
        self.able, self.device = pickle.loads(pickle.dumps(local)).capabilities(), device
        return local


def test_options_reach_ray_and_its_replicas(run: Run, index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    served = list[Any]()
    monkeypatch.setattr("xsearch.cluster.serving.Serving", Made)
    monkeypatch.setattr(sys.modules["xsearch.cli.serve"], "_run", lambda *each: served.append(each[0][0]))
    words = ["--engine", "ray", "--address", "here:1", "--embedders", 3, "--shard-timeout", 0.5]
    run("serve", "-c", index, *words, "--device", "cpu", "--dtype", "bf16")
    run("serve", "-c", index, "--engine", "ray", "--allow-partial", "--searchers", 2)
    made = [collection._serving for collection in served]
    assert [each.address for each in made] == ["here:1", None]
    assert [each.options for each in made] == [
        Options(embedders=3, timeout_s=0.5),
        Options(searchers=2, allow_partial=True),
    ]
    assert served[0].backend.capabilities().dtype == "bf16"
    assert (made[0].device, made[0].able.device, made[0].able.dtype) == ("cpu", "cpu", "bf16")


def test_an_answer_without_hits_says_that_it_lacks_shards(
    run: Run, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = served.Found(Hits(missing_shards=[1]), 5, "tiny")
    monkeypatch.setattr(served, "search", lambda *asked: found)
    assert "shards 1 of the index did not answer: some hits may be missing" in run("query", "dog").output
