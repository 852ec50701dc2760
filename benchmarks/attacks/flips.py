"""Flips: any file of a collection is damaged; it answers as before or raises, and can be repaired."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from pathlib import Path

from benchmarks.attacks.program import COMMIT_ITEMS, Hand
from benchmarks.attacks.world import Backend, State, Wrong, answers_or_error, ask, make_media, names_of, state
from xsearch.collection import Collection
from xsearch.errors import StoreError
from xsearch.ingest import ingest
from xsearch.integrity import verify
from xsearch.store import Store
from xsearch.store.manifest import read_manifest

__all__ = ["Flips"]

VECTORS = "vectors.arrow"  # the files that do not follow from others
DAMAGE = ("bit", "bit", "bit", "byte", "cut", "empty", "grown", "page", "deleted", "swapped", "folder")


class Flips:
    """Damage is found and never searched; what is redundant is not lost, the rest is ingested again."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self._hand, self._media, self._whole = hand, folder / "media", folder / "whole"
        make_media(self._media, scale)
        removed = self._media / "removed.txt"
        removed.write_text("a dog in the rain, and the sea")
        hand(_make, self._whole, self._media, removed)
        named = (*read_manifest(self._whole).files(), "manifest", "high-water")
        self._names = [name for name in names_of(self._whole) if name.startswith(named)]
        self._answers = hand(ask, self._whole)
        self._state: State = hand(state, self._whole)
        self._removed = str(removed)

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        path = Path(shutil.copytree(self._whole, folder / "c"))
        name, how = rng.choice(self._names), rng.choice(DAMAGE)
        damage(path, name, how, rng)
        what = f"{_kind(name)}: {how}"
        if how == "swapped" and (path / name).read_bytes() == (self._whole / name).read_bytes():
            return Counter()  # there is nothing to swap it with
        asked = self._hand(answers_or_error, path)
        if not isinstance(asked, str) and asked != self._answers:
            raise Wrong(f"{what} of {name}: another answer than before")
        if isinstance(asked, str) and "verify" not in asked:
            raise Wrong(f"{what} of {name}: an error without a way out: {asked}")
        lost, problem = self._hand(_repair, path, self._media, self._state, self._removed)
        if problem:
            raise Wrong(f"{what} of {name}: {problem}")
        if lost and (VECTORS not in name or how == "swapped"):
            raise Wrong(f"{what} of {name}: a repair loses {lost} items that are all on the disk")
        return Counter({what: 1, "items lost to a repair": lost})


def _make(path: Path, media: Path, removed: Path) -> None:
    """Make a collection with all that one may have: segments, removals, skipped files, both indexes."""
    store = Store.create(path, Backend.fingerprint)
    ingest(store, [media], Backend(), commit_items=COMMIT_ITEMS)
    Collection(store, backend=Backend()).build_index(recipe="IVF1,Flat")
    removed.unlink()
    ingest(store, [media], Backend(), prune=True)


def damage(path: Path, name: str, how: str, rng: random.Random) -> None:
    """Damage a file of the collection at `path`."""
    file = path / name
    content = bytearray(file.read_bytes())
    at = rng.randrange(len(content))
    match how:
        case "bit":
            content[at] ^= 1 << rng.randrange(8)
        case "byte":
            content[at] ^= rng.randrange(1, 256)
        case "cut":
            del content[at:]
        case "empty":
            content.clear()
        case "grown":
            content += content[at:]
        case "page":  # 512 or 4,096 bytes of zeros, or of another page
            size = rng.choice([512, 4096])
            start, other = at // size * size, rng.randrange(len(content)) // size * size
            page = content[other : other + size] if rng.random() < 0.5 else b""
            content[start : start + size] = page.ljust(len(content[start : start + size]), b"\0")[:size]
            if bytes(content) == file.read_bytes():  # it was zeros
                content[at] ^= 1
        case "deleted":
            file.unlink()
            return
        case "folder":
            file.unlink()
            file.mkdir()
            return
        case "swapped":
            others = [each for each in path.rglob(_glob(name)) if each.is_file() and each != file]
            if others:
                other = rng.choice(sorted(others))
                file.write_bytes(other.read_bytes())
                other.write_bytes(content)
            return
    file.write_bytes(content)


def _glob(name: str) -> str:
    """Matches the files of the same kind."""
    path = Path(name)
    return path.name if path.parts[0] in ("segments", "manifest.json") else f"*{path.suffix}"


def _kind(name: str) -> str:
    folder, _, rest = name.partition("/")
    return f"{folder}/{rest.rpartition('/')[2]}" if folder in ("segments", "index") else folder


def _repair(path: Path, media: Path, whole: State, removed: str) -> tuple[int, str]:
    """Verify, repair and ingest again. Returns the items lost until the ingest, and what is wrong."""
    found = verify(path)
    if not found:
        return 0, "not found by verify"
    try:
        verify(path, repair=True)
    except StoreError as error:
        return 0, f"cannot be repaired: {error}"
    if again := verify(path):
        return 0, f"repaired, and still {again}"
    after = state(path)
    if any(vector != whole.rows.get(key, vector) for key, vector in after.rows.items()):
        return 0, "other vectors after a repair"
    if more := {key for key in after.rows.keys() - whole.rows.keys() if key[0] != removed}:
        return 0, f"items that were never there after a repair: {more}"
    lost = len(whole.rows.keys() - after.rows.keys())
    if lost and not any((path / "quarantine").rglob("*")):
        return lost, "nothing is kept aside of what is lost"
    ingest(Store.open(path), [media], Backend(), prune=True)
    now = state(path)
    if now.rows != whole.rows or now.skipped != whole.skipped or now.findings:
        missing, more = whole.rows.keys() - now.rows.keys(), now.rows.keys() - whole.rows.keys()
        return lost, f"after the next ingest {[*missing][:3]} missing, {[*more][:3]} more; {now.findings}"
    if reused := [id for id, key in now.ids.items() if whole.ids.get(id, key) != key]:
        return lost, f"ids reused: {reused}"
    return lost, ""
