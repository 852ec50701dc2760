"""Stale and forged: what a backup, a stranger or a link puts in the place of a collection's files."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.attacks.program import Hand
from benchmarks.attacks.world import (
    Backend,
    Key,
    State,
    Wrong,
    answers_or_error,
    ask,
    make_media,
    state,
    tree,
)
from xsearch.collection import Collection
from xsearch.errors import StoreError, XsearchError
from xsearch.ingest import ingest
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.store.manifest import FOLDERS, _sealed, read_manifest

__all__ = ["Stale"]

STATES = 4
RESTORED = {
    "manifest": ("manifest.json",),
    "copy": ("manifest.copy.json",),
    "manifest and copy": ("manifest.json", "manifest.copy.json"),
    "mark": ("high-water.json",),
    "manifest and mark": ("manifest.json", "high-water.json"),
    "manifest, copy and mark": ("manifest.json", "manifest.copy.json", "high-water.json"),
}
FORGED: list[Any] = [
    *("../../victim", "../victim", "../../../victim", "segments/../../victim", "..", ".", "", "a/b", "/etc"),
    *("0" * 32, "0" * 31, "G" * 32, "0" * 32 + "\n", "0" * 32 + "/..", "\0" * 32, "٣" * 32, "x" * 5_000),
    *(None, 17, -1, 1e300, [], {}, [["../../victim"]], True, "../../victim\0", "..\\..\\victim"),
]
LIMIT_S = 240.0  # the most that all commands may take, on a machine that is shared


class Stale:
    """A right state or an error; ids are not reused, and what is beside the collection is untouched."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._hand, self._media, self._folder = hand, folder / "media", folder
        make_media(self._media, scale)
        self._states: list[State] = hand(_history, folder / "states", self._media)
        self._answers = [hand(ask, folder / "states" / str(at)) for at in range(STATES)]
        self._ids: dict[int, Key] = {}
        for each in self._states:
            self._ids |= each.ids

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        path = folder / "outer" / "c"
        shutil.copytree(self._folder / "states" / str(STATES - 1), path)
        attack = rng.choice([self._restore, self._forge, self._link])
        return Counter({attack(path, rng): 1})

    def _restore(self, path: Path, rng: random.Random) -> str:
        """Put files of an older state in the place of new ones."""
        at, what = rng.randrange(STATES - 1), rng.choice([*RESTORED, "all files"])
        older = self._folder / "states" / str(at)
        for name in RESTORED.get(what, os.listdir(older)):  # noqa: PTH208
            if (older / name).is_dir():
                shutil.copytree(older / name, path / name, dirs_exist_ok=True)
            else:
                shutil.copyfile(older / name, path / name)
        asked = self._hand(answers_or_error, path)
        if not isinstance(asked, str) and asked not in self._answers:
            raise Wrong(f"an older {what}: answers as at no time")
        is_older = what in ("manifest", "manifest and mark")  # than its copy
        forgets = what in ("manifest, copy and mark", "all files")  # the ids given since
        ids = {} if forgets else self._ids
        if problem := self._hand(_go_on, path, self._media, ids, is_older):
            raise Wrong(f"an older {what}: {problem}")
        now: State = self._hand(state, path)
        if now.rows != self._states[-1].rows or now.findings:
            missing = [*(self._states[-1].rows.keys() - now.rows.keys())]
            more = [*(now.rows.keys() - self._states[-1].rows.keys())]
            raise Wrong(f"an older {what}: in the end {missing[:3]} missing, {more[:3]} more; {now.findings}")
        return f"older {what}"

    def _forge(self, path: Path, rng: random.Random) -> str:
        """Put a name into the manifest, with its checksum, that leads out of the collection."""
        content = json.loads((path / "manifest.json").read_bytes())
        del content["sha256"]
        field = forge(content, rng)
        written = _sealed(json.dumps(content, indent=1).removesuffix("\n}").encode())
        names = rng.choice(
            [("manifest.json",), ("manifest.copy.json",), ("manifest.json", "manifest.copy.json")]
        )
        for name in names:
            (path / name).write_bytes(written)
        self._beside(path, rng, f"a forged {field}")
        return f"forged {field}"

    def _link(self, path: Path, rng: random.Random) -> str:
        """Put a link to something else, or a pipe, in the place of a file or folder."""
        manifest = read_manifest(path)
        names = [*FOLDERS, "quarantine", "manifest.json", "manifest.copy.json", "high-water.json"]
        names += ["lock", "lock.json", "readers", "leases", *manifest.files()]
        names += [f"{entry.folder}/{name}" for entry in manifest.segments for name in entry.sha256]
        name, is_pipe = rng.choice(names), rng.random() < 0.2
        place = path / name
        if place.is_dir():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        self._beside(
            path, rng, f"{'a pipe' if is_pipe else 'a link'} for {name}", link=place, is_pipe=is_pipe
        )
        kind = name if "/" not in name else f"{name.split('/')[0]}/*"
        return f"{'pipe' if is_pipe else 'link'} for {kind}"

    def _beside(
        self, path: Path, rng: random.Random, what: str, *, link: Path | None = None, is_pipe: bool = False
    ) -> None:
        """Run everything. What is beside the collection has to stay as it is, to the byte."""
        victims, whole = [path.parents[1] / "victim", path.parent / "victim"], self._folder / "states" / "3"
        for victim in victims:  # a document, and what a writer might take for its own
            shutil.copytree(whole, victim)
            shutil.copytree(whole / read_manifest(whole).segments[0].folder, victim, dirs_exist_ok=True)
            (victim / "thesis.txt").write_text("years of work")
        if link and is_pipe:
            os.mkfifo(link)
        elif link:
            target = rng.choice(victims)
            inner = target / link.relative_to(path)
            target = rng.choice([target, target / "thesis.txt", inner if inner.exists() else target])
            link.symlink_to(rng.choice([target, os.path.relpath(target, link.parent)]))
        before = [tree(victim) for victim in victims]
        problem = self._hand(_everything, path, self._media, limit_s=LIMIT_S)
        if [tree(victim) for victim in victims] != before:
            raise Wrong(f"{what}: files beside the collection have changed")
        there = {each.name for folder in path.parents[:2] for each in folder.iterdir()}
        if more := there - {"outer", "c", "victim", "export.parquet"}:
            raise Wrong(f"{what}: {more} is new beside the collection")
        if problem:
            raise Wrong(f"{what}: {problem}")


def forge(content: dict[str, Any], rng: random.Random) -> str:
    """Change one name in a manifest; returns which."""
    name = rng.choice(FORGED)
    text = name if isinstance(name, str) else json.dumps(name)
    field = rng.choice(
        ["segment", "sha256", "tombstones", "skipped", "index", "words", "previous", "digests"]
    )
    if field == "segment":
        rng.choice(content["segments"])["uuid"] = name
    elif field == "sha256":
        files = rng.choice(content["segments"])["sha256"]
        files[text] = files.pop(rng.choice([*files]))
    elif field in ("index", "words"):
        content[field] = name
    elif field == "digests":
        digests = content["digests"]
        digests[text] = digests.pop(rng.choice([*digests]))
    else:
        at = rng.randrange(len(content[field]) + 1)
        content[field][at : at + rng.randrange(2)] = [name]
    return field


def _history(folder: Path, media: Path) -> list[State]:
    """Fill a collection in steps and keep each of its states."""
    store, states = Store.create(folder / "now", Backend.fingerprint), []
    parts = [[media / "notes"], [media / "notes", media / "depth"], [media / "thermal"], [media]]
    for at, paths in enumerate(parts):
        ingest(store, paths, Backend(), commit_items=4)
        with store.writer() as writer:
            if at < STATES - 1:
                writer.remove(writer.snapshot.ids[::3])
                writer.commit()
        if at == 1:
            with store.writer() as writer:
                writer.compact()
        if at == STATES - 1:
            Collection(store, backend=Backend()).build_index(recipe="IVF1,Flat")
            with store.writer() as writer:
                writer.skip([{"path": str(media / "gone.png"), "reason": "torn", "error": "Unreadable"}])
                writer.remove(writer.snapshot.ids[:1])
                writer.commit()
            ingest(store, [media], Backend(), prune=True)
        states.append(state(store.path))
        shutil.copytree(store.path, folder / str(at))
    return states


def _go_on(path: Path, media: Path, ids: dict[int, Key], must_be_found: bool) -> str:
    """Verify, repair and ingest; returns what is wrong."""
    if not verify(path) and must_be_found:
        return "not found by verify"
    for is_repaired in (False, True):
        try:
            if is_repaired:
                verify(path, repair=True)
            ingest(Store.open(path), [media], Backend(), prune=True)
            break
        except StoreError as error:
            if is_repaired:
                return f"repaired, and an ingest fails: {error}"
    verify(path, repair=True)
    ingest(Store.open(path), [media], Backend(), prune=True)
    reused = [id for id, key in state(path).ids.items() if ids.get(id, key) != key]
    return f"ids reused: {reused[:5]}" if reused else ""


def _everything(path: Path, media: Path) -> str:
    """Call all that reads or writes a collection; returns what goes wrong."""

    def opened() -> Collection:
        return Collection(Store.open(path), backend=Backend())

    calls: list[Callable[[], object]] = [
        lambda: ask(path),
        lambda: verify(path),
        lambda: opened().compact(),
        lambda: opened().remove([1]),
        lambda: ingest(Store.open(path), [media], Backend(), decoders=1),
        lambda: opened().build_index(recipe="IVF1,Flat"),
        lambda: opened().export(path.with_name("export.parquet")),
        lambda: Collection.create(path, backend=Backend()),
        lambda: verify(path, repair=True),
        lambda: ingest(Store.open(path), [media], Backend(), decoders=1, prune=True),
        lambda: opened().compact(),
        lambda: opened().compact(),
        lambda: ask(path),
    ]
    for number, call in enumerate(calls):
        try:
            call()
        except XsearchError:
            continue
        except Exception as problem:
            return f"call {number}: {type(problem).__name__}: {problem}"
    return ""
