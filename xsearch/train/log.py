"""The log of a training run: JSON lines, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import math
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["LOG", "Log", "read_log"]

LOG = "log.jsonl"


class Log:
    """Writes the metrics of one stage. precision: "fp32" or "bf16", recorded in every line."""

    def __init__(self, folder: Path, stage: str, precision: str, *, silent: bool = False) -> None:
        self._about = {"stage": stage, "precision": precision}
        self._file, self._board = None, None
        if silent:
            return
        path = folder / LOG
        torn = path.exists() and not path.read_bytes().endswith(b"\n")  # by a crash
        self._file = path.open("a", encoding="utf-8")
        if torn:
            print(file=self._file)
        try:
            board: Any = import_module("torch.utils.tensorboard")
        except ImportError:
            return
        self._board = board.SummaryWriter(str(folder / "tensorboard" / stage))

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def add(self, step: int, metrics: dict[str, float]) -> None:
        """Write the finite ones of `metrics`."""
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if self._file is not None:
            rounded = {name: float(f"{value:.5g}") for name, value in finite.items()}
            print(json.dumps({**self._about, "step": step, **rounded}), file=self._file, flush=True)
        if self._board is not None:
            for name, value in finite.items():
                self._board.add_scalar(name, value, step)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """All entries; of those that an interrupted run wrote twice, the last."""
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    entries: dict[tuple[str, int, bool], dict[str, Any]] = {}
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:  # torn by a crash
            continue
        entries[entry["stage"], entry["step"], "loss" in entry] = entry
    return list(entries.values())
