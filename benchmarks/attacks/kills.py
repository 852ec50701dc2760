"""Kills: commands and their decoders die or stop at random instants, and others go on where they were."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from benchmarks.attacks.program import LIMIT_S, Hand, Program, run
from benchmarks.attacks.world import Rows, State, Wrong, make_media, state
from xsearch.errors import NoCollection
from xsearch.store.manifest import FOLDERS, read_manifest

__all__ = ["Kills", "garbage"]

# How a command ends: a signal to it, or to one of its decoders
ENDS = ("KILL", "KILL", "KILL", "TERM", "HUP", "INT")
OF_DECODERS = ("KILL", "STOP")
TEXTS = "modality = 'text'"


class Kills:
    """After every kill the collection opens and holds what was committed; at the end it holds everything."""

    def __init__(self, folder: Path, seed: int, hand: Hand, scale: int = 4) -> None:
        self.hand, self.scratch = hand, folder / "scratch"
        self.media, self.part = folder / "media", folder / "media" / "notes"
        make_media(self.media, seed, scale)
        self.full, self.half = folder / "full", folder / "half"
        run("ingest", self.part, "-c", self.half, scratch=self.scratch)
        run("ingest", self.media, "-c", self.full, scratch=self.scratch)
        run("export", folder / "all.parquet", "-c", self.full, scratch=self.scratch)
        self.export = folder / "all.parquet"
        self.expected: State = hand(state, self.full)
        self.before: State = hand(state, self.half)
        self.usual_s: dict[str, float] = {}

    def round(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        attack = getattr(self, "_" + rng.choice(["ingest", "ingest", "compact", "rm", "repair", "index"]
                                                + ["import", "decoders", "decoders"]))
        return attack(folder, rng)

    def _ingest(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path, least = folder / "c", Rows()
        if rng.random() < 0.5:
            shutil.copytree(self.half, path)
            least = self.before.rows
        kills = self._until_done(rng, path, least, self.expected.rows, "ingest", self.media, "-c", path)
        self._ends_well(path)
        return "ingest", kills

    def _compact(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path = shutil.copytree(self.full, folder / "c")
        rows = self.expected.rows
        kills = self._until_done(rng, path, rows, rows, "compact", "-c", path)
        self._ends_well(path)
        return "compact", kills

    def _rm(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path = shutil.copytree(self.full, folder / "c")
        rest = {key: vector for key, vector in self.expected.rows.items() if key[1] != "text"}
        command = ("rm", "--where", TEXTS, "--yes", "-c", path)
        kills = self._until_done(rng, path, rest, self.expected.rows, *command)
        if self.hand(state, path).rows != rest:
            raise Wrong("rm ended, and has not removed what it was to remove")
        run("ingest", self.media, "-c", path, scratch=self.scratch)
        self._ends_well(path)
        return "rm", kills

    def _repair(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path = shutil.copytree(self.full, folder / "c")
        entry = rng.choice(read_manifest(path).segments)
        name = rng.choice([*entry.sha256])
        damaged = path / entry.folder / name
        content = bytearray(damaged.read_bytes())
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.write_bytes(content)
        lost = range(entry.first_id, entry.last_id + 1)
        rest = {k: self.expected.rows[k] for at, k in self.expected.ids.items() if at not in lost}
        command = ("verify", "--repair", "-c", path)
        kills = self._until_done(rng, path, rest, self.expected.rows, *command, is_repair=True)
        run("ingest", self.media, "-c", path, scratch=self.scratch)
        self._ends_well(path)
        return "verify --repair", kills

    def _index(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path, rows = shutil.copytree(self.full, folder / "c"), self.expected.rows
        command = ("index", "build", "--recipe", "IVF1,Flat", "-c", path)
        kills = self._until_done(rng, path, rows, rows, *command)
        if read_manifest(path).index is None:
            raise Wrong("index build ended, and there is no index")
        self._ends_well(path)
        return "index build", kills

    def _import(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        path, rows = folder / "c", self.expected.rows
        kills = self._until_done(rng, path, {}, rows, "import", self.export, "-c", path)
        if self.hand(state, path).rows != rows:
            raise Wrong("import ended, and not all items are there")
        run("ingest", self.media, "-c", path, scratch=self.scratch)
        self._ends_well(path)
        return "import", kills

    def _decoders(self, folder: Path, rng: random.Random) -> tuple[str, Counter[str]]:
        """Kill or stop decoders for as long as the ingest lasts; it ends all the same."""
        path, how, kills = folder / "c", rng.choice(OF_DECODERS), Counter[str]()
        program = Program("ingest", self.media, "-c", path, scratch=self.scratch, XSEARCH_DECODE_S="5")
        try:
            program.wait_until_ready()
            until = time.monotonic() + LIMIT_S
            times = rng.randint(1, 3)
            while program.process.poll() is None and time.monotonic() < until:
                decoders = program.decoders() if kills.total() < times else []
                time.sleep(rng.uniform(0, 0.15))
                if decoders:
                    with suppress(ProcessLookupError):
                        os.kill(rng.choice(decoders), getattr(signal, f"SIG{how}"))
                        kills[f"decoder {how}"] += 1
            if program.wait(0.1):
                raise Wrong(f"an ingest of which a decoder got SIG{how} fails: {program.output[-2000:]}")
        finally:
            program.close()
        self._whole_after(path, self.scratch, f"a decoder's SIG{how}")
        now: State = self.hand(state, path)
        if not now.rows.items() <= self.expected.rows.items() or now.findings:
            raise Wrong(f"wrong after a decoder's SIG{how}: {now.findings}")
        kills["files left to the next ingest"] = len(now.skipped) - len(self.expected.skipped)
        run("ingest", self.media, "-c", path, scratch=self.scratch)
        self._ends_well(path)
        return f"decoders: SIG{how}", kills

    def _until_done(
        self,
        rng: random.Random,
        path: Path,
        least: Rows,
        most: Rows,
        *command: str | Path,
        is_repair: bool = False,
    ) -> Counter[str]:
        """Run a command and kill it, some times, then let it end. What is there only ever grows or shrinks."""
        kills = Counter[str]()
        usual_s = self.usual_s.setdefault(str(command[0]), 1.0)
        for _ in range(rng.randint(1, 3)):
            end = rng.choice(ENDS)
            scratch = self.scratch / f"{time.monotonic_ns()}"
            program = Program(*command, scratch=scratch)
            try:
                program.wait_until_ready()
                start_s = time.monotonic()
                with suppress(Exception):
                    program.process.wait(rng.uniform(0, usual_s))
                is_over = program.process.poll() is not None
                if is_over:
                    self.usual_s[str(command[0])] = 0.5 * usual_s + 0.5 * (time.monotonic() - start_s)
                else:
                    os.kill(program.process.pid, getattr(signal, f"SIG{end}"))
                    kills[f"SIG{end}"] += 1
                code = program.wait()
                if code not in (0, 1, 130, 128 + getattr(signal, f"SIG{end}"), -getattr(signal, f"SIG{end}")):
                    raise Wrong(f"{command[0]}: exit code {code} at SIG{end}: {program.output[-2000:]}")
                if "Traceback" in program.output:
                    raise Wrong(f"{command[0]}: at SIG{end}: {program.output[-2000:]}")
            finally:
                program.close()
            if end != "KILL":
                self._whole_after(path, scratch, f"SIG{end}")
            shutil.rmtree(scratch)
            self._still_good(path, least, most, f"{command[0]}, SIG{end}", is_repair=is_repair)
        run(*command, scratch=self.scratch)
        self._still_good(path, least, most, f"{command[0]}, to its end")
        return kills

    def _still_good(self, path: Path, least: Rows, most: Rows, what: str, *, is_repair: bool = False) -> None:
        if is_repair:  # interrupted: what is damaged may still be so
            return
        try:
            now: State = self.hand(_state_or_none, path)
        except Wrong as problem:
            raise Wrong(f"after {what}: {problem}") from None
        if now is None:
            if least:
                raise Wrong(f"after {what}: there is no collection")
            return
        if now.findings:
            raise Wrong(f"after {what}: {now.findings}")
        if not least.items() <= now.rows.items() <= most.items():
            raise Wrong(f"after {what}: {len(now.rows)} items, of {len(least)} to {len(most)}")

    def _whole_after(self, path: Path, scratch: Path, what: str) -> None:
        """What ends by itself or on request leaves nothing behind."""
        if left := [each.name for each in scratch.glob("xsearch-*")]:
            raise Wrong(f"after {what}: {left} left in the folder for temporary files")
        if path.exists() and (parts := [each.name for each in path.rglob("*.part")]):
            raise Wrong(f"after {what}: {parts} left in the collection")

    def _ends_well(self, path: Path) -> None:
        """The collection is that of an undisturbed run, another run has nothing to do, nothing is left."""
        output = run("ingest", self.media, "-c", path, scratch=self.scratch)
        now: State = self.hand(state, path)
        if now.rows != self.expected.rows or now.findings:
            missing = [*(self.expected.rows.keys() - now.rows.keys())]
            more = [*(now.rows.keys() - self.expected.rows.keys())]
            raise Wrong(f"other items than undisturbed: missing {missing[:3]}, more {more[:3]}; {now.findings}")
        if now.skipped != self.expected.skipped:
            raise Wrong(f"skipped for ever: {now.skipped}")
        if "nothing changed" not in output:
            raise Wrong(f"not all was there: {output[-1000:]}")
        for _ in range(2):
            run("compact", "-c", path, scratch=self.scratch)
        if left := garbage(path):
            raise Wrong(f"left in the collection: {left}")
        if self.hand(state, path).rows != self.expected.rows:
            raise Wrong("other items after a compaction")


def _state_or_none(path: Path) -> State | None:
    try:
        return state(path)
    except NoCollection:
        return None


def garbage(path: Path) -> list[str]:
    """What nothing refers to after two compactions."""
    named = read_manifest(path).files()
    there = {f"{kind}/{each.name}" for kind in FOLDERS for each in (path / kind).glob("*")}
    return sorted((there - named) | {each.name for each in path.glob("*.part")} | {*_parts(path)})


def _parts(path: Path) -> list[str]:
    return [str(each.relative_to(path)) for each in path.rglob(".*.part")]
