"""A part of the measurements: where it runs, how long it may take, and its rows so far."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.towers import Timer

__all__ = ["Part", "write"]

Row = dict[str, Any]


class Part:
    """Rows are in the file at `path` at every moment, under the name of the part."""

    def __init__(
        self, name: str, device: str, *, tiny: bool = False, limit_s: float = 60.0, path: Path | None = None
    ) -> None:
        self.name, self.device, self.tiny, self.path = name, torch.device(device), tiny, path
        self.on_gpu = self.device.type == "cuda"
        self.rows: list[Row] = []
        self._end = time.monotonic() + limit_s

    @property
    def left_s(self) -> float:
        return self._end - time.monotonic()

    def measure(self, function: Callable[[], Row], *, least_s: float = 0.0, **about: Any) -> Row:
        """Add the row of `about` and what `function` returns, or its error. Returns it.

        least_s: what is not started with less time than that.
        """
        row = dict(about)
        if self.left_s < least_s:
            row["error"] = "no time left"
        else:
            try:
                row |= function()
            except Exception as error:
                lines = str(error).splitlines() or [""]
                row["error"] = f"{type(error).__name__}: {lines[0][:200]}"
        self.rows.append(row)
        if self.path is not None:
            result = json.loads(self.path.read_text())
            result["parts"][self.name] |= {"device": self._device_name(), "rows": self.rows}
            write(result, self.path)
        if self.on_gpu:
            torch.cuda.empty_cache()  # no exception holds what was computed any more; fails if the device has
        return row

    def seconds(self, function: Callable[[], object], *, for_s: float = 0.5) -> float:
        """Median of at least three calls, after one to warm up; the device has finished each."""
        return Timer(self.device, 0.0 if self.tiny else for_s).medians({"it": function})["it"]

    def _device_name(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.on_gpu else "CPU"
        return f"{name}, torch {torch.__version__}"


def write(result: dict[str, Any], path: Path) -> None:
    """Replace the file at once: who reads it, or is killed while writing it, sees a whole one."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(result, indent=1, default=float))
    part.replace(path)
