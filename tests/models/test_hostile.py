"""Model folders that nobody should trust: each ends in one line, within seconds, and in little memory."""

from __future__ import annotations

import json
import os
import resource
import shutil
import stat
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import ModelError
from xsearch.models import ImageBind, Tokenizer
from xsearch.models.checkpoint import save_model, tower_file, verify
from xsearch.models.registry import resolve
from xsearch.system.durable import digest
from xsearch.types import Modality, Sample

TOWERS = ("vision", "text", "audio", "depth", "thermal", "imu")


@pytest.fixture
def folder(model: ImageBind, tokenizer: Tokenizer, tmp_path: Path) -> Path:
    save_model(model, tokenizer, tmp_path / "m", words=["dog", "beach"])
    return tmp_path / "m"


def config(**changes: Any) -> Callable[[Path], None]:
    """Replace fields of the config, such as vision__width."""

    def change(folder: Path) -> None:
        document = json.loads((folder / "config.json").read_text())
        for name, value in changes.items():
            *parts, last = name.split("__")
            part = document["config"]
            for each in parts:
                part = part[each]
            part[last] = value
        (folder / "config.json").write_text(json.dumps(document))

    return change


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A file with this content, and its digest."""
    return lambda folder: sealed(folder, name, content if isinstance(content, bytes) else content.encode())


def sealed(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    document = json.loads((folder / "config.json").read_text())
    document["sha256"][name] = digest(folder / name)
    (folder / "config.json").write_text(json.dumps(document))


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    """Change the tensors of the text tower."""

    def apply(folder: Path) -> None:
        state = load_file(folder / "text.safetensors")
        change(state)
        save_file(state, folder / "new")
        sealed(folder, "text.safetensors", (folder / "new").read_bytes())

    return apply


def header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the header of the text tower's file."""

    def apply(folder: Path) -> None:
        content = (folder / "text.safetensors").read_bytes()
        (size,) = struct.unpack("<Q", content[:8])
        fields = json.loads(content[8 : 8 + size])
        change(fields)
        new = json.dumps(fields).encode()
        sealed(folder, "text.safetensors", struct.pack("<Q", len(new)) + new + content[8 + size :])

    return apply


def tokens(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "tokenizer.json").read_text())
        change(content)
        sealed(folder, "tokenizer.json", json.dumps(content).encode())

    return apply


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return apply


def swap(folder: Path) -> None:
    """Towers of the same shapes."""
    text = (folder / "text.safetensors").read_bytes()
    state = load_file(folder / "text.safetensors")
    save_file({key: value * 2 for key, value in state.items()}, folder / "text.safetensors")
    assert (folder / "text.safetensors").read_bytes() != text


def first(fields: dict[str, Any]) -> dict[str, Any]:
    return next(value for value in fields.values() if len(value["shape"]) == 2)


FORMS: dict[str, Callable[[Path], None]] = {
    "no config": lambda folder: (folder / "config.json").unlink(),
    "an empty config": lambda folder: (folder / "config.json").write_bytes(b""),
    "a config that is a list": lambda folder: (folder / "config.json").write_text("[]"),
    "a config of NULs": lambda folder: (folder / "config.json").write_bytes(bytes(1000)),
    "a config that nests": lambda folder: (folder / "config.json").write_text("[" * 100_000),
    "a config of a gigabyte": lambda folder: os.truncate(folder / "config.json", 1 << 30),
    "a config of digits": lambda folder: (folder / "config.json").write_text('{"config": ' + "9" * 5000),
    "a config in a pipe": replaced("config.json", os.mkfifo),
    "a config that is a folder": replaced("config.json", Path.mkdir),
    "a config in a circle": replaced("config.json", lambda path: path.symlink_to(path)),
    "a config that is a device": replaced("config.json", lambda path: path.symlink_to("/dev/zero")),
    "a width of 0": config(vision__width=0),
    "a negative width": config(text__width=-16),
    "a width of 10**12": config(text__width=10**12),
    "a million blocks": config(text__depth=1_000_000),
    "a width that is a text": config(text__width="16"),
    "a width that is true": config(text__width=True),
    "a width of 16.5": config(text__width=16.5),
    "heads that do not divide": config(text__heads=3),
    "another width": config(text__width=32),
    "a huge picture": config(vision__image_size=1 << 20),
    "a stem that is none": config(vision__stem=[[]]),
    "a long stem": config(vision__stem=[8] * 1000),
    "a stem deeper than the patch": config(vision__stem=[8] * 12),
    "a stride of 0": config(audio__stride=[0, 0]),
    "a kernel of three": config(audio__kernel=[1, 1, 1]),
    "NaN": config(text__logit_scale=float("nan")),
    "infinity": config(audio__clip_s=float("inf")),
    "a tower that is null": config(audio=None),
    "a tower that is a list": config(audio=[1]),
    "an unknown field": config(audio__what=1),
    "an unknown part": config(what=1),
    "a cleaning that is none": config(preprocessing__text_cleaning="rm -rf"),
    "a deviation of 0": config(preprocessing__image_std=[0, 0, 0]),
    "no dimensions": config(embed_dim=0),
    "10**9 dimensions": config(embed_dim=10**9),
    "a name with escapes": config(name="\x1b]0;owned\x07"),
    "a name without end": config(name="n" * 10_000),
    "no tower": lambda folder: (folder / "text.safetensors").unlink(),
    "an empty tower": text("text.safetensors", b""),
    "a tower that is a folder": replaced("text.safetensors", Path.mkdir),
    "a tower in a pipe": replaced("text.safetensors", os.mkfifo),
    "a tower that is cut": lambda folder: os.truncate(folder / "text.safetensors", 3_000),
    "a header of 2**60 bytes": text("text.safetensors", struct.pack("<Q", 1 << 60) + b"{}"),
    "a header of 90 MB": text("text.safetensors", struct.pack("<Q", 90_000_000) + b" " * 90_000_000),
    "offsets beyond the file": header(lambda fields: first(fields).update(data_offsets=[0, 10**12])),
    "offsets that overlap": header(lambda fields: first(fields).update(data_offsets=[0, 64])),
    "a shape of 10**12": header(lambda fields: first(fields).update(shape=[10**6, 10**6])),
    "a negative shape": header(lambda fields: first(fields).update(shape=[-1, -1])),
    "a type that is none": header(lambda fields: first(fields).update(dtype="F7")),
    "a tensor too few": tensors(dict.popitem),
    "a tensor too many": tensors(lambda state: state.update(what=torch.ones(1))),
    "whole numbers": tensors(lambda state: state.update({k: v.to(torch.int64) for k, v in state.items()})),
    "another tower": lambda folder: shutil.copy(folder / "audio.safetensors", folder / "text.safetensors"),
    "weights of another digest": swap,
    "no tokenizer": lambda folder: (folder / "tokenizer.json").unlink(),
    "a tokenizer that is none": text("tokenizer.json", "{}"),
    "a tokenizer in Latin-1": text("tokenizer.json", b'{"\xe9": 1}'),
    "a tokenizer of 10**7 merges": text("tokenizer.json", '{"model": {"merges": [' + '"a b",' * 10**7),
    "a tokenizer that is a device": replaced("tokenizer.json", lambda path: path.symlink_to("/dev/zero")),
    "an expression without end": tokens(
        lambda content: content.update(
            pre_tokenizer={
                "type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False,
            }
        )
    ),
    "ids beyond the model's": tokens(lambda content: content["model"]["vocab"].update(what=4_000_000_000)),
    "a vocabulary in Latin-1": lambda folder: (folder / "words.txt").write_bytes(b"caf\xe9\n"),
    "a vocabulary that is a folder": replaced("words.txt", Path.mkdir),
    "a vocabulary in a pipe": replaced("words.txt", os.mkfifo),
    "a vocabulary of a gigabyte": lambda folder: os.truncate(folder / "words.txt", 1 << 30),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_a_hostile_folder_is_refused_in_one_line(form, folder):
    FORMS[form](folder)
    before, start_s = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    samples = [Sample(Modality.TEXT, "a" * 40), Sample(Modality.IMAGE, Image.new("RGB", (8, 8)))]
    with pytest.raises(ModelError) as caught:
        ImageBindBackend(resolve(str(folder)).folder).embed(samples)
    assert len(str(caught.value)) < 2_500
    assert "\x1b" not in str(caught.value)
    assert time.process_time() - start_s < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


def test_padding_of_a_tokenizer_is_ignored(folder):
    padding = {
        "strategy": {"Fixed": 100_000_000}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
        "pad_type_id": 0, "pad_token": "x",
    }  # fmt: skip
    plain = ImageBindBackend(folder).embed([Sample(Modality.TEXT, "a dog")])
    tokens(lambda content: content.update(padding=padding))(folder)
    np.testing.assert_array_equal(plain, ImageBindBackend(folder).embed([Sample(Modality.TEXT, "a dog")]))


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "a/b", "", "x" * 200, "a\nb"])
def test_only_files_of_the_folder_are_verified(name, folder):
    document = json.loads((folder / "config.json").read_text())
    document["sha256"][name] = "0" * 64
    (folder / "config.json").write_text(json.dumps(document))
    with pytest.raises(ModelError, match="no file of a model"):
        list(verify(folder))


def test_a_pipe_in_the_place_of_a_tower_is_described_and_verified(folder):
    (folder / "imu.safetensors").unlink()
    os.mkfifo(folder / "imu.safetensors")
    assert stat.S_ISFIFO((folder / "imu.safetensors").stat().st_mode)
    assert dict(verify(folder))["imu.safetensors"] == "cannot be read: not a regular file"
    with pytest.raises(ModelError, match="not a regular file"):
        tower_file(folder, "imu")


@pytest.mark.parametrize("choice", ["m\0", "m" * 5000, "/dev/null", "\x1b[31m"])
def test_a_name_that_is_no_model_is_refused(choice):
    with pytest.raises(ModelError, match="no model"):
        resolve(choice)
