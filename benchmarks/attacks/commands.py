"""Commands that write, on a collection each, and what must hold while and after they are disturbed."""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from benchmarks.attacks.program import COMMIT_ITEMS, Hand, run
from benchmarks.attacks.world import Backend, Rows, State, Wrong, make_media, state
from xsearch.errors import NoCollection
from xsearch.exchange import export
from xsearch.ingest import ingest
from xsearch.store import Store
from xsearch.store.manifest import FOLDERS, read_manifest

__all__ = ["SPARE", "Command", "Commands", "left_behind"]

RECIPE = "IVF1,Flat"  # of an index for so few items
# What a power cut may damage, as it is written after the commit and is not needed
SPARE = ("manifest.copy.json", "high-water.json")


@dataclass(frozen=True)
class Command:
    """A command that is going to be disturbed."""

    name: str
    path: Path  # of the collection
    arguments: tuple[str | Path, ...]
    least: Rows  # items that are there at any time
    most: Rows
    final: Rows | None = None  # when it has ended; None: at least `least`

    @property
    def is_repair(self) -> bool:
        return self.name == "verify --repair"


class Commands:
    """Makes commands, and checks what they leave against a run that nobody disturbed."""

    def __init__(self, folder: Path, hand: Hand, scale: int = 4) -> None:
        self.hand, self.scratch = hand, folder / "scratch"
        self.media, self._half, self._full = folder / "media", folder / "half", folder / "full"
        self._export = folder / "all.parquet"
        make_media(self.media, scale)
        self._before: State = hand(_made, self._half, self.media / "notes")
        self.undisturbed: State = hand(_made, self._full, self.media, self._export)

    NAMES = ("ingest", "ingest more", "compact", "rm", "verify --repair", "index build", "import")

    def make(self, name: str, path: Path, rng: random.Random) -> Command:
        """Prepare a collection at `path` for a command."""
        rows = self.undisturbed.rows
        at = ("-c", path)
        if name == "ingest":
            return Command(name, path, (name, self.media, *at), {}, rows, rows)
        if name == "import":
            return Command(name, path, (name, self._export, *at), {}, rows, rows)
        if name == "ingest more":
            shutil.copytree(self._half, path)
            return Command(name, path, ("ingest", self.media, *at), self._before.rows, rows, rows)
        shutil.copytree(self._full, path)
        if name == "compact":
            return Command(name, path, (name, *at), rows, rows, rows)
        if name == "index build":
            return Command(name, path, ("index", "build", "--recipe", RECIPE, *at), rows, rows, rows)
        if name == "rm":
            rest = {key: vector for key, vector in rows.items() if key[1] != "text"}
            arguments = (name, "--where", "modality = 'text'", "--yes", *at)
            return Command(name, path, arguments, rest, rows, rest)
        lost = self._damage(path, rng)
        rest = {key: rows[key] for id, key in self.undisturbed.ids.items() if id not in lost}
        return Command(name, path, ("verify", "--repair", *at), rest, rows)

    def _damage(self, path: Path, rng: random.Random) -> range:
        """Flip a bit of a segment and return its ids."""
        entry = rng.choice(read_manifest(path).segments)
        damaged = path / entry.folder / rng.choice([*entry.sha256])
        content = bytearray(damaged.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(content)
        return range(entry.first_id, entry.last_id + 1)

    def check(self, command: Command, what: str, *, spare: tuple[str, ...] = ()) -> None:
        """Raise Wrong unless the collection opens, is whole, and holds what was committed.

        spare: files of which damage is accepted.
        """
        if command.is_repair:  # what is damaged may still be so
            return
        try:
            now: State | None = self.hand(_state_or_none, command.path)
        except Wrong as problem:
            raise Wrong(f"after {what}: {problem}") from None
        if now is None:
            if command.least:
                raise Wrong(f"after {what}: there is no collection")
            return
        if findings := [each for each in now.findings if not each.startswith(spare or ("?",))]:
            raise Wrong(f"after {what}: {findings}")
        if not command.least.items() <= now.rows.items() <= command.most.items():
            few, many = len(command.least), len(command.most)
            raise Wrong(f"after {what}: {len(now.rows)} items, of {few} to {many}")

    def end(self, command: Command, what: str, *, is_cut: bool = False) -> None:
        """Run the command to its end, then everything: the collection is that of an undisturbed run.

        is_cut: after a power cut, so that a repair may be needed first.
        """
        if is_cut and (command.path / "manifest.json").exists():
            run("verify", "--repair", "-c", command.path, scratch=self.scratch)
        run(*command.arguments, scratch=self.scratch)
        now: State = self.hand(state, command.path)
        if now.findings or not command.least.items() <= now.rows.items() <= command.most.items():
            raise Wrong(f"{what}, and once more to its end: {len(now.rows)} items, {now.findings}")
        if command.final is not None and now.rows != command.final:
            raise Wrong(f"{what}, and once more to its end: {len(now.rows)} items")
        if command.name == "index build" and read_manifest(command.path).index is None:
            raise Wrong(f"{what}, and once more to its end: no index")
        self.whole(command.path, what)

    def whole(self, path: Path, what: str) -> None:
        """After another ingest everything is there, and nothing else; after two compactions, no garbage."""
        now, again, left = self.hand(_settle, path, self.media)
        expected = self.undisturbed
        if now.rows != expected.rows or now.findings:
            missing, more = expected.rows.keys() - now.rows.keys(), now.rows.keys() - expected.rows.keys()
            raise Wrong(f"{what}: in the end {[*missing][:3]} missing, {[*more][:3]} more; {now.findings}")
        if now.skipped != expected.skipped:
            raise Wrong(f"{what}: skipped for ever: {now.skipped}")
        if again:
            raise Wrong(f"{what}: an ingest of what is there embeds {again} items")
        if left:
            raise Wrong(f"{what}: left in the collection: {left}")


def left_behind(*folders: Path) -> list[str]:
    """Temporary files, which a command that ends by itself or on request may not leave."""
    names = [each for folder in folders for glob in ("xsearch-*", "**/*.part") for each in folder.glob(glob)]
    return [each.name for each in names]


def _made(path: Path, media: Path, exported: Path | None = None) -> State:
    """Make a collection of many segments, and export it; return what it holds."""
    store = Store.create(path, Backend.fingerprint)
    ingest(store, [media], Backend(), commit_items=COMMIT_ITEMS)
    if exported:
        export(store.snapshot(), exported)
    return state(path)


def _state_or_none(path: Path) -> State | None:
    try:
        return state(path)
    except NoCollection:
        return None


def _settle(path: Path, media: Path) -> tuple[State, int, list[str]]:
    """Ingest twice, compact twice; return the state, the items of the second ingest, and garbage."""
    store = Store.open(path)
    ingest(store, [media], Backend())
    again = ingest(store, [media], Backend())
    for _ in range(2):
        with store.writer() as writer:
            writer.compact()
    named = read_manifest(path).files()
    there = {f"{kind}/{each.name}" for kind in FOLDERS for each in (path / kind).glob("*")}
    parts = {str(each.relative_to(path)) for each in path.rglob("*.part")}
    return state(path), sum(again.new.values()), sorted((there - named) | parts)
