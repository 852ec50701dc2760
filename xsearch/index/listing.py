"""What `plan.json` lists: the plan of an index, the ids that it covers, and its files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from xsearch.errors import StoreError
from xsearch.index.plan import OperatingPoint, Plan

__all__ = ["INDEX", "MOST_SHARDS", "PLAN", "SHARD", "Listing"]

INDEX, SHARD, PLAN = "index.faiss", "shard-{}.faiss", "plan.json"
MOST_SHARDS = 1_000
ID_BYTES, RUN_BYTES = 8, 48  # of an id in FAISS's files; of a run of ids in `plan.json`, at most
PLAN_BYTES = 1 << 20  # of `plan.json` without these


@dataclass(frozen=True, eq=False)
class Listing:
    """The content of `plan.json` of the index in `folder`. shards: 0 if it is one file."""

    folder: Path
    plan: Plan
    ids: np.ndarray  # int64 [n], ascending
    shards: int = 0

    @property
    def files(self) -> list[Path]:
        """The FAISS files."""
        names = [SHARD.format(number) for number in range(self.shards)] or [INDEX]
        return [self.folder / name for name in names]

    def sizes(self) -> list[int]:
        """The bytes of each file. Raises StoreError if one is missing."""
        try:
            return [file.stat().st_size for file in self.files]
        except OSError as error:
            raise StoreError(f"cannot read the index in {self.folder}: {error}; build it again") from error

    @cached_property
    def parts(self) -> Sequence[np.ndarray]:
        """The ids in each file."""
        return np.array_split(self.ids, self.shards or 1)

    def write(self) -> None:
        """Write it. Raises OSError."""
        ends = np.flatnonzero(np.diff(self.ids) != 1)  # last rows of consecutive runs
        runs = zip(self.ids[np.r_[0, ends + 1]].tolist(), self.ids[np.r_[ends, -1]].tolist(), strict=True)
        content = {**asdict(self.plan), "covered": list(runs)}
        if self.shards:
            content["shards"] = self.shards
        (self.folder / PLAN).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Listing:
        """Read the listing of an index. Raises StoreError, also if its files cannot hold what it lists."""
        try:
            return cls._read(folder)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"cannot read the index in {folder}: {error}; build it again") from error

    @classmethod
    def _read(cls, folder: Path) -> Listing:
        path = folder / PLAN
        bytes = sum(file.stat().st_size for file in folder.glob("*.faiss"))
        if path.stat().st_size > PLAN_BYTES + RUN_BYTES * bytes // ID_BYTES:
            raise ValueError(f"{path.name} is too large for its index")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError(f"{path.name} is no object")
        runs = np.array(content.pop("covered"))  # ValueError for ragged lists
        if runs.dtype != np.int64 or runs.ndim != 2 or runs.shape[1] != 2:
            raise ValueError("covered is not a list of pairs of whole numbers")
        firsts, lasts = runs.T
        if (firsts < 0).any() or (firsts > lasts).any() or (firsts[1:] <= lasts[:-1]).any():
            raise ValueError("covered ids do not ascend")
        if (lasts.astype(float) - firsts + 1).sum() > bytes / ID_BYTES:
            raise ValueError("more ids are covered than its index can hold")
        shards = content.pop("shards", 0)
        if type(shards) is not int or not 0 <= shards <= MOST_SHARDS:
            raise ValueError(f"shards is {str(shards)[:40]}")
        points = tuple(OperatingPoint(**point) for point in content.pop("points", ()))
        ids = [np.arange(first, last + 1) for first, last in runs.tolist()]
        return cls(folder, Plan(**content, points=points), np.concatenate(ids), shards)
