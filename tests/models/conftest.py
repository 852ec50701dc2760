"""A model small enough for every test."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tests import official
from xsearch.models import HUGE, ImageBind, ImageBindConfig, Preprocessing, Tokenizer, train_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return train_tokenizer(["a red dog on the beach", "two birds at night"], 300)


@pytest.fixture(scope="session")
def config(tokenizer: Tokenizer) -> ImageBindConfig:
    part = dataclasses.replace
    return part(
        HUGE,
        name="tiny",
        embed_dim=24,
        vision=part(HUGE.vision, width=16, depth=2, heads=2, image_size=28),
        text=part(HUGE.text, width=16, depth=2, heads=2, context=32, vocab=tokenizer.size),
        audio=part(HUGE.audio, width=16, depth=2, heads=2, mels=32, stride=(16, 16)),
        depth=part(HUGE.depth, width=8, depth=2, heads=2, image_size=32),
        thermal=part(HUGE.thermal, width=16, depth=2, heads=2, image_size=48),
        imu=part(HUGE.imu, width=16, depth=2, heads=2, kernel=200, drop_path=0.0, head_dropout=0.0),
        preprocessing=Preprocessing(text_cleaning="plain", video_crops=1, video_antialias=True),
    )


@pytest.fixture
def model(config: ImageBindConfig) -> ImageBind:
    """Random weights large enough that every part of a tower matters."""
    generator = torch.Generator().manual_seed(0)
    model = ImageBind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.2)
    return model.eval()


@pytest.fixture
def inputs(config: ImageBindConfig) -> dict[str, torch.Tensor]:
    """A batch of two for each tower."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(2, *shape, generator=generator)

    vocab = config.text.vocab
    ids = torch.zeros(2, config.text.context, dtype=torch.int64)
    ids[0, :4] = torch.tensor([vocab - 2, 5, 6, vocab - 1])
    ids[1, :7] = torch.tensor([vocab - 2, 9, 8, 7, 6, 5, vocab - 1])
    return {
        "vision": draw(3, 28, 28),
        "text": ids,
        "audio": draw(3, 1, 32, 204),
        "depth": draw(1, 32, 32),
        "thermal": draw(1, 48, 48),
        "imu": draw(6, 2000),
    }


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt.gz"
    path.write_bytes(official.vocabulary())
    return path
