"""Blocks against torch's own attention, and the laws of stochastic depth."""

import pytest
import torch
from torch import nn

from xsearch.models.blocks import Attention, Trunk, drop_path


@pytest.mark.parametrize(("bias_kv", "causal"), [(False, False), (True, False), (False, True)])
def test_attention_is_torchs_multihead_attention(bias_kv, causal):
    torch.manual_seed(0)
    oracle = nn.MultiheadAttention(12, 3, add_bias_kv=bias_kv, batch_first=True)
    nn.init.normal_(oracle.in_proj_bias)
    ours = Attention(12, 3, bias_kv=bias_kv)
    ours.load_state_dict(oracle.state_dict())  # the same names

    x = torch.randn(2, 5, 12)
    mask = nn.Transformer.generate_square_subsequent_mask(5) if causal else None
    expected, _ = oracle(x, x, x, attn_mask=mask)
    torch.testing.assert_close(ours(x, mask), expected)


@pytest.mark.parametrize(("bias_kv", "causal"), [(True, False), (False, True)])
def test_one_token_of_each_row_is_what_the_whole_trunk_says_of_it(bias_kv, causal):
    torch.manual_seed(0)
    trunk = Trunk(12, 3, 3, bias_kv=bias_kv, drop_path=0.0, pre_norm=True)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter, std=0.5)
    x, at = torch.randn(4, 6, 12), torch.tensor([0, 5, 2, 2])
    mask = nn.Transformer.generate_square_subsequent_mask(6) if causal else None
    torch.testing.assert_close(trunk(x, mask, at)[:, 0], trunk(x, mask)[torch.arange(4), at])


def test_drop_path_zeroes_whole_rows_and_keeps_the_mean():
    torch.manual_seed(0)
    x = torch.ones(4000, 3, 2)
    dropped = drop_path(x, 0.25, training=True)
    rows = dropped.flatten(1)
    assert rows.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert (rows == rows[:, :1]).all()
    assert rows.mean().item() == pytest.approx(1.0, abs=0.03)
    assert drop_path(x, 0.25, training=False) is x


def test_drop_path_rises_linearly_with_depth():
    trunk = Trunk(8, 4, 2, bias_kv=False, drop_path=0.3, pre_norm=False)
    assert [block.drop_path for block in trunk.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_trunk_drops_paths_only_in_training():
    torch.manual_seed(0)
    trunk = Trunk(8, 3, 2, bias_kv=True, drop_path=0.5, pre_norm=True)
    for parameter in trunk.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(8, 5, 8)
    assert not torch.equal(trunk(x), trunk(x))
    trunk.eval()
    assert torch.equal(trunk(x), trunk(x))
