"""What a survey decides about skipped files, also about those that earlier releases have recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import FakeBackend
from xsearch.errors import Reason
from xsearch.ingest.known import Known
from xsearch.ingest.survey import Survey, survey
from xsearch.ingest.work import Action
from xsearch.media import identify
from xsearch.store import Store
from xsearch.types import Modality

LATER = "2100-01-01T00:00:00+00:00"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "media").mkdir()
    return Store.create(tmp_path / "store", FakeBackend().fingerprint)


def look(store: Store, *roots: Path) -> Survey:
    known = Known(store.snapshot())
    paths = {"collection": store.path, "scratch": store.path}
    return survey(known, roots, kinds=(), metadata=None, identify=identify, **paths)


def record(store: Store, path: Path, error: str, state: str | None = None) -> None:
    if state is None and path.is_file():
        state = f"{path.stat().st_size} {path.stat().st_mtime_ns}"
    with store.writer() as writer:
        row = {"path": str(path), "reason": "why", "error": error, "when": LATER, "state": state}
        writer.skip([row])
        writer.commit()


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        ("Unreadable", False),
        ("MissingPackage", True),
        ("TooLarge", True),
        ("OSError", True),
        ("NotEmbedded", False),
        ("ValueError", False),  # of a model, by releases before reasons
    ],
)
def test_a_file_that_has_not_changed_is_tried_again_where_that_may_help(
    store: Store, error: str, retried: bool
) -> None:
    path = store.path.parent / "media" / "a.txt"
    path.write_text("red")
    record(store, path, error)
    found = look(store, path.parent)
    assert found.work.num_rows == retried
    assert [skip.error for skip in found.report.skipped] == [Reason(error)] * (not retried)
    record(store, path, error, state="3 1")
    assert look(store, path.parent).report.new == {Modality.TEXT: 1}


def test_a_bad_sidecar_is_recorded_until_its_file_is_well_or_gone(store: Store) -> None:
    folder = store.path.parent / "media"
    (folder / "a.txt").write_text("red")
    (folder / "a.json").write_text("{")
    record(store, folder / "a.json", "UsageError")
    record(store, folder / "gone.json", "UsageError")
    found = look(store, folder)
    assert found.recovered == {str(folder / "gone.json")}
    (task,) = found.tasks(Action.EMBED)
    assert task.sidecar_problem is not None
    assert task.sidecar_problem.startswith("cannot be read as JSON")
    assert found.report.not_media == 1


def test_the_table_has_a_row_for_each_file_to_do(store: Store) -> None:
    folder = store.path.parent / "media"
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(name)
    found = look(store, folder)
    assert found.work["path"].to_pylist() == [str(folder / "a.txt"), str(folder / "b.txt")]
    assert set(found.work["action"].to_pylist()) == {"embed"}
    assert found.work["bytes"].to_pylist() == [1, 1]
    assert [task.file.name for task in found.tasks(Action.EMBED)] == found.work["path"].to_pylist()
    assert list(found.tasks(Action.DESCRIBE)) == []
