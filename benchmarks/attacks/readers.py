"""Readers: processes search while another commits, compacts and repairs; all answers are of commits."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import xsearch
from benchmarks.attacks.program import Hand
from benchmarks.attacks.world import DIM, Backend, Wrong
from xsearch.collection import Collection
from xsearch.integrity import verify
from xsearch.store import Store

__all__ = ["Readers"]

READERS, COMMITS = 2, 40
QUERY = np.eye(DIM, dtype=np.float32)[0]


class Readers:
    """Answers are those of states, in their order; readers never fail, and none is blocked."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._commits = COMMITS * scale // 4

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        path, context = folder / "c", multiprocessing.get_context("spawn")
        Store.create(path, Backend.fingerprint)
        readers = [
            context.Process(target=_search, args=(path, folder / f"{at}.jsonl", folder / "over"), daemon=True)
            for at in range(READERS)
        ]
        for reader in readers:
            reader.start()
        until = time.monotonic() + 60
        while not all((folder / f"{at}.jsonl").exists() for at in range(READERS)):
            if time.monotonic() > until:
                raise Wrong("readers do not start")
            time.sleep(0.02)
        try:
            states = _write(path, rng, self._commits)
        finally:
            (folder / "over").touch()
            for reader in readers:
                reader.join(60)
                if reader.is_alive():
                    reader.kill()
                    raise Wrong("a reader is blocked")
        if verify(path):
            raise Wrong("the collection is damaged")
        reads = 0
        for at in range(READERS):
            last = 0
            for line in (folder / f"{at}.jsonl").read_text().splitlines():
                answer = json.loads(line)
                if isinstance(answer, str):
                    raise Wrong(f"a reader fails: {answer}")
                if answer not in states[last:]:
                    earlier = "an earlier state" if answer in states else "no state"
                    raise Wrong(f"a reader has the answer of {earlier}: {str(answer)[:300]}")
                last = states.index(answer, last)
                reads += 1
        return Counter({"answers": reads, "commits meanwhile": len(states)})


def _answer(collection: Collection) -> Any:
    """What is compared, of one call."""
    hits = collection.search(xsearch.vector(QUERY, "text"), top=8, rank="cosine")
    return [[hit.id, hit.path, hit.text, round(hit.cosine or 0, 3)] for hit in hits]


def _search(path: Path, out: Path, over: Path) -> None:
    """Search until it is over, with a collection that stays open and with ones that are opened anew."""
    rng = random.Random(os.getpid())
    held = Collection(Store.open(path), backend=Backend())
    held.search(xsearch.vector(QUERY, "text"))
    with out.open("w") as file:
        while not over.exists():
            try:
                collection = held if rng.random() < 0.7 else Collection(Store.open(path), backend=Backend())
                answer = _answer(collection)
            except Exception as error:
                answer = f"{type(error).__name__}: {error}"
            file.write(json.dumps(answer) + "\n")


def _write(path: Path, rng: random.Random, commits: int) -> list[Any]:
    """Commit, remove, compact, build indexes and repair; returns the answers of all states, in order."""
    store = Store.open(path)
    own = Collection(store, backend=Backend())
    states = [_answer(own)]

    def add(count: int) -> None:
        vectors = np.random.default_rng(rng.randrange(1 << 30)).normal(size=(count, DIM)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        texts = [f"note {rng.randrange(1 << 30)}" for _ in range(count)]
        columns = {"path": [f"/{text}.txt" for text in texts], "modality": ["text"] * count, "text": texts}
        with store.writer() as writer:
            writer.add(pa.table(columns), vectors)
            writer.commit()

    def remove() -> None:
        hits = own.search(xsearch.vector(QUERY, "text"), top=3, rank="cosine")
        own.remove([hit.id for hit in hits])

    def repair() -> None:
        with suppress(FileNotFoundError):
            (path / "manifest.copy.json").unlink()
        verify(path, repair=True)

    def build() -> None:
        if len(own):
            own.build_index(recipe="IVF1,Flat")

    actions = [
        lambda: add(rng.randint(1, 40)),
        lambda: add(3),
        remove,
        own.compact,
        own.compact,
        build,
        repair,
    ]
    for _ in range(commits):
        rng.choice(actions)()
        if (now := _answer(own)) != states[-1]:
            states.append(now)
    return states
