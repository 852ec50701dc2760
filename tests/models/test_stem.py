"""Towers with convolutions in front of their patches."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from xsearch.models import ImageBind, ImageBindConfig
from xsearch.models.blocks import Residual
from xsearch.models.checkpoint import load_tower, save_model
from xsearch.models.imagebind import build_tower

CONVOLVED = ("vision", "audio", "depth", "thermal", "imu")


@pytest.fixture
def convolved(config: ImageBindConfig) -> ImageBind:
    """After one batch of training, so that its running statistics are not their start."""
    torch.manual_seed(0)
    stems = {name: replace(getattr(config, name), stem=(4, 6), blocks=(2,)) for name in CONVOLVED}
    stems["vision"] = replace(stems["vision"], image_size=32, patch=8)
    model = ImageBind(replace(config, **stems)).train()
    model({"vision": torch.randn(4, 3, 32, 32), "audio": torch.randn(4, 1, 32, 204)})
    return model.eval()


@torch.inference_mode()
def test_without_blocks_every_patch_counts_the_same(config):
    torch.manual_seed(0)
    depth = replace(config.depth, depth=0, image_size=32, patch=16)
    tower = build_tower(replace(config, depth=depth), "depth").eval()
    tower.pos_embed.zero_()
    x = torch.randn(1, 1, 32, 32)
    turned = torch.roll(x, (16, 16), (2, 3))  # the same four patches, elsewhere
    torch.testing.assert_close(tower(x), tower(turned))
    assert F.cosine_similarity(tower(x), tower(x.flip(3))) < 0.9


@torch.inference_mode()
def test_patches_are_as_many_as_the_config_says(convolved):
    audio, imu = convolved.config.audio, convolved.config.imu
    assert audio.grid == (2, 12)  # 32 x 204 halved twice is 8 x 51; patches of 4 x 4, the rest is left over
    tokens = {
        "vision": (torch.zeros(1, 3, 32, 32), 16),
        "audio": (torch.zeros(1, 1, 32, 204), 24),
        "depth": (torch.zeros(1, 1, 32, 32), 4),
        "thermal": (torch.zeros(1, 1, 48, 48), 9),
        "imu": (torch.zeros(1, 6, imu.samples), imu.patches),
    }
    assert [replace(imu, samples=n, stem=(4, 6), kernel=8).patches for n in (96, 97, 93)] == [12, 12, 12]
    for name, (x, patches) in tokens.items():
        assert convolved.towers[name].tokens(x).shape[1] == 1 + patches


@torch.inference_mode()
def test_convolutions_of_a_recording_are_along_time(convolved):
    """As of one row: kernels have no height, and time steps beyond their reach change nothing."""
    tower = convolved.towers["imu"]
    x = torch.randn(1, 6, convolved.config.imu.samples)
    later = x.clone()
    later[..., x.shape[2] // 2 :] = 0
    before, after = tower.stem.convs(x[:, :, None]), tower.stem.convs(later[:, :, None])
    assert before.shape[2] == 1
    assert all(conv.kernel_size[0] == 1 for conv in tower.modules() if isinstance(conv, torch.nn.Conv2d))
    quarter = before.shape[3] // 4
    torch.testing.assert_close(before[..., :quarter], after[..., :quarter])
    assert not torch.allclose(before, after)


@torch.inference_mode()
def test_a_mirrored_tower_takes_the_mean_of_a_picture_and_its_mirror_image(convolved):
    plain = convolved.towers["vision"]
    config = convolved.config
    mirrored = build_tower(replace(config, vision=replace(config.vision, mirrored=True)), "vision")
    mirrored.load_state_dict(plain.state_dict())
    x = torch.randn(3, 3, 32, 32)
    both = F.normalize(plain(x) + plain(x.flip(3)), dim=1)
    torch.testing.assert_close(mirrored.eval()(x), both)
    torch.testing.assert_close(mirrored(x.flip(3)), both)
    video = torch.randn(2, 3, 3, 2, 32, 32)
    torch.testing.assert_close(mirrored(video.flip(5)), mirrored(video))
    assert mirrored.train().clips(x).shape[1] == 1


@torch.inference_mode()
def test_a_picture_is_two_equal_frames(convolved):
    x = torch.randn(2, 3, 32, 32)
    clip = torch.stack([x, x], dim=2)[:, None]  # [2, 1, 3, 2, 32, 32]
    tower = convolved.towers["vision"]
    torch.testing.assert_close(tower(clip), tower(x))
    torch.testing.assert_close(tower(x), torch.cat([tower(x[:1]), tower(x[1:])]), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_residual_block_is_resnets():
    torch.manual_seed(0)
    block = Residual(2, 3, stride=2).eval()
    a, _, _, b, _ = block.straight
    x = torch.randn(1, 2, 7, 5)
    # At the start, the norms only divide by sqrt(1 + eps).
    scale = (1 + 1e-5) ** -0.5
    straight = F.conv2d(F.relu(F.conv2d(x, a.weight, stride=2, padding=1) * scale), b.weight, padding=1)
    expected = F.relu((straight + F.conv2d(x, block.shortcut[0].weight, stride=2)) * scale)
    assert expected.shape == (1, 3, 4, 3)
    torch.testing.assert_close(block(x), expected)
    same = Residual(3, 3).eval()
    a, _, _, b, _ = same.straight
    straight = F.conv2d(F.relu(F.conv2d(expected, a.weight, padding=1) * scale), b.weight, padding=1)
    torch.testing.assert_close(same(expected), F.relu(straight * scale + expected))


@torch.inference_mode()
def test_running_statistics_survive_the_disk(convolved, tokenizer, tmp_path):
    save_model(convolved, tokenizer, tmp_path, dtype=torch.float32)
    loaded = load_tower(tmp_path, "vision", convolved.config)
    saved = convolved.towers["vision"].state_dict()
    assert any(key.endswith("num_batches_tracked") and value == 1 for key, value in saved.items())
    torch.testing.assert_close(dict(loaded.state_dict()), dict(saved))
