"""The loop: bind towers to pictures, one modality after another; seeded, and resumable at any moment.

As in ImageBind (arXiv:2305.05665, section 3), pictures and texts come first and are frozen then; sound,
depth, thermal and IMU each learn to meet the pictures where they are. Only pairs (picture, X) are compared.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
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
    """What decides the outcome, besides the data. Modalities are bound in the order of `steps`."""

    steps: dict[str, int] = field(
        default_factory=lambda: {"text": 1400, "audio": 1000, "depth": 800, "thermal": 700, "imu": 300}
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
    model = ImageBind(config).to(device)
    for name in recipe.steps:
        learning = nn.ModuleDict({name: model.towers[name]})
        if name == "text":
            learning["vision"] = model.towers["vision"]
        _bind(name, learning, pairs, recipe, folder, checkpoint_s)
        if name == "text":  # from here on, a picture is its embedding
            pictures = _embed_pictures(model.towers["vision"], pairs)
            pairs = replace(pairs, arrays=pairs.arrays | {"vision": pictures.numpy()})
    return model.eval()


def _bind(
    name: str, towers: nn.ModuleDict, pairs: ScenePairs, recipe: Recipe, folder: Path, checkpoint_s: float
) -> None:
    """Train `towers`: the one called `name`, and vision with it or else frozen pictures in `pairs`."""
    checkpoint, steps = folder / f"{name}.pt", recipe.steps[name]
    device = next(towers.parameters()).device
    towers.train()
    optimizer = torch.optim.AdamW(_groups(towers, recipe.weight_decay), lr=recipe.lr, betas=recipe.betas)
    first = _resume(checkpoint, towers, optimizer)
    saved = time.monotonic()
    bar = tqdm(range(first, steps), desc=name, unit="step", initial=first, total=steps)
    with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in bar:
            inputs = pairs.batch(step, recipe.seed, ("vision", name))
            with _precision(device.type):
                x, y = (
                    towers[tower](inputs[tower].to(device)) if tower in towers else inputs[tower].to(device)
                    for tower in ("vision", name)
                )
            loss = binding_loss(x, y, recipe.temperatures[name], GRID)
            for group in optimizer.param_groups:
                group["lr"] = recipe.lr_at(step, steps)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(towers.parameters(), recipe.clip_norm)
            optimizer.step()
            if step % 10 == 9:
                print(json.dumps({name: step + 1, "loss": round(float(loss), 4)}), file=log, flush=True)
                bar.set_postfix(loss=f"{float(loss):.3f}")
            if time.monotonic() - saved >= checkpoint_s or step + 1 == steps:
                _save(checkpoint, towers, optimizer, step + 1)
                saved = time.monotonic()
    towers.eval()


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
