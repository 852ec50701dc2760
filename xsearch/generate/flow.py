"""Rectified flow between noise (time 0) and data (time 1): training loss and sampler.

At time t a sample is z = t * x + (1 - t) * noise, and its velocity x - noise = (x - z) / (1 - t).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["draw_times", "flow_loss", "heun", "noisy_vectors"]

TIME_MEAN, TIME_STD = -0.8, 0.8  # of the logit of times in training: arXiv:2511.13720, Table 9
LAST = 0.05  # 1 - t is not taken as smaller than this in the loss: the same table


def draw_times(count: int, generator: torch.Generator) -> Tensor:
    """Times float32 [count] of training samples, logit-normal."""
    return torch.sigmoid(TIME_MEAN + TIME_STD * torch.randn(count, generator=generator))


def noisy_vectors(vectors: Tensor, levels: Tensor, noise: Tensor) -> Tensor:
    """Unit rows [B, D] with noise [B, D] of an expected length of levels [B] each, normalised."""
    D = vectors.shape[1]
    return torch.nn.functional.normalize(vectors + levels[:, None] * noise / D**0.5, dim=1)


def flow_loss(predict: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity of a prediction of x [B, ...] from z and t [B]."""
    t_ = t.view(-1, *[1] * (x.ndim - 1))
    z = t_ * x + (1 - t_) * noise
    return ((predict(z, t).float() - x) / (1 - t_).clamp(min=LAST)).square().mean()


def heun(
    velocity: Callable[[Tensor, float], Tensor],
    z: Tensor,
    steps: int,
    tick: Callable[[int], object] = lambda done: None,
) -> Tensor:
    """Integrate from time 0 to 1 with Heun's method. The last step is Euler's: velocities divide by 1 - t.

    tick: called with the number of steps done, after each.
    """
    h = 1 / steps
    for step in range(steps):
        v = velocity(z, step * h)
        if step < steps - 1:
            v = (v + velocity(z + h * v, (step + 1) * h)) / 2
        z = z + h * v
        tick(step + 1)
    return z
