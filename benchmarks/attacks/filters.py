"""Filters: hostile `where` expressions end in time and memory, benign ones choose what DuckDB does."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.attacks.program import Hand, memory_of, offspring
from benchmarks.attacks.world import DIM, Backend, Wrong, tree
from benchmarks.command import Sampler
from xsearch.errors import BadFilter
from xsearch.store import Store

__all__ = ["Filters", "benign", "hostile"]

ITEMS = 20_000
SECONDS = 30.0  # a filter has 10 s; more for a process to start, on a machine that is shared
BYTES = 1_800 << 20  # a filter has 1 GB beside the items
PER_ROUND = 12


class Filters:
    """An expression gives the right ids, or BadFilter, and no file is read or written."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._hand, self._path, self._canary = hand, folder / "c", folder / "canary"
        self._canary.mkdir(parents=True)
        (self._canary / "secret.csv").write_text("secret\nxyzzy\n")
        hand(_fill, self._path, ITEMS * scale // 4)

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        tried, before = Counter[str](), tree(self._canary)
        for _ in range(PER_ROUND):
            is_benign = rng.random() < 0.6
            where = benign(rng) if is_benign else hostile(rng, self._canary)
            shown = (
                where if len(where) < 300 else f"{where[:200]} ... {where[-60:]} ({len(where):,} characters)"
            )
            start_s = time.monotonic()
            with _Peak(self._hand) as peak:
                got = self._hand(_select, self._path, where, limit_s=3 * SECONDS)
            seconds = time.monotonic() - start_s
            if seconds > SECONDS:
                raise Wrong(f"{seconds:.1f} s for {shown}")
            if peak.bytes > BYTES:
                raise Wrong(f"{peak.bytes >> 20} MB for {shown}")
            if isinstance(got, str) and (len(got) > 4_000 or "\n" in got or "xyzzy" in got):
                raise Wrong(f"message {got[:500]!r} for {shown}")
            if is_benign:
                expected = self._hand(_plain, self._path, where)
                if got != expected and not (isinstance(expected, str) and isinstance(got, str)):
                    raise Wrong(f"{str(got)[:300]} instead of {str(expected)[:300]} for {shown}")
            tried["benign" if is_benign else "hostile"] += 1
        if tree(self._canary) != before:
            raise Wrong("a filter has changed a file")
        return tried


class _Peak(Sampler):
    """The most bytes that the block makes a hand and its children take."""

    def __init__(self, hand: Hand) -> None:
        self._hand, self.bytes, self._before = hand, 0, 0
        if pid := hand.pid:
            Path(f"/proc/{pid}/clear_refs").write_text("5")  # the most of it begins anew
            self._before = memory_of(pid)

    def sample(self) -> None:
        if pid := self._hand.pid:
            most = max((memory_of(each) for each in offspring(pid)), default=0)
            self.bytes = max(self.bytes, memory_of(pid) - self._before if self._before else 0, most)


def _fill(path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    words = np.array(["sea", "dog", "street", "rain", "lamp", "O'Hara", "100%", "a_b", "ümlaut", "日本"])
    vectors = rng.normal(size=(count, DIM)).astype(np.float32)
    columns = {
        "path": [f"/media/{at % 97}/{words[at % 10]} {at}.png" for at in range(count)],
        "modality": rng.choice(["image", "text", "audio"], count),
        "bytes": rng.integers(0, 10**9, count),
        "duration_s": pa.array(rng.uniform(0, 99, count), mask=rng.random(count) < 0.3),
        "text": pa.array(
            [" ".join(row) for row in rng.choice(words, (count, 30))], mask=rng.random(count) < 0.2
        ),
        "year": pa.array(rng.integers(1990, 2030, count), mask=rng.random(count) < 0.1),
        "Shelf No": rng.choice(["a", "B", ""], count),
        "good": pa.array(rng.random(count) < 0.5, mask=rng.random(count) < 0.1),
        "when": pa.array(rng.integers(0, 2**51, count), pa.timestamp("us")),
    }
    store = Store.create(path, Backend.fingerprint)
    with store.writer() as writer:
        writer.add(pa.table(columns), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        writer.remove(range(0, count, 11))
        writer.commit()


def _select(path: Path, where: str) -> list[int] | str:
    try:
        return Store.open(path).snapshot().select(where, None).tolist()
    except BadFilter as error:
        return f"BadFilter: {error}"


def _plain(path: Path, where: str) -> list[int] | str:
    """The ids that DuckDB chooses from the table of all items."""
    import duckdb

    snapshot = Store.open(path).snapshot()
    with duckdb.connect(":memory:") as connection:
        connection.register("items", snapshot.items(snapshot.ids))
        try:
            rows = connection.execute(f"SELECT id FROM items WHERE (\n{where}\n) ORDER BY id").fetchall()
        except duckdb.Error as error:
            return str(error)
    return [id for (id,) in rows]


# ---------------------------------------------------------------- expressions

TEXTS = ("path", "modality", "text", '"Shelf No"', "lower(text)", "PATH", "items.text")
NUMBERS = ("id", "bytes", "duration_s", "year", "length(text)", "bytes / 1000", "year % 4", "abs(id - 500)")
STRINGS = ("'sea'", "'%dog%'", "'O''Hara%'", "'/media/3/%'", "''", "'100\\%'", "'日本'", "'image'", "'_ea%'")


LETTERS = "()[]{}'\",.;:*/-+=<>!|&%$#@?~^ \n\tax1é\0"
WORDS = (
    *("not", "(", ")", "id", "case", "when", "in", "between", "and", "is", "null", "like", "'a'", "1"),
    *("-", "::int", "[", "]", ",", "->", "=", "."),
)


def benign(rng: random.Random, depth: int = 3) -> str:
    """A condition such as people write."""
    if depth and rng.random() < 0.6:
        a, b = benign(rng, depth - 1), benign(rng, depth - 1)
        return rng.choice([f"({a}) AND {b}", f"{a} or ({b})", f"NOT ({a})", f"({a}) = ({b})",
                           f"CASE WHEN {a} THEN {b} ELSE false END", f"coalesce({a}, {b})"])  # fmt: skip
    text, string, number = rng.choice(TEXTS), rng.choice(STRINGS), rng.choice(NUMBERS)
    value = rng.choice(["0", "7", "1999", "-1.5", "5e8", "2_000", "0.5 * 30", "(1 + 2) * 3", "NULL", "1e400"])
    return rng.choice([
        f"{text} = {string}", f"{text} LIKE {string}", f"{text} not ilike {string}",
        f"{text} IN ({string}, 'rain', NULL)", f"contains({text}, {string})", f"{text} IS NOT NULL",
        f"regexp_matches({text}, 'd.g|^s[ea]+')", f"starts_with({text}, {string})",
        f"{text} || 'x' > {string}",
        f"{number} > {value}", f"{number} BETWEEN {value} AND 900000", f"{number} <> {rng.choice(NUMBERS)}",
        f"{number} IN (1, 2, {value})", f"round({number}, 1) <= {value}", f"{number}::varchar LIKE '1%'",
        "good", "NOT good", "good IS NULL", "\"when\" > '2005-01-01'", "year(\"when\") = 2010",
        "date_trunc('month', \"when\") >= DATE '2020-02-01'", "string_split(path, '/')[3] = '5'",
        "len(string_split(text, ' ')) > 10", "missing = 1", "text == 'a", f"{number} > ",
    ])  # fmt: skip


def _nested(open: str, inner: str, close: str, times: int) -> str:
    return open * times + inner + close * times


def hostile(rng: random.Random, canary: Path) -> str:
    """An expression that reads, writes, runs for ever, or takes all memory, if it can."""
    n = rng.choice([10, 100, 1_000, 5_000, 20_000, 90_000])
    k = rng.choice([5, 12, 25, 60])
    secret = canary / "secret.csv"
    forms: list[Callable[[], str]] = [
        lambda: ".".join(["text"] * n),
        lambda: "text" + ".x" * n,
        lambda: "." * n,
        lambda: _nested(rng.choice("([{"), "1", "", n),
        lambda: _nested("(", "id = 1", ")", n),
        lambda: _nested("[", "1", "]", n) + " IS NOT NULL",
        lambda: _nested("not ", "good", "", n),
        lambda: _nested("-", "id", "", n) + " > 0",
        lambda: _nested("- ", "id", "", n) + " > 0",
        lambda: _nested("abs(", "id", ")", n) + " > 0",
        lambda: "id = 1" + " or id = 1" * n,
        lambda: "id = 1" + " and id = 1 or id = 2" * n,
        lambda: "id" + " + 1" * n + " > 0",
        lambda: "text" + " || text" * n + " = ''",
        lambda: "id in (" + ",".join(map(str, range(n))) + ")",
        lambda: "id in (" + "id, " * n + "1)",
        lambda: _nested("id in (", "1", ")", min(n, 1_000)),
        lambda: _nested("case when good then ", "good", " else good end", min(n, 5_000)),
        lambda: "case id " + "when 1 then good " * n + "end",
        lambda: _nested("case id when 1 then good when ", "2", " then good end", min(n, 1_000)),
        lambda: "text" + "::varchar" * n + " = ''",
        lambda: "text" + "[1]" * n + " = ''",
        lambda: "text" + "[1:2]" * n + " = ''",
        lambda: "'" + "a" * n,
        lambda: '"' + "a" * n,
        lambda: "/*" * n,
        lambda: "$a$" * n,
        lambda: "1" * n + " > id",
        lambda: "1e" + "9" * min(n, 5_000) + " > id",
        lambda: "text like '" + "%a" * min(n, 5_000) + "'",
        lambda: f"regexp_matches(text, '({'a|' * min(n, 5_000)}b)*c')",
        lambda: f"regexp_matches(text, '(a{{1,{k * 10}}}){{1,{k * 10}}}')",
        lambda: f"regexp_matches(repeat(text, {n}), '(x+x+)+y')",
        lambda: f"regexp_replace(text, '.', '{'x' * 1_000}', 'g') = ''",
        lambda: f"length(repeat(text, {n * 1_000})) > 0",
        lambda: f"lpad(text, {n * 1_000}, 'x') = ''",
        lambda: f"printf('%{n * 1_000}s', text) = ''",
        lambda: f"format('{{:>{n * 1_000}}}', text) = ''",
        lambda: f"len(range({n * 10_000})) > 0",
        lambda: f"len(generate_series(1, {n * 10_000})) > 0",
        lambda: f"list_sum(list_transform(range({n * 1_000}), x -> x * x)) > 0",
        lambda: f"bitstring('1', {n * 10_000}) is null",
        lambda: _nested("concat(", "text", ", text, text)", k) + " = ''",
        lambda: "concat(" + ",".join(["text"] * n) + ") = ''",
        lambda: _double("text", "||", k) + " = ''",
        lambda: _double("string_split(text, ' ')", "||", min(k, 12)) + " is not null",
        lambda: _double("'" + "x" * 1_000 + "'", "||", min(k, 12)) + " = text",
        lambda: "len([" + ",".join(["text"] * n) + "]) > 0",
        lambda: "{'a': " * min(n, 1_000) + "1" + "}" * min(n, 1_000) + " is not null",
        lambda: "json_extract(text, '$" + "[0]" * n + "') = 1",
        lambda: "json('" + "[" * n + "') is not null",
        lambda: "strptime(text, '" + "%Y" * min(n, 5_000) + "') is null",
        lambda: "pow(" * min(n, 1_000) + "id" + ", 99)" * min(n, 1_000) + " > 0",
        lambda: "text collate " + "nocase." * n + "nocase = ''",
        lambda: f"text = (select content from read_text('{secret}'))",
        lambda: f"exists (from '{secret}')",
        lambda: f"exists (select * from read_csv('{secret}'))",
        lambda: f"id in (select 1 from glob('{canary}/*'))",
        lambda: "text = getenv('HOME')",
        lambda: "text = current_setting('secret_directory')",
        lambda: f"1); copy items to '{canary / 'out.csv'}'; select (1",
        lambda: f"1); attach '{canary / 'out.db'}'; select (1",
        lambda: "1); install httpfs; load httpfs; select (1",
        lambda: "1) union select id from items where (1",
        lambda: "1) or (select count(*) from items a, items b, items c, items d) > 0 or (1",
        lambda: "(select count(*) from items a, items b, items c) > 0",
        lambda: "exists (with recursive t(n) as (select 1 union all select n + 1 from t) select * from t)",
        lambda: "sum(id) over (order by text) > 0",
        lambda: "1 limit 1",
        lambda: "1 group by all",
        lambda: "columns(*) > 0",
        lambda: "query('select 1')",
        lambda: "nextval('a') > 0",
        lambda: "sleep_ms(60000) is null",
        lambda: "random() > 0.5 -- ",
        lambda: "".join(rng.choices(LETTERS, k=rng.choice([9, 99, 999]))),
        lambda: " ".join(rng.choices(WORDS, k=rng.choice([9, 99, 999]))),
    ]  # fmt: skip
    return rng.choice(forms)()


def _double(term: str, operator: str, times: int) -> str:
    """A term joined with itself, as often as its length allows: 2 ** times."""
    for _ in range(min(times, 11)):
        term = f"({term} {operator} {term})"
    return term
