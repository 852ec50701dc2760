"""`where` selects what Python would, and lets nothing else through."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from xsearch.errors import BadFilter
from xsearch.store import Snapshot, Store
from xsearch.types import Modality, ModelStamp


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    store = Store.create(tmp_path_factory.mktemp("store"), ModelStamp("tiny", "d", "p", 4))
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
        ("len(list_filter([1, 2], lambda x: x > id)) = 2", lambda i: i == 0),
        ("1 = 1", lambda i: True),
        ("null", lambda i: False),
        ("id = 5 /* ; drop table items */", lambda i: i == 5),
        ("path = '); drop table items; --'", lambda i: False),
    ],
)
def test_an_expression_selects(seen, where, keep):
    assert seen.select(where).tolist() == [i for i in LIVE if keep(i)]


def test_kinds_and_expression_together(seen):
    assert seen.select().tolist() == LIVE
    assert seen.select(None, [Modality.IMAGE]).tolist() == [i for i in LIVE if i % 2]
    assert seen.select("id > 30", [Modality.IMAGE, Modality.AUDIO]).tolist() == [31, 33, 35, 37, 39]
    assert seen.select("id > 30", []).tolist() == []


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
]


@pytest.mark.parametrize("where", HOSTILE, ids=range(len(HOSTILE)))
def test_anything_else_is_refused_in_one_line(seen, where, tmp_path: Path):
    with pytest.raises(BadFilter) as refused:
        seen.select(where)
    message = str(refused.value)
    assert "\n" not in message
    assert "In Use" not in message
    assert "over the columns id, path, modality" in message
    assert "Shot By" in message
