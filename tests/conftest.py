"""What tests of several parts share."""

import dataclasses
from pathlib import Path

import pytest
import torch

from xsearch.models import SMALL, ImageBind, save_model, train_tokenizer


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A model folder with random weights."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(["a red dog"], 300)
    part = dataclasses.replace
    towers = {
        name: part(getattr(SMALL, name), width=16, depth=1, heads=2)
        for name in ("vision", "audio", "depth", "thermal", "imu")
    }
    text = part(SMALL.text, width=16, depth=1, heads=2, vocab=tokenizer.size)
    config = part(SMALL, name="tiny", embed_dim=24, text=text, **towers)
    path = tmp_path_factory.mktemp("model")
    save_model(ImageBind(config), tokenizer, path)
    return path
