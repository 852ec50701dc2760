"""Decoder folders, the network, and what it draws."""

import json

import numpy as np
import pytest
import torch

from tests.fakes import FakeBackend
from tests.small_decoder import random_decoder, with_crossings
from xsearch.errors import ModelError
from xsearch.generate import Crossing, Network, TrainedDecoder
from xsearch.types import Modality


def unit(count: int, dim: int) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(count, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_folder_brings_the_decoder_back(decoder, tmp_path):
    with_crossings(decoder, {Modality.AUDIO: Crossing(shift=True, noise=0.5)})
    decoder.save(tmp_path, license="MIT")
    loaded = TrainedDecoder.load(tmp_path)
    assert loaded.config == decoder.config
    assert json.loads((tmp_path / "config.json").read_text())["license"] == "MIT"
    for name, value in decoder.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value.half().float())


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("network.safetensors", lambda b: b[:-1] + bytes([b[-1] ^ 1]), "wrong sha256"),
        ("network.safetensors", lambda b: b[: len(b) // 2], "network.safetensors"),
        ("config.json", lambda b: b.replace(b'"depth": 1', b'"depth": 2'), "missing"),
        ("config.json", lambda b: b.replace(b'"side": 16', b'"side": 17'), "multiple"),
        ("config.json", lambda b: b[:-9], "config.json"),
    ],
)
def test_a_damaged_folder_is_an_error_that_names_the_file(decoder, tmp_path, name, change, reason):
    decoder.save(tmp_path)
    path = tmp_path / name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ModelError, match=reason):
        TrainedDecoder.load(tmp_path)


def test_another_model_is_refused(decoder):
    decoder.check(FakeBackend().fingerprint)
    with pytest.raises(ModelError, match=r"draws vectors of fake .* not of other"):
        decoder.check(FakeBackend(name="other").fingerprint)


def test_a_network_starts_from_the_picture_of_zeros():
    config = random_decoder(FakeBackend().fingerprint).config
    network = Network(config)
    network.initialise()
    x = network(
        torch.randn(2, 3, 16, 16), torch.rand(2), torch.randn(2, 16), torch.zeros(2), torch.ones(2) > 0
    )
    assert x.shape == (2, 3, 16, 16)
    assert not x.any()


def test_every_patch_is_drawn_where_it_is(decoder):
    """Without layers, a patch of the output depends on that patch of the input alone."""
    network = decoder.network
    network.layers = torch.nn.ModuleList()
    z, t, v, known = torch.randn(1, 3, 16, 16), torch.rand(1), torch.randn(1, 16), torch.ones(1) > 0
    before = network(z, t, v, t, known)
    z[:, :, 8:, :8] += 1  # below, left
    changed = (network(z, t, v, t, known) != before).any(dim=1)[0]
    assert changed[8:, :8].all()
    assert changed.sum() == 64


def test_a_vector_that_is_not_known_makes_no_difference(decoder):
    z, t = torch.randn(2, 3, 16, 16), torch.rand(2)
    known, none = torch.ones(2) > 0, torch.zeros(2) > 0
    one, other = torch.from_numpy(unit(4, 16)).chunk(2)
    low, high = torch.zeros(2), torch.ones(2)
    predict = decoder.network
    torch.testing.assert_close(predict(z, t, one, low, none), predict(z, t, other, high, none))
    assert not torch.allclose(predict(z, t, one, low, known), predict(z, t, other, low, known))
    assert not torch.allclose(predict(z, t, one, low, known), predict(z, t, one, high, known))


def test_a_seed_is_a_picture_whatever_else_is_drawn(decoder):
    vectors = unit(1, 16).repeat(3, axis=0)
    all_three = decoder.pictures(vectors, [0.5] * 3, [7, 8, 9], steps=4, guidance=2)
    alone = decoder.pictures(vectors[:1], [0.5], [8], steps=4, guidance=2)
    assert all_three.shape == (3, 16, 16, 3)
    assert np.abs(all_three[1].astype(int) - alone[0]).max() <= 1  # sums in another order
    np.testing.assert_array_equal(alone, decoder.pictures(vectors[:1], [0.5], [8], steps=4, guidance=2))
    assert np.abs(all_three[0].astype(int) - all_three[1]).max() > 10


@pytest.mark.parametrize("guidance", [0, 1, 2.5])
@torch.inference_mode()
def test_guidance_leads_away_from_the_unconditional_picture(decoder, guidance):
    """In one step, the picture is the prediction from noise alone."""
    v = torch.from_numpy(unit(1, 16))
    z = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    level, known = torch.tensor([0.3]), torch.ones(1) > 0
    shown, anything = (decoder.network(z, torch.zeros(1), v, level, at) for at in (known, ~known))
    expected = (anything + guidance * (shown - anything)).clamp(-1, 1)[0].permute(1, 2, 0)
    drawn = decoder.pictures(v.numpy(), [0.3], [3], steps=1, guidance=guidance)[0]
    np.testing.assert_allclose(drawn / 127.5 - 1, expected.numpy(), atol=0.01)
