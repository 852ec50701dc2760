"""Model folders: round trips, strictness."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from xsearch.errors import ModelError
from xsearch.models import TOWERS, Tokenizer, load_config, load_tower, save_model
from xsearch.models.checkpoint import TowerFile, license_of, tower_file, verify, write_folder


@pytest.mark.parametrize("name", TOWERS)
@torch.inference_mode()
def test_a_saved_tower_gives_the_same_vectors(name, model, inputs, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path / "exact", dtype=torch.float32)
    save_model(model, tokenizer, tmp_path / "half")
    config, _ = load_config(tmp_path / "exact")
    assert config == model.config
    expected = model.towers[name](inputs[name])
    exact, half = (load_tower(tmp_path / folder, name, config) for folder in ("exact", "half"))
    assert torch.equal(exact(inputs[name]), expected)
    torch.testing.assert_close(half(inputs[name]), expected, atol=0.02, rtol=0)
    assert not exact.training
    assert {value.dtype for value in half.state_dict().values()} == {torch.float32}
    stored = load_file(tmp_path / "half" / f"{name}.safetensors")
    assert {value.dtype for value in stored.values() if value.ndim} == {torch.float16}


def test_the_digest_follows_weights_tokenizer_and_config(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    _, first = load_config(tmp_path)
    save_model(model, tokenizer, tmp_path)
    assert load_config(tmp_path)[1] == first
    with torch.no_grad():
        model.towers["imu"].pos_embed[0, 0, 0] += 1
    save_model(model, tokenizer, tmp_path)
    assert load_config(tmp_path)[1] != first
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        ["config.json", "tokenizer.json", *(f"{name}.safetensors" for name in TOWERS)]
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("cls_token"), "1 missing: cls_token"),
        (lambda state: state.update(more=torch.zeros(1)), "1 unknown: more"),
        (lambda state: state.update(cls_token=torch.zeros(3)), r"cls_token is \[3\], not \[1, 1, 16\]"),
    ],
)
def test_a_tower_that_does_not_fit_is_refused_by_name(change, told, model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    path = tmp_path / "imu.safetensors"
    state = dict(load_file(path))
    change(state)
    save_file(state, path)
    with pytest.raises(ModelError, match=told):
        load_tower(tmp_path, "imu", model.config)


def test_a_model_folder_may_state_a_licence(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    assert license_of(tmp_path) is None
    _, first = load_config(tmp_path)
    save_model(model, tokenizer, tmp_path, license="CC-BY-4.0")
    assert license_of(tmp_path) == "CC-BY-4.0"
    assert load_config(tmp_path)[0] == model.config
    assert load_config(tmp_path)[1] != first
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"CC-BY-4.0"', "[3]"))
    with pytest.raises(ModelError, match="license"):
        license_of(tmp_path)


def test_damaged_folders_are_refused(model, tokenizer, tmp_path):
    with pytest.raises(ModelError, match="not a model folder"):
        load_config(tmp_path)
    save_model(model, tokenizer, tmp_path)
    (tmp_path / "imu.safetensors").write_bytes(b"torn")
    (tmp_path / "text.safetensors").unlink()
    for name in ("imu", "text"):
        with pytest.raises(ModelError, match=f"the {name} tower cannot be read"):
            load_tower(tmp_path, name, model.config)
    for damaged in ("", "{}", '{"config": 3}', '{"config": {}}'):
        (tmp_path / "config.json").write_text(damaged)
        with pytest.raises(ModelError):
            load_config(tmp_path)


def test_an_interrupted_save_leaves_no_model(model, tokenizer, tmp_path):
    class Interrupted(Tokenizer):
        def save(self, path):
            path.write_text("half")
            raise KeyboardInterrupt

    save_model(model, tokenizer, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        save_model(model, Interrupted(tokenizer.backend, context=32), tmp_path)
    with pytest.raises(ModelError, match="not a model folder"):
        load_config(tmp_path)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_files_are_what_the_safetensors_library_writes(dtype, model, config, tokenizer, tmp_path):
    state = {
        "b": torch.randn(3, 5, generator=torch.Generator().manual_seed(0)),
        "a": torch.arange(6.0).view(2, 3).T,  # not contiguous
        "one": torch.tensor(0.1),
        "odd": torch.full((7,), -torch.inf),
        "count": torch.tensor(3),
        "none": torch.zeros(0, 4),
    }
    write_folder(tmp_path, config, tokenizer, [("imu", state)], dtype)
    stored = {key: value.to(dtype).contiguous() if value.ndim else value for key, value in state.items()}
    save_file(stored, tmp_path / "expected")
    assert (tmp_path / "imu.safetensors").read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_towers_file_is_described(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    path = tmp_path / "imu.safetensors"
    state = model.towers["imu"].state_dict()
    count = sum(value.numel() for value in state.values())
    assert tower_file(tmp_path, "imu") == TowerFile(count, path.stat().st_size, "fp16")
    save_file({"a": torch.zeros(2), "b": torch.zeros(2, dtype=torch.float16)}, path)
    assert tower_file(tmp_path, "imu").dtype == "mixed"
    path.write_bytes(b"torn")
    with pytest.raises(ModelError, match="the imu tower cannot be read"):
        tower_file(tmp_path, "imu")


def test_damage_is_found(model, tokenizer, tmp_path):
    save_model(model, tokenizer, tmp_path)
    files = {"tokenizer.json", *(f"{name}.safetensors" for name in TOWERS)}
    assert dict(verify(tmp_path)) == dict.fromkeys(files, "")
    content = bytearray((tmp_path / "imu.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "imu.safetensors").write_bytes(content)
    (tmp_path / "text.safetensors").unlink()
    found = {name: finding for name, finding in verify(tmp_path) if finding}
    assert found.keys() == {"imu.safetensors", "text.safetensors"}
    assert "expected sha256" in found["imu.safetensors"]
    assert "No such file" in found["text.safetensors"]
