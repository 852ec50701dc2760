"""Which adjacent segments to merge, so that there are few and a row is rewritten only a few times."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

__all__ = ["SEGMENT_ROWS", "groups", "joined"]

SEGMENT_ROWS = 131_072  # of a full segment: 256 MB of float16 at 1024 dimensions
FAN = 5  # segments of a level that are merged into one of the next


def groups(rows: Sequence[int]) -> list[list[int]]:
    """Group segments of these sizes, in order, by position: those of a group become one.

    As in a log-structured merge tree, fewer than FAN segments per level stay, and full ones. The level of a
    segment is the logarithm to the base FAN of its size, or the level of a later one if that is higher.

    >>> groups([5000, *[1] * 4]), groups([5000, *[1] * 5])
    ([[0], [1], [2], [3], [4]], [[0], [1, 2, 3, 4, 5]])
    """
    levels = list(accumulate(map(_level, reversed(rows)), max))[::-1]  # not ascending
    merged: list[list[int]] = []
    for level in sorted(set(levels), reverse=True):
        same = [i for i, each in enumerate(levels) if each == level]
        small = [i for i in same if rows[i] < SEGMENT_ROWS]
        merged += joined(rows, same) if len(small) >= FAN else [[i] for i in same]
    return merged


def joined(rows: Sequence[int], positions: Sequence[int]) -> list[list[int]]:
    """Group as many of these adjacent segments as fit a full one; a small one may exceed it."""
    merged: list[list[int]] = []
    total = 0
    for i in positions:
        most = SEGMENT_ROWS if rows[i] * FAN > SEGMENT_ROWS else 2 * SEGMENT_ROWS
        if merged and total + rows[i] <= most:
            merged[-1].append(i)
            total += rows[i]
        else:
            merged.append([i])
            total = rows[i]
    return merged


def _level(rows: int) -> int:
    level, limit = 0, FAN
    while limit <= min(rows, SEGMENT_ROWS):
        level, limit = level + 1, limit * FAN
    return level + (rows >= SEGMENT_ROWS)
