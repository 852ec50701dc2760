"""Official checkpoints: names, sizes, conversion, safety."""

import dataclasses
import os
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import official
from tests.goldens import published
from xsearch.errors import ModelError
from xsearch.models import (
    HUGE,
    TOWERS,
    ImageBindConfig,
    Tokenizer,
    convert_official,
    load_config,
    load_tower,
    official_config,
    split_official,
)
from xsearch.models.checkpoint import shapes_of
from xsearch.models.convert import official_name


@pytest.fixture(scope="module")
def small() -> ImageBindConfig:
    return official.small()


@pytest.fixture
def state(small):
    return official.checkpoint(small)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_an_official_checkpoint_becomes_a_model_folder(dtype, small, state, vocabulary, tmp_path):
    torch.save(state, tmp_path / "official.pth")
    told = []
    folder = tmp_path / "models" / "imagebind"
    convert_official(tmp_path / "official.pth", vocabulary, folder, dtype=dtype, say=told.append)
    assert load_config(folder)[0] == small
    assert [line.split()[2] for line in told] == list(TOWERS)
    for name, expected in split_official(state, small).items():
        stored = load_file(folder / f"{name}.safetensors")
        assert stored.keys() == expected.keys()
        for key, value in stored.items():
            wanted = expected[key].to(dtype if expected[key].ndim else torch.float32)
            assert value.dtype == wanted.dtype
            assert torch.equal(value, wanted), key
        load_tower(folder, name, small)
    tokenizer = Tokenizer.load(folder / "tokenizer.json", context=77, cleaning="clip")
    assert tokenizer.size == 49_408


def test_pages_of_the_checkpoint_leave_memory_with_their_tower(vocabulary, on_disk):
    def mapped_mb() -> float:
        return int(re.search(r"RssFile:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10

    wide = {name: dataclasses.replace(getattr(official.small(), name), width=240, depth=6) for name in TOWERS}
    with torch.device("meta"):
        weights = official.checkpoint(dataclasses.replace(official.small(), **wide))
    torch.save({key: torch.zeros(value.shape) for key, value in weights.items()}, on_disk / "official.pth")
    seen_mb = []
    convert_official(
        on_disk / "official.pth", vocabulary, on_disk / "out", say=lambda line: seen_mb.append(mapped_mb())
    )
    files = [on_disk / "out" / f"{name}.safetensors" for name in TOWERS[:-1]]  # as far as was told
    sizes_mb = [file.stat().st_size / 2**20 for file in files]
    assert 0.5 * max(sizes_mb) < max(seen_mb) - seen_mb[0] < 1.5 * max(sizes_mb) < sum(sizes_mb)


def test_the_published_shapes_are_the_published_config():
    assert official_config({name: shape for name, shape, _ in published()}) == HUGE


def test_sizes_are_read_off_and_the_rest_is_the_bases(small, config):
    assert official_config(shapes_of(official.checkpoint(small))) == small
    found = official_config(shapes_of(official.checkpoint(config)), base=config)
    assert found == config
    with pytest.raises(ModelError, match=r"audio.* is \[1, 49, 16\]|12 heads"):
        official_config(shapes_of(official.checkpoint(config)))


def without(shapes, part):
    return {key: shape for key, shape in shapes.items() if part not in key}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda shapes: {"a": (3,)}, "missing: .*vision.cls_token.*1 unknown: a$"),
        (
            lambda shapes: without(shapes, "vision.blocks.0."),
            "12 missing: .*blocks.0.*12 unknown: .*blocks.1",
        ),
        (lambda shapes: without(shapes, "trunks.text.blocks"), "missing: modality_trunks.text.blocks.0"),
        (lambda shapes: without(shapes, "imu.3.weight"), "1 missing: modality_heads.imu.3.weight$"),
        (
            lambda shapes: shapes | {"modality_heads.imu.0.weight": (9,)},
            "imu.0.weight is .9., not divisible by 8 heads",
        ),
        (lambda shapes: shapes | {"modality_heads.imu.0.weight": ()}, r"imu.0.weight is \[\], too few"),
        (
            lambda shapes: shapes | {official_name("audio", "pos_embed"): (1, 200, 12)},
            r"audio.*pos_embed is \[1, 200, 12\], not for 12 x 19",
        ),
    ],
)
def test_shapes_of_no_imagebind_are_refused_by_name(change, told, small, state):
    with pytest.raises(ModelError, match=told):
        official_config(change(shapes_of(state)))


def test_official_keys_that_do_not_fit_are_named(small, state):
    state["modality_trunks.text.blocks.7.norm_1.bias"] = torch.zeros(1)
    del state["modality_heads.imu.3.weight"]
    state["modality_heads.depth.0.bias"] = torch.zeros(2, 2)
    with pytest.raises(ModelError) as caught:
        split_official(state, small)
    for told in (
        "blocks.7.norm_1.bias",
        "modality_heads.imu.3.weight",
        "modality_heads.depth.0.bias is [2, 2]",
    ):
        assert told in str(caught.value)


def test_positions_that_are_no_square_are_refused(small, state, vocabulary, tmp_path):
    state[official_name("vision", "pos_embed")] = torch.zeros(1, 1 + 5, 16)
    torch.save(state, tmp_path / "official.pth")
    with pytest.raises(ModelError, match=r"vision.*pos_embed is \[1, 6, 16\], not \[1, 5, 16\]"):
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out")


def test_a_table_for_another_vocabulary_is_refused(config, vocabulary, tmp_path):
    torch.save(official.checkpoint(config), tmp_path / "official.pth")
    with pytest.raises(ModelError, match=f"has {config.text.vocab} tokens, .* has 49,408"):
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out", base=config)
    assert not (tmp_path / "out").exists()


class Malicious:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


@pytest.mark.parametrize("content", [Malicious(), [1, 2], {"a": Malicious()}, 3])
def test_a_pickle_with_code_in_it_is_refused_and_not_run(content, vocabulary, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(content, tmp_path / "official.pth")
    with pytest.raises(ModelError, match=r"official\.pth") as caught:
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out")
    if content not in ([1, 2], 3):
        assert "asks for posix.mkdir, which was not run" in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch suggests to turn it off
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("content", [None, b"", b"<html>not found</html>"])
def test_files_that_are_no_checkpoint_are_refused(content, vocabulary, tmp_path):
    if content is not None:
        (tmp_path / "official.pth").write_bytes(content)
    with pytest.raises(ModelError, match=r"official\.pth"):
        convert_official(tmp_path / "official.pth", vocabulary, tmp_path / "out")
