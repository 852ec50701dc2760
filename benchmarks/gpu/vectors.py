"""Unit vectors of several kinds of media, drawn on a device, and the exact answers to queries."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.vectors import CONE_KINDS, GAP, NOISE, PER_CLUSTER, SHARES, SPREAD, K

__all__ = ["Host", "draw", "nearest"]

BLOCK = 1 << 17  # vectors at a time
SCORES = 1 << 29  # cosines at a time: 2 GB


def draw(n: int, dim: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return float16 [n, dim] and queries float32 [2 count, dim]: of the items' kinds, then of another.

    A mixture as `vectors.Clusters`, of equal clusters; kinds differ in their direction alone.
    """
    rng = torch.Generator(device).manual_seed(0)
    content = min(128, dim // 2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=rng, device=device)

    axes = torch.linalg.qr(normal(dim, content))[0].T  # [content, dim]
    cones = F.normalize(normal(CONE_KINDS + 1, dim), dim=1)
    centres = normal(max(n // PER_CLUSTER, 1), content)
    shares = torch.tensor(SHARES, device=device)

    def of_kinds(kinds: Tensor) -> Tensor:
        cluster = torch.randint(len(centres), (len(kinds),), generator=rng, device=device)
        own = (1 - SPREAD) ** 0.5 * centres[cluster] + SPREAD**0.5 * normal(len(kinds), content)
        x = (1 - GAP - NOISE) ** 0.5 * F.normalize(own, dim=1) @ axes
        x += GAP**0.5 * cones[kinds] + (NOISE / dim) ** 0.5 * normal(len(kinds), dim)
        return F.normalize(x, dim=1)

    def drawn_kinds(b: int) -> Tensor:
        return torch.multinomial(shares, b, replacement=True, generator=rng)

    table = torch.empty((n, dim), dtype=torch.float16, device=device)
    for part in table.split(BLOCK):
        part.copy_(of_kinds(drawn_kinds(len(part))))
    another = torch.full((count,), CONE_KINDS, device=device)
    return table, torch.cat([of_kinds(drawn_kinds(count)), of_kinds(another)])


def nearest(table: Tensor, queries: Tensor, k: int = K) -> tuple[Tensor, Tensor]:
    """Return the k nearest rows of each query by a scan: cosines [Q, k], best first, and rows int64 [Q, k].

    Computed in the type of `queries`, float16 or float32.
    """
    rows = min(max(SCORES // len(queries), BLOCK), len(table))
    found = []
    for at, part in enumerate(table.split(rows)):
        products = queries @ part.to(queries.dtype).T  # [Q, rows]
        best = products.topk(min(k, len(part)), dim=1)
        found.append((best.values, best.indices + at * rows))
    scores, ids = (torch.cat(some, dim=1) for some in zip(*found, strict=True))
    order = scores.topk(min(k, len(table)), dim=1).indices
    return scores.gather(1, order), ids.gather(1, order)


class Host:
    """Vectors float16 [N, dim] in the host's memory, as a snapshot has them: ids are rows.

    count: reported as their number, as which `DeviceVectors` never takes so many to the device.
    """

    def __init__(self, table: np.ndarray, count: int | None = None) -> None:
        self.table, self._count = table, len(table) if count is None else count

    def __len__(self) -> int:
        return self._count

    def rows(self, ids: np.ndarray) -> np.ndarray:
        return ids

    def stored(self, ids: np.ndarray) -> np.ndarray:
        return np.take(self.table, ids, axis=0)

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(self.table), BLOCK):
            block = self.table[start : start + BLOCK]
            yield np.arange(start, start + len(block)), block
