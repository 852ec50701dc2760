"""The training state of a stage: towers, optimiser, weight averages; saved as a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from xsearch.system.durable import publish
from xsearch.train.optimizers import optimizers
from xsearch.train.recipe import Stage

__all__ = ["State", "average"]

MAX_LOG_SCALE = math.log(100)  # CLIP's, arXiv:2103.00020, section 2.5


@torch.no_grad()
def average(averages: Mapping[str, Tensor], weights: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Update running averages (EMA) of weights, in place, after so many steps."""
    decay = min(decay, (1 + step) / (10 + step))  # forget the initial weights soon
    torch._foreach_lerp_(list(averages.values()), [weights[name] for name in averages], 1 - decay)


class State:
    """The state of one stage.

    learners: the towers that learn. scales: log inverse temperatures that are learned, by modality.
    decay: of the averaged weights (EMA); 0 for none. muon: see `optimizers`.
    """

    def __init__(
        self, learners: nn.ModuleDict, scales: nn.ParameterDict, stage: Stage, decay: float, *, muon: bool
    ) -> None:
        self.learners, self.scales, self.decay = learners, scales, decay
        self.optimizers = optimizers(learners, scales.values(), stage, muon=muon)
        self.averages = {name: x.clone() for name, x in self._weights().items()} if decay else {}
        self.step = 0
        self.best, self.since = -1.0, 0  # best held-out precision, and evaluations since
        self.done = False

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Those that learn, except the scales: every process computes their whole gradient."""
        return [parameter for parameter in self.learners.parameters() if parameter.requires_grad]

    @property
    def temperatures(self) -> dict[str, float]:
        """Learned temperatures, for the log."""
        return {f"temperature {name}": float(torch.exp(-x.detach())) for name, x in self.scales.items()}

    @property
    def statistics(self) -> dict[str, Tensor]:
        """Running means and variances of the batch norms in training mode, not copied."""
        return {
            f"{name}.{which}": getattr(part, which)
            for name, part in self.learners.named_modules()
            if isinstance(part, nn.BatchNorm2d) and part.training
            for which in ("running_mean", "running_var")
        }

    def skip(self, statistics: dict[str, Tensor]) -> None:
        """Count a step without taking it. statistics: copies from before its forward pass, restored."""
        self.step += 1
        for name, x in self.statistics.items():
            x.copy_(statistics[name])

    def advance(self) -> None:
        """Take an optimiser step, clamp the scales, and update the averages."""
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        with torch.no_grad():
            for scale in self.scales.values():
                scale.clamp_(max=MAX_LOG_SCALE)
        if self.averages:
            average(self.averages, self._weights(), self.decay, self.step)

    def prepare(self, lr: float) -> None:
        """Set the learning rates, of which `lr` is the stage's, and forget the gradients."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr * group["share"]
        for parameter in (*self.learners.parameters(), *self.scales.parameters()):
            parameter.grad = None

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Swap in the averaged weights and eval mode for the duration of the block."""
        modes = {part: part.training for part in self.learners.modules()}
        self._swap()
        self.learners.eval()
        try:
            yield
        finally:
            for part, mode in modes.items():
                part.training = mode
            self._swap()

    def finish(self) -> None:
        """Swap in the averaged weights: they are the result."""
        self._swap()

    def save(self, path: Path) -> None:
        content = {
            "learners": self.learners.state_dict(),
            "scales": self.scales.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averages": self.averages,
            "step": self.step,
            "best": self.best,
            "since": self.since,
            "done": self.done,
        }
        with publish(path) as part:
            torch.save(content, part)

    def resume(self, path: Path) -> None:
        """Load the checkpoint at `path`, if there is one."""
        if not path.exists():
            return
        content = torch.load(path, weights_only=True, map_location="cpu")
        self.learners.load_state_dict(content["learners"])
        self.scales.load_state_dict(content["scales"])
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.averages = {name: x.to(self.averages[name].device) for name, x in content["averages"].items()}
        self.step, self.done = content["step"], content["done"]
        self.best, self.since = content["best"], content["since"]

    def _weights(self) -> dict[str, Tensor]:
        """What is averaged: parameters that learn, and batch norm statistics."""
        named = self.learners.named_parameters()
        return {name: x.detach() for name, x in named if x.requires_grad} | self.statistics

    def _swap(self) -> None:
        weights = self._weights()
        for name, average in self.averages.items():
            current = weights[name].clone()
            weights[name].copy_(average)
            average.copy_(current)
