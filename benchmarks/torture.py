"""Attack collections in every way for an hour, and count what goes wrong.

    python -m benchmarks.torture [--minutes 60] [--seed 0] [--only kills,flips] [--json out.json]

kills      commands and decoders get SIGKILL, SIGTERM, SIGHUP, SIGINT, SIGSTOP at random instants
flips      files of a collection are damaged: bits, pages, truncated, grown, swapped, deleted
faults     the n-th operation on the disk fails, or the power does; small disks get full
stale      old manifests are put back; names are forged, files become links and pipes
hostile    mutated media, bombs and disguises are ingested within bounds of time and memory
filters    `where` expressions within bounds, benign ones against plain DuckDB
downloads  a server cuts, lies, drips and never ends
readers    searches in other processes during commits, compactions and repairs

Each class has a module in `attacks` that says what must hold. They take turns, in equal shares of the time;
what a round tries depends on its class and seed alone, when a signal comes also on the clock. Of a round that
goes wrong the folder is kept, and its seed printed: `--only CLASS --seed SEED --rounds 1` tries it again.
SIGTERM and Ctrl-C end a run early, with its results. As root, small disks are mounted. Linux only.
"""

from __future__ import annotations

import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from benchmarks import command
from benchmarks.attacks.downloads import Downloads
from benchmarks.attacks.faults import Faults
from benchmarks.attacks.filters import Filters
from benchmarks.attacks.flips import Flips
from benchmarks.attacks.hostile import Hostile
from benchmarks.attacks.kills import Kills
from benchmarks.attacks.program import Hand
from benchmarks.attacks.readers import Readers
from benchmarks.attacks.stale import Stale
from benchmarks.attacks.world import Wrong


class Attack(Protocol):
    """A class of attacks on what it has made in a folder."""

    def __init__(self, folder: Path, hand: Hand, scale: int) -> None: ...

    def round(self, folder: Path, rng: random.Random) -> Counter[str]:
        """Try something in an empty folder; return how often what was tried. Raises Wrong."""


ATTACKS: dict[str, Callable[..., Attack]] = {
    "kills": Kills,
    "flips": Flips,
    "faults": Faults,
    "stale": Stale,
    "hostile": Hostile,
    "filters": Filters,
    "downloads": Downloads,
    "readers": Readers,
}
FIGURES = (
    "items lost to a repair",
    "left to the next ingest",
    "commits meanwhile",
)  # what is counted besides tries
SHOWN = 20  # wrong rounds per class in the results


def run(
    minutes: float = 60.0,
    seed: int = 0,
    only: Sequence[str] = tuple(ATTACKS),
    *,
    rounds: int | None = None,
    scale: int = 4,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Attack until the time is over, or `rounds` of each class. scale: of collections; 4: some 40 files."""
    folder = Path(tempfile.mkdtemp(prefix="torture-")).resolve()
    hand, until = Hand(), time.monotonic() + 60 * minutes
    attacks: dict[str, Attack] = {}
    spent_s = dict.fromkeys(only, 0.0)
    rows = {name: _Row() for name in only}
    start_s = time.monotonic()
    try:
        while time.monotonic() < until:
            left = [name for name in only if rounds is None or rows[name].rounds < rounds]
            if not left:
                break
            name = min(left, key=spent_s.__getitem__)
            row, begun_s = rows[name], time.monotonic()
            if name not in attacks:
                attacks[name] = ATTACKS[name](folder / name, hand, scale)
            row.round(attacks[name], name, seed + row.rounds, folder / f"{name} {seed + row.rounds}", say)
            spent_s[name] += time.monotonic() - begun_s
            say(f"{time.monotonic() - start_s:7.0f} s  {name:<10} {row}")
    except KeyboardInterrupt:
        say("interrupted: the results so far")
    finally:
        hand.close()
        for name in attacks:
            shutil.rmtree(folder / name, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # unless wrong rounds are kept there
    return {
        "minutes": round((time.monotonic() - start_s) / 60, 1),
        "seed": seed,
        "classes": {name: row.result() for name, row in rows.items()},
    }


class _Row:
    """The results of a class."""

    def __init__(self) -> None:
        self.rounds = 0
        self._tried = Counter[str]()
        self._wrong: list[dict[str, Any]] = []

    def round(self, attack: Attack, name: str, seed: int, folder: Path, say: Callable[[str], object]) -> None:
        folder.mkdir()
        self.rounds += 1
        try:
            self._tried += attack.round(folder, random.Random(f"{name} {seed}"))
        except (Wrong, Exception) as problem:  # a fault of an attack is one, too
            text = str(problem) if isinstance(problem, Wrong) else traceback.format_exc()
            self._tried["rounds that went wrong"] += 1
            self._wrong.append({"seed": seed, "problem": text[-2000:]})
            say(f"WRONG: --only {name} --seed {seed} --rounds 1, in {folder}: {text[-2000:]}")
            return
        shutil.rmtree(folder, ignore_errors=True)

    def __str__(self) -> str:
        result = self.result()
        return f"{self.rounds} rounds, {result['tried']:,} tried, {result['wrong']} wrong"

    def result(self) -> dict[str, Any]:
        counts = {name: count for name, count in sorted(self._tried.items()) if name not in FIGURES}
        tried = sum(counts.values())
        return {
            "rounds": self.rounds,
            "tried": tried,
            "survived": tried - len(self._wrong),
            "wrong": len(self._wrong),
            "figures": {name: self._tried[name] for name in FIGURES if name in self._tried},
            "counts": counts,
            "problems": self._wrong[:SHOWN],
        }


def markdown(result: dict[str, Any]) -> str:
    rows = []
    for name, row in result["classes"].items():
        figures = "; ".join(f"{figure}: {count:,}" for figure, count in row["figures"].items())
        often = sorted(row["counts"].items(), key=lambda each: -each[1])
        kinds = f"{len(often)} kinds, such as {', '.join(kind for kind, _ in often[:3])}" if often else ""
        counts = [f"{row[column]:,}" for column in ("tried", "survived", "wrong")]
        rows.append([name, *counts, "; ".join(filter(None, [kinds, figures]))])
    return "\n".join(
        [
            command.table(["class", "tried", "survived", "wrong", "what"], rows),
            "",
            f"{result['minutes']:g} minutes, seed {result['seed']}.",
        ]
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, help="of each class, at most")
    parser.add_argument("--only", default=",".join(ATTACKS), metavar="CLASSES", help="separated by commas")
    parser.add_argument("--scale", type=int, default=4, help="of the collections; 4: some 40 files")
    parser.add_argument("--out", type=Path, dest="json", help="as --json")
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := set(only) - set(ATTACKS):
        parser.error(f"--only {','.join(sorted(unknown))}: expected some of {', '.join(ATTACKS)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    result = run(
        options.minutes,
        options.seed,
        only,
        rounds=options.rounds,
        scale=options.scale,
        say=lambda line: print(line, file=sys.stderr, flush=True),
    )
    command.report(result, markdown, options.json)
    sys.exit(any(row["wrong"] for row in result["classes"].values()))


if __name__ == "__main__":
    main()
