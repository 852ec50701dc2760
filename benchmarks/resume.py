"""Kill a training run with SIGKILL, again and again, and compare it with one that nobody disturbed.

    python -m benchmarks.resume [--kills 30] [--seed 0] [--json out.json]

A process trains two stages on pairs of coloured squares and words, with checkpoints every few steps, and dies
at a random moment; then another goes on. At the end every weight and every logged loss must be that of the
undisturbed run, to the bit.
"""

from __future__ import annotations

import random
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from benchmarks import command
from xsearch.models.config import SMALL
from xsearch.models.imagebind import ImageBind
from xsearch.models.tokenizer import train_tokenizer
from xsearch.models.transforms import Preprocess
from xsearch.pairs import read_pairs
from xsearch.train import Recipe, train
from xsearch.train.log import read_log

CHECKPOINT_S = 0.5
WEIGHTS = "weights.pt"


def make_table(folder: Path) -> Path:
    rng = random.Random(0)
    lines = ["image,other,modality"]
    for i in range(64):
        colour = tuple(rng.randrange(256) for _ in range(3))
        Image.new("RGB", (32, 32), colour).save(folder / f"{i}.png")
        lines.append(f"{i}.png,red {colour[0]} green {colour[1]} blue {colour[2]},text")
    table = folder / "pairs.csv"
    table.write_text("\n".join([*lines, ""]))
    return table


def work(table: Path, out: Path, steps: int) -> None:
    """Train as far as it goes; what comes out is kept as WEIGHTS."""
    recipe = Recipe.of(
        {
            "ema": 0.9,
            "modality": {"text": {"temperature": 0.1, "batch": 16, "learned": True}},
            "stage": [
                {"learn": ["vision", "text"], "bind": ["text"], "steps": steps},
                {"learn": ["text"], "bind": ["text"], "steps": steps},
            ],
        }
    )
    pairs = read_pairs(table)
    tokenizer = train_tokenizer([str(pair.other) for pair in pairs], 600, context=SMALL.text.context)
    vision = replace(
        SMALL.vision, width=32, depth=1, heads=2, image_size=32, patch=16, stem=(8, 16), blocks=()
    )
    text = replace(SMALL.text, width=32, depth=1, heads=2, vocab=tokenizer.size)
    config = replace(SMALL, embed_dim=16, vision=vision, text=text)
    torch.manual_seed(0)
    model = ImageBind(config, towers=("vision", "text"))
    train(model, Preprocess(config, tokenizer), recipe, {"text": pairs}, out, checkpoint_s=CHECKPOINT_S)
    torch.save(model.state_dict(), out / WEIGHTS)


def killed(table: Path, out: Path, steps: int, after_s: float | None) -> bool:
    """Run a process, for so long at most; whether it was killed."""
    return command.killed("resume", "--work", str(table), str(out), str(steps), after_s=after_s)


def outcome(out: Path) -> tuple[dict[str, torch.Tensor], dict[tuple[str, int], float]]:
    losses = {(line["stage"], line["step"]): line["loss"] for line in read_log(out)}
    return torch.load(out / WEIGHTS, weights_only=True), losses


def run(kills: int, seed: int, steps: int = 150) -> dict:
    """steps: of each stage."""
    rng = random.Random(seed)
    done, runs = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        table = make_table(Path(scratch))
        start = time.perf_counter()
        assert not killed(table, Path(scratch) / "undisturbed", steps, None)
        usual_s = time.perf_counter() - start
        weights, losses = outcome(Path(scratch) / "undisturbed")
        while done < kills:
            runs += 1
            out = Path(scratch) / f"{runs}"
            while killed(table, out, steps, rng.uniform(0.3, 1) * usual_s if done < kills else None):
                done += 1
            again, lost = outcome(out)
            assert lost == losses, f"run {runs}: other losses"
            assert all(torch.equal(again[name], x) for name, x in weights.items()), (
                f"run {runs}: other weights"
            )
    return {"kills": done, "runs": runs, "steps": 2 * steps, "losses": len(losses)}


def markdown(result: dict) -> str:
    return (
        f"{result['kills']} kills during {result['runs']} runs of {result['steps']} steps: each ended with "
        f"the weights and the {result['losses']} logged losses of a run that nobody disturbed, to the bit."
    )


def main() -> None:
    parser = command.parser(__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", nargs=3, metavar=("TABLE", "OUT", "STEPS"), help="only this")
    options = parser.parse_args()
    if options.work:
        table, out, steps = options.work
        work(Path(table), Path(out), int(steps))
        return
    command.report(run(options.kills, options.seed), markdown, options.json)


if __name__ == "__main__":
    main()
