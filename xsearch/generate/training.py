"""The training of a decoder on pictures and their vectors. Deterministic and resumable."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from xsearch.errors import ModelError, UsageError
from xsearch.generate.config import MAX_NOISE
from xsearch.generate.flow import draw_times, flow_loss, noisy_vectors
from xsearch.generate.network import Network
from xsearch.models.precision import training_precision
from xsearch.system.durable import publish
from xsearch.system.terminal import unescaped
from xsearch.train.log import Log
from xsearch.train.recipe import cosine
from xsearch.train.state import average

__all__ = ["CHECKPOINT", "Plan", "train_decoder"]

CHECKPOINT = "decoder.pt"
LOG_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The settings of a training. lr: the peak, of AdamW and of Muon, whose updates have the same size."""

    steps: int
    batch: int = 96
    lr: float = 2e-3
    warmup: float = 0.03  # share of the steps
    weight_decay: float = 0.05
    ema: float = 0.998
    drop: float = 0.1  # share of the pictures whose vector is withheld
    clean: float = 0.3  # share of the vectors without noise; the levels of the others are uniform
    seed: int = 0
    precision: str = "auto"

    def lr_at(self, step: int) -> float:
        """Linear warm-up, then half a cosine to 0."""
        return self.lr * cosine(step, self.steps, warmup=self.warmup)


def train_decoder(
    network: Network,
    pictures: np.ndarray,
    vectors: np.ndarray,
    weights: np.ndarray,
    folder: Path,
    plan: Plan,
    *,
    device: str = "cpu",
    checkpoint_s: float = 120.0,
) -> Network:
    """Train an initialised network, resuming from the checkpoint in `folder`; logs to `log.jsonl` there.

    pictures: uint8 [N, S, S, 3]. vectors: float16 [N, D], unit rows. weights: float [N], with which pictures
    are drawn. Step n depends on the plan and n alone, so a resumed run ends where an uninterrupted one does.
    It may be resumed with other `steps`, fewer to end it soon: the rate is then that of the plan with these.
    Returns the network with averaged weights. Raises UsageError if `folder` has a training of another plan,
    ModelError if the loss diverges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    training = _Training(network.to(device).train(), plan, device)
    training.resume(folder / CHECKPOINT)
    cumulative = np.cumsum(weights / weights.sum())
    saved, start, drawn = time.monotonic(), time.monotonic(), 0
    place = unescaped(sys.stderr)
    bar = tqdm(total=plan.steps, initial=training.step, desc="decoder", unit="step", file=place)
    with Log(folder, "decoder", training.precision) as log, bar:
        while training.step < plan.steps:
            rng = np.random.default_rng([plan.seed, training.step])
            rows = np.searchsorted(cumulative, rng.random(plan.batch), side="right")
            rows = rows.clip(max=len(pictures) - 1)  # for the rounding of the sum
            x = torch.from_numpy(pictures[rows]).permute(0, 3, 1, 2).float() / 127.5 - 1
            v, seed = torch.from_numpy(vectors[rows]).float(), int(rng.integers(2**62))
            loss, norm = training.advance(x, v, seed)
            if not math.isfinite(loss):
                raise ModelError(f"the loss is not finite at step {training.step}; use a smaller lr")
            drawn += plan.batch
            bar.update()
            last = training.step == plan.steps
            if training.step % LOG_STEPS == 0 or last:
                rate = drawn / (time.monotonic() - start)
                metrics = {"loss": loss, "norm": norm, "lr": plan.lr_at(training.step - 1), "img/s": rate}
                log.add(training.step, metrics)
                bar.set_postfix(loss=f"{loss:.3f}", images_per_s=f"{rate:.0f}")
                start, drawn = time.monotonic(), 0
            if last or time.monotonic() - saved >= checkpoint_s:
                training.save(folder / CHECKPOINT)
                saved = time.monotonic()
    network.load_state_dict(training.averages, strict=False)  # buffers stay
    return network.eval()


class _Training:
    """A network, its optimisers and its averaged weights."""

    def __init__(self, network: Network, plan: Plan, device: str) -> None:
        self.network, self.plan, self.device, self.step = network, plan, torch.device(device), 0
        self.precision = training_precision(plan.precision, self.device)
        hidden = [weight for name, weight in network.layers.named_parameters() if _is_hidden(name, weight)]
        taken = {id(weight) for weight in hidden}
        others = [weight for weight in network.parameters() if id(weight) not in taken]
        groups: list[dict[str, Any]] = [
            {"params": [weight for weight in others if weight.ndim > 1]},
            {"params": [weight for weight in others if weight.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(
                hidden, lr=plan.lr, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"
            ),
            torch.optim.AdamW(
                groups,
                lr=plan.lr,
                betas=(0.9, 0.95),
                weight_decay=plan.weight_decay,
                fused=True,
            ),
        ]
        self.averages = {name: weight.detach().clone() for name, weight in network.named_parameters()}

    def advance(self, x: Tensor, vectors: Tensor, seed: int) -> tuple[float, float]:
        """Take a step; returns the loss and the norm of the gradient before it was clipped to 1."""
        B, plan = len(x), self.plan
        generator = torch.Generator().manual_seed(seed)
        t = draw_times(B, generator)
        known = torch.rand(B, generator=generator) >= plan.drop
        levels = MAX_NOISE * torch.rand(B, generator=generator)
        levels *= torch.rand(B, generator=generator) >= plan.clean
        vectors = noisy_vectors(vectors, levels, torch.randn(vectors.shape, generator=generator))
        noise = torch.randn(x.shape, generator=generator)
        mirrored = torch.rand(B, generator=generator) < 0.5  # has the same vector, or almost
        x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        x, noise, t, vectors, levels, known = (
            each.to(self.device) for each in (x, noise, t, vectors, levels, known)
        )
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = plan.lr_at(self.step)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            loss = flow_loss(lambda z, t: self.network(z, t, vectors, levels, known), x, noise, t)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        self.step += 1
        average(self.averages, dict(self.network.named_parameters()), plan.ema, self.step)
        return float(loss.detach()), float(norm)

    def save(self, path: Path) -> None:
        content = {
            "plan": asdict(self.plan),
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averages": self.averages,
            "step": self.step,
        }
        with publish(path) as part:
            torch.save(content, part)

    def resume(self, path: Path) -> None:
        """Load the checkpoint at `path`, if there is one."""
        if not path.exists():
            return
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        if content["plan"] | {"steps": self.plan.steps} != asdict(self.plan):
            raise UsageError(f"{path.parent} holds a training of another plan; choose another folder")
        try:
            self.network.load_state_dict(content["network"])
        except RuntimeError:
            raise UsageError(f"{path.parent} holds a network of other sizes; choose another folder") from None
        for optimizer, state in zip(self.optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.averages = {name: x.to(self.device) for name, x in content["averages"].items()}
        self.step = content["step"]


def _is_hidden(name: str, weight: Tensor) -> bool:
    """Whether Muon trains it (https://kellerjordan.github.io/posts/muon/): matrices between hidden states."""
    return weight.ndim == 2 and "modulation" not in name
