"""Counters and histograms in Prometheus's text format, version 0.0.4."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from itertools import accumulate
from threading import Lock

__all__ = ["Metrics", "labelled"]

BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, float("inf"))


class Metrics:
    """What has happened since the server started; for any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: defaultdict[str, Counter[str]] = defaultdict(Counter)  # by name, then labels
        self._seconds: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)  # a sum, then buckets

    def count(self, name: str, amount: int = 1, **labels: str) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name][labelled(**labels)] += amount

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add a duration to a histogram."""
        at = next(at for at, bound in enumerate(BUCKETS_S) if seconds <= bound)
        with self._lock:
            figures = self._seconds[name].setdefault(labelled(**labels), [0.0] * (1 + len(BUCKETS_S)))
            figures[0] += seconds
            figures[1 + at] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """Return all of them; gauges: names, with labels if need be, and values of this moment."""
        with self._lock:
            lines = list(self._lines())
        return "\n".join([*lines, *(f"xsearch_{name} {value}" for name, value in gauges.items()), ""])

    def _lines(self) -> Iterator[str]:
        for name, counts in self._counts.items():
            yield f"# TYPE xsearch_{name} counter"
            yield from (f"xsearch_{name}{labels} {value}" for labels, value in counts.items())
        for name, histograms in self._seconds.items():
            yield f"# TYPE xsearch_{name} histogram"
            for labels, (total, *buckets) in histograms.items():
                for bound, value in zip(BUCKETS_S, accumulate(buckets), strict=True):
                    le = "+Inf" if bound == float("inf") else bound
                    yield f'xsearch_{name}_bucket{labels[:-1]},le="{le}"}} {value:g}'
                yield f"xsearch_{name}_sum{labels} {total}"
                yield f"xsearch_{name}_count{labels} {sum(buckets):g}"


def labelled(**labels: str) -> str:
    """Return labels as they are written after a name.

    >>> labelled(route="/v1/search", status="200")
    '{route="/v1/search",status="200"}'
    """
    escaped = ((name, value.translate({92: r"\\", 34: r"\"", 10: r"\n"})) for name, value in labels.items())
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"
