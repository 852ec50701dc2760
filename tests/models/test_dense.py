"""Dense features against slow oracles, and the embeddings that they leave alone."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from xsearch.errors import ModelError
from xsearch.models import SMALL, ImageBind
from xsearch.models.dense import NEIGHBOURHOOD, dense_features, neighbours
from xsearch.models.imagebind import VisionTower


@pytest.fixture
def conv() -> VisionTower:
    """A convolutional tower of 2 x 2 patches, with random statistics in its norms."""
    torch.manual_seed(3)
    vision = dataclasses.replace(
        SMALL.vision,
        width=16,
        depth=0,
        heads=2,
        image_size=32,
        patch=16,
        mirrored=False,
        stem=(8, 8, 16, 16),
        blocks=(),
    )
    tower = VisionTower(vision, 24)
    for parameter in tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return tower.eval()


def test_a_transformers_patches_attend_to_similar_keys_nearby(model: ImageBind):
    """One query, head and key at a time."""
    tower, x = model.towers["vision"], torch.randn(1, 3, 28, 28, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        dense = dense_features(tower, x)
        tokens = tower.trunk.blocks[0](tower.trunk.pre_norm(tower.tokens(x)))
        attn = tower.trunk.blocks[1].attn
        normed = tower.trunk.blocks[1].norm_1(tokens)[0]  # [5, 16]
        keys = (normed @ attn.in_proj_weight[16:32].T + attn.in_proj_bias[16:32]).unflatten(1, (2, 8))
        values = (normed @ attn.in_proj_weight[32:].T + attn.in_proj_bias[32:]).unflatten(1, (2, 8))
        for at in range(4):
            heads = []
            for head in range(2):
                logits = []
                for other in range(5):
                    product = float(keys[at + 1, head] @ keys[other, head]) / 8**0.5
                    if other:
                        square = (at // 2 - (other - 1) // 2) ** 2 + (at % 2 - (other - 1) % 2) ** 2
                        product += np.exp(-square / (2 * NEIGHBOURHOOD**2))
                    logits.append(product)
                shares = torch.softmax(torch.tensor(logits), dim=0)
                heads.append(sum(share * value for share, value in zip(shares, values[:, head], strict=True)))
            expected = F.normalize(tower.head(attn.out_proj(torch.cat(heads))), dim=-1)
            torch.testing.assert_close(dense[0, at // 2, at % 2], expected, atol=1e-5, rtol=1e-4)


def test_a_convolutional_towers_only_patch_is_its_embedding(conv: VisionTower):
    conv.pos_embed.data = conv.pos_embed.data[:, :2]
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        torch.testing.assert_close(dense_features(conv, x)[:, 0, 0], conv(x))


def test_what_is_in_a_corner_is_in_the_features_of_that_corner(conv: VisionTower):
    """Far from it, nothing changes: [4, 6] patches of 16 pixels, and a field of view of less than 80."""
    x = torch.zeros(1, 3, 64, 160)
    changed = x.clone()
    changed[:, :, :16, :16] = 3
    with torch.no_grad():
        before, after = dense_features(conv, x)[0], dense_features(conv, changed)[0]
    assert before.shape == (4, 10, 24)
    assert (after[0, 0] - before[0, 0]).norm() > 0.01
    torch.testing.assert_close(after[:, 8:], before[:, 8:])
    torch.testing.assert_close(after.norm(dim=-1), torch.ones(4, 10))


def test_embeddings_are_the_same_bit_for_bit(model: ImageBind, conv: VisionTower):
    for tower, side in ((model.towers["vision"], 28), (conv, 32)):
        x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(7))
        state = {name: value.clone() for name, value in tower.state_dict().items()}
        with torch.no_grad():
            before = tower(x)
            dense_features(tower, x)
            assert torch.equal(tower(x), before)
        assert all(torch.equal(value, state[name]) for name, value in tower.state_dict().items())


def test_neighbours_are_nearer_than_others():
    bias = neighbours(2, 3)
    assert bias.shape == (7, 7)
    assert not bias[0].any()
    assert not bias[:, 0].any()
    assert float(bias[1, 1]) == 1.0
    assert bias[1, 2] == bias[1, 4] > bias[1, 3] > 0


def test_pictures_that_are_not_patches_are_refused(conv: VisionTower):
    with pytest.raises(ModelError, match="patches of 16 pixels"):
        dense_features(conv, torch.zeros(1, 3, 40, 32))
