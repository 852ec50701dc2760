"""Ingest a folder of real media: does every file become an item or a skip with a reason, and how fast.

    python -m benchmarks.corpus FOLDER [--labels labels.csv] [--json out.json]

With labels (columns `path`, relative to the table's folder, and `modality`) the kinds that were recognised
are compared with them; of an IMU recording in two files, both count.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections import Counter
from pathlib import Path

import xsearch
from benchmarks import command
from xsearch.media import Skipped, absolute, walk
from xsearch.types import Modality


def recognised(folder: Path) -> tuple[dict[Path, Modality], list[Skipped]]:
    """What each file is taken for, and what is left."""
    kinds: dict[Path, Modality] = {}
    rest: list[Skipped] = []
    for found in walk([folder]):
        if isinstance(found, Skipped):
            rest.append(found)
            continue
        kinds |= {path: found.modality for path in (found.path, found.companion) if path}
    return kinds, rest


def compare(kinds: dict[Path, Modality], labels: Path) -> list[str]:
    """One line per file whose kind is not the labelled one."""
    wrong = []
    with labels.open(newline="", encoding="utf-8") as table:
        for row in csv.DictReader(table):
            path = absolute(labels.parent / row["path"])
            if kinds.get(path) != row["modality"]:
                wrong.append(f"{row['path']}: labelled {row['modality']}, taken for {kinds.get(path)}")
    return wrong


def run(folder: Path, labels: Path | None, model: str | None) -> dict:
    kinds, rest = recognised(folder)
    with tempfile.TemporaryDirectory() as scratch:
        collection = xsearch.Collection.create(Path(scratch) / "index", model)
        report = collection.ingest(folder)
        embedded = set(collection.items(columns=["path"])["path"].to_pylist())
        start_s = time.perf_counter()
        again = collection.ingest(folder)
        rescan_s = time.perf_counter() - start_s
    skipped = {skip.path for skip in report.skipped}
    files = {str(path) for path in kinds}
    companions = {str(found.companion) for found in walk([folder]) if not isinstance(found, Skipped)}
    return {
        "model": collection.backend.fingerprint.name,
        "cores": len(os.sched_getaffinity(0)),
        "files": len(kinds) + len(rest),
        "files_by_kind": dict(Counter(str(kind) for kind in kinds.values())),
        "items_by_kind": {str(kind): n for kind, n in report.items.items()},
        "skipped": [f"{Path(skip.path).name}: {skip.reason}" for skip in report.skipped],
        "not_media": report.not_media,
        "unaccounted": sorted(files - embedded - skipped - companions),
        "seconds": report.seconds,
        "items_per_s": report.items_per_s,
        "second_run_s": rescan_s,
        "second_run_embedded": sum(again.items.values()),
        "mislabelled": compare(kinds, labels) if labels else None,
    }


def markdown(result: dict) -> str:
    lines = ["| kind | files | items |", "|---|---|---|"]
    for kind in Modality:
        files, items = (result[name].get(kind, 0) for name in ("files_by_kind", "items_by_kind"))
        lines.append(f"| {kind} | {files} | {items} |")
    lines += [
        "",
        f"{result['files']} files with the {result['model']} model on {result['cores']} cores: "
        f"{result['seconds']:.0f} s, {result['items_per_s']:.0f} items/s; {len(result['skipped'])} skipped. "
        f"A second run: {result['second_run_s']:.2f} s, {result['second_run_embedded']} items embedded.",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=Path)
    parser.add_argument("--model", default="bundled")
    options = parser.parse_args()
    result = run(options.folder, options.labels, options.model)
    command.report(result, markdown, options.json)
    for problem in ("skipped", "unaccounted", "mislabelled"):
        for line in result[problem] or []:
            print(f"{problem}: {line}")


if __name__ == "__main__":
    main()
