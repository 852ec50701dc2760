"""Files of a folder that have no items, and should not have any: no media, excluded, or removed for good."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from os.path import splitext

from xsearch.errors import Reason
from xsearch.ingest.roots import Roots
from xsearch.media import Skipped

__all__ = ["LEFT_OUT", "Others", "extension"]

LEFT_OUT = (Reason.EXCLUDED, Reason.REMOVED)  # whatever they are

# Bounds on what the other files of a folder add to a collection
LISTED, LISTED_OF_TYPE = 1_000, 100  # files by name
TYPES = 50  # lines that count further files by extension
_EXTENSION = re.compile(r"\.(?=.*[a-z])\w{1,10}")  # not the .0001 of a numbered series


class Others:
    """Counts files by reason and extension, and lists the first ones."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._tops = sorted((root.rstrip("/") for root in roots.names), key=len, reverse=True)
        self.counts: Counter[Reason] = Counter()
        self.types: Counter[str] = Counter()  # extensions of the files that are not media
        self._listed: dict[str, Skipped] = {}
        self._listed_of_type: Counter[str] = Counter()
        self._more: Counter[tuple[str, str, Reason]] = Counter()  # not listed: by root, extension and reason

    def add(self, skip: Skipped) -> None:
        self.counts[skip.error] += 1
        if skip.error is Reason.REMOVED:
            return  # listed already: the record of the removal
        kind = extension(skip.path)
        if skip.error is Reason.NOT_MEDIA:
            self.types[kind] += 1
        if len(self._listed) < LISTED and self._listed_of_type[kind] < LISTED_OF_TYPE:
            self._listed_of_type[kind] += 1
            self._listed[skip.path] = skip
        else:
            root = next((top for top in self._tops if skip.path.startswith(top)), self._tops[-1])
            self._more[root, kind, skip.error] += 1

    def changes(self, stored: Mapping[str, Skipped], unreached: Roots) -> tuple[list[Skipped], set[str]]:
        """Return the lines to add to those of earlier ingests, and the paths of those to drop."""
        lines = self._lines()
        old = {path for path in stored if path in self._roots and path not in unreached}
        return [skip for path, skip in lines.items() if stored.get(path) != skip], old - lines.keys()

    def _lines(self) -> dict[str, Skipped]:
        """Return the listed files and a line `root/**/*.json` for others of a type, by path."""
        totals: Counter[tuple[str, str]] = Counter()
        for (root, kind, _), count in self._more.items():
            totals[root, kind] += count
        frequent = dict(totals.most_common(TYPES))
        of_path: dict[str, Counter[Reason]] = defaultdict(Counter)
        for (root, kind, reason), count in self._more.items():
            of_path[f"{root}/**/*{kind if (root, kind) in frequent else ''}"][reason] += count
        for path, counts in of_path.items():
            parts = [f"{count:,} {_more(reason, count)}" for reason, count in counts.items()]
            self._listed[path] = Skipped(path, "; ".join(parts), next(iter(counts)))
        return self._listed


def extension(path: str) -> str:
    """Return the extension of a file of this path or URL in lower case; "" without one.

    >>> extension("/a/b.JSON"), extension("/a.b/README"), extension("/a/frame.0001")
    ('.json', '', '')
    """
    suffix = splitext(path)[1].lower()  # noqa: PTH122  also for URLs
    return suffix if _EXTENSION.fullmatch(suffix) else ""


def _more(reason: Reason, count: int) -> str:
    what = "excluded" if reason is Reason.EXCLUDED else "not media"
    return f"more file{'s' * (count != 1)}, {what}"
