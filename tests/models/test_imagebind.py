"""Laws of the towers: unit vectors, clips, padding, sizes, devices."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from benchmarks.plain import PlainTower
from xsearch.errors import ModelError
from xsearch.models import HUGE, SMALL, TOWERS, ImageBind, build_tower
from xsearch.models.config import ImuConfig
from xsearch.models.imagebind import TEXTS


@torch.inference_mode()
def test_every_tower_gives_unit_vectors_that_depend_on_the_input(model, inputs):
    outputs = model(inputs)
    assert tuple(outputs) == TOWERS
    for vectors in outputs.values():
        assert vectors.shape == (2, 24)
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(2))
        assert (vectors[0] @ vectors[1]).item() < 0.999


@torch.inference_mode()
@pytest.mark.parametrize("name", TOWERS)
def test_a_batch_is_its_rows(name, model, inputs):
    tower, x = model.towers[name], inputs[name]
    torch.testing.assert_close(tower(x), torch.cat([tower(x[:1]), tower(x[1:])]), atol=1e-6, rtol=0)


@torch.inference_mode()
@pytest.mark.parametrize("name", TOWERS)
def test_shortcuts_change_nothing(name, model, inputs):
    """Against blocks of torch's own attention that treat every token, both frames and the padding alike."""
    tower, x = model.towers[name], inputs[name]
    torch.testing.assert_close(tower(x), PlainTower(tower)(x), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_official_outputs_are_scaled_but_at_most_by_100(model, inputs):
    tower = model.towers["audio"]
    each = torch.stack([tower(inputs["audio"][:, s]) for s in range(3)])  # [3, 2, E]
    for factor, scale in ((7.0, 7.0), (1e3, 100.0)):
        tower.log_logit_scale.fill_(math.log(factor))
        torch.testing.assert_close(tower.official(inputs["audio"]), each.mean(dim=0) * scale)
    torch.testing.assert_close(
        model.towers["vision"].official(inputs["vision"]), model.towers["vision"](inputs["vision"])
    )


@torch.inference_mode()
def test_clips_are_averaged_and_normalised_again(model, inputs):
    tower, clips = model.towers["audio"], inputs["audio"]  # [2, 3, 1, 32, 204]
    each = torch.stack([tower(clips[:, s]) for s in range(3)])  # [3, 2, E]
    torch.testing.assert_close(tower(clips), F.normalize(each.mean(dim=0), dim=-1))
    torch.testing.assert_close(tower(clips[:, :1]), tower(clips[:, 0]))


@torch.inference_mode()
def test_a_picture_is_two_equal_frames(model, inputs):
    tower, x = model.towers["vision"], inputs["vision"]
    clip = torch.stack([x, x], dim=2)[:, None]  # [2, 1, 3, 2, 28, 28]
    torch.testing.assert_close(tower(clip), tower(x))
    torch.testing.assert_close(tower(clip[:, :, :, :1]), tower(x))
    assert not torch.allclose(tower(clip * torch.tensor([1, 2])[:, None, None]), tower(x), atol=1e-3)


@torch.inference_mode()
def test_patches_are_the_strided_convolution(model, inputs):
    tower, x = model.towers["vision"], inputs["vision"]
    frames = torch.stack([x, x], dim=2)  # [2, 3, 2, 28, 28]
    grid = F.conv3d(frames, tower.stem.proj.weight, stride=(2, 14, 14))
    expected = grid.flatten(2).transpose(1, 2) + tower.pos_embed[:, 1:]
    torch.testing.assert_close(tower.tokens(x)[:, 1:], expected, atol=1e-5, rtol=1e-5)


@torch.inference_mode()
def test_imu_patches_are_channel_major(model, inputs):
    tower, x = model.towers["imu"], inputs["imu"]
    third = torch.cat([x[0, channel, 400:600] for channel in range(6)])  # [6*200]
    token = tower.stem.norm(tower.stem.proj(third)) + tower.pos_embed[0, 1 + 2]
    torch.testing.assert_close(tower.tokens(x)[0, 1 + 2], token)


@torch.inference_mode()
def test_what_follows_the_end_token_changes_nothing(model, inputs):
    tower, ids = model.towers["text"], inputs["text"]
    noisy = ids.clone()
    noisy[0, 4:] = 7
    noisy[1, 9] = tower.token_embedding.num_embeddings - 1  # a second end
    torch.testing.assert_close(tower(noisy), tower(ids))

    whole = tower.trunk(tower.tokens(ids), tower.mask)  # the full context
    ends = whole[torch.arange(2), torch.tensor([3, 6])]
    torch.testing.assert_close(tower(ids), F.normalize(tower.head(ends), dim=-1), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_many_texts_keep_their_order(model):
    tower = model.towers["text"]
    generator = torch.Generator().manual_seed(0)
    vocab, context = tower.token_embedding.num_embeddings, len(tower.mask)
    ids = torch.randint(1, vocab - 1, (2 * TEXTS + 3, context), generator=generator)
    ids[torch.arange(len(ids)), torch.randint(2, context, (len(ids),), generator=generator)] = vocab - 1
    one_by_one = torch.cat([tower(row) for row in ids.split(1)])
    torch.testing.assert_close(tower(ids), one_by_one, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_positions_are_resized_for_other_square_pictures(model):
    tower = model.towers["vision"]
    assert torch.equal(tower.resized_positions(2), tower.pos_embed)
    assert tower.resized_positions(3).shape == (1, 1 + 9, 16)
    torch.testing.assert_close(tower.resized_positions(3)[:, 5], tower.pos_embed[:, 1:].mean(dim=1))
    assert tower(torch.zeros(1, 3, 42, 42)).shape == (1, 24)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("vision", (1, 1, 28, 28)),
        ("vision", (2, 3, 4, 28, 28)),
        ("vision", (1, 2, 3, 3, 28, 28)),
        ("vision", (1, 3, 28, 42)),
        ("audio", (1, 32, 204)),
        ("audio", (1, 1, 32, 304)),
        ("depth", (1, 3, 32, 32)),
        ("depth", (1, 1, 64, 64)),
        ("imu", (1, 3, 2000)),
        ("imu", (1, 6, 1999)),
    ],
)
def test_wrong_shapes_are_refused_with_a_reason(name, shape, model):
    with pytest.raises(ModelError, match=r"got|was|positions"):
        model.towers[name](torch.zeros(shape))


def test_a_wrong_context_is_refused(model):
    with pytest.raises(ModelError, match=r"\[B, 32\], got \[1, 31\]"):
        model.towers["text"](torch.zeros(1, 31, dtype=torch.int64))


def test_bfloat16_autocast_gives_nearly_the_same_float32_vectors(model, inputs):
    exact = model(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(inputs)
    for name in TOWERS:
        assert rough[name].dtype == torch.float32
        assert F.cosine_similarity(rough[name], exact[name]).min() > 0.99


def test_gradients_reach_everything_but_the_scale(model, inputs):
    model.train()
    sum(vectors[:, 0].sum() for vectors in model(inputs).values()).backward()
    without = {name for name, parameter in model.named_parameters() if parameter.grad is None}
    assert without == {"towers.text.log_logit_scale"}


def test_huge_is_built_on_the_meta_device_without_memory():
    with torch.device("meta"):
        huge = ImageBind(HUGE)
    assert sum(parameter.numel() for parameter in huge.parameters()) == 1_200_781_057


def test_fresh_weights_are_reproducible_and_keep_the_scale_of_what_passes():
    imu = ImuConfig(width=128, depth=3, heads=4, kernel=40)

    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_tower(replace(SMALL, imu=imu), "imu").state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["pos_embed"], other["pos_embed"])
    spread = {
        "cls_token": 0.02,
        "pos_embed": 0.02,
        "trunk.blocks.0.attn.bias_k": 0.02,
        "trunk.blocks.0.attn.in_proj_weight": imu.width**-0.5,
        "trunk.blocks.0.mlp.fc1.weight": imu.width**-0.5,
        "trunk.blocks.0.mlp.fc2.weight": (4 * imu.width * 2 * imu.depth) ** -0.5,
        "stem.proj.weight": (6 * imu.kernel) ** -0.5,
    }
    for key, std in spread.items():
        assert first[key].std().item() == pytest.approx(std, rel=0.2), key
