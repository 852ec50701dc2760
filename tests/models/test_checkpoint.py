"""Model folders and official checkpoints: round trips, strictness, safety."""

import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from xsearch.errors import ModelError
from xsearch.models import (
    TOWERS,
    Tokenizer,
    convert_official,
    load_config,
    load_tower,
    save_model,
    split_official,
)
from xsearch.models.checkpoint import official_name


def official_state(model):
    return {
        official_name(name, key): value.detach().clone()
        for name, tower in model.towers.items()
        for key, value in tower.state_dict().items()
    }


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


def test_an_official_checkpoint_becomes_a_model_folder(model, inputs, vocabulary, tmp_path):
    torch.save(official_state(model), tmp_path / "official.pth")
    folder = tmp_path / "models" / "imagebind"
    convert_official(tmp_path / "official.pth", vocabulary, folder, config=model.config, dtype=torch.float32)
    config, _ = load_config(folder)
    assert config == model.config
    for name in TOWERS:
        tower = load_tower(folder, name, config)
        assert torch.equal(tower(inputs[name]), model.towers[name](inputs[name]))
    tokenizer = Tokenizer.load(folder / "tokenizer.json", context=32, cleaning="clip")
    assert tokenizer.size == 49_408


def test_official_keys_that_do_not_fit_are_named(model):
    state = official_state(model)
    state["modality_trunks.text.blocks.7.norm_1.bias"] = torch.zeros(1)
    del state["modality_heads.imu.3.weight"]
    state["modality_heads.depth.0.bias"] = torch.zeros(2, 2)
    with pytest.raises(ModelError) as caught:
        split_official(state, model.config)
    for told in (
        "blocks.7.norm_1.bias",
        "modality_heads.imu.3.weight",
        "modality_heads.depth.0.bias is [2, 2]",
    ):
        assert told in str(caught.value)


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("content", [Malicious(), [1, 2], {"a": Malicious()}, 3])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(content, vocabulary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "official.pth")
    with pytest.raises(ModelError, match=r"official\.pth"):
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out")
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"<html>not found</html>"])
def test_files_that_are_no_checkpoint_are_refused(content, vocabulary, tmp_path):
    if content is not None:
        (tmp_path / "official.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"official\.pth"):
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out")
