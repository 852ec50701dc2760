"""Labels as integer codes, and which rows share one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

__all__ = ["codes_of", "same", "vocabulary"]


def vocabulary(*columns: Sequence[str | None]) -> dict[str, int]:
    """A code for each label in these columns; a row may have several, as "dog|bark"."""
    names = {name for column in columns for label in column if label for name in label.split("|")}
    return {name: code for code, name in enumerate(sorted(names))}


def codes_of(labels: Sequence[str | None], known: dict[str, int]) -> np.ndarray:
    """int64 [N, M]: the codes of each row's labels, padded with negative codes that no other row has."""
    codes = [[known[name] for name in label.split("|")] if label else [] for label in labels]
    most = max(map(len, codes), default=0) or 1
    table = -1 - np.arange(len(codes) * most).reshape(-1, most)
    for row, some in enumerate(codes):
        table[row, : len(some)] = some
    return table


def same(a: Tensor, b: Tensor) -> Tensor:
    """bool [A, B]: whether a row of a, int64 [A, M], shares a code with a row of b, [B, M]."""
    shared = a[:, :1] == b[None, :, 0]
    for i in range(a.shape[1]):
        for j in range(b.shape[1]):
            shared = shared | (a[:, i, None] == b[None, :, j])
    return shared
