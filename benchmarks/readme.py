"""Write what the README shows of the program into it: help, and figures from `benchmarks/results`.

python -m benchmarks.readme            # after a change of the command line or a new measurement
python -m benchmarks.readme --check    # exit 1 if it is out of date
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    answers,
    cluster,
    command,
    corpus,
    disk,
    edition,
    emergence,
    filtered,
    footprint,
    generation,
    hiding,
    ingest,
    int8,
    localization,
    none,
    public,
    ranking,
    reliability,
    rendering,
    resume,
    search,
    serve,
    shards,
    stages,
    startup,
    torture,
    towers,
    waiting,
    words,
)
from xsearch.index import EMBED_MS, Capacity, Costs, make_plan

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
PAGES = (
    "README.md",
    "benchmarks/README.md",
    "xsearch/generate/bundled/MODEL_CARD.md",
    "xsearch/models/bundled/MODEL_CARD.md",
)


def help_blocks() -> str:
    def block(*command: str) -> str:
        shown = subprocess.run(
            [sys.executable, "-m", "xsearch", *command, "--help"],
            env=os.environ | {"COLUMNS": "80"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return f"```\n$ {' '.join(('xsearch', *command, '--help'))}\n{shown.strip()}\n```"

    return "\n\n".join([block(), block("ingest"), block("query"), block("serve")])


def result(name: str, table: Callable[[dict], str]) -> str:
    return f"\n{table(json.loads((RESULTS / f'{name}.json').read_text()))}\n"


def capacity() -> str:
    """The machines for large collections, for both models."""
    blocks = []
    for model, dim in (("bundled", 256), ("imagebind", 1024)):
        for n in (100_000_000, 1_000_000_000):
            plan = make_plan(n, dim, device="cpu")
            needs = Capacity(plan, Costs(embed_ms=EMBED_MS[model]))
            table = command.table(needs.HEADER, needs.rows())
            blocks.append("\n\n".join([f"**{n:,} items, {model}**: {plan.recipe}.", *needs.notes(), table]))
    return "\n" + "\n\n".join(blocks) + "\n"


BLOCKS: dict[str, Callable[[], str]] = {
    "help": help_blocks,
    "emergence": lambda: result("emergence", emergence.markdown),
    "edition": lambda: result("edition", edition.markdown),
    "corpus": lambda: result("corpus", corpus.markdown),
    "startup": lambda: result("startup", startup.markdown),
    "towers": lambda: result("towers", towers.markdown),
    "footprint": lambda: result("footprint", footprint.markdown),
    "hiding": lambda: result("hiding", hiding.markdown),
    "ingest": lambda: result("ingest", ingest.markdown),
    "int8": lambda: result("int8", int8.markdown),
    "localization": lambda: result("localization", localization.markdown),
    "public": lambda: result("public", public.markdown),
    "filtered": lambda: result("filtered", filtered.markdown),
    "answers": lambda: result("answers", answers.markdown),
    "none": lambda: result("none", none.markdown),
    "reliability": lambda: result("reliability", reliability.markdown),
    "ranking": lambda: result("ranking", ranking.markdown),
    "resume": lambda: result("resume", resume.markdown),
    "cluster": lambda: result("cluster", cluster.markdown),
    "shards": lambda: result("shards", shards.markdown),
    "capacity": capacity,
    "torture": lambda: result("torture", torture.markdown),
    "search": lambda: result("search", search.markdown),
    "serve": lambda: result("serve", serve.markdown),
    "disk": lambda: result("disk", disk.markdown),
    "search-data": lambda: result("search-data", search.markdown),
    "search-clusters": lambda: result("search-clusters", search.markdown),
    "search-scenes": lambda: result("search-scenes", search.markdown),
    "stages": lambda: result("stages", stages.markdown),
    "waiting": lambda: result("waiting", waiting.markdown),
    "generation": lambda: result("generation", generation.markdown),
    "rendering": lambda: result("rendering", rendering.markdown),
    "words": lambda: result("words", words.markdown),
}


def filled(text: str) -> str:
    """`text` with everything between `<!-- begin NAME -->` and `<!-- end NAME -->` made anew."""
    for name, make in BLOCKS.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin in text:
            text = re.sub(f"{begin}.*?{end}", lambda _: f"{begin}\n{make()}\n{end}", text, flags=re.S)  # noqa: B023
    return text


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    stale = []
    for path in (ROOT / name for name in PAGES):
        now, then = filled(path.read_text(encoding="utf-8")), path.read_text(encoding="utf-8")
        if now != then:
            stale.append(path.name)
            if not options.check:
                path.write_text(now, encoding="utf-8")
    if options.check and stale:
        sys.exit(f"out of date: {', '.join(stale)}; run python -m benchmarks.readme")


if __name__ == "__main__":
    main()
