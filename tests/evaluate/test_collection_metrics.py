"""Collections with labels, and scenes, by hand and with the bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.fakes import FakeBackend
from xsearch.collection import Collection
from xsearch.errors import StoreError, UsageError
from xsearch.evaluate import draw, evaluate_collection, evaluate_scenes

COLOURS = {"red": "red", "green": "lime", "blue": "blue"}


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    """Two pictures and a text of each colour, and one picture whose colour nobody knows."""
    media = tmp_path / "media"
    media.mkdir()
    lines = ["path,colour,nothing"]
    for name, colour in COLOURS.items():
        for side in (8, 12):
            Image.new("RGB", (side, side), colour).save(media / f"{name}{side}.png")
            lines.append(f"{name}{side}.png,{name},")
        (media / f"{name}.txt").write_text(name)
        lines.append(f"{name}.txt,{name},")
    Image.new("RGB", (8, 8), "white").save(media / "unknown.png")
    (media / "metadata.csv").write_text("\n".join(lines))
    made = Collection.create(tmp_path / "index", backend=FakeBackend())
    made.ingest(media)
    return made


def test_items_find_their_label_and_so_do_its_words(collection: Collection) -> None:
    found = evaluate_collection(collection.backend, collection.snapshot(), "colour")
    assert found.figures["samples"] == {"image": 6, "text": 3}
    matrix = {(row["query"], row["answer"]): row for row in found.figures["matrix"]}
    assert {pair: row["p_at_1"] for pair, row in matrix.items() if row["queries"]} == {
        ("image", "image"): 1, ("image", "text"): 1, ("text", "image"): 1,
    }  # fmt: skip
    assert matrix["image", "image"]["chance"] == pytest.approx(1 / 6)  # one other of six
    words = {row["answer"]: row for row in found.figures["words"]}
    assert (words["image"]["p_at_1"], words["image"]["queries"], words["image"]["items"]) == (1, 3, 6)
    assert draw(found, "").height > 500


def test_fewer_may_ask(collection: Collection) -> None:
    found = evaluate_collection(collection.backend, collection.snapshot(), "colour", queries=2)
    matrix = {(row["query"], row["answer"]): row for row in found.figures["matrix"]}
    assert (matrix["image", "image"]["queries"], matrix["image", "image"]["p_at_1"]) == (2, 1)


def test_a_column_has_to_be_there_and_to_say_something(collection: Collection) -> None:
    with pytest.raises(StoreError, match="no column smell"):
        evaluate_collection(collection.backend, collection.snapshot(), "smell")
    with pytest.raises(UsageError, match="no item has a nothing"):
        evaluate_collection(collection.backend, collection.snapshot(), "nothing")


def test_scenes_are_measured_by_hand() -> None:
    found = evaluate_scenes(FakeBackend(), 6).figures
    assert len(found["matrix"]) == 36
    assert set(found["composition"]) == {"picture + sound", "picture only", "sound only"}
