"""The score from which something is there, measured on pictures in which it is not.

A table has, of each kind of query, the scores that some shares of such pictures exceed. That of the bundled
model is in the package; `xsearch locate --calibrate` measures that of another one, and keeps it beside the
models that are pulled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from xsearch.errors import UsageError
from xsearch.models.registry import home
from xsearch.system.durable import publish, read_file
from xsearch.types import Fingerprint, Modality

__all__ = ["BUNDLED", "SHARES", "Thresholds"]

SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)  # of pictures, for which there are scores
BUNDLED = Path(__file__).parent / "bundled.json"
MOST_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Scores of a model by kind of query, one for each of SHARES. pictures: how many were measured."""

    digest: str
    preprocessing: str
    pictures: int
    scores: Mapping[str, Sequence[float]]

    @staticmethod
    def of(fingerprint: Fingerprint) -> Thresholds:
        """The table of a model; if it has not been measured, that of the bundled one: see `is_of`."""
        for path in (_path(fingerprint.digest), BUNDLED):
            try:
                table = Thresholds(**json.loads(read_file(path, MOST_BYTES)))
            except (OSError, TypeError, ValueError):  # there is none, or it is not whole
                continue
            if table.is_of(fingerprint) or path == BUNDLED:
                return table
        raise UsageError(f"{BUNDLED} cannot be read; reinstall xsearch")

    @staticmethod
    def measured(fingerprint: Fingerprint, scores: Mapping[Modality, np.ndarray]) -> Thresholds:
        """The table of scores [pictures] in pictures without what is looked for."""
        quantiles = 1 - np.array(SHARES)
        return Thresholds(
            fingerprint.digest,
            fingerprint.preprocessing,
            min(map(len, scores.values())),
            {str(kind): np.quantile(of, quantiles).round(3).tolist() for kind, of in scores.items()},
        )

    def is_of(self, fingerprint: Fingerprint) -> bool:
        """Whether it was measured with this model."""
        return (self.digest, self.preprocessing) == (fingerprint.digest, fingerprint.preprocessing)

    def at(self, kind: Modality, share: float) -> float:
        """The score that this share of pictures without it exceed."""
        if not SHARES[0] <= share <= SHARES[-1]:
            raise UsageError(f"false alarms: expected {SHARES[0]:g} to {SHARES[-1]:g}, got {share:g}")
        scores = self.scores[Modality.IMAGE if kind is Modality.VIDEO else kind]
        return float(np.interp(np.log(share), np.log(SHARES), scores))

    def save(self, path: Path | None = None) -> Path:
        """Keep it for `of`, or at `path`."""
        path = path or _path(self.digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        with publish(path) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")
        return path


def _path(digest: str) -> Path:
    return home() / "locate" / f"{digest[:16]}.json"
