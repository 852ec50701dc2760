"""Held-out evaluation while training: P@1 between modalities, both trained and emergent pairs."""

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
from xsearch.train.labels import codes_of, same, vocabulary
from xsearch.train.scene_pairs import GRID, ROUND, ScenePairs

__all__ = ["HeldOut"]

MAX_PAIRS = 400  # of a modality: the standard error of a P@1 of 0.5 is 0.025
BATCH = 50


@dataclass(frozen=True)
class _Set:
    """Tower inputs, row by row the same item, and codes: rows that share one are relevant to each other."""

    inputs: dict[str, Tensor]
    codes: Tensor  # int64 [N, M]
    imu_codes: Tensor | None = None  # [N, 1]: of scenes, what an IMU can distinguish

    def relevance(self, *names: str) -> Tensor:
        return self.imu_codes if self.imu_codes is not None and "imu" in names else self.codes


class HeldOut:
    """Pairs that are not trained on.

    tables: by tower; pairs that cannot be decoded are skipped. scenes: rendered with a seed other than that
    of training.
    """

    def __init__(
        self, tables: Mapping[str, Pairs], preprocess: Preprocess, scenes: ScenePairs | None = None
    ) -> None:
        self._sets: dict[str, _Set] = {}
        known = vocabulary(*(pairs.labels.tolist() for pairs in tables.values()))
        for name, pairs in tables.items():
            pictures, partners, labels = [], [], []
            for row in np.linspace(0, len(pairs) - 1, min(MAX_PAIRS, len(pairs))).astype(int):
                with suppress(MediaError):
                    pair = pairs[int(row)]
                    both = pair.picture(), pair.partner()
                    pictures.append(both[0])
                    partners.append(both[1])
                    labels.append(pair.label)
            if labels:
                inputs = {"vision": preprocess(pictures), name: preprocess(partners)}
                self._sets[name] = _Set(inputs, torch.from_numpy(codes_of(labels, known)))
        if scenes is not None:
            steps = len(scenes.kinds) // ROUND
            batches = [scenes.batch(step, [0], list(scenes.arrays)) for step in range(steps)]
            inputs = {name: torch.cat([batch[name] for batch in batches]) for name in scenes.arrays}
            kinds = torch.arange(ROUND).repeat(steps)[:, None]
            self._sets["scenes"] = _Set(inputs, kinds, kinds % GRID[1])

    @torch.inference_mode()
    def matrix(self, model: ImageBind, device: torch.device) -> dict[str, float]:
        """P@1 between the modalities of each set, such as {"audio/vision>audio": 0.31}.

        Between the partners of two tables ("audio>text"), a common label is relevant. Queries without a
        relevant item are excluded; no modality is queried with itself.
        """
        rows = {
            (source, name): _embedded(model, name, x, device)
            for source, one in self._sets.items()
            for name, x in one.inputs.items()
        }
        precisions = {}
        for (source, a), queries in rows.items():
            for (other, b), items in rows.items():
                emergent = source != other and "vision" not in (a, b) and "scenes" not in (source, other)
                if a == b or not (source == other or emergent):
                    continue
                relevant = same(self._sets[source].relevance(a, b), self._sets[other].relevance(a, b))
                answerable = relevant.any(dim=1)
                if answerable.any():
                    nearest = (queries[answerable] @ items.T).argmax(dim=1, keepdim=True)
                    key = f"{source}/{a}>{b}" if source == other else f"{a}>{b}"
                    hits = relevant[answerable].gather(1, nearest)
                    precisions[key] = round(float(hits.float().mean()), 4)
        return precisions


def _embedded(model: ImageBind, name: str, x: Tensor, device: torch.device) -> Tensor:
    """float32 [N, E]."""
    return torch.cat([model.towers[name](part.to(device)).float().cpu() for part in x.split(BATCH)])
