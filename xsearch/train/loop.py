"""The training loop: stage by stage, towers learn to match pictures. Deterministic and resumable.

As in ImageBind (arXiv:2305.05665, section 3), only pairs (picture, X) are contrasted.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from xsearch.errors import ModelError
from xsearch.models.imagebind import ImageBind
from xsearch.models.precision import training_precision
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.system.terminal import unescaped
from xsearch.train.adapters import adapted, merged
from xsearch.train.gradients import backward, broadcast, gather_rows, mean_statistics, rank, sum_gradients
from xsearch.train.held_out import HeldOut
from xsearch.train.log import Log
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ScenePairs
from xsearch.train.sources import FrozenVision, Part, Sources, require_pairs
from xsearch.train.state import State

__all__ = ["train"]

LOG_STEPS = 10
MAX_NONFINITE = 20  # steps in a row


def train(
    model: ImageBind,
    preprocess: Preprocess,
    recipe: Recipe,
    tables: Mapping[str, Pairs],
    folder: Path,
    *,
    scenes: ScenePairs | None = None,
    held_out: HeldOut | None = None,
    device: str = "cpu",
    workers: int = 0,
    checkpoint_s: float = 120.0,
) -> ImageBind:
    """Train `model`, resuming from the checkpoints in `folder`; logs to `log.jsonl` there. Returns the model.

    tables: training pairs by tower ("audio": pictures and sounds). scenes: rendered pairs in addition.
    Step n depends on the seed and n alone, so a resumed run ends where an uninterrupted one does. In a
    process group (torchrun), each process takes its share of every batch.

    Raises UsageError if a stage binds a modality without pairs, ModelError if the loss diverges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    require_pairs(recipe, tables, scenes)
    model, on = model.to(device).eval(), torch.device(device)
    frozen = FrozenVision(model.towers["vision"], preprocess, on)
    for number, stage in enumerate(recipe.stages, start=1):
        run = _Stage(model, recipe, number, held_out, on, folder)
        trains_vision = "vision" in stage.towers
        if not run.state.done:
            vision = None if trains_vision else frozen
            sources = Sources(recipe, number, tables, scenes, preprocess, vision)
            run.learn(sources, workers, checkpoint_s)
        run.finish()
        if trains_vision:
            frozen = FrozenVision(model.towers["vision"], preprocess, on)
    return model


class _Stage:
    """The training of one stage."""

    def __init__(
        self,
        model: ImageBind,
        recipe: Recipe,
        number: int,
        held_out: HeldOut | None,
        device: torch.device,
        folder: Path,
    ) -> None:
        self.model, self.recipe, self.held_out, self.device = model, recipe, held_out, device
        self.number, self.stage = number, recipe.stages[number - 1]
        self.precision = training_precision(recipe.precision, device)
        scopes = self.stage.towers
        self.checkpoint = folder / f"{number}-{'-'.join(scopes)}.pt"
        for name, tower in model.towers.items():
            scope = scopes.get(name)
            model.towers[name] = adapted(tower, scope or "none", rank=recipe.lora_rank).train(scope == "all")
        learners = nn.ModuleDict({name: model.towers[name] for name in scopes})
        binds = {name: recipe.modality[name] for name in self.stage.bind}
        scales = {
            name: nn.Parameter(torch.tensor(-math.log(bind.temperature), device=device))
            for name, bind in binds.items()
            if bind.learned
        }
        self.state = State(learners, nn.ParameterDict(scales), self.stage, recipe.ema)
        self.state.resume(self.checkpoint)

    def learn(self, sources: Sources, workers: int, checkpoint_s: float) -> None:
        """Train to the last step, or until the held-out precision has stopped improving."""
        state, steps, saved, first = self.state, sources.steps, time.monotonic(), rank() == 0
        nonfinite = 0
        name = self.checkpoint.stem
        place = unescaped(sys.stderr)
        bar = tqdm(total=steps, initial=state.step, desc=name, unit="step", file=place, disable=not first)
        with Log(self.checkpoint.parent, name, self.precision, silent=not first) as log, bar:
            for parts in sources.parts(state.step, steps, workers):
                metrics = self._step(parts, self.stage.lr_at(state.step, steps))
                nonfinite = 0 if "norm" in metrics else nonfinite + 1
                if nonfinite == MAX_NONFINITE:
                    raise ModelError(
                        f"{name}: the loss has not been finite for {nonfinite} steps, up to {state.step}; "
                        "use a smaller lr or a longer warmup"
                    )
                bar.update()
                last = state.step == steps
                if state.step % LOG_STEPS == 0 or last:
                    log.add(state.step, metrics)
                    bar.set_postfix(loss=f"{metrics['loss']:.3f}")
                if self.held_out is not None and (state.step % self.recipe.check_steps == 0 or last):
                    self._evaluate(log)
                state.done = last or 0 < self.recipe.patience <= state.since
                if first and (state.done or time.monotonic() - saved >= checkpoint_s):
                    state.save(self.checkpoint)
                    saved = time.monotonic()
                if state.done:
                    break

    def finish(self) -> None:
        """Leave plain towers in eval mode, with the averaged weights."""
        self.state.finish()
        for name in self.stage.towers:
            self.model.towers[name] = merged(self.model.towers[name])
        self.model.eval().requires_grad_(True)

    def _evaluate(self, log: Log) -> None:
        """Evaluate the averaged weights on held-out pairs; without held-out tables, scenes decide."""
        assert self.held_out is not None
        state = self.state
        if rank() == 0:
            with state.averaged():
                precisions = self.held_out.matrix(self.model, self.device)
            log.add(state.step, precisions)
            for source in (None, "scenes"):
                keys = [f"{source or name}/vision>{name}" for name in self.stage.bind]
                if measured := [precisions[key] for key in keys if key in precisions]:
                    mean = float(np.mean(measured))
                    state.since = 0 if mean > state.best else state.since + 1
                    state.best = max(state.best, mean)
                    break
        state.since, state.best = broadcast((state.since, state.best))

    def _step(self, parts: list[Part], lr: float) -> dict[str, float]:
        """Take one optimiser step, unless loss or gradient norm is not finite. Returns metrics."""
        state = self.state
        # Dropout too depends on the step alone, and differs between processes
        seeds = np.random.SeedSequence([self.recipe.seed, self.number, state.step, rank()])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        batches: dict[str, list[Tensor]] = {}
        places: list[tuple[str, int, str, int]] = []  # of each part: tower and first row, of both sides
        for part in parts:
            vision = "vision" if part.batch.pictures.ndim > 2 else "frozen"
            places.append(
                (*_put(batches, vision, part.batch.pictures), *_put(batches, part.name, part.batch.partners))
            )
        inputs = {name: torch.cat(some).to(self.device) for name, some in batches.items()}
        towers = {name: nn.Identity() if name == "frozen" else self.model.towers[name] for name in inputs}
        metrics: dict[str, float] = {}

        def total_loss(rows: dict[str, Tensor]) -> Tensor:
            by_rank = {name: x.unflatten(0, (-1, len(inputs[name]))) for name, x in rows.items()}
            total = torch.zeros((), device=self.device)
            for part, (vision, picture, name, partner) in zip(parts, places, strict=True):
                shown, others = len(part.batch.pictures), len(part.batch.partners)
                pictures = by_rank[vision][:, picture : picture + shown].flatten(0, 1)
                partners = by_rank[name][:, partner : partner + others].flatten(0, 1)
                loss = self._loss(part, pictures, partners)
                metrics[f"loss {part.name}{' scenes' if part.grid else ''}"] = float(loss.detach())
                total = total + part.weight * loss
            return total

        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        state.optimizer.zero_grad(set_to_none=True)
        before = {name: x.clone() for name, x in state.statistics.items()}
        chunk = self.recipe.chunk
        metrics["loss"] = backward(towers, inputs, total_loss, chunk=chunk, autocast=self._autocast)
        sum_gradients(state.parameters)
        norm = float(nn.utils.clip_grad_norm_(state.parameters, self.stage.clip_norm or math.inf))
        if math.isfinite(metrics["loss"]) and math.isfinite(norm):
            mean_statistics(list(state.statistics.values()))
            state.advance()
            metrics |= {"norm": norm, "lr": lr, **state.temperatures}
        else:
            state.skip(before)
        return metrics

    def _loss(self, part: Part, pictures: Tensor, partners: Tensor) -> Tensor:
        """Of the embeddings of all processes, float32 [B, E] each."""
        bind = self.recipe.modality[part.name]
        temperature = torch.exp(-self.state.scales[part.name]) if bind.learned else bind.temperature
        if part.grid:
            return binding_loss(pictures, partners, temperature, part.grid)
        target = part.batch.target(lambda x: gather_rows(x.to(self.device)))
        return info_nce(pictures, partners, temperature, target, smoothing=bind.smoothing)

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        # On CPUs fused attention is slower to train: 1.7 s a step against 1.2 s on 2 cores.
        fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
        backends = [SDPBackend.MATH] if self.device.type == "cpu" else [*fused, SDPBackend.MATH]
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with half, sdpa_kernel(backends):
            yield


def _put(batches: dict[str, list[Tensor]], name: str, x: Tensor) -> tuple[str, int]:
    """Append `x` to the batches of tower `name` unless it is there. Returns the name and its first row."""
    start = 0
    for part in batches.setdefault(name, []):
        if part is x:
            return name, start
        start += len(part)
    batches[name].append(x)
    return name, start
