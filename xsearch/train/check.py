"""Held-out pairs: how well each modality finds each other one while training, trained pairs and others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from xsearch.errors import MediaError
from xsearch.models.imagebind import ImageBind
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.scenes import GRID, ROUND, ScenePairs

__all__ = ["HeldOut"]

MOST = 400  # pairs of a modality; 0.5 is then known to 0.025
AT_ONCE = 50


@dataclass(frozen=True)
class _Set:
    """Tower inputs of the same things, row by row, and what is a right answer."""

    inputs: dict[str, Tensor]
    labels: np.ndarray  # [N]
    motions: np.ndarray | None = None  # [N]: of scenes, what an IMU can tell

    def truth(self, *names: str) -> np.ndarray:
        return self.motions if self.motions is not None and "imu" in names else self.labels


class HeldOut:
    """Pairs that are not trained on.

    tables: by tower. scenes: rendered with another seed than those of training.
    """

    def __init__(
        self, tables: Mapping[str, Pairs], preprocess: Preprocess, scenes: ScenePairs | None = None
    ) -> None:
        self._sets: dict[str, _Set] = {}
        for name, pairs in tables.items():
            rows = np.linspace(0, len(pairs) - 1, min(MOST, len(pairs))).astype(int)
            pictures, partners, labels = [], [], []
            for row in rows:
                pair = pairs[int(row)]
                with suppress(MediaError):  # those of training are told
                    both = pair.picture(), pair.partner()
                    pictures.append(both[0])
                    partners.append(both[1])
                    labels.append(pair.label or f"{name} {row}")
            if labels:
                inputs = {"vision": preprocess(pictures), name: preprocess(partners)}
                self._sets[name] = _Set(inputs, np.array(labels))
        if scenes is not None:
            steps = len(scenes.kinds) // ROUND
            batches = [scenes.batch(step, 0, list(scenes.arrays)) for step in range(steps)]
            inputs = {name: torch.cat([batch[name] for batch in batches]) for name in scenes.arrays}
            kinds = np.tile(np.arange(ROUND), steps)
            self._sets["scenes"] = _Set(inputs, kinds, kinds % GRID[1])

    @torch.inference_mode()
    def matrix(self, model: ImageBind, device: torch.device) -> dict[str, float]:
        """P@1 of each modality of a set finding each other, such as {"audio/vision>audio": 0.31}.

        Between the partners of two tables, right is the same label; within a modality nothing is asked.
        """
        rows = {
            (source, name): _embedded(model, name, x, device)
            for source, one in self._sets.items()
            for name, x in one.inputs.items()
        }
        found = {}
        for (source, a), queries in rows.items():
            for (other, b), answers in rows.items():
                emergent = source != other and "vision" not in (a, b) and "scenes" not in (source, other)
                if a == b or not (source == other or emergent):
                    continue
                truths = self._sets[source].truth(a, b), self._sets[other].truth(a, b)
                right = truths[0][:, None] == truths[1][None, :]
                if emergent and not right.any():
                    continue
                asked = right.any(axis=1)
                nearest = (queries[asked] @ answers.T).argmax(axis=1)
                hit = right[asked][np.arange(asked.sum()), nearest]
                key = f"{source}/{a}>{b}" if source == other else f"{a}>{b}"
                found[key] = round(float(hit.mean()), 4)
        return found


def _embedded(model: ImageBind, name: str, x: Tensor, device: torch.device) -> np.ndarray:
    """float32 [N, E]."""
    parts = [model.towers[name](part.to(device)).float().cpu() for part in x.split(AT_ONCE)]
    found: np.ndarray = torch.cat(parts).numpy()
    return found
