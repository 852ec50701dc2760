"""Linear layers in int8 against sums of integers, and towers of them against float32."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xsearch.models import TOWERS, ImageBind, ImageBindConfig, Tokenizer, load_config, load_tower, save_model
from xsearch.models.dense import dense_features
from xsearch.models.imagebind import VisionTower
from xsearch.models.int8 import Int8Linear


def oracle(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """One row at a time: inputs from -127 to 127, weights from -64 to 64, rounded, summed as integers."""
    steps = weight.abs().amax(dim=1) / 64
    integers = (weight / steps[:, None]).round().long()
    rows = []
    for row in x:
        step = row.abs().max() / 127
        rounded = (row * (1 / step) + 128.5).floor().long() - 128
        rows.append((integers * rounded).sum(dim=1).double() * step.double() * steps.double() + bias.double())
    return torch.stack(rows)


@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"), [(1, 512, 8), (3, 33, 1), (70, 96, 50), (5, 2048, 40)]
)
def test_a_layer_is_the_rounded_one_in_exact_arithmetic(rows, inputs, outputs):
    torch.manual_seed(0)
    x = torch.randn(rows, inputs) * torch.logspace(-3, 3, rows)[:, None]
    weight, bias = (
        torch.randn(outputs, inputs) * torch.logspace(-2, 2, outputs)[:, None],
        torch.randn(outputs),
    )
    layer = Int8Linear(weight, bias)
    expected = oracle(x, weight, bias)
    torch.testing.assert_close(
        layer(x).double(), expected, rtol=1e-5, atol=1e-6 * float(expected.abs().max())
    )
    assert torch.equal(layer(x[None])[0], layer(x))
    assert F.cosine_similarity(layer(x), F.linear(x, weight, bias)).min() > 0.999


def test_the_largest_sums_do_not_saturate():
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]]).repeat(1, 1024)
    layer = Int8Linear(signs, None)
    expected = torch.tensor([[2048.0, 0, -2048], [0, 2048, 0], [-2048, 0, 2048]])
    torch.testing.assert_close(layer(signs), expected)


def test_a_row_does_not_depend_on_the_others():
    torch.manual_seed(0)
    layer = Int8Linear(torch.randn(48, 96), torch.randn(48))
    x = torch.randn(40, 96)
    x[7] *= 1e6
    together = layer(x)
    for few in (1, 2, 7, 33):
        assert torch.equal(torch.cat([layer(part) for part in x.split(few)]), together)


def test_a_row_of_zeros_becomes_the_bias():
    bias = torch.randn(4)
    weight = torch.randn(4, 6)
    weight[2] = 0
    assert torch.equal(Int8Linear(weight, bias)(torch.zeros(2, 6)), bias.expand(2, 4))
    assert Int8Linear(weight, bias)(torch.ones(1, 6))[0, 2] == bias[2]


@pytest.fixture
def folder(config: ImageBindConfig, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    """A model whose vision and text towers are wide."""
    part = dataclasses.replace
    vision, text = (part(getattr(config, name), width=512, heads=8) for name in ("vision", "text"))
    torch.manual_seed(0)
    save_model(ImageBind(part(config, vision=vision, text=text)), tokenizer, tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", TOWERS)
@torch.inference_mode()
def test_a_tower_keeps_its_directions_whatever_shares_the_batch(name, folder, inputs):
    config, _ = load_config(folder)
    exact, tower = load_tower(folder, name, config), load_tower(folder, name, config, dtype=torch.int8)
    assert not any(isinstance(part, nn.Linear) for part in tower.modules())
    assert not any("in_proj_weight" in key for key in tower.state_dict())
    x = inputs[name]
    together = tower(x)
    assert F.cosine_similarity(together, exact(x)).min() > 0.995
    assert torch.equal(torch.cat([tower(x[:1]), tower(x[1:])]), together)


@torch.inference_mode()
def test_a_text_does_not_depend_on_longer_ones(folder):
    config, _ = load_config(folder)
    exact, tower = (load_tower(folder, "text", config, dtype=dtype) for dtype in (torch.float32, torch.int8))
    vocab, lengths = config.text.vocab, (32, 3, 15, 16, 17, 31)
    ids = torch.zeros(len(lengths), config.text.context, dtype=torch.int64)
    for row, length in zip(ids, lengths, strict=True):
        row[: length - 1] = torch.randint(
            1, vocab - 2, (length - 1,), generator=torch.Generator().manual_seed(length)
        )
        row[length - 1] = vocab - 1
    together = tower(ids)
    assert F.cosine_similarity(together, exact(ids)).min() > 0.995
    assert torch.equal(torch.cat([tower(text) for text in ids.split(1)]), together)


@torch.inference_mode()
def test_patches_keep_their_directions(folder, inputs):
    config, _ = load_config(folder)
    exact, tower = (
        load_tower(folder, "vision", config, dtype=dtype) for dtype in (torch.float32, torch.int8)
    )
    assert isinstance(exact, VisionTower)
    assert isinstance(tower, VisionTower)
    x = inputs["vision"]
    assert F.cosine_similarity(dense_features(tower, x), dense_features(exact, x), dim=-1).min() > 0.995
