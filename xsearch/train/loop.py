"""The loop: bind towers to pictures, one modality after another; seeded, and resumable at any moment.

As in ImageBind (arXiv:2305.05665, section 3), pictures and texts come first and are frozen then; sound,
depth, thermal and IMU each learn to meet the pictures where they are. Then the pictures learn once more,
from all the others, which rest, and sound follows them. Only pairs (picture, X) are compared.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from xsearch.models.config import ImageBindConfig
from xsearch.models.imagebind import ImageBind
from xsearch.train.loss import binding_loss
from xsearch.train.pairs import GRID, ScenePairs

__all__ = ["Recipe", "train"]


@dataclass(frozen=True)
class Recipe:
    """What decides the outcome, besides the data. Towers learn in the order of `steps`."""

    steps: tuple[tuple[str, int], ...] = (
        ("text", 1400),
        ("audio", 1000),
        ("depth", 800),
        ("thermal", 700),
        ("imu", 300),
        ("vision", 600),
        ("audio", 300),
    )
    # Fixed, one per modality, as in ImageBind.
    temperatures: dict[str, float] = field(
        default_factory=lambda: {"text": 0.07, "audio": 0.07, "depth": 0.1, "thermal": 0.1, "imu": 0.1}
    )
    lr: float = 2e-3
    warmup: int = 100
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)  # ImageBind, Table 9
    clip_norm: float = 1.0
    seed: int = 0

    def lr_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then half a cosine down to nothing."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(steps - self.warmup, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


def train(
    pairs: ScenePairs,
    config: ImageBindConfig,
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    checkpoint_s: float = 120.0,
) -> ImageBind:
    """Train, or continue from the checkpoints in `folder`; writes `log.jsonl` there. Returns the model.

    What step n sees depends on the seed and n alone, so an interrupted run ends where another would have.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    model = ImageBind(config).to(device).eval()
    seen = pairs  # with a picture's embedding in its place, where pictures are frozen
    for number, (stage, steps) in enumerate(recipe.steps, start=1):
        learning = {"text": ("vision", "text"), "vision": ("vision",)}.get(stage, (stage,))
        others = recipe.temperatures if stage == "vision" else (stage,)
        towers = nn.ModuleDict({name: model.towers[name] for name in ("vision", *others)})
        if "vision" not in learning:
            towers["vision"] = nn.Identity()
        given = pairs if "vision" in learning else seen
        _bind(towers, learning, steps, given, recipe, folder / f"{number}-{stage}.pt", checkpoint_s)
        if "vision" in learning:
            pictures = _embed_pictures(model.towers["vision"], pairs)
            seen = replace(pairs, arrays=pairs.arrays | {"vision": pictures.numpy()})
    return model


def _bind(
    towers: nn.ModuleDict,
    learning: Sequence[str],
    steps: int,
    pairs: ScenePairs,
    recipe: Recipe,
    checkpoint: Path,
    checkpoint_s: float,
) -> None:
    """Train those of `towers` that are `learning`: pictures are compared with each of the others."""
    learners = nn.ModuleDict({name: towers[name] for name in learning}).train()
    device = next(learners.parameters()).device
    optimizer = torch.optim.AdamW(_groups(learners, recipe.weight_decay), lr=recipe.lr, betas=recipe.betas)
    first = _resume(checkpoint, learners, optimizer)
    saved = time.monotonic()
    bar = tqdm(range(first, steps), desc=checkpoint.stem, unit="step", initial=first, total=steps)
    with (checkpoint.parent / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in bar:
            inputs = pairs.batch(step, recipe.seed, tuple(towers), silent=learning == ("audio",))
            with _precision(device.type):
                rows = {}
                for name, tower in towers.items():
                    with torch.set_grad_enabled(name in learning):
                        rows[name] = tower(inputs[name].to(device))
            picture = rows.pop("vision")
            losses = [binding_loss(picture, x, recipe.temperatures[name], GRID) for name, x in rows.items()]
            loss = torch.stack(losses).sum()
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(step, steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(learners.parameters(), recipe.clip_norm)
            optimizer.step()
            if step % 10 == 9:
                print(
                    json.dumps({checkpoint.stem: step + 1, "loss": round(float(loss), 4)}),
                    file=log,
                    flush=True,
                )
                bar.set_postfix(loss=f"{float(loss):.3f}")
            if time.monotonic() - saved >= checkpoint_s or step + 1 == steps:
                _save(checkpoint, learners, optimizer, step + 1)
                saved = time.monotonic()
    learners.eval()


@contextmanager
def _precision(device: str) -> Iterator[None]:
    # On CPUs the fused attention is the slower one to train: 1.7 s a step against 1.2 s on 2 cores.
    backends = [SDPBackend.MATH] if device == "cpu" else [SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]
    with torch.autocast(device, torch.bfloat16), sdpa_kernel(backends):
        yield


@torch.inference_mode()
def _embed_pictures(vision: nn.Module, pairs: ScenePairs) -> Tensor:
    """float32 [N, E] of all pictures."""
    device = next(vision.parameters()).device
    batches = torch.from_numpy(pairs.arrays["vision"]).split(256)
    return torch.cat([vision(x.float().to(device)).cpu() for x in batches])


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Matrices decay; biases, norms, class tokens and positions do not."""
    names = dict(model.named_parameters())
    free = [p for n, p in names.items() if p.ndim < 2 or n.endswith(("cls_token", "pos_embed"))]
    decayed = [p for p in names.values() if not any(p is q for q in free)]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _save(path: Path, towers: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    part = path.with_suffix(".part")
    torch.save({"towers": towers.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, part)
    part.replace(path)


def _resume(path: Path, towers: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    towers.load_state_dict(state["towers"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])
