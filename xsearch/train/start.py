"""Where a run starts: towers from nothing or from another model, and the tokenizer that goes with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from xsearch.models.checkpoint import load_config, load_tower
from xsearch.models.config import SMALL, TOWERS
from xsearch.models.imagebind import ImageBind, build_tower, lay_out
from xsearch.models.registry import resolve
from xsearch.models.tokenizer import Tokenizer, train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.models.vocabulary import known_words, words_of
from xsearch.system.durable import publish
from xsearch.train.recipe import Recipe

__all__ = ["Start", "start"]


@dataclass(frozen=True)
class Start:
    """A model to train, float32, what prepares its inputs, and the words that it will have learned."""

    model: ImageBind
    preprocess: Preprocess
    words: frozenset[str] | None  # None: too many to list


def start(recipe: Recipe, texts: Iterable[str], folder: Path) -> Start:
    """What the recipe starts from.

    texts: what is to be read; a fresh text tower gets a tokenizer that is trained on them, and kept in
    `folder` for when the run goes on. Raises ModelError where the model is not there.
    """
    fresh = TOWERS if recipe.start == "scratch" else recipe.fresh
    source = None if recipe.start == "scratch" else resolve(recipe.start).folder
    config = SMALL if source is None else load_config(source)[0]
    known = None if source is None else known_words(source)
    texts = list(texts)
    if "text" in fresh:
        kept = folder / "tokenizer.json"
        if not kept.exists():
            trained = train_tokenizer(texts, SMALL.text.vocab, context=config.text.context)
            with publish(kept) as part:
                trained.save(part)
        tokenizer = Tokenizer.load(kept, context=config.text.context)
        config = replace(
            config,
            text=replace(config.text, vocab=tokenizer.size),
            preprocessing=replace(config.preprocessing, text_cleaning="plain"),
        )
        known = frozenset()
    else:
        assert source is not None
        cleaning = config.preprocessing.text_cleaning
        path = source / "tokenizer.json"
        tokenizer = Tokenizer.load(path, context=config.text.context, cleaning=cleaning)
    config = replace(config, name=recipe.name)
    torch.manual_seed(recipe.seed)
    model = ImageBind(config, towers=())
    for name in TOWERS:  # in this order, so that a seed gives the same weights
        if source is None or name in fresh:
            model.towers[name] = tower = build_tower(config, name)
            lay_out(tower)
        else:
            model.towers[name] = load_tower(source, name, config)
    for parameter in model.parameters():  # a map of a file cannot be written to
        parameter.data = parameter.data.clone()
    if known is not None and any("text" in stage.towers for stage in recipe.stages):
        known |= words_of(texts)
    return Start(model, Preprocess(config, tokenizer), known)
