"""Train the bundled model from scratch: `python -m xsearch.train OUT`.

Renders the scenes, trains, and writes a model folder `OUT/model`. Interrupted, it continues where it was.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import replace
from pathlib import Path

import torch

from xsearch.models.checkpoint import save_model
from xsearch.models.config import SMALL
from xsearch.models.tokenizer import train_tokenizer
from xsearch.scenes import caption, sample
from xsearch.train.loop import Recipe, train
from xsearch.train.pairs import SEED, ScenePairs

CAPTIONS = 20_000  # for the tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m xsearch.train", description=__doc__)
    parser.add_argument("out", type=Path, help="folder for scenes, checkpoint, log and the finished model")
    parser.add_argument("--rounds", type=int, default=200, help="of 104 scenes each (default 200)")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()

    texts = (caption.render(scene) for scene in sample(CAPTIONS, seed=SEED))
    tokenizer = train_tokenizer(texts, SMALL.text.vocab, context=SMALL.text.context)
    config = replace(SMALL, text=replace(SMALL.text, vocab=tokenizer.size))
    workers = len(os.sched_getaffinity(0))
    pairs = ScenePairs.render(options.out, config, tokenizer, rounds=options.rounds, workers=workers)
    model = train(pairs, config, Recipe(), options.out, device=options.device)
    save_model(model, tokenizer, options.out / "model")


if __name__ == "__main__":
    main()
