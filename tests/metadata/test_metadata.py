"""The user columns of files, and what is noted of tables and sidecars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from xsearch.errors import UsageError
from xsearch.metadata import Files, Metadata


def described(folder: Path, *names: str, requested: str | None = None) -> Metadata:
    """The metadata of files in a folder, of whose tables all are read."""
    tables = [path for path in folder.rglob("*.*") if path.stem == "metadata"]
    files = Files([str(folder / name) for name in names], [str(folder)])
    table = folder / requested if requested else None
    return Metadata(files, tables, table, shown=lambda path: str(path.relative_to(folder)))


def put(folder: Path, name: str, content: str | list[Any] | dict[str, Any]) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("file_name,label\na.jpg,1\n", {"label": 1}),
        ("File Name;label\na.jpg;1\n", {"label": 1}),
        ("file_name,path\nb.jpg,a.jpg\n", {"file_name": "b.jpg"}),
        ("path,file_name\nphotos,a.jpg\n", {"path_": "photos"}),
        ("FileName,SourceFile\na.jpg,sub/a.jpg\n", {}),
        ("SourceFile,FileName\n./a.jpg,a.jpg\n", {"filename": "a.jpg"}),
        ("image_file_name,label\na.jpg,1\n", {"label": 1}),
        ("image,label\na.jpg,1\n", {"label": 1}),
        ("image,url\na.jpg,https://host/x/a.jpg\n", {"url": "https://host/x/a.jpg"}),
        ("image,audio\na.jpg,the sea\n", {"audio": "the sea"}),
        ("path,image\nnowhere.jpg,a.jpg\n", {"path_": "nowhere.jpg"}),
    ],
)
def test_a_column_names_files(tmp_path: Path, table: str, expected: dict[str, Any]) -> None:
    put(tmp_path, "metadata.csv", table)
    assert described(tmp_path, "a.jpg", "b.jpg", "sub/a.jpg").of(tmp_path / "a.jpg") == expected


@pytest.mark.parametrize(
    ("table", "note"),
    [
        ("time\n1\n", "not used: metadata.csv: no column names files (path or file_name); it has time"),
        ("image,mask\na.jpg,1\n", None),
        (
            "image,mask_path\na.jpg,b.jpg\n",
            "not used: metadata.csv: columns image and mask_path name files; "
            "call the one that is described path",
        ),
        ("path,x\nx.jpg,1\na.jpg,2\ny.jpg,3\n", "2 of 3 rows of metadata.csv match no file, such as 'x.jpg'"),
        ("path,x\na.jpg,2\n,3\n", "1 of 2 rows of metadata.csv matches no file"),
        (
            "path,x\nx.jpg,1\ny.jpg,3\n",
            "0 of 2 rows of metadata.csv match a file, such as 'x.jpg'; "
            "names are relative to the table's folder",
        ),
        ("path,x\na.jpg,1,2\n", "1 of 1 row of metadata.csv has more cells than names, which are left out"),
        (f"path,x\na.jpg,{'q' * 5000}\n", "x of 1 row of metadata.csv left out: over 4,096 bytes"),
    ],
)
def test_what_a_table_beside_the_media_leaves_open_is_noted(
    tmp_path: Path, table: str, note: str | None
) -> None:
    put(tmp_path, "metadata.csv", table)
    metadata = described(tmp_path, "a.jpg", "b.jpg")
    for name in ("a.jpg", "b.jpg"):
        metadata.of(tmp_path / name)
    assert metadata.notes() == ((note,) if note else ())


@pytest.mark.parametrize("table", ["time\n1\n", "image,mask_path\na.jpg,b.jpg\n", "path\0\1"])
def test_a_requested_table_has_to_be_right(tmp_path: Path, table: str) -> None:
    put(tmp_path, "metadata.csv", table)
    with pytest.raises(UsageError, match=r"metadata\.csv: "):
        described(tmp_path, "a.jpg", "b.jpg", requested="metadata.csv")
    assert not described(tmp_path, "a.jpg", "b.jpg").used


def test_inner_tables_and_the_requested_one_add_columns_and_override(tmp_path: Path) -> None:
    put(tmp_path, "metadata.csv", "path,by,place,year\nsub/a.jpg,outer,sea,1\na.jpg,outer,sky,2\n")
    put(tmp_path, "sub/metadata.jsonl", {"file_name": "a.jpg", "by": "inner", "place": None})
    put(tmp_path, "labels.tsv", "file\tlabel\nsub/a.jpg\tdog\ngone.jpg\tcat\n")
    put(tmp_path, "sub/a.json", {"year": 3})
    metadata = described(tmp_path, "a.jpg", "sub/a.jpg", requested="labels.tsv")
    columns = {"by": "inner", "place": "sea", "year": 3, "label": "dog"}
    assert metadata.of(tmp_path / "sub" / "a.jpg") == columns
    assert metadata.of(tmp_path / "a.jpg") == {"by": "outer", "place": "sky", "year": 2}
    assert metadata.notes() == ("1 of 2 rows of labels.tsv matches no file, such as 'gone.jpg'",)
    assert metadata.used == {
        str(tmp_path / name) for name in ("metadata.csv", "sub/metadata.jsonl", "labels.tsv")
    }


def test_many_foreign_tables_are_few_notes(tmp_path: Path) -> None:
    for number in range(100):
        put(tmp_path, f"{number}/metadata.csv", "version,device\n3,x\n")
    *notes, last = described(tmp_path, "a.jpg").notes()
    assert len(notes) == 5
    assert last == "and 95 more notes on metadata tables"


def test_large_fields_of_sidecars_are_left_out_with_one_note(tmp_path: Path) -> None:
    for number in range(12):
        fields = {"label": number, "imageData": "q" * 100_000, "shapes": [[0.5, 0.5]] * 999 * (number == 3)}
        put(tmp_path, f"{number}.json", fields)
    names = [f"{number}.{end}" for number in range(12) for end in ("jpg", "wav")]
    metadata = described(tmp_path, *names)
    assert [metadata.of(tmp_path / name)["label"] for name in names[::2]] == [*range(12)]
    assert metadata.of(tmp_path / "4.jpg") == {"label": 4, "shapes": "[]"}
    assert metadata.of(tmp_path / "4.wav") == {"label": 4, "shapes": "[]"}
    (note,) = metadata.notes()
    assert note == "imageData of 13 sidecars, shapes of 1 sidecar left out: over 4,096 bytes"


def test_json_of_other_programs_is_no_sidecar(tmp_path: Path) -> None:
    put(tmp_path, "a.json", [{"SourceFile": "a.jpg", "ISO": 100, "größe": "ü"}])  # as ExifTool writes
    put(tmp_path, "b.json", [1, 2])
    put(tmp_path, "c.json", [])
    put(tmp_path, "d.json", '{"a": 1}\n{"a": 2}\n')
    (tmp_path / "g.json").write_bytes('{"ort": "München"}'.encode("cp1252"))
    metadata = described(tmp_path)
    columns = [metadata.of(tmp_path / f"{name}.jpg") for name in "abcdg"]
    assert columns[0] == {"sourcefile": "a.jpg", "iso": 100, "größe": "ü"}
    assert columns[1:4] == [{}] * 3
    assert columns[4] == {"ort": "München"}
    assert metadata.notes() == (
        "2 sidecars not used (expected a JSON object, got list), such as b.json",
        "1 sidecar not used (several JSON values), such as d.json",
    )
    put(tmp_path, "h.json", '{"a": ')
    with pytest.raises(UsageError, match=r"h\.json: cannot be read as JSON"):
        metadata.of(tmp_path / "h.jpg")


def test_a_sidecar_that_is_too_large_names_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "a.json", {str(number): number for number in range(101)})
    with (tmp_path / "b.json").open("wb") as file:
        file.truncate((16 << 20) + 1)
    metadata = described(tmp_path)
    for name, reason in (
        ("a", "over 100 columns; keep those that describe the file or raise XSEARCH_MAX_SIDECAR_COLUMNS"),
        ("b", "over 16 MB; keep what describes the file or raise XSEARCH_MAX_SIDECAR_MB"),
    ):
        with pytest.raises(UsageError) as problem:
            metadata.of(tmp_path / f"{name}.jpg")
        assert str(problem.value) == f"{tmp_path / name}.json: too large: {reason}"
    monkeypatch.setenv("XSEARCH_MAX_SIDECAR_COLUMNS", "101")
    assert len(metadata.of(tmp_path / "a.jpg")) == 101


def test_notes_are_printable(tmp_path: Path) -> None:
    put(tmp_path, "metadata.csv", "time\x1b[31m\n1\n")
    put(tmp_path, "a.json", {"\x1b\ud800": "q" * 5000})
    metadata = described(tmp_path)
    metadata.of(tmp_path / "a.jpg")
    assert len(metadata.notes()) == 2
    assert all(note.isprintable() for note in metadata.notes())


def test_values_that_are_not_of_the_type_of_a_fact_leave_the_fact_alone(tmp_path: Path) -> None:
    put(tmp_path, "metadata.csv", "path,Taken_at,rating\na.jpg,1.7.1999,good\nb.jpg,2024:06:01,4\n")
    stated = {"taken_at": "2024-06-01T12:00:00.5+0200", "iso": "100", "track": "A song", "fps": None}
    put(tmp_path, "c.json", stated)
    metadata = described(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    assert metadata.of(tmp_path / "a.jpg") == {"taken_at_": "1.7.1999", "rating_": "good"}
    assert metadata.of(tmp_path / "b.jpg") == {"taken_at": "2024-06-01 00:00:00", "rating": "4"}
    assert metadata.of(tmp_path / "c.jpg") == {
        "taken_at": "2024-06-01 12:00:00.500000",
        "taken_zone": "+02:00",
        "iso": "100",
        "track_": "A song",
        "fps": None,
    }
