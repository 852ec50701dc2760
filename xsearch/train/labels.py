"""Which rows are right answers for each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

__all__ = ["codes_of", "same", "vocabulary"]


def vocabulary(*columns: Sequence[str | None]) -> dict[str, int]:
    """A number for each label of these columns; a row may have several, as "dog|bark"."""
    names = {name for column in columns for label in column if label for name in label.split("|")}
    return {name: code for code, name in enumerate(sorted(names))}


def codes_of(labels: Sequence[str | None], known: dict[str, int]) -> np.ndarray:
    """int64 [N, M]: the numbers of each row's labels; what is left has numbers of its own, below 0."""
    codes = [[known[name] for name in label.split("|")] if label else [] for label in labels]
    most = max(map(len, codes), default=0) or 1
    table = -1 - np.arange(len(codes) * most).reshape(-1, most)
    for row, some in enumerate(codes):
        table[row, : len(some)] = some
    return table


def same(a: Tensor, b: Tensor) -> Tensor:
    """Whether rows of a, int64 [A, M], share a number with rows of b, [B, M]: bool [A, B]."""
    found = a[:, :1] == b[None, :, 0]
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            found = found | (a[:, i, None] == b[None, :, j])
    return found
