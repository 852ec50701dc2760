"""Where a run starts: towers from nothing or from another model, and the tokenizer that goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from xsearch.models.checkpoint import load_config, load_tower
from xsearch.models.config import SMALL, TOWERS
from xsearch.models.imagebind import ImageBind, build_tower
from xsearch.models.registry import resolve
from xsearch.models.tokenizer import Tokenizer, train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.train.recipe import Recipe

__all__ = ["start"]


def start(recipe: Recipe, texts: Iterable[str]) -> tuple[ImageBind, Preprocess]:
    """The model that the recipe starts from, float32, and what prepares its inputs.

    texts: what is to be read; a fresh text tower gets a tokenizer that is trained on them.
    Raises ModelError where the model is not there.
    """
    fresh = TOWERS if recipe.start == "scratch" else recipe.fresh
    config = SMALL
    folder = None
    if recipe.start != "scratch":
        folder = resolve(recipe.start).folder
        config, _ = load_config(folder)
    if "text" in fresh:
        tokenizer = train_tokenizer(texts, SMALL.text.vocab, context=config.text.context)
        config = replace(config, text=replace(config.text, vocab=tokenizer.size))
    else:
        assert folder is not None
        cleaning = config.preprocessing.text_cleaning
        tokenizer = Tokenizer.load(folder / "tokenizer.json", context=config.text.context, cleaning=cleaning)
    config = replace(config, name=recipe.name)
    torch.manual_seed(recipe.seed)
    model = ImageBind(config, towers=())
    for name in TOWERS:  # in this order, so that a seed gives the same weights
        known = folder is not None and name not in fresh
        model.towers[name] = (
            load_tower(folder, name, config) if known and folder else build_tower(config, name)
        )
    for parameter in model.parameters():  # memory-mapped weights cannot be written to
        layout = torch.channels_last if parameter.ndim == 4 else torch.preserve_format
        parameter.data = parameter.data.clone(
            memory_format=layout
        )  # convolutions: a quarter faster (measured)
    return model, Preprocess(config, tokenizer)
