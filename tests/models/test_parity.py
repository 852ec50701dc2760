"""The towers against outputs of the official ImageBind code."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch

from tests.goldens import COMPLETE, PARITY, needs_complete, published
from tests.parity import draws
from xsearch.models.config import HUGE, TOWERS
from xsearch.models.convert import official_name
from xsearch.models.imagebind import ImageBind

SMALL_A = json.loads((PARITY / "small_A.json").read_text())
CASES = [(case["name"], case["modality"]) for case in SMALL_A["cases"]]


@pytest.fixture(scope="module")
def model() -> ImageBind:
    """Small towers, whose weights are drawn from their official names."""
    sizes = SMALL_A["kwargs"]
    towers = {
        name: dataclasses.replace(
            getattr(HUGE, name),
            width=sizes[f"{name}_embed_dim"],
            depth=sizes[f"{name}_num_blocks"],
            heads=sizes[f"{name}_num_heads"],
        )
        for name in TOWERS
    }
    model = ImageBind(dataclasses.replace(HUGE, embed_dim=sizes["out_embed_dim"], **towers))
    for name, tower in model.towers.items():
        shapes = {key: tuple(value.shape) for key, value in tower.state_dict().items()}
        drawn = {key: draws.weight(official_name(name, key), shape) for key, shape in shapes.items()}
        tower.load_state_dict({key: torch.as_tensor(value) for key, value in drawn.items()})
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize("case", SMALL_A["cases"], ids=lambda case: case["name"])
def test_outputs_agree_with_the_official_code(case, model):
    golden = np.load(PARITY / "small_A.npz")
    name, tower = case["name"], model.towers[case["modality"]]
    if case["modality"] == "text":
        x = torch.from_numpy(golden[f"in/{name}"]).long()
    else:
        drawn = draws.inputs(f"A:{name}", tuple(case["input_shape"]))
        assert hashlib.sha256(drawn.tobytes()).hexdigest() == case["input_sha256"]
        x = torch.from_numpy(drawn)
    expected = golden[f"out64/{name}"]  # computed in float64: rounding is all ours
    assert_within_1e_5_of_the_peak(tower.official(x), expected)
    assert_within_1e_5_of_the_peak(tower(x), expected / np.linalg.norm(expected, axis=1, keepdims=True))


@pytest.fixture(scope="module")
def complete() -> dict[str, np.ndarray]:
    return dict(np.load(COMPLETE / "small_A.npz"))


@needs_complete
@torch.inference_mode()
@pytest.mark.parametrize(("case", "name"), CASES)
def test_every_stage_of_a_tower_agrees_with_the_official_code(case, name, model, complete):
    golden, tower = complete, model.towers[name]
    x = torch.from_numpy(golden[f"in/{case}"])
    x = x.long() if name == "text" else x.float()
    flat = x.flatten(0, 1) if x.ndim >= 5 else x  # [B*S, ...]

    tokens = tower.tokens(flat)
    trunk = tower.trunk(tokens, tower.mask) if name == "text" else tower.trunk(tokens)
    np.testing.assert_allclose(tokens, golden[f"tokens/{case}"], atol=1e-4)
    np.testing.assert_allclose(trunk, golden[f"trunk/{case}"], atol=1e-4)

    head = tower.embed(flat)
    assert_within_1e_5_of_the_peak(head, golden[f"head/{case}"])
    assert_within_1e_5_of_the_peak(tower.official(x), golden[f"out/{case}"])


def assert_within_1e_5_of_the_peak(ours, golden):
    np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


def test_huge_has_the_names_and_shapes_of_the_official_checkpoint():
    official = {name: (shape, kind) for name, shape, kind in published()}
    with torch.device("meta"):
        huge = ImageBind(HUGE)
    ours = {
        official_name(name, key): (list(value.shape), "buffer")
        for name, tower in huge.towers.items()
        for key, value in tower.state_dict().items()
    }
    for name, tower in huge.towers.items():
        for key, value in tower.named_parameters():
            ours[official_name(name, key)] = (list(value.shape), "param")
    assert ours == official
    assert len(ours) == 1311
