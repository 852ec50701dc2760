"""The binding loss."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["binding_loss", "info_nce"]


def info_nce(a: Tensor, b: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE (arXiv:1807.03748) of paired unit rows, float [B, E] each: a scalar.

    Row i of `a` belongs to row i of `b`; every other row of the batch is a wrong answer.

    >>> round(float(info_nce(torch.eye(2), torch.eye(2), temperature=1.0)), 4)  # ln(1 + 1/e)
    0.3133
    """
    logits = a @ b.T / temperature  # [B, B]
    right = torch.arange(len(a), device=a.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2


def binding_loss(embeddings: dict[str, Tensor], temperatures: dict[str, float]) -> dict[str, Tensor]:
    """InfoNCE of the picture with each other modality; those are never compared with each other.

    That they agree all the same is what ImageBind calls emergent alignment (arXiv:2305.05665, section 3.1).
    """
    picture = embeddings["vision"]
    return {name: info_nce(picture, embeddings[name], t) for name, t in temperatures.items()}
