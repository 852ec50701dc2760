"""Muon on convolutions is torch's Muon on matrices."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from xsearch.models.blocks import Residual
from xsearch.train import Stage
from xsearch.train.optimizers import optimizers

STAGE = Stage(learn=("vision",), bind=("text",), steps=1, lr=0.1, weight_decay=0.2)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_moves_as_a_matrix_does(layout):
    torch.manual_seed(0)
    tower = nn.ModuleDict({"vision": Residual(4, 6, stride=2).to(memory_format=layout)})
    conv = tower["vision"].straight[0]
    order = (0, 1, 2, 3) if layout is torch.contiguous_format else (0, 2, 3, 1)
    matrix = nn.Parameter(conv.weight.detach().permute(order).flatten(1).clone())
    oracle = torch.optim.Muon([matrix], lr=0.1, weight_decay=0.2, adjust_lr_fn="match_rms_adamw")
    adam, muon = optimizers(tower, [], STAGE, muon=True)
    for _ in range(2):
        conv.weight.grad = torch.randn(6, 4, 3, 3)
        matrix.grad = conv.weight.grad.permute(order).flatten(1)
        oracle.step()
        muon.step()
    torch.testing.assert_close(conv.weight.detach().permute(order).flatten(1), matrix.detach())
    assert {weight.ndim for group in adam.param_groups for weight in group["params"]} == {1}


def test_all_learn_once():
    tower = nn.ModuleDict({"vision": nn.Sequential(nn.Conv2d(3, 4, 3), Residual(4, 6), nn.Linear(6, 2))})
    for muon in (False, True):
        made = optimizers(tower, [], STAGE, muon=muon)
        numbers = [
            weight.numel()
            for optimizer in made
            for group in optimizer.param_groups
            for weight in group["params"]
        ]
        assert sum(numbers) == sum(weight.numel() for weight in tower.parameters())
        assert len(made) == 1 + muon
