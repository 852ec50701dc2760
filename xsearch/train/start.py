"""The initial state of a run: towers from scratch or from another model, and their tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from xsearch.models.checkpoint import load_config, load_tower
from xsearch.models.config import SMALL, TOWERS
from xsearch.models.imagebind import ImageBind, build_tower, lay_out
from xsearch.models.registry import resolve
from xsearch.models.tokenizer import Tokenizer, train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.models.vocabulary import Vocabulary, words_of
from xsearch.system.durable import publish
from xsearch.train.recipe import Recipe

__all__ = ["Start", "start"]


@dataclass(frozen=True)
class Start:
    """A float32 model to train, its preprocessing, and the vocabulary that it will have afterwards."""

    model: ImageBind
    preprocess: Preprocess
    words: frozenset[str] | None  # None: open vocabulary


def start(recipe: Recipe, texts: Iterable[Sequence[str]], folder: Path) -> Start:
    """The model, preprocessing and vocabulary that the recipe starts from.

    texts: the training texts, of each medium; the tokenizer of a fresh text tower is trained on them, and
    saved in `folder` so that a resumed run has the same. Raises ModelError if the source model is missing.
    """
    fresh = TOWERS if recipe.start == "scratch" else recipe.fresh
    source = None if recipe.start == "scratch" else resolve(recipe.start).folder
    config = SMALL if source is None else load_config(source)[0]
    vocabulary = None if source is None else Vocabulary.load(source)
    known = None if vocabulary is None else vocabulary.words
    texts = list(texts)
    if "text" in fresh:
        path = folder / "tokenizer.json"
        if not path.exists():
            distinct = dict.fromkeys(text for some in texts for text in some)
            trained = train_tokenizer(distinct, SMALL.text.vocab, context=config.text.context)
            with publish(path) as part:
                trained.save(part)
        tokenizer = Tokenizer.load(path, context=config.text.context)
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
    for name in TOWERS:  # a fixed order: a seed determines the weights
        if source is None or name in fresh:
            model.towers[name] = tower = build_tower(config, name)
            lay_out(tower)
        else:
            model.towers[name] = load_tower(source, name, config)
    for parameter in model.parameters():  # memory-mapped weights are read-only
        parameter.data = parameter.data.clone()
    if known is not None and any("text" in stage.towers for stage in recipe.stages):
        known |= words_of(texts, recipe.word_count)
    return Start(model, Preprocess(config, tokenizer), known)
