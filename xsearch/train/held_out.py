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
from xsearch.train.labels import codes_of, same, vocabulary
from xsearch.train.scene_pairs import GRID, ROUND, ScenePairs

__all__ = ["HeldOut"]

MOST = 400  # pairs of a modality; 0.5 is then known to 0.025
AT_ONCE = 50


@dataclass(frozen=True)
class _Set:
    """Tower inputs of the same things, row by row, and what is a right answer: rows that share a number."""

    inputs: dict[str, Tensor]
    codes: Tensor  # int64 [N, M]
    motions: Tensor | None = None  # [N, 1]: of scenes, what an IMU can tell

    def truth(self, *names: str) -> Tensor:
        return self.motions if self.motions is not None and "imu" in names else self.codes


class HeldOut:
    """Pairs that are not trained on.

    tables: by tower; what cannot be decoded is passed over. scenes: rendered with another seed than those
    of training.
    """

    def __init__(
        self, tables: Mapping[str, Pairs], preprocess: Preprocess, scenes: ScenePairs | None = None
    ) -> None:
        self._sets: dict[str, _Set] = {}
        known = vocabulary(*(pairs.labels.tolist() for pairs in tables.values()))
        for name, pairs in tables.items():
            pictures, partners, labels = [], [], []
            for row in np.linspace(0, len(pairs) - 1, min(MOST, len(pairs))).astype(int):
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
        """P@1 of each modality of a set finding each other, such as {"audio/vision>audio": 0.31}.

        Between the partners of two tables ("audio>text"), right is a common label; queries without a right
        answer do not count, and within a modality nothing is asked.
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
                right = same(self._sets[source].truth(a, b), self._sets[other].truth(a, b))
                asked = right.any(dim=1)
                if asked.any():
                    nearest = (queries[asked] @ answers.T).argmax(dim=1, keepdim=True)
                    key = f"{source}/{a}>{b}" if source == other else f"{a}>{b}"
                    found[key] = round(float(right[asked].gather(1, nearest).float().mean()), 4)
        return found


def _embedded(model: ImageBind, name: str, x: Tensor, device: torch.device) -> Tensor:
    """float32 [N, E]."""
    return torch.cat([model.towers[name](part.to(device)).float().cpu() for part in x.split(AT_ONCE)])
