"""What is done to one file can be done anywhere: it survives pickling, and tasks a table."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.fakes import FakeBackend
from xsearch import media
from xsearch.errors import MediaError, ModelError, NotEmbedded, NotFetched, Reason, Transient, Unreadable
from xsearch.ingest.work import (
    WORK,
    Action,
    Embedded,
    Task,
    embed,
    item,
    prepare,
    skipped,
    table_of,
    tasks_of,
)
from xsearch.media import Remote, RemoteFile, identify
from xsearch.types import MediaFile, Modality, Sample

ODD = {"n": 2**70, "x": 0.1, "nan": float("nan"), "ok": True, "none": None, "text": 'é "\ud800'}


def sent(value: Any) -> Any:
    """As another process gets it."""
    return pickle.loads(pickle.dumps(value))


def texts(*words: str) -> list[Sample]:
    return [Sample(Modality.TEXT, word, text=word) for word in words]


class Choosy(FakeBackend):
    """Fails for batches with the word "bad", and finds no direction in "odd"."""

    def embed(self, samples: Sequence[Sample]) -> np.ndarray:
        if any(sample.data == "bad" for sample in samples):
            raise ValueError("no such\nword")
        vectors = super().embed(samples)
        vectors[[sample.data == "odd" for sample in samples]] = np.nan
        return vectors


def test_a_file_is_done_step_by_step_in_other_processes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("red")
    task = sent(Task(Action.EMBED, identify(tmp_path / "a.txt"), {"place": "sea"}))
    prepared = sent(sent(prepare)(task))
    assert prepared.sha256 == media.sha256(tmp_path / "a.txt")
    samples = sent(list(media.read(prepared.file)))
    vectors = sent(sent(embed)(samples, sent(FakeBackend())))
    rows = [item(prepared, sample) for sample in samples]
    (row,) = sent(Embedded(prepared, rows, vectors)).rows
    assert (row["path"], row["modality"], row["text"], row["place"]) == (
        str(tmp_path / "a.txt"),
        "text",
        "red",
        "sea",
    )
    np.testing.assert_array_equal(vectors, FakeBackend().embed(samples))


def test_problems_can_be_sent_with_their_reasons(tmp_path: Path) -> None:
    task = Task(Action.EMBED, MediaFile(tmp_path / "gone.txt", Modality.TEXT, 1, 0), {})
    with pytest.raises(Transient) as caught:
        prepare(task)
    skip = sent(skipped(task, sent(caught.value)))
    assert (skip.path, skip.error) == (str(tmp_path / "gone.txt"), Reason.TRANSIENT)
    assert skip.reason.startswith("cannot be opened: ")
    (problem,) = sent(embed(texts("bad"), Choosy()))
    assert skipped(task, problem).reason == "unexpected ValueError: no such word"
    assert problem.reason is Reason.NOT_EMBEDDED


@pytest.mark.parametrize(
    "kind", [NotFetched, NotEmbedded, Transient, Unreadable, *Unreadable.__subclasses__()]
)
def test_a_reason_is_stored_by_its_value(kind: type[MediaError]) -> None:
    assert sent(kind("why")).reason is Reason(str(kind.reason))


@pytest.mark.parametrize("words", [["red", "bad", "odd"], ["bad"] * 7, ["odd"] * 9, ["bad"] * 9 + ["red"]])
def test_each_sample_has_a_vector_or_a_problem(words: list[str]) -> None:
    results = embed(texts(*words), Choosy())
    kinds = {"red": np.ndarray, "bad": NotEmbedded, "odd": Unreadable}
    assert [type(result) for result in results] == [kinds[word] for word in words]


def test_a_model_that_can_do_nothing_is_at_fault_unless_it_has_done_something() -> None:
    with pytest.raises(ModelError, match="each of 8 text samples: ValueError: no such"):
        embed(texts(*["bad"] * 8), Choosy())
    assert len(embed(texts(*["bad"] * 8), Choosy(), verified=True)) == 8


def facts(file: MediaFile | RemoteFile) -> dict[str, Any]:
    if isinstance(file, MediaFile):
        return asdict(file)
    return {name: getattr(file, name) for name in file.__slots__ if name != "source"}


def test_tasks_come_back_from_their_table(tmp_path: Path) -> None:
    local = MediaFile(tmp_path / "é a.csv", Modality.IMU, 7, -5, "text/csv", companion=tmp_path / "b.csv")
    known = MediaFile(tmp_path / "c.png", Modality.IMAGE, 1, 2**62, url="memory://here/c.png")
    system = fsspec.filesystem("memory")
    for sensor in ("accel", "gyro"):
        system.pipe(f"/work/a b/walk_{sensor}.csv", b"t,x,y,z\n0,1,2,3\n")
    there = Remote("memory://work", tmp_path / "there")
    here = Remote("memory://work", tmp_path / "here")
    (remote,) = there.files()
    tasks = [
        Task(Action.EMBED, local, ODD),
        Task(Action.DESCRIBE, known, {}),
        Task(Action.EMBED, remote, {}, "expected one JSON object"),
    ]
    table = table_of(tasks)
    assert table.schema == WORK
    assert table_of([]).schema == WORK
    back = list(tasks_of(sent(table), {there.url: there}))
    for before, after in zip(tasks, back, strict=True):
        assert type(after.file) is type(before.file)
        assert facts(after.file) == facts(before.file)
        assert repr(dict(after.extra)) == repr(before.extra)  # NaN is not NaN
        assert (after.action, after.sidecar_problem) == (before.action, before.sidecar_problem)

    *_, task = tasks_of(table, {here.url: here})  # another machine, or at least another folder
    assert prepare(task).file.path.is_relative_to(tmp_path / "here")
    assert prepare(task).file.companion == here.folder / "a b" / "walk_gyro.csv"
    system.rm("/work", recursive=True)
