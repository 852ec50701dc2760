"""What files say of themselves, in a collection: columns that last, and captions as texts of pictures."""

from __future__ import annotations

import functools
import json
import os
import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes import FakeBackend
from tests.ingest.conftest import fill
from xsearch import Collection
from xsearch.errors import UsageError
from xsearch.ingest.columns import table
from xsearch.models.vocabulary import Vocabulary
from xsearch.store.segments import unify
from xsearch.types import Modality

IMAGE, TEXT, THERMAL = Modality.IMAGE, Modality.TEXT, Modality.THERMAL
SIDECAR = """<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
  xmp:Rating="{rating}"><dc:description><rdf:Alt><rdf:li>{words}</rdf:li></rdf:Alt></dc:description>
</rdf:Description></rdf:RDF></x:xmpmeta>"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures: a red and a blue one with captions, and one without facts."""
    folder = tmp_path / "media"
    folder.mkdir()
    photo(folder / "a.jpg", "red", "2024:06:01 12:00:00", "bright green")
    photo(folder / "b.jpg", "blue", "2023:06:01 12:00:00", "dark")
    Image.new("RGB", (24, 16), "lime").save(folder / "c.png")
    return folder


def photo(path: Path, colour: str, taken: str, caption: str) -> None:
    exif = Image.Exif()
    exif[0x110], exif[0x10E] = "Pixel 8", caption
    exif.get_ifd(0x8769)[0x9003] = taken
    Image.new("RGB", (24, 16), colour).save(path, exif=exif)


def rows(collection: Collection, *columns: str, **options: Any) -> list[tuple[Any, ...]]:
    """Name, kind and other columns of each item."""
    items = collection.items(**options).to_pylist()
    found = [(Path(row["path"]).name, row["modality"], *(row.get(name) for name in columns)) for row in items]
    return found if "sort" in options else sorted(found, key=lambda row: row[:2])


def test_captions_are_texts_of_their_pictures(collection: Collection, folder: Path) -> None:
    report = fill(collection, folder)
    assert (report.new, report.items) == ({IMAGE: 3}, {IMAGE: 3, TEXT: 2})
    assert rows(collection, "text", "width", "camera") == [
        ("a.jpg", "image", None, 24, "Pixel 8"),
        ("a.jpg", "text", "bright green", None, "Pixel 8"),
        ("b.jpg", "image", None, 24, "Pixel 8"),
        ("b.jpg", "text", "dark", None, "Pixel 8"),
        ("c.png", "image", None, 24, None),
    ]
    hit = collection.search("bright green", 1)[0]
    assert (Path(hit.path).name, hit.modality, hit.text) == ("a.jpg", "text", "bright green")
    again = fill(collection, folder)
    assert (again.unchanged, again.files, sum(again.items.values())) == (3, {IMAGE: 3}, 0)
    assert collection.remove(paths=[folder / "a.jpg"]) == 2


def test_without_captions(collection: Collection, folder: Path) -> None:
    assert fill(collection, folder, captions=False).items == {IMAGE: 3}
    assert rows(collection, "description")[0] == ("a.jpg", "image", "bright green")


def test_a_picture_searches_by_its_picture(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    hits = collection.search(folder / "a.jpg", 5)
    assert hits.query is not None
    assert (hits.query.query.parts[0].modality, len(hits.query.own)) == (IMAGE, 2)
    assert (Path(hits[0].path).name, hits[0].modality) == ("a.jpg", "image")
    others = collection.search(folder / "a.jpg", 5, exclude_self=True)
    assert {Path(hit.path).name for hit in others} == {"b.jpg", "c.png"}
    assert len(collection.search(folder / "a.jpg", 5, unique=True)) == 5


def test_a_picture_whose_caption_is_unread_lets_no_unread_texts_in(tmp_path: Path, folder: Path) -> None:
    backend = FakeBackend(vocabulary=Vocabulary(["bright", "green"]))
    collection = Collection.create(tmp_path / "closed", backend=backend)
    photo(folder / "a.jpg", "red", "2024:06:01 12:00:00", "zażółć gęślą")
    (folder / "d.txt").write_text("bright green")
    fill(collection, folder)
    unread = [hit.is_unread for hit in collection.search(folder / "a.jpg", 9)]
    assert unread == sorted(unread)
    assert sum(unread) == 2


def test_a_thermal_picture_with_a_caption_stays_thermal(collection: Collection, tmp_path: Path) -> None:
    folder = tmp_path / "thermal"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x10E] = "bright"
    Image.new("L", (24, 16), 99).save(folder / "a.jpg", exif=exif)
    assert fill(collection, folder).items == {THERMAL: 1, TEXT: 1}
    assert fill(collection, folder).unchanged == 1
    query = collection.search(folder / "a.jpg", 1).query
    assert query is not None
    assert query.query.parts[0].modality == THERMAL


def test_facts_stay_with_files_that_are_touched_moved_or_copied(collection: Collection, folder: Path) -> None:
    (folder / "a.json").write_text('{"rating": 5, "camera": "mine"}')
    fill(collection, folder)
    os.utime(folder / "b.jpg", (1, 1))
    (folder / "a.jpg").rename(folder / "z.jpg")
    shutil.copy(folder / "b.jpg", folder / "copy.jpg")
    (folder / "b.json").write_text('{"title": "red"}')
    report = fill(collection, folder, prune=True)
    assert (report.moved, report.duplicates, sum(report.items.values())) == (1, 1, 2)
    assert rows(collection, "camera", "rating", "title", "description") == [
        ("b.jpg", "image", "Pixel 8", None, "red", "dark"),
        ("b.jpg", "text", "Pixel 8", None, "red", "dark"),
        ("c.png", "image", None, None, None, None),
        ("copy.jpg", "image", "Pixel 8", None, None, "dark"),
        ("copy.jpg", "text", "Pixel 8", None, None, "dark"),
        ("z.jpg", "image", "mine", 5, None, "bright green"),
        ("z.jpg", "text", "mine", 5, None, "bright green"),
    ]


def test_a_copy_has_none_of_its_sources_own_columns(collection: Collection, folder: Path) -> None:
    (folder / "b.json").write_text('{"camera": "mine", "title": "red"}')
    shutil.copy(folder / "b.jpg", folder / "copy.jpg")
    fill(collection, folder)
    shutil.copy(folder / "b.jpg", folder / "later.jpg")
    fill(collection, folder)
    found = {row[:3] for row in rows(collection, "camera", where="description = 'dark'")}
    assert {(name, camera) for name, _, camera in found} == {
        ("b.jpg", "mine"),
        ("copy.jpg", "Pixel 8"),
        ("later.jpg", "Pixel 8"),
    }


def test_an_empty_cell_replaces_nothing(collection: Collection, folder: Path) -> None:
    (folder / "metadata.csv").write_text("path,camera,year\na.jpg,,1999\nb.jpg,mine,\n")
    fill(collection, folder, captions=False)
    (folder / "metadata.csv").write_text("path,camera,year\na.jpg,,2001\nb.jpg,mine,\n")
    assert fill(collection, folder).described == 1
    assert rows(collection, "camera", "year", where="path not like '%c.png'") == [
        ("a.jpg", "image", "Pixel 8", 2001),
        ("b.jpg", "image", "mine", None),
    ]


def test_an_xmp_sidecar_is_followed(collection: Collection, folder: Path) -> None:
    sidecar = folder / "c.xmp"
    sidecar.write_text(SIDECAR.format(rating=3, words="bright green"))
    fill(collection, folder)
    of_c = functools.partial(rows, collection, "rating", "text", where="path like '%c.png'")
    assert of_c() == [("c.png", "image", 3, None), ("c.png", "text", 3, "bright green")]
    sidecar.write_text(SIDECAR.format(rating=5, words="bright green"))
    report = fill(collection, folder)
    assert (report.described, report.unchanged, sum(report.items.values())) == (1, 3, 0)
    assert of_c() == [("c.png", "image", 5, None), ("c.png", "text", 5, "bright green")]
    sidecar.write_text(SIDECAR.format(rating=5, words="dark"))
    report = fill(collection, folder)
    assert (report.changed, report.unchanged, report.items) == (1, 2, {IMAGE: 1, TEXT: 1})
    assert of_c() == [("c.png", "image", 5, None), ("c.png", "text", 5, "dark")]
    assert fill(collection, folder).unchanged == 3
    (folder / "c.json").write_text('{"description": "red"}')  # comes before it
    fill(collection, folder)
    assert fill(collection, folder).unchanged == 3
    assert [row[2] for row in rows(collection, "description", where="path like '%c.png'")] == ["red", "red"]


def test_facts_have_the_same_types_in_all_commits() -> None:
    tables = [
        table([{"path": "a", "taken_at": datetime(2024, 6, 1), "focal_mm": 50.0, "rating": 5}]),
        table([{"path": "b", "taken_at": None, "focal_mm": 35, "rating": "4"}]),
        table([{"path": "c", "taken_at": "2023-01-02", "focal_mm": "28.5"}]),
    ]
    schema = unify([table.schema for table in tables])
    types = [str(schema.field(name).type) for name in ("taken_at", "focal_mm", "rating")]
    assert types == ["timestamp[us]", "double", "int64"]
    free = table([{"path": "d", "taken_at": "in June", "rating": 4.5}, {"path": "e", "rating": 3}])
    assert [str(free.schema.field(name).type) for name in ("taken_at", "rating")] == ["string", "double"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("taken_at >= '2024-06-01' and camera like '%Pixel%'", ["a.jpg"]),
        ("year(taken_at) = 2023", ["b.jpg"]),
        ("description is null", ["c.png"]),
    ],
)
def test_filters(where: str, expected: list[str], collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    assert list(dict.fromkeys(name for name, _ in rows(collection, where=where))) == expected


def test_by_date(collection: Collection, folder: Path) -> None:
    fill(collection, folder, captions=False)

    def found(search: Callable[..., Any], **options: Any) -> list[str]:
        return [Path(hit.path).name for hit in search(folder / "b.jpg", 3, **options)]

    assert found(collection.search, sort="date") == ["a.jpg", "b.jpg", "c.png"]
    assert found(collection.search, sort="-date") == ["b.jpg", "a.jpg", "c.png"]
    assert collection.search(folder / "b.jpg", 3, sort="date")[1].rank == 1
    assert [name for name, _ in rows(collection, sort="-date")] == ["b.jpg", "a.jpg", "c.png"]
    assert [name for name, _ in rows(collection, sort="date", limit=1)] == ["a.jpg"]
    with pytest.raises(UsageError, match="sort"):
        collection.search("red", sort="size")
    collection.remove(where="taken_at is not null")
    collection.compact()
    assert [name for name, _ in rows(collection, sort="date")] == ["c.png"]


def test_words_of_facts_are_found_and_codes_are_not(collection: Collection, folder: Path) -> None:
    fill(collection, folder, captions=False)
    found = {Path(hit.path).name for hit in collection.search("pixel", match="words")}
    assert found == {"a.jpg", "b.jpg"}
    Image.new("RGB", (24, 16)).save(folder / "d.jpg", exif=_with_iso(1234))
    fill(collection, folder)
    assert list(collection.search("1234", match="words")) == []


def _with_iso(iso: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x128] = 2
    exif.get_ifd(0x8769)[0x8827] = iso
    return exif


def takeout(path: Path, description: str, seconds: int, latitude: float = 48.5) -> None:
    place = {"latitude": latitude, "longitude": 2.5 if latitude else 0.0, "altitude": 0.0}
    fields = {"title": path.name, "photoTakenTime": {"timestamp": str(seconds)}, "geoData": place}
    fields |= {
        "description": description,
        "people": [{"name": "Anna"}, {}],
        "url": "https://photos.example/1",
    }
    path.write_text(json.dumps(fields))


def test_takeout_says_what_its_file_does_not(collection: Collection, folder: Path) -> None:
    fill(collection, folder)
    takeout(folder / "a.jpg.json", "dark", 1_717_200_000)
    takeout(folder / "c.png.supplemental-metadata.json", "bright green", 1_717_200_000)
    report = fill(collection, folder)
    assert (report.described, report.changed, report.not_media, report.items) == (
        1,
        1,
        0,
        {IMAGE: 1, TEXT: 1},
    )
    columns = ("taken_at", "taken_zone", "latitude", "altitude_m", "description", "people", "title", "url")
    found = [row[2:] for row in rows(collection, *columns, where="path not like '%b.jpg'")]
    june = datetime(2024, 6, 1, 12)
    assert found == [
        (june, None, 48.5, None, "bright green", "Anna", None, None),
        (june, None, 48.5, None, "bright green", "Anna", None, None),
        (datetime(2024, 6, 1), "+00:00", 48.5, None, "bright green", "Anna", None, None),
        (datetime(2024, 6, 1), "+00:00", 48.5, None, "bright green", "Anna", None, None),
    ]
    assert fill(collection, folder).unchanged == 3


@pytest.mark.parametrize(
    ("name", "sidecar"),
    [
        ("x.png", "x.png.json"),
        ("x(1).png", "x.png(1).json"),
        ("x(1).png", "x.png.supplemental-metadata(1).json"),
        (f"{'x' * 30}.png", f"{'x' * 30}.png.supplemental-metadata.json"),
        (f"{'x' * 30}.png", f"{'x' * 30}.png.supplementa.json"),
        (f"{'x' * 47}.png", f"{'x' * 46}.json"),
    ],
)
def test_takeout_cuts_names(collection: Collection, tmp_path: Path, name: str, sidecar: str) -> None:
    folder = tmp_path / "takeout"
    folder.mkdir()
    Image.new("RGB", (24, 16), "lime").save(folder / name)
    takeout(folder / sidecar, "", 1_717_200_000, latitude=0.0)
    assert fill(collection, folder).not_media == 0
    assert rows(collection, "taken_zone", "latitude") == [(name, "image", "+00:00", None)]


def test_a_takeout_file_without_its_values_states_nothing(collection: Collection, folder: Path) -> None:
    (folder / "c.png.json").write_text('{"photoTakenTime": {}, "geoData": null, "people": null}')
    (folder / "a.jpg.json").write_text('{"photoTakenTime": {"timestamp": "x"}, "people": [1], "geoData": {}}')
    report = fill(collection, folder)
    assert (sum(report.new.values()), report.skipped) == (3, ())


def test_sidecars_are_not_counted_as_files_that_are_not_media(collection: Collection, folder: Path) -> None:
    (folder / "c.xmp").write_text(SIDECAR.format(rating=3, words="dark"))
    (folder / "c.json").write_text('{"place": "sea"}')
    (folder / "a.jpg.json").write_text('{"place": "sky"}')
    (folder / "a.json").write_text('{"place": "of another"}')
    (folder / "b.json").write_text("[1, 2]")
    for _ in range(2):
        assert fill(collection, folder).not_media == 2
    listed = collection.skipped(everything=True)["path"].to_pylist()
    assert listed == [str(folder / name) for name in ("a.json", "b.json")]
    assert {row[0]: row[2] for row in rows(collection, "place")} == {
        "a.jpg": "sky",
        "b.jpg": None,
        "c.png": "sea",
    }


def test_a_foreign_date_in_a_table_leaves_other_dates_alone(collection: Collection, folder: Path) -> None:
    (folder / "metadata.csv").write_text("path,taken_at\nc.png,1.7.1999\nb.jpg,2023-06-02T08:00:00Z\n")
    fill(collection, folder, captions=False)
    assert rows(collection, "taken_at", "taken_zone", "taken_at_") == [
        ("a.jpg", "image", datetime(2024, 6, 1, 12), None, None),
        ("b.jpg", "image", datetime(2023, 6, 2, 8), "+00:00", None),
        ("c.png", "image", None, None, "1.7.1999"),
    ]
    assert fill(collection, folder).unchanged == 3
