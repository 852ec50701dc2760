"""`where` selects what Python would, and lets nothing else through."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import product
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from xsearch.errors import BadFilter
from xsearch.store import Snapshot, Store, filtering, filters, plain, sandbox
from xsearch.types import Fingerprint, Modality


@pytest.fixture(scope="module", autouse=True)
def _ended() -> Iterator[None]:
    yield
    filtering.end_processes()


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    store = Store.create(tmp_path_factory.mktemp("store"), Fingerprint("tiny", "d", "p", 4))
    with store.writer() as writer:
        for start in (0, 20):
            rows = range(start, start + 20)
            columns = {
                "path": [f"/m/Ünï {i}.jpg" for i in rows],
                "modality": ["image" if i % 2 else "text" for i in rows],
                "width": [i * 10 for i in rows],
            }
            if start:
                columns["Shot By"] = [["Ann", "Bob", None][i % 3] for i in rows]
            writer.add(pa.table(columns), np.eye(4, dtype=np.float32)[[i % 4 for i in rows]])
            writer.commit()
        writer.remove([3, 30])
        writer.commit()
    return store.snapshot()


LIVE = [i for i in range(40) if i not in (3, 30)]


@pytest.mark.parametrize(
    ("where", "keep"),
    [
        ("width >= 100 AND modality = 'image'", lambda i: i >= 10 and i % 2),
        ("WIDTH = 50 or items.width = 60", lambda i: i in (5, 6)),
        ("\"shot by\" = 'Ann'", lambda i: i >= 20 and i % 3 == 0),
        ('"Shot By" is null', lambda i: i < 20 or i % 3 == 2),
        ("path like '%Ünï 1%.jpg'", lambda i: str(i).startswith("1")),
        ("id in (1, 2, 3) -- not 4", lambda i: i in (1, 2)),
        ("case when id < 2 then true end", lambda i: i < 2),
        ("list_contains([7, 8], id)", lambda i: i in (7, 8)),
        ("list_has_any([id], [7, 8, 9])", lambda i: i in (7, 8, 9)),
        ("path ~ '.* [4-6]\\.jpg'", lambda i: i in (4, 5, 6)),
        ("path glob '*2?.jpg' and width is not null", lambda i: i // 10 == 2),
        ("lower(path) ilike '%ünï 7.%'", lambda i: i == 7),
        ("case id when 4 then true when 5 then 1 = 0 end", lambda i: i == 4),
        ("id between 5 and 8 and id not in (6, 7)", lambda i: i in (5, 8)),
        ("make_date(2000 + id, 1, 1) + interval 1 year > date '2038-06-01'", lambda i: i > 37),
        ("coalesce(width, 0) % 20 = 10 and abs(-id) <= 3 ** 2", lambda i: i % 2 and i <= 9),
        ("id in (" + ", ".join(map(str, range(5, 10_000))) + ")", lambda i: i >= 5),
        ("1 = 1", lambda i: True),
        ("null", lambda i: False),
        ("id = 5 /* ; drop table items */", lambda i: i == 5),
        ("path = '); drop table items; --'", lambda i: False),
    ],
)
def test_an_expression_selects(snapshot, where, keep):
    assert snapshot.select(where).tolist() == [i for i in LIVE if keep(i)]


def test_kinds_and_expression_together(snapshot):
    assert snapshot.select().tolist() == LIVE
    assert snapshot.select(None, [Modality.IMAGE]).tolist() == [i for i in LIVE if i % 2]
    assert snapshot.select("id > 30", [Modality.IMAGE, Modality.AUDIO]).tolist() == [31, 33, 35, 37, 39]
    assert snapshot.select("id > 30", []).tolist() == []


HOSTILE = [
    "",
    "   ",
    "-- nothing",
    "1=1; drop table items",
    "1=1; select 1",
    "1) union select 1 --",
    "1=1) union select id from items where (1=1",
    "1=1 union select 1",
    "true) or (true",
    "true) and id in (select 1",
    "true limit 1",
    "true) limit (1",
    "true order by 1",
    "true group by id",
    "true) group by (id",
    "true) having (true",
    "true) offset (3",
    "true) using sample (3",
    "true) qualify (row_number() over () = 1",
    "id in (select id from items)",
    "(select count(*) from items) > 0",
    "exists(from read_csv('/etc/passwd'))",
    "exists(from '/etc/passwd')",
    "(select content from read_text('/etc/passwd')) is not null",
    "exists(select * from glob('/*'))",
    "read_csv('/etc/passwd')",
    "read_text('/etc/passwd') is not null",
    "copy items to '/tmp/x'",
    "(copy items to '/tmp/x')",
    "attach '/tmp/x'",
    "set lock_configuration = false",
    "(set enable_external_access = true)",
    "load httpfs",
    "getenv('HOME') is not null",
    "columns(*) is not null",
    "row_number() over () = 1",
    "sum(id) > 1",
    "id = ?",
    "id = $1",
    "id = 1 from items",
    "/* open",
    "'open",
    "colour = 'red'",
    "id = 'x'",
    "path",
    "error('x')",
    "length(repeat('x', 100000000000)) > id",
    "\x00",
    "(" * 5000,  # the parser would take minutes
    # out of the data that it is given
    "exists(from duckdb_settings())",
    "(select count(*) from information_schema.tables) > 0",
    "exists(from sqlite_master)",
    "id = any(select id from items)",
    "exists(from 'http://127.0.0.1:PORT/x.csv')",
    "exists(from read_json('http://127.0.0.1:PORT/x.json'))",
    "read_blob('canary.txt') is not null",
    "(copy (select 1) to 'new.csv')",
    "1=1; copy (select 1) to 'new.csv'",
    "true) ; copy (select 1) to 'new.csv' --",
    "1=1; attach 'new.duckdb'",
    "1=1; export database 'new'",
    "1=1; install httpfs",
    "1=1; install httpfs from 'http://127.0.0.1:PORT'",
    "1=1; load 'canary.txt'",
    "pragma version",
    "1=1; pragma temp_directory='.'",
    "create table x as select 1",
    "1=1; create secret (type s3)",
    "call pragma_version()",
    "from items",
    "query('select 1')",
    "exists(from query('select 1'))",
    "exists(with recursive r as (select 1 union all select 1 from r) from r)",
    "current_setting('home_directory') is null",
    "getvariable('x') is null",
    "current_query() like '%'",
    "write_log('x') is null",
    "nextval('x') = 1",
    "setseed(0.5) is null",
    "random() < 2",
    "json_execute_serialized_sql('x') is null",
    "default",
    "columns('path') = 'x'",
    "unnest([1, 2]) = 1",
    # out of what is at hand: time and memory
    "len(range(1000000000000)) > id",
    "list_contains(range(10000000), id)",
    "list_contains(generate_series(1, 10000000), id)",
    "lpad(path, 1000000000, 'x') = path",
    "list_resize([id], 1000000000)[1] = 1",
    "format('{:1000000000d}', id) = path",
    "printf('%1000000000d', id) = path",
    "regexp_replace(path, '', repeat('x', 1000000000), 'g') = path",
    "[x for x in range(100000000)] is null",
    "len(list_transform([1], lambda x: [x, x])) = 1",
    "len(list_reduce(['a', 'b'], lambda x, y: x || x)) > id",
    "sleep_ms(100000) is null",
    "null::int[100000][100000] = [[id]]",
    "(" * 9 + "id" + " in (1, 2, 3))" * 9,  # the planner would take minutes
    "case " * 20 + "id" + " when 1 then 1 when 2 then 2 end" * 20 + " = 1",  # the parser too
    "nullif(" * 60 + "id" + ", 1)" * 60 + " = 1",  # and this
    "not " * 2000 + "true",
    "id" + " + id" * 2000 + " = 1",
    "[" * 150 + "id" + "]" * 150 + " = 1",
    "id = 1" + " or id = 1" * 20_000,
]


@pytest.fixture(scope="module")
def server() -> Iterator[socket.socket]:
    """Nobody is to connect to it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        yield listening


@pytest.mark.parametrize("where", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_refused_in_one_line(snapshot, where, server, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("canary.txt").write_text("sings")
    with pytest.raises(BadFilter) as refused:
        snapshot.select(where.replace("PORT", str(server.getsockname()[1])))
    message = str(refused.value)
    assert "\n" not in message
    assert "In Use" not in message
    assert "over the columns id, path, modality" in message
    assert "Shot By" in message
    assert len(message) < 800
    assert [path.name for path in tmp_path.iterdir()] == ["canary.txt"]
    assert Path("canary.txt").read_text() == "sings"
    with pytest.raises(BlockingIOError):
        server.accept()


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("modality = image", "no item has a column image; a text needs single quotes: 'image'; "),
        ("modalty = 'image'", "no item has a column modalty; did you mean modality?; "),
        (" ", "empty; "),
        ("path > 5", "Cannot compare values of type VARCHAR"),
    ],
)
def test_a_mistake_is_named_with_the_next_step(snapshot, where, problem):
    with pytest.raises(BadFilter) as refused:
        snapshot.select(where)
    assert str(refused.value).startswith(f"where {where!r}: {problem}")


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("id" + ".a" * 12_000 + " = 1", "more than 500 dots"),
        ("(" * 51 + "id = 1" + ")" * 51, "more than 50 nested brackets"),
        ("[({" * 17, "more than 50 nested brackets"),
        ("id = 1" + " " * 100_000, "more than 100,000 characters"),
        ("case " * 20 + "id" + " when 1 then 1 when 2 then 2 end" * 20 + " = 1", "too many CASE x WHEN"),
        ("path = e'\\'' or " + "(" * 51, "more than 50 nested brackets"),
        ("id = 1 /* ' */ or " + "(" * 51, "more than 50 nested brackets"),
        ("id = 1 -- '\n or " + "(" * 51, "more than 50 nested brackets"),
        ("id = 1 /*" + "/*" * 40 + "*/" * 41, "nested comments are not allowed"),
        ("path = $$'$$ or " + "(" * 40, "a text needs single quotes"),
        ("1" + ".a" * 501, "more than 500 dots"),
    ],
)
def test_what_takes_a_parser_long_is_refused_unread(where, problem):
    def nothing(names: Sequence[str]) -> pa.Table:
        raise AssertionError

    filtering.end_processes()
    with pytest.raises(BadFilter, match=problem):
        filters.evaluate(where, ["id"], nothing)
    assert not filtering.processes()


@pytest.mark.parametrize(
    ("where", "passes"),
    [
        ("path in (" + ", ".join(f"'photo ({i}).jpg'" for i in range(4000)) + ")", 4),
        ("path like '%((((%' or path like '%. . .%'", 0),
        ("lower(path) like '" + "(" * 1000 + "' or id = 3", 1),
        (" or ".join(f"id + 1 = {i}" for i in range(4000)), 5),
    ],
)
def test_constants_and_lists_are_not_counted(where, passes):
    items = pa.table({"id": range(5), "path": [f"photo ({i}).jpg" for i in range(4)] + [None]})
    assert filters.evaluate(where, items.column_names, items.select).sum() == passes


PARTS = ["", "a", "ab", "A", "é", "%", "a%b", "'"]
ITEMS = pa.table(
    {
        "id": pa.array(range(300)),
        "path": ["".join(pair) for pair in product(PARTS, repeat=2)][:60] * 5,
        "text": pa.array([None, "a", "b", "A", "é", "_", "a_b", "", "\U0001f600", "5"] * 30),
        "width": pa.array([None, 0, 1, -1, 5, 2**31 - 1, -(2**31), 10, 10, 7] * 30, pa.int32()),
        "big": pa.array([None, 0, 1, -1, 5, 2**63 - 1, -(2**63), 10**17, 10, 10] * 30, pa.int64()),
        "x": pa.array(
            [None, 0.0, -0.0, 0.1, float("nan"), float("inf"), -float("inf"), 1e-9, 5.0, -5.5] * 30
        ),
        "share": pa.array([None, 0.0, 0.1, float("nan"), 5.0] * 60, pa.float32()),
        "flag": pa.array([None, True, False] * 100),
        "taken_at": pa.array([None, *(datetime(2000, 1, day, day) for day in range(1, 10))] * 30),
        "Order": pa.array(["a", None, "b"] * 100),
        "nothing": pa.nulls(300, pa.string()),
    }
)
TEXTS = ["'a'", "'A'", "'é'", "''", "'a%b'", "''''", "'5'", "'_'"]
NUMBERS = [
    "0",
    "1",
    "-1",
    "5",
    "10",
    "2147483648",
    "9223372036854775808",
    "0.1",
    "-0.0",
    "-5.5",
    "1e-9",
    "007",
]
MOMENTS = ["'2000-01-05'", "'2000-01-05 05:00:00'", "'2000-02-30'", "'2000-01-05T05:00'", "'x'"]
CONSTANTS = {"path": TEXTS, "text": TEXTS, '"Order"': TEXTS, "nothing": TEXTS, "taken_at": MOMENTS}
CONSTANTS |= {"flag": ["true", "false"], **dict.fromkeys(["ID", "width", "big", "x", "share"], NUMBERS)}


def _condition(rng: random.Random, depth: int) -> str:
    if depth and (kind := rng.randrange(5)):
        first, second = (_condition(rng, depth - 1) for _ in range(2))
        return [f"{first} AND {second}", f"{first} or {second}", f"({first})", f"not {first}"][kind - 1]
    column, constants = rng.choice(list(CONSTANTS.items()))
    first, second, text = rng.choice(constants), rng.choice(constants), rng.choice(["path", "text"])
    operator, negated = rng.choice(["=", "<>", "!=", " <", "<=", " > ", ">="]), rng.choice(["", " not"])
    pattern = (
        rng.choice(["", "%", "%%"]) + rng.choice(["a", "A", "é", "", "a%b", "_"]) + rng.choice(["", "%"])
    )
    return rng.choice(
        [
            f"{column}{operator}{first}",
            f"{column}{negated} in ({first}, {second})",
            f"{column}{negated} between {first} and {second}",
            f"{column} is{negated} null",
            f"{text}{negated} like '{pattern}'",
            f"lower(path) {operator} {rng.choice(TEXTS)}",
        ]
    )


@pytest.mark.parametrize("seed", range(3))
def test_filters_answer_as_duckdb_whether_plain_or_not(seed):
    rng = random.Random(seed)
    plain_ones = 0
    connection = duckdb.connect()
    connection.register("items", ITEMS)
    for _ in range(150):
        where = _condition(rng, 3)
        try:
            expected = connection.execute(f"SELECT id FROM items WHERE ({where})").fetchnumpy()["id"]
        except duckdb.Error:
            with pytest.raises(BadFilter):
                filters.evaluate(where, ITEMS.column_names, ITEMS.select)
            continue
        actual = filters.evaluate(where, ITEMS.column_names, ITEMS.select)
        assert np.flatnonzero(actual).tolist() == sorted(expected.tolist()), where
        plain_ones += plain.passing(list(plain.tokens(where)), ITEMS.column_names, ITEMS.select) is not None
    assert plain_ones > 20


@pytest.mark.parametrize(
    "where",
    [
        "modality = 'image' and width >= 100",
        "not (\"Shot By\" is null or path like '%.jpg')",
        "id in (1, 2, 3) or duration_s between 2.5 and 10 -- seconds",
        "path like '%a%' or path like '%b%' or not path like '%jpg%'",
    ],
)
def test_plain_filters_need_no_process(snapshot, where):
    filtering.end_processes()
    snapshot.select(where)
    assert not filtering.processes()


@pytest.mark.parametrize("part", ["a", "ab", "é", "aba", "日a", "bbb", "absent", "aaaaaaaaaaaaaaaaaaaa"])
def test_a_part_is_found_as_python_finds_it(part):
    rng = random.Random(part)
    letters = ["a", "b", "é", "日", "", "%"]
    texts = [rng.choice([None, "".join(rng.choices(letters, k=rng.randrange(9)))]) for _ in range(9_000)]
    column = pa.chunked_array([texts[:5_000], texts[5_000:]], pa.string())
    items = pa.table({"id": np.arange(len(texts)), "text": column})
    for start in (0, 3, 4_998):

        def read(names: Sequence[str], start: int = start) -> pa.Table:
            return items.select(names).slice(start)

        for negated in ("", "not "):
            where = f"text {negated}like '%{part}%'"
            expected = [
                id
                for id, text in enumerate(texts)
                if id >= start and text is not None and (part in text) != bool(negated)
            ]
            found = plain.passing(list(plain.tokens(where)), items.column_names, read)
            assert found is not None
            assert (start + np.flatnonzero(found)).tolist() == expected


def test_only_the_columns_of_the_expression_are_read():
    items = pa.table({"id": [4, 5], "Year": [1, 2], "path": ["a", "b"], "width": [3, 4]})
    read: list[list[str]] = []

    def reader(names: Sequence[str]) -> pa.Table:
        read.append(list(names))
        return items.select(names)

    assert filters.evaluate(
        "YEAR = 2 and 'path' <> \"width\"::text", items.column_names, reader
    ).tolist() == [False, True]
    assert read == [["id", "Year", "width"]]
    with pytest.raises(BadFilter):
        filters.evaluate("year = 2 and random() < 1", items.column_names, reader)
    assert len(read) == 1


def test_the_functions_that_are_allowed_exist_and_are_only_functions_of_their_arguments():
    sql = "SELECT function_name, stability FROM duckdb_functions() WHERE function_type IN ('scalar', 'macro')"
    stability = dict(duckdb.connect().execute(sql).fetchall())
    assert set(stability) >= sandbox.FUNCTIONS
    assert "VOLATILE" not in {stability[name] for name in sandbox.FUNCTIONS}


def test_a_keyword_names_a_column_only_in_quotes():
    table = pa.table({"id": [1, 2], "when": ["a", "b"], "end": [1, 2], "year": [1, 2]})

    def chosen(where: str) -> list[int]:
        return table["id"].to_numpy()[filters.evaluate(where, table.column_names, table.select)].tolist()

    for keyword, value in (("when", "'b'"), ("end", "2")):
        with pytest.raises(BadFilter):
            chosen(f"{keyword} = {value}")
        assert chosen(f'"{keyword}" = {value}') == [2]
    assert chosen("year = 2") == [2]
