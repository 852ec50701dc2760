"""Keyword and vector together: what words find that vectors miss, what they cost, and how they are split.

    python -m benchmarks.words FOLDER       # FOLDER/media/notes and FOLDER/labels.csv; 3 minutes on 2 cores
    python -m benchmarks.words FOLDER --sizes 20000 200000 --json out.json

`words.csv` has 60 queries for the notes: 30 with exact words of a note and 30 paraphrases, and the files that
are right. A file counts by its first window. `mixed` searches the whole folder for concepts ("a dog") and
captions, to see whether words displace pictures; `scripts` compares ways to split scripts without spaces.
"""

from __future__ import annotations

import csv
import json
import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import xsearch
from benchmarks import command
from benchmarks.labelled import Corpus, ndcg, precision
from xsearch.errors import UnknownWords
from xsearch.query import Embedded, Hits, View, search, text
from xsearch.query.fusion import DEPTH, ENOUGH, fuse
from xsearch.store import Snapshot, Store
from xsearch.system.durable import digest
from xsearch.types import Fingerprint, Match
from xsearch.words import Matches, WordIndex, WordReader
from xsearch.words.tokens import normalised

QUERIES = Path(__file__).with_name("words.csv")
SCRIPTS = Path(__file__).with_name("scripts.json")
DIM = 8  # of the vectors beside timed words
NOTE_WORDS = 60  # of a timed note: a window of text
COMMON, CAPTIONS, SENTENCE = 60, 80, 5  # queries of each kind, and the words of a caption at least
MIXED = ("ndcg_at_10", "p_at_5", "worthless_texts")
VOCABULARY, FUNCTION_WORDS = 30_000, 100  # of made-up notes; the most frequent ones are not searched for


def gates() -> dict[str, Callable[[Matches], np.ndarray]]:
    """Ways to choose the matches that enter the fusion: which of them, bool [n]."""

    def all_words(matches: Matches) -> np.ndarray:
        return matches.shares == 1

    def else_above(share: float) -> Callable[[Matches], np.ndarray]:
        return lambda matches: all_words(matches) if all_words(matches).any() else matches.shares > share

    return {
        "all words": all_words,
        "all words, else most": else_above(1 / 2),
        "all words, else a third (the program's)": else_above(ENOUGH),
        "plain OR": lambda matches: matches.shares > 0,
    }


def every(ids: np.ndarray) -> np.ndarray:
    return np.ones(len(ids), bool)


class Ways:
    """Orders of the items of one collection for a text: ids, best first."""

    def __init__(self, collection: xsearch.Collection) -> None:
        self.collection = collection
        self.index = collection.view().words(required=True)

    def __call__(self, query: str) -> dict[str, np.ndarray]:
        assert self.index is not None
        orders = {str(match): self._ids(query, match) for match in Match}
        matches = self.index.search(query, every)
        for name, gate in gates().items():
            entering = matches[np.flatnonzero(gate(matches))][:DEPTH]
            orders[f"both: {name}"] = fuse([entering.ids, orders["meaning"]])[0]
        bm25 = matches[np.argsort(-matches.bm25, kind="stable")][:DEPTH]
        orders["words: plain OR"] = bm25.ids
        return orders

    def _ids(self, query: str, match: Match) -> np.ndarray:
        """A query that is refused has no answer."""
        try:
            hits = self.collection.search(text(query), DEPTH, match=match)
        except UnknownWords:
            hits = Hits()
        return np.array([hit.id for hit in hits], np.int64)


def find(notes: Path, model: str | None) -> list[dict[str, Any]]:
    """hit@1, hit@5 and MRR of the right files, for each way and kind of query."""
    with QUERIES.open(newline="", encoding="utf-8") as table:
        queries = list(csv.DictReader(table))
    with tempfile.TemporaryDirectory() as scratch:
        collection = xsearch.open(Path(scratch) / "c", model, create=True)
        collection.ingest(notes)
        names = [Path(path).name for path in collection.items(columns=["path"])["path"].to_pylist()]
        by_id = dict(zip(collection.snapshot().ids.tolist(), names, strict=True))
        ways = Ways(collection)
        ranks: dict[tuple[str, str], list[float]] = {}
        for query in queries:
            right = set(query["files"].split("|"))
            for way, ids in ways(query["query"]).items():
                files = list(dict.fromkeys(by_id[id] for id in ids.tolist()))
                rank = next((at for at, name in enumerate(files, start=1) if name in right), math.inf)
                for kind in (query["kind"], "all"):
                    ranks.setdefault((way, kind), []).append(rank)
    return [
        {
            "way": way,
            "queries": kind,
            "hit_at_1": statistics.mean(rank <= 1 for rank in ranks[way, kind]),
            "hit_at_5": statistics.mean(rank <= 5 for rank in ranks[way, kind]),
            "mrr": statistics.mean(1 / rank for rank in ranks[way, kind]),
        }
        for way, kind in ranks
    ]


def mixed(folder: Path, model: str | None) -> list[dict[str, Any]]:
    """nDCG@10, P@5 and the share of worthless texts among ten, over all kinds of media, for each way.

    The queries are the most frequent concepts, and captions of pictures: what they show is worth something.
    """
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Corpus.ingest(folder, Path(scratch) / "c", model)
        ways, is_text = (
            Ways(corpus.collection),
            np.array([label.modality == "text" for label in corpus.shown]),
        )
        figures: dict[tuple[str, str], list[tuple[float, float, float]]] = {}
        for asked, queries in _asked(folder, corpus).items():
            for query, concepts in queries:
                worth = corpus.worth(concepts)
                for way, ids in ways(query).items():
                    rows = np.searchsorted(corpus.ids, ids)
                    first = rows[:10]
                    worthless = float((is_text[first] & (worth[first] == 0)).mean()) if len(first) else 0.0
                    measured = (ndcg(rows, worth), precision(rows, worth), worthless)
                    figures.setdefault((way, asked), []).append(measured)
    found = []
    for (way, asked), each in figures.items():
        mean = np.nanmean(each, axis=0).tolist()
        found.append({"way": way, "queries": asked} | dict(zip(MIXED, mean, strict=True)))
    return found


def _asked(folder: Path, corpus: Corpus) -> dict[str, list[tuple[str, list[str]]]]:
    """Queries of each kind, and the concepts that answer them."""
    counts: dict[str, int] = {}
    for label in corpus.files():
        for concept in label.concepts:
            counts[concept] = counts.get(concept, 0) + 1
    concepts = sorted(counts, key=lambda name: (-counts[name], name))[:COMMON]
    with (folder / "labels.csv").open(newline="", encoding="utf-8") as table:
        rows = [row for row in csv.DictReader(table) if row["modality"] == "image"]
    captions = [row for row in rows if len(row["caption"].split()) >= SENTENCE]
    drawn = np.random.default_rng(0).permutation(len(captions))[:CAPTIONS].tolist()
    shown = [(captions[at]["caption"], captions[at]["concepts_all"].split("|")) for at in drawn]
    return {"concepts": [(f"a {concept}", [concept]) for concept in concepts], "captions": shown}


def scripts() -> list[dict[str, Any]]:
    """hit@1 and MRR on the sets of SCRIPTS: tokens of one grapheme, and FTS5's trigrams."""
    rows = []
    for script, content in json.loads(SCRIPTS.read_text(encoding="utf-8")).items():
        notes, queries = content["notes"], content["queries"]
        for way, ask in (("graphemes", _graphemes(notes)), ("trigrams", _trigrams(notes))):
            ranks = []
            for query, right in queries.items():
                found = ask(query)
                ranks.append(1 + found.index(right) if right in found else math.inf)
            rows.append(
                {
                    "script": script,
                    "way": way,
                    "queries": len(queries),
                    "hit_at_1": statistics.mean(rank <= 1 for rank in ranks),
                    "mrr": statistics.mean(1 / rank for rank in ranks),
                }
            )
    return rows


def _graphemes(notes: Sequence[str]) -> Callable[[str], list[int]]:
    index = WordIndex.empty()
    index.add(np.arange(len(notes)), list(map(normalised, notes)))
    return lambda query: index.search(query, every).ids.tolist()


def _trigrams(notes: Sequence[str]) -> Callable[[str], list[int]]:
    """FTS5's own tokenizer for such scripts, queried like ours: notes with all trigrams, then with some."""
    table = sqlite3.connect(":memory:")
    table.execute("CREATE VIRTUAL TABLE notes USING fts5(text, tokenize='trigram')")
    table.executemany("INSERT INTO notes(rowid, text) VALUES (?, ?)", enumerate(notes))

    def ask(query: str) -> list[int]:
        pieces = [f'"{word[i : i + 3]}"' for word in query.split() for i in range(max(len(word) - 2, 1))]
        sql = "SELECT rowid FROM notes WHERE notes MATCH ? ORDER BY rank, rowid"
        orders = [table.execute(sql, (f" {how} ".join(pieces),)).fetchall() for how in ("AND", "OR")]
        return list(dict.fromkeys(id for order in orders for (id,) in order))

    return ask


def made_up(count: int, seed: int = 0) -> list[str]:
    """Notes of NOTE_WORDS words each, drawn by Zipf's law."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(1, VOCABULARY + 1)
    drawn = rng.choice(VOCABULARY, (count, NOTE_WORDS), p=chance / chance.sum())
    return [" ".join(f"word{rank}" for rank in row) for row in drawn.tolist()]


def timed(count: int, queries: int = 40) -> dict[str, Any]:
    """What an index of so many made-up notes costs: to write, to update by 100, to open, and to ask."""
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as scratch:
        store = Store.create(Path(scratch) / "c", Fingerprint("none", "0", "1", DIM))
        snapshot = _added(store, made_up(count))
        first, second = Path(scratch) / "1.sqlite", Path(scratch) / "2.sqlite"
        row: dict[str, Any] = {"notes": count, "write_s": _seconds(lambda: WordIndex.write(first, snapshot))}
        row["bytes"] = first.stat().st_size
        more = _added(store, made_up(100, seed=2))
        sha256 = digest(first)
        row["update_s"] = _seconds(lambda: WordIndex.write(second, more, WordIndex.open(first, sha256)))
        index = WordIndex.open(second, digest(second))
        row["verify_s"] = _seconds(index.verify)
        view = View(more, None, WordReader(index))
        for words in (1, 3):
            texts = [_content(note, words, rng) for note in made_up(queries, seed=3)]
            embedded = [_embedded(words, rng) for words in texts]
            row[f"words_{words}_p50_ms"] = _p50([partial(index.search, words, every, 10) for words in texts])
            for match in (Match.MEANING, Match.BOTH):
                asked = [partial(search, view, query, match=match) for query in embedded]
                row[f"{match}_{words}_p50_ms"] = _p50(asked)
    return row


def _added(store: Store, notes: Sequence[str]) -> Snapshot:
    vectors = np.random.default_rng(0).standard_normal((len(notes), DIM)).astype(np.float32)
    items = {
        "path": [f"{i}.txt" for i in range(len(notes))],
        "modality": ["text"] * len(notes),
        "text": notes,
    }
    with store.writer() as writer:
        writer.add(pa.table(items), vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        writer.commit()
        return writer.snapshot


def _content(note: str, count: int, rng: np.random.Generator) -> str:
    """Words of a note that are not among the FUNCTION_WORDS most frequent ones."""
    words = {word for word in note.split() if int(word.removeprefix("word")) >= FUNCTION_WORDS}
    return " ".join(rng.choice(sorted(words), count, replace=False))


def _embedded(words: str, rng: np.random.Generator) -> Embedded:
    vector = rng.standard_normal(DIM).astype(np.float32)
    vector /= np.linalg.norm(vector)
    return Embedded(text(words), vector, vector[None], 1.0)


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _p50(work: Sequence[Callable[[], object]]) -> float:
    for call in work[:3]:
        call()
    return 1e3 * statistics.median(map(_seconds, work))


def ingest(count: int, model: str | None) -> dict[str, Any]:
    """Seconds of an ingest of so many made-up notes, and of those the ones for words."""
    with tempfile.TemporaryDirectory() as scratch:
        media = Path(scratch) / "media"
        media.mkdir()
        for at, note in enumerate(made_up(count)):
            (media / f"{at}.txt").write_text(note)
        collection = xsearch.open(Path(scratch) / "c", model, create=True)
        total = _seconds(lambda: collection.ingest(media))
        again = Path(scratch) / "words.sqlite"
        words = _seconds(lambda: WordIndex.write(again, collection.snapshot()))
        return {"notes": count, "ingest_s": total, "words_s": words, "share": words / total}


def run(folder: Path, model: str | None, sizes: Sequence[int], notes: int) -> dict[str, Any]:
    return {
        "notes": find(folder / "media" / "notes", model),
        "mixed": mixed(folder, model),
        "scripts": scripts(),
        "timed": [timed(size) for size in sizes],
        "ingest": ingest(notes, model),
    }


def markdown(result: dict[str, Any]) -> str:
    kinds = ("exact", "paraphrase", "all")
    found = {(row["way"], row["queries"]): row for row in result["notes"]}
    mixed = {(row["way"], row["queries"]): row for row in result["mixed"]}
    asked = ("concepts", "captions")
    header = ["way", *(f"{kind}: hit@1; @5; MRR" for kind in kinds)]
    header += [f"{kind}: nDCG@10; P@5; worthless texts" for kind in asked]
    rows = []
    for way in dict.fromkeys(way for way, _ in mixed):
        of = [found[way, kind] for kind in kinds]
        cells = [f"{row['hit_at_1']:.2f}; {row['hit_at_5']:.2f}; {row['mrr']:.2f}" for row in of]
        cells += ["; ".join(f"{mixed[way, kind][name]:.2f}" for name in MIXED) for kind in asked]
        rows.append([way, *cells])
    tables = [command.table(header, rows)]
    rows = [
        [row["script"], row["way"], str(row["queries"]), f"{row['hit_at_1']:.2f}", f"{row['mrr']:.2f}"]
        for row in result["scripts"]
    ]
    tables.append(command.table(["script", "tokens", "queries", "hit@1", "MRR"], rows))
    names = [f"{what}_{words}_p50_ms" for words in (1, 3) for what in ("words", "meaning", "both")]
    header = ["notes", "write s", "MB", "update by 100 s", "verify s"]
    header += [f"{name.split('_')[0]}, {name.split('_')[1]} word(s): p50 ms" for name in names]
    rows = [
        [
            f"{row['notes']:,}",
            f"{row['write_s']:.1f}",
            f"{row['bytes'] / 1e6:.1f}",
            f"{row['update_s']:.2f}",
            f"{row['verify_s']:.3f}",
            *(f"{row[name]:.2f}" for name in names),
        ]
        for row in result["timed"]
    ]
    tables.append(command.table(header, rows))
    one = result["ingest"]
    share = (
        f"{one['words_s']:.1f} s of the {one['ingest_s']:.0f} s that {one['notes']:,} notes take to ingest"
    )
    return "\n\n".join([*tables, f"Words are {share}, {100 * one['share']:.1f}%."])


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--notes", type=int, default=20_000, help="of the timed ingest")
    options = parser.parse_args()
    result = run(options.folder, options.model, options.sizes, options.notes)
    command.report(result, markdown, options.json)


if __name__ == "__main__":
    main()
