"""Filters through the public search: beside the same queries without one, by the share of items that pass.

    python -m benchmarks.filtered --folder DIR [--n 1000000] [--json out.json]

The collection, its index and its queries are those of `benchmarks.public`; items pass at random. First: of
texts of filters that were not used before, what a search takes longer than one without a filter, for one that
NumPy evaluates and for one that DuckDB does. Again: the same queries with and without the filter in turns,
when every vector that they read has been read before. recall@10: against a scan of what passes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from benchmarks import command
from benchmarks.public import ASKED_AS, scan_recall, tuned
from benchmarks.search import machine
from benchmarks.vectors import ASKING, SHELVES, Cones, Data, K, cones
from xsearch.collection import Collection
from xsearch.query import Query, vector
from xsearch.types import Rank

LIMITS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 900)  # of 1,000 shelves
FIRSTS, SINGLES, CHECKED = 9, 60, 50
PLAIN, OTHER = "shelf < {}", "shelf + 0 < {}"  # for NumPy, for DuckDB


def measure(collection: Collection, data: Data, limits: Sequence[int]) -> dict[str, Any]:
    asked = {
        asking: [vector(one, ASKED_AS[asking]) for one in data.queries[asking][:SINGLES]] for asking in ASKING
    }
    both, new = [query for pair in zip(*asked.values(), strict=True) for query in pair], count(1)
    for query in both:  # and with it all is loaded
        _ms(collection, query)
        _ms(collection, query, where=PLAIN.format(1))
    rows = []
    for limit in limits:
        alone = statistics.median(_ms(collection, query) for query in both)
        row: dict[str, Any] = {"share": limit / SHELVES}
        for name, text in (("numpy", PLAIN), ("duckdb", OTHER)):
            firsts = [
                _ms(collection, query, where=text.format(limit) + " " * next(new)) for query in both[:FIRSTS]
            ]
            row[f"first_{name}_ms"] = statistics.median(firsts) - alone
        for rank in Rank:
            options = {"where": PLAIN.format(limit), "rank": rank}
            row |= {f"{rank}_{name}": value for name, value in _again(collection, both, options).items()}
            row[f"{rank}_recall"] = min(
                _recall(collection, some[:CHECKED], options) for some in asked.values()
            )
        rows.append(row)
    plan = collection.view().index.plan  # type: ignore[union-attr]
    index = f"{plan.recipe}, nprobe {plan.nprobe}, refine {plan.refine}, growth {plan.growth:g}"
    return {"n": data.n, "dim": data.dim, "index": index, "rows": rows}


def _ms(collection: Collection, query: Query, **options: Any) -> float:
    start = time.perf_counter()
    list(collection.search(query, **options))  # as objects
    return 1000 * (time.perf_counter() - start)


def _again(collection: Collection, queries: Sequence[Query], options: dict[str, Any]) -> dict[str, float]:
    every = {"rank": options["rank"]}
    for query in queries:
        _ms(collection, query, **options)
        _ms(collection, query, **every)
    pairs = [(_ms(collection, query, **options), _ms(collection, query, **every)) for query in queries]
    filtered_ms, alone_ms = map(statistics.median, zip(*pairs, strict=True))
    return {"ms": filtered_ms, "alone_ms": alone_ms}


def _recall(collection: Collection, queries: Sequence[Query], options: dict[str, Any]) -> float:
    return scan_recall(collection, [collection.search(query, K, **options) for query in queries], **options)


def run(
    folder: Path,
    n: int,
    limits: Sequence[int] = LIMITS,
    *,
    dim: int = 1024,
    queries: int = 1_000,
    recipe: str | None = None,
) -> dict[str, Any]:
    data = cones(folder, Cones(n, dim, 128, 0, queries))
    collection = tuned(folder / f"public-{n}", data, recipe)
    return {"machine": machine(), **measure(collection, data, limits)}


def markdown(result: dict[str, Any]) -> str:
    header = (
        "pass,first: ms longer,by DuckDB,balanced: ms,without,ratio,recall,by cosine: ms,without,ratio,recall"
    )
    rows = [
        [
            f"{row['share']:.1%}",
            f"{row['first_numpy_ms']:.0f}",
            f"{row['first_duckdb_ms']:.0f}",
            *(
                cell
                for rank in Rank
                for cell in (
                    f"{row[f'{rank}_ms']:.2f}",
                    f"{row[f'{rank}_alone_ms']:.2f}",
                    f"**{row[f'{rank}_ms'] / row[f'{rank}_alone_ms']:.2f}**",
                    f"{row[f'{rank}_recall']:.3f}",
                )
            ),
        ]
        for row in result["rows"]
    ]
    about = f"{result['machine']}, 2 threads; {result['n']:,} x {result['dim']}, {result['index']}."
    return f"{about}\n\n{command.table(header.split(','), rows)}"


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="for vectors and collections")
    parser.add_argument("--n", type=int, default=1_000_000, help="items")
    arguments = parser.parse_args()
    command.report(run(arguments.folder, arguments.n), markdown, arguments.json)


if __name__ == "__main__":
    main()
