"""The binding loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from xsearch.train.labels import same

__all__ = ["binding_loss", "info_nce"]


def info_nce(a: Tensor, b: Tensor, temperature: float | Tensor, labels: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (arXiv:1807.03748) of paired unit rows, float [..., B, E] each: a scalar.

    Row i of `a` belongs to row i of `b`; every other row of its batch is a wrong answer, but for rows that
    share one of their labels, int64 [B, M], which are as right (arXiv:2004.11362). Batches in front are
    averaged.

    >>> round(float(info_nce(torch.eye(2), torch.eye(2), temperature=1.0)), 4)  # ln(1 + 1/e)
    0.3133
    """
    logits = a @ b.transpose(-2, -1) / temperature  # [..., B, B]
    right = torch.arange(a.shape[-2], device=a.device).expand(a.shape[:-1]).flatten()
    if labels is not None:
        alike = same(labels, labels).to(logits.dtype)
        right = alike / alike.sum(dim=1, keepdim=True)  # [B, B]
    return (
        F.cross_entropy(logits.flatten(0, -2), right)
        + F.cross_entropy(logits.transpose(-2, -1).flatten(0, -2), right)
    ) / 2


def binding_loss(a: Tensor, b: Tensor, temperature: float | Tensor, grid: tuple[int, int]) -> Tensor:
    """InfoNCE of a batch whose rows are a grid of subjects x places: over all, and within rows and columns.

    Towers that start from nothing learn the places first, which fill the picture and the sound, and then
    rest there: after 400 steps with the plain loss, P@1 of the subject was still at chance, that of the
    place at 0.9. Among scenes of one place, only the subject tells them apart.
    """
    a_grid, b_grid = a.unflatten(0, grid), b.unflatten(0, grid)  # [subjects, places, E]
    return (
        info_nce(a, b, temperature)
        + info_nce(a_grid.transpose(0, 1), b_grid.transpose(0, 1), temperature)
        + info_nce(a_grid, b_grid, temperature)
    )
