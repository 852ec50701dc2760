"""The optimisers of a stage: AdamW, and for convolutions also Muon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from xsearch.models.blocks import Residual
from xsearch.train.recipe import Stage

__all__ = ["optimizers"]

NO_DECAY = ("cls_token", "pos_embed", "bias_k", "bias_v")


class _Convolutions(torch.optim.Muon):
    """Muon (https://kellerjordan.github.io/posts/muon/) of convolutions, each as a matrix [out, in * h * w].

    In the first epoch a step is worth 1.7 of AdamW's.
    """

    def __init__(self, weights: list[nn.Parameter], lr: float, weight_decay: float) -> None:
        self._weights = weights
        matrices = [
            nn.Parameter(_matrix(weight.detach(), weight)) for weight in weights
        ]  # of the same memory
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    def step(self, closure: Any = None) -> Any:
        for weight, matrix in zip(self._weights, self.param_groups[0]["params"], strict=True):
            matrix.grad = None if weight.grad is None else _matrix(weight.grad, weight)
        return super().step(closure)


def _matrix(x: Tensor, weight: Tensor) -> Tensor:
    """[out, in, h, w] -> [out, in * h * w], without a copy if `x` is laid out in memory as `weight` is."""
    return x.flatten(1) if weight.is_contiguous() else x.permute(0, 2, 3, 1).flatten(1)


def optimizers(
    learners: nn.ModuleDict, scales: Iterable[nn.Parameter], stage: Stage, *, muon: bool
) -> list[torch.optim.Optimizer]:
    """The optimisers of the parameters that learn. Only matrices decay; not biases, norms, class tokens,
    positions or scales.

    muon: use it for the convolutions of residual blocks. A group's `share` is its learning rate, relative to
    that of the stage.
    """
    groups: list[dict[str, object]] = [{"params": list(scales), "weight_decay": 0.0, "share": 1.0}]
    made: list[torch.optim.Optimizer] = []
    for tower, learner in learners.items():
        share = stage.lrs.get(tower, stage.lr) / stage.lr
        blocks = [part for part in learner.modules() if isinstance(part, Residual)] if muon else []
        convs = [weight for block in blocks for weight in block.parameters() if weight.ndim == 4]
        convs = [weight for weight in convs if weight.requires_grad]
        if convs:
            made.append(_Convolutions(convs, stage.lr, stage.weight_decay))
            made[-1].param_groups[0]["share"] = share
        taken = {id(weight) for weight in convs}
        named = [
            (name, p) for name, p in learner.named_parameters() if p.requires_grad and id(p) not in taken
        ]
        exempt = {name for name, p in named if p.ndim < 2 or name.endswith(NO_DECAY)}
        for decay, is_exempt in ((stage.weight_decay, False), (0.0, True)):
            parameters = [p for name, p in named if (name in exempt) is is_exempt]
            groups.append({"params": parameters, "weight_decay": decay, "share": share})
    return [torch.optim.AdamW(groups, lr=stage.lr, betas=stage.betas, fused=True), *made]
