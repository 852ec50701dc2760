"""The training state of a stage: towers, optimiser, weight averages; saved as a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from xsearch.system.durable import publish
from xsearch.train.recipe import Stage

__all__ = ["State"]

NO_DECAY = ("cls_token", "pos_embed", "bias_k", "bias_v")
MAX_LOG_SCALE = math.log(100)  # CLIP's, arXiv:2103.00020, section 2.5


class State:
    """The state of one stage.

    learners: the towers that learn. scales: log inverse temperatures that are learned, by modality.
    decay: of the averaged weights (EMA); 0 for none.
    """

    def __init__(self, learners: nn.ModuleDict, scales: nn.ParameterDict, stage: Stage, decay: float) -> None:
        self.learners, self.scales, self.decay = learners, scales, decay
        self.optimizer = torch.optim.AdamW(_groups(learners, scales, stage), lr=stage.lr, betas=stage.betas)
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
        self.optimizer.step()
        self.step += 1
        decay = min(self.decay, (1 + self.step) / (10 + self.step))  # forget the initial weights soon
        with torch.no_grad():
            for scale in self.scales.values():
                scale.clamp_(max=MAX_LOG_SCALE)
            for name, x in self._weights().items() if self.averages else ():
                self.averages[name].lerp_(x, 1 - decay)

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
            "optimizer": self.optimizer.state_dict(),
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
        self.optimizer.load_state_dict(content["optimizer"])
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


def _groups(learners: nn.ModuleDict, scales: nn.ParameterDict, stage: Stage) -> list[dict[str, object]]:
    """Parameter groups: only matrices decay; not biases, norms, class tokens, positions or scales.

    share: the group's learning rate, relative to that of the stage.
    """
    groups: list[dict[str, object]] = [{"params": list(scales.values()), "weight_decay": 0.0, "share": 1.0}]
    for tower, learner in learners.items():
        named = [(name, p) for name, p in learner.named_parameters() if p.requires_grad]
        exempt = {name for name, p in named if p.ndim < 2 or name.endswith(NO_DECAY)}
        share = stage.lrs.get(tower, stage.lr) / stage.lr
        for decay, is_exempt in ((stage.weight_decay, False), (0.0, True)):
            parameters = [p for name, p in named if (name in exempt) is is_exempt]
            groups.append({"params": parameters, "weight_decay": decay, "share": share})
    return groups
