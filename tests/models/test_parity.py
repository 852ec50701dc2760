"""The towers against outputs of the official ImageBind code."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from xsearch.models.config import HUGE, TOWERS
from xsearch.models.convert import official_name, split_official
from xsearch.models.imagebind import ImageBind

PARITY = Path(__file__).parents[2].parent / "shared" / "parity"
pytestmark = pytest.mark.skipif(not PARITY.is_dir(), reason="the goldens of the official code are not here")
DESCRIPTION = json.loads((PARITY / "small_A.json").read_text()) if PARITY.is_dir() else {"cases": []}


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("recipe", PARITY / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    return dict(np.load(PARITY / "small_A.npz"))


@pytest.fixture(scope="module")
def model(recipe: ModuleType) -> ImageBind:
    sizes = DESCRIPTION["kwargs"]
    towers = {
        name: dataclasses.replace(
            getattr(HUGE, name),
            width=sizes[f"{name}_embed_dim"],
            depth=sizes[f"{name}_num_blocks"],
            heads=sizes[f"{name}_num_heads"],
        )
        for name in TOWERS
    }
    config = dataclasses.replace(HUGE, embed_dim=sizes["out_embed_dim"], **towers)
    state = {}
    for entry in DESCRIPTION["state_dict"]:
        key, shape = entry["key"], tuple(entry["shape"])
        drawn = recipe.weight(key, shape)
        state[key] = torch.as_tensor(recipe.computed(key, shape) if drawn is None else drawn)
    model = ImageBind(config)
    for name, part in split_official(state, config).items():
        model.towers[name].load_state_dict(part)
    return model.eval()


@torch.inference_mode()
@pytest.mark.parametrize(
    ("case", "name"), [(case["name"], case["modality"]) for case in DESCRIPTION["cases"]]
)
def test_every_stage_of_a_tower_agrees_with_the_official_code(case, name, model, golden):
    tower = model.towers[name]
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

    direction = golden[f"out64/{case}"] / np.linalg.norm(golden[f"out64/{case}"], axis=1, keepdims=True)
    assert_within_1e_5_of_the_peak(tower(x), direction)


def assert_within_1e_5_of_the_peak(ours, golden):
    np.testing.assert_allclose(ours, golden, rtol=0, atol=1e-5 * np.abs(golden).max())


def test_huge_has_the_names_and_shapes_of_the_official_checkpoint():
    entries = json.loads((PARITY / "imagebind_huge_state_dict.json").read_text())["entries"]
    with torch.device("meta"):
        huge = ImageBind(HUGE)
    ours = {
        official_name(name, key): list(value.shape)
        for name, tower in huge.towers.items()
        for key, value in tower.state_dict().items()
    }
    assert ours == {entry["key"]: entry["shape"] for entry in entries}
    assert len(ours) == 1311
    parameters = {
        official_name(name, key) for name, t in huge.towers.items() for key, _ in t.named_parameters()
    }
    assert parameters == {entry["key"] for entry in entries if entry["kind"] == "param"}
