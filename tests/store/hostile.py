"""Filters that take as much time or memory as anybody can think of, drawn from a grammar."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["hostile"]

LONGEST = 99_000

# Start, then n of the second, then the third, then n of the fourth, and an end
CHAINS = [
    ("id", ".a", "", "", " = 1"),
    ("path", ".lower()", "", "", " = 'x'"),
    ("path", "[1]", "", "", " = 'x'"),
    ("path", "[1:2]", "", "", " = 'x'"),
    ("path", "::varchar::blob", "", "", " = 'x'"),
    ("null::int", "[]", "", "", " is null"),
    ("null::", "struct(a ", "int", ")", " is null"),
    ("path", " collate nocase", "", "", " = 'x'"),
    ("now()", " at time zone 'UTC'", "", "", " is null"),
    ("now()", " + interval 1 day", "", "", " is null"),
    ("id", " is null", "", "", ""),
    ("id", " is true", "", "", ""),
    ("id", " is distinct from 1", "", "", ""),
    ("id", " in (1)", "", "", ""),
    ("id", " between 1 and 2", "", "", ""),
    ("", "id between ", "1", " and 2", ""),
    ("path", " like 'x' escape '$'", "", "", ""),
    ("path", "||path", "", "", " = 'x'"),
    ("id", "+id", "", "", " = 1"),
    ("id", "**2", "", "", " = 1"),
    ("id", "!", "", "", " = 1"),
    ("", "- ", "id", "", " = 1"),
    ("", "~", "id", "", " = 1"),
    ("", "@", "id", "", " = 1"),
    ("", "not ", "id = 1", "", ""),
    ("id = 1", " or id = 1 and id < 3", "", "", ""),
    ("", "(id = 1 and (id = 2 or ", "id = 1", "))", ""),
    ("", "(", "id = 1", ")", ""),
    ("", "[", "id", "]", " is null"),
    ("", "{'a': ", "id", "}", " is null"),
    ("", "map {1: ", "id", "}", " is null"),
    ("", "row(", "id", ")", " is null"),
    ("", "array[", "id", "]", " is null"),
    ("", "cast(", "id", " as varchar)", " = '1'"),
    ("", "lower(", "path", ")", " = 'x'"),
    ("", "sha256(", "text", ")", " = 'x'"),
    ("", "substring(", "path", " from 1)", " = 'x'"),
    ("", "coalesce(", "id", ", 1)", " = 1"),
    ("", "nullif(", "id", ", 1)", " = 1"),
    ("", "if(", "id = 1", ", true, false)", ""),
    ("", "case when id = 1 then ", "true", " end", ""),
    ("", "case when id = 1 then true else ", "true", " end", ""),
    ("", "case ", "id", " when 1 then 1 when 2 then 2 end", " = 1"),
    ("case id ", "when 1 then true ", "", "", "end"),
    ("", "id in (", "1", ")", ""),
    ("", "lambda x: ", "x", "", ""),
    ("", "[x for x in ", "[1]", "]", " is null"),
    ("", "(select ", "1", ")", " = 1"),
    ("id = 1 ", "/*", "", "*/", ""),
    ("id = 1 ", "--\n", "", "", ""),
    ("path = '", "''", "", "", "'"),
    ("path = E'", "\\u0041", "", "", "'"),
    ("path = ", "$a$", "", "", ""),
    ("id = ", "1", "", "", ""),
    ("id = 0.", "1", "", "", ""),
    ("id = 1e", "9", "", "", ""),
    ("'", "9", "", "", "'::bignum % 7 = id"),
    ("json_extract(text, '$", ".a[0]", "", "", "') is null"),
    ("json_extract('", "[", "", "]", "', '$') is null"),
    ("regexp_matches(text, '", "(a|", "b", ")*", "')"),
    ("regexp_matches(text, '", "(a{1,100}", "b", "){1,9}", "c')"),
    ("regexp_matches(text, '", ".*", "", "", "x')"),
    ("text like '", "%a_", "", "", "%b'"),
    ("text ilike '", "%a", "", "", "b'"),
    ("text glob '", "*a?", "", "", "*b'"),
    ("text similar to '", "(a|a)*", "", "", "b'"),
    ("strptime(text, '", "%Y ", "", "", "') is null"),
    ("length(strftime(now()::timestamp, '", "%c", "", "", "')) < id"),
    ("id in (", "id + 1,", "1", "", ")"),
    ("list_value(", "text,", "text", "", ") is null"),
    ("length(concat(", "text,", "text", "", ")) < id"),
    ("sha256(concat(", "text,", "text", "", ")) = text"),
    ("list_sort(string_split(concat(", "text,", "text", "", "), '')) is null"),
    ("hash(struct_pack(a := concat(", "text,", "text", "", "))) = id"),
    ("len(list_distinct(str_split(concat(", "text,", "text", "", "), ''))) = id"),
    ("md5(reverse(strip_accents(nfc_normalize(concat(", "text,", "text", "", "))))) = text"),
    ("concat(", "id,", "id", "", ")::bignum % 7 = id"),
    ("[id", ",id", "", "", "] in (list_sort([id, 2]), [3])"),
    ("id = any([", "id,", "1", "", "])"),
    ("length(", "repeat(", "'x'", ", 100)", ") > id"),
    ("length(", "lpad(", "'x'", ", 100000000, 'ab')", ") > id"),
    ("length(", "replace(", "path", ", '', 'xxxxxxxx')", ") > id"),
    ("-- ", "\u202e\u0000é", "", "", ""),
    ("path = '", "\U0001f4a3\u0301", "", "", "'"),
    ('"', '""', "", "", '" = 1'),
    ("", "((([[[{'a':", "", "", ""),
    ("", "(", "", "", ""),
    ("", "case when ", "", "", ""),
    ("", "'", "", "", ""),
]
TEXTS = ["text", "path", "'aaaa'", "id::varchar"]
# Each takes texts and is one
GROWING = [
    "concat({0}, {1})",
    "({0} || {1} || {0})",
    "reverse({0})",
    "sha256({0})",
    "md5({0})",
    "upper({0})",
    "strip_accents({0})",
    "nfc_normalize({0})",
    "greatest({0}, {1})",
    "list_sort(string_split({0}, ''))::varchar",
    "list_distinct(string_split({0}, {1}))::varchar",
    "array_extract(string_split({0}, 'a'), 1)",
    "regexp_extract({0}, '(a*)*(.*)(.*)b|.*')",
    "regexp_extract({0}, {1})",
    "json_extract_string({{'a': {0}}}::json::varchar, '$.a')",
    "{{'a': {0}, 'b': [{1}, {0}]}}::varchar",
    "[{0}, {1}, {0}, {1}]::varchar",
    "(case when {0} < {1} then {0} else {1} end)",
    "substring({0}, 2)",
    "strftime(now()::timestamp, '%c%c%c%c') || {0}",
    "try_cast({0} as varchar[])::varchar",
    "('[' || {0} || ', 1]')::json::varchar",
    "json_keys({{'a': {0}}}::json)::varchar",
]
TESTS = [
    "{0} = {1}",
    "{0} like {1}",
    "{0} ilike '%' || {1} || '%_%a%a%a%b'",
    "{0} glob '*a*a*a*a*a*a*b'",
    "{0} similar to '(a|aa)*' || {1}",
    "regexp_matches({0}, {1})",
    "{0} between {1} and {0}",
    "{0} in ({1}, {0}, 'x')",
    "list_has_any(string_split({0}, ''), string_split({1}, ''))",
    "list_has_all(string_split({0}, ''), string_split({1}, ''))",
    "json_contains(json_extract({0}, '$'), {1})",
    "try_strptime({0}, ['%Y', {1}]) is null",
    "hash({0}, {1}) % 2 = 0",
    "try_cast({0} as bignum) = try_cast({1} as bignum)",
    "try_cast({0} as json) = try_cast({1} as json)",
    "position({0} in {1}) = 1",
]


def hostile(seed: int, count: int) -> Iterator[str]:
    """Yield `count` filters over the columns id, path and text; about half of them are chains."""
    rng = random.Random(seed)
    for number in range(count):
        yield _chain(rng, number) if number % 2 else _nested(rng)


def _chain(rng: random.Random, number: int) -> str:
    start, opening, middle, closing, end = CHAINS[number // 2 % len(CHAINS)]
    most = LONGEST // len(opening + closing)
    n = min(rng.choice([40, 200, 400, 3_000, most]), most)
    return start + opening * n + middle + closing * n + end


def _nested(rng: random.Random) -> str:
    texts = [*TEXTS]
    for _ in range(rng.randint(1, 40)):  # from what is short and what is already long
        pair = rng.choice(texts), rng.choice(texts[-3:])
        if len(grown := rng.choice(GROWING).format(*pair)) < LONGEST // 4:
            texts.append(grown)
    return rng.choice(TESTS).format(texts[-1], rng.choice(texts))
