"""Tables as programs and people write them."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from xsearch.errors import UsageError
from xsearch.metadata.table import Table, read_table

ROWS = [["path", "ort", "preis"], ["a.jpg", "München", "3,5"], ["b.jpg", 'Öd, "hier";\nund da', "-4"]]


def read(folder: Path, data: str | bytes, name: str = "metadata.csv") -> Table:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_table(path)


def cells(table: Table) -> dict[str, Sequence[Any]]:
    return {name: list(column) for name, column in zip(table.names, table.columns, strict=True)}


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("delimiter", [";", "\t", ","])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
@pytest.mark.parametrize("above", ["", "# exported today\n\n", "sep={}\n"])
def test_a_table_in_any_dialect(
    tmp_path: Path, line_end: str, delimiter: str, encoding: str, above: str
) -> None:
    with (tmp_path / "metadata.csv").open("w", encoding=encoding, newline="") as file:
        file.write(above.format(delimiter).replace("\n", line_end))
        csv.writer(file, delimiter=delimiter, lineterminator=line_end).writerows(ROWS)
    table = read_table(tmp_path / "metadata.csv")
    assert cells(table) == {name: [*values] for name, *values in zip(*ROWS, strict=True)}
    prices = [3.5, -4.0] if delimiter != "," else ["3,5", "-4"]
    assert cells(table.without(0)) == {"ort": ["München", ROWS[2][1]], "preis": prices}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("path,x,X,x\na,1,2,3\n", {"path": ["a"], "x": ["1"], "X_2": ["2"], "x_3": ["3"]}),
        (",path, x ,\n0,a,1,9\n", {"path": ["a"], "x": ["1"]}),
        ("path,x\na\n\n,,\nb,2\n", {"path": ["a", "b"], "x": [None, "2"]}),
        ('path, x\na, "1, 2"\n', {"path": ["a"], "x": ["1, 2"]}),
        ('path,x\na,5" wide\nb,"a ""b"" c" d\n', {"path": ["a", "b"], "x": ['5" wide', 'a "b" c d']}),
        ('path\tx\na\t"Hello, he said.\nb\tyes\n', {"path": ["a", "b"], "x": ['"Hello, he said.', "yes"]}),
        ("# made by us, today\n# path;x\na;1\n#b;2\n", {"path": ["a", "#b"], "x": ["1", "2"]}),
        ("// made by us\npath,x\na,1\n", {"path": ["a"], "x": ["1"]}),
        ("sep=;\npath\na,b.jpg\n", {"path": ["a,b.jpg"]}),
        ('"x\n(m)";path\n1;a\n', {"x\n(m)": ["1"], "path": ["a"]}),
        ("path,x\na,1\0\nb,2\n" + "\0" * 4096, {"path": ["a", "b"], "x": ["1 ", "2"]}),
        (f"path,x\na,{'q' * 200_000}\n", {"path": ["a"], "x": ["q" * 200_000]}),
        ("path,x", {"path": [], "x": []}),
    ],
)
def test_what_is_odd_in_a_table_costs_no_row(tmp_path: Path, data: str, expected: dict[str, Any]) -> None:
    assert cells(read(tmp_path, data)) == expected
    assert csv.field_size_limit() == 131_072  # as it was


def test_cells_beyond_the_header_are_counted(tmp_path: Path) -> None:
    assert read(tmp_path, "path,x\na,1,2\nb,1,,\nc,1,,3\n").ragged == 2


@pytest.mark.parametrize("form", ["lines", "list", "utf-8-sig"])
def test_objects_keep_their_types(tmp_path: Path, form: str) -> None:
    rows = [{"file_name": "ä.jpg", "n": 1, "tags": ["x"]}, {"file_name": "b.jpg", "n": None, "ok": True}]
    lines = "\n\n".join(json.dumps(row) for row in rows)
    text = json.dumps(rows, indent=1) if form == "list" else lines
    table = read(tmp_path, text.encode("utf-8" if form == "list" else "utf-8-sig"), "metadata.jsonl")
    assert cells(table) == {
        "file_name": ["ä.jpg", "b.jpg"],
        "n": [1, None],
        "tags": [["x"], None],
        "ok": [None, True],
    }


def test_parquet_keeps_its_types(tmp_path: Path) -> None:
    columns = {
        "file_name": ["a.jpg"],
        "when": pa.array([1_700_000_000_123_456_789], pa.timestamp("ns", "UTC")),
        "day": [dt.date(2024, 1, 2)],
        "price": [decimal.Decimal("1.50")],
        "place": [{"lat": 1.5}],
        "label": pa.array(["u"]).dictionary_encode(),
        "took": pa.array([1_500_000_000], pa.duration("ns")),
    }
    pq.write_table(pa.table(columns), tmp_path / "metadata.parquet")
    assert cells(read_table(tmp_path / "metadata.parquet")) == {
        "file_name": ["a.jpg"],
        "when": [dt.datetime(2023, 11, 14, 22, 13, 20, 123_456, dt.UTC)],
        "day": [dt.date(2024, 1, 2)],
        "price": [decimal.Decimal("1.50")],
        "place": [{"lat": 1.5}],
        "label": ["u"],
        "took": [dt.timedelta(seconds=1.5)],
    }


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("metadata.csv", "", "no column names files (path or file_name); it has no columns"),
        ("metadata.csv", "time,level\n1,2\n", "it has time, level"),
        ("metadata.csv", ",".join(["path", *map(str, range(1000))]), "over 1,000 columns"),
        ("metadata.csv", bytes(range(256)) * 9, "binary data"),
        ("labels.xlsx", b"PK\x03\x04" + bytes(999), "save it as CSV"),
        ("metadata.jsonl", '{"path": "a.jpg"}\n{"path": "b.', "line 2 cannot be read as JSON"),
        ("metadata.jsonl", "[" * 100_000, "line 1 cannot be read as JSON"),
        ("metadata.jsonl", "[1]", "expected a JSON object, got int"),
        ("metadata.jsonl", '{"images": []}', "it has images"),
        ("metadata.parquet", b"PAR1" + bytes(99), "cannot be read as Parquet"),
        ("metadata.parquet", b"", "no columns"),
    ],
)
def test_a_table_that_cannot_be_used_says_why(
    tmp_path: Path, name: str, data: str | bytes, reason: str
) -> None:
    with pytest.raises(UsageError) as problem:
        read(tmp_path, data, name)
    assert str(problem.value).startswith(f"{tmp_path / name}: ")
    assert reason in str(problem.value)


def test_a_huge_or_missing_table_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.csv").open("wb") as file:
        file.truncate((256 << 20) + 1)
    for name, reason in (("huge.csv", "over 256 MB"), ("gone.csv", "No such file"), (".", "Is a directory")):
        with pytest.raises(UsageError, match=reason):
            read_table(tmp_path / name)


LONG = "a" * 300_000


@pytest.mark.parametrize(
    ("name", "data", "setting", "value"),
    [
        ("a.csv", "path,x\n" + "a,1\n" * 60, "CELLS", 100),
        ("a.csv", "path" + ",x" * 9 + "\n" + "a\n" * 20, "CELLS", 100),  # short rows
        ("a.csv", "path,x\na" + "," * 200, "CELLS", 100),  # one long row
        ("a.csv", 'path,x\na,"' + "\n,,,,,," * 99, "CELLS", 100),  # rows of a quote that never ends
        ("a.jsonl", '{"path": "a", "x": 1}\n' * 60, "CELLS", 100),
        ("a.jsonl", "".join(f'{{"path": "a", "x{at}": 1}}\n' for at in range(20)), "CELLS", 100),
        ("a.jsonl", "{}\n" * 200, "CELLS", 100),
        ("a.json", "[" + "{}," * 200 + "{}]", "CELLS", 100),
        ("a.json", "[" + '"aaaaaaaaaaaaaaaaaaaaaaaaaaa",' * 10_000 + "1]", "TABLE_MB", 1),
        ("a.jsonl", '{"path": "' + LONG * 4 + '"}', "SIDECAR_MB", 1),
        ("a.csv", "path,x,y\n", "COLUMNS", 2),
    ],
)
def test_a_table_has_limits_that_have_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, data: str, setting: str, value: int
) -> None:
    monkeypatch.setenv(f"XSEARCH_MAX_{setting}", str(value))
    with pytest.raises(UsageError, match=f"over {value} .* or raise XSEARCH_MAX_{setting}"):
        read(tmp_path, data, name)


def test_a_parquet_table_is_counted_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XSEARCH_MAX_TABLE_MB", "1")
    for number, column in enumerate(
        (
            pa.array(["0" * 5_000_000]),
            pa.nulls(600_000, pa.int8()),
            pa.array([b"0" * 9999] * 500, pa.binary(9999)),
        )
    ):
        table = pa.table({"path": ["a"] * len(column), "x": column})
        pq.write_table(table, tmp_path / f"{number}.parquet", compression="zstd", use_dictionary=number != 0)
        assert (tmp_path / f"{number}.parquet").stat().st_size < 9_000
        with pytest.raises(UsageError, match="over 1 MB of metadata; split it or raise XSEARCH_MAX_TABLE_MB"):
            read_table(tmp_path / f"{number}.parquet")


def test_texts_that_repeat_are_stored_once(tmp_path: Path) -> None:
    table = pa.table({"path": ["a"] * 1000, "x": ["y" * 90_000] * 1000})  # 90 MB as texts
    pq.write_table(table, tmp_path / "a.parquet")
    del table
    before = pa.total_allocated_bytes()
    read_back = read_table(tmp_path / "a.parquet")
    assert pa.total_allocated_bytes() - before < 10_000_000
    assert read_back.columns[1][999] == "y" * 90_000


@pytest.mark.parametrize("at", ["header", "row"])
def test_cells_of_any_size_in_any_thread(tmp_path: Path, at: str) -> None:
    data = f"# {LONG}\npath,x\na,1\n" if at == "header" else f"path,x\na,{LONG}\n"
    (tmp_path / "a.csv").write_text(data)
    with ThreadPoolExecutor(4) as threads:
        for table in threads.map(read_table, [tmp_path / "a.csv"] * 20):
            assert cells(table) == {"path": ["a"], "x": ["1" if at == "header" else LONG]}
    assert csv.field_size_limit() == 131_072
