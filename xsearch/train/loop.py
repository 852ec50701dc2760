"""The loop: stage by stage, towers learn to meet pictures; seeded, and resumable at any moment.

As in ImageBind (arXiv:2305.05665, section 3) only pairs (picture, X) are compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from xsearch.errors import ModelError, UsageError
from xsearch.models.imagebind import ImageBind
from xsearch.models.precision import training_precision
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pairs
from xsearch.train.adapters import adapted, merged
from xsearch.train.gradients import agreed, average, backward, gathered, rank, summed
from xsearch.train.held_out import HeldOut
from xsearch.train.log import Log
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ScenePairs
from xsearch.train.sources import Part, Seen, Sources, missing
from xsearch.train.state import State

__all__ = ["train"]

LOG_STEPS = 10
MOST_BAD = 20  # steps in a row without a finite loss


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
    """Train `model`, or go on from the checkpoints in `folder`; writes `log.jsonl` there. Returns the model.

    tables: pairs to train on by tower ("audio": pictures and sounds). scenes: rendered pairs beside them.
    What step n sees depends on the seed and n alone, so an interrupted run ends where another would have.
    In a process group (torchrun), each process takes its share of every batch.

    Raises UsageError where a stage binds what there are no pairs of, ModelError where the loss diverges.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, stage in enumerate(recipe.stages, start=1):
        if without := missing(stage, tables, scenes):
            raise UsageError(f"stage {number} of the recipe: there are no pairs of pictures and {without[0]}")
    model, on = model.to(device).eval(), torch.device(device)
    seen = Seen(model.towers["vision"], preprocess, on)
    for number, stage in enumerate(recipe.stages, start=1):
        run = _Stage(model, recipe, number, held_out, on, folder)
        pictures_learn = "vision" in stage.towers
        if not run.state.done:
            resting = None if pictures_learn else seen
            sources = Sources(recipe, number, tables, scenes, preprocess, resting)
            run.learn(sources, workers, checkpoint_s)
        run.finish()
        if pictures_learn:
            seen = Seen(model.towers["vision"], preprocess, on)
    return model


class _Stage:
    """One stage at work on its towers."""

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
        learning = self.stage.towers
        self.checkpoint = folder / f"{number}-{'-'.join(learning)}.pt"
        for name, tower in model.towers.items():
            how = learning.get(name)
            model.towers[name] = adapted(tower, how or "none", rank=recipe.lora_rank).train(how == "all")
        learners = nn.ModuleDict({name: model.towers[name] for name in learning})
        binds = {name: recipe.modality[name] for name in self.stage.bind}
        scales = {
            name: nn.Parameter(torch.tensor(-math.log(bind.temperature), device=device))
            for name, bind in binds.items()
            if bind.learned
        }
        self.state = State(learners, nn.ParameterDict(scales), self.stage, recipe.ema)
        self.state.resume(self.checkpoint)

    def learn(self, sources: Sources, workers: int, checkpoint_s: float) -> None:
        """Up to the last step, or until looks at held-out pairs have not got better for long enough."""
        state, steps, saved, first = self.state, sources.steps, time.monotonic(), rank() == 0
        bad = 0
        name = self.checkpoint.stem
        bar = tqdm(total=steps, initial=state.step, desc=name, unit="step", disable=not first)
        with Log(self.checkpoint.parent, name, self.precision, silent=not first) as log, bar:
            for parts in sources.parts(state.step, steps, workers):
                figures = self._step(parts, self.stage.lr_at(state.step, steps))
                bad = 0 if "norm" in figures else bad + 1
                if bad == MOST_BAD:
                    raise ModelError(
                        f"{name}: the loss has not been finite for {bad} steps, up to {state.step}; "
                        "give a smaller lr or a longer warmup"
                    )
                bar.update()
                last = state.step == steps
                if state.step % LOG_STEPS == 0 or last:
                    log.add(state.step, figures)
                    bar.set_postfix(loss=f"{figures['loss']:.3f}")
                if self.held_out is not None and (state.step % self.recipe.check_steps == 0 or last):
                    self._look(log)
                state.done = last or 0 < self.recipe.patience <= state.since
                if first and (state.done or time.monotonic() - saved >= checkpoint_s):
                    state.save(self.checkpoint)
                    saved = time.monotonic()
                if state.done:
                    break

    def finish(self) -> None:
        """The averaged weights are the result, in plain towers that rest."""
        self.state.finish()
        for name in self.stage.towers:
            self.model.towers[name] = merged(self.model.towers[name])
        self.model.eval().requires_grad_(True)

    def _look(self, log: Log) -> None:
        """At held-out pairs, with the averaged weights. Stages without any of their own go by scenes."""
        assert self.held_out is not None
        state = self.state
        if rank() == 0:
            with state.averaged():
                found = self.held_out.matrix(self.model, self.device)
            log.add(state.step, found)
            for source in (None, "scenes"):
                keys = [f"{source or name}/vision>{name}" for name in self.stage.bind]
                if asked := [found[key] for key in keys if key in found]:
                    mean = float(np.mean(asked))
                    state.since = 0 if mean > state.best else state.since + 1
                    state.best = max(state.best, mean)
                    break
        state.since, state.best = agreed((state.since, state.best))

    def _step(self, parts: list[Part], lr: float) -> dict[str, float]:
        """One step of the optimiser, but not on a loss or gradient that is not finite. Gives what to log."""
        state = self.state
        # What is random in the towers depends on the step alone, too, and differs between processes
        seeds = np.random.SeedSequence([self.recipe.seed, self.number, state.step, rank()])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        inputs: dict[str, list[Tensor]] = {}
        places: list[tuple[str, int, str, int]] = []  # of each part: where its pictures and partners are
        for part in parts:
            shown = "vision" if part.batch.pictures.ndim > 2 else "seen"
            places.append(
                (*_put(inputs, shown, part.batch.pictures), *_put(inputs, part.name, part.batch.partners))
            )
        given = {name: torch.cat(some).to(self.device) for name, some in inputs.items()}
        towers = {name: nn.Identity() if name == "seen" else self.model.towers[name] for name in given}
        figures: dict[str, float] = {}

        def whole_loss(rows: dict[str, Tensor]) -> Tensor:
            of_all = {name: x.unflatten(0, (-1, len(given[name]))) for name, x in rows.items()}
            total = torch.zeros((), device=self.device)
            for part, (shown, picture, name, partner) in zip(parts, places, strict=True):
                size = len(part.batch.partners)
                pictures = of_all[shown][:, picture : picture + size].flatten(0, 1)
                partners = of_all[name][:, partner : partner + size].flatten(0, 1)
                loss = self._loss(part, pictures, partners)
                figures[f"loss {part.name}{' scenes' if part.grid else ''}"] = float(loss.detach())
                total = total + part.weight * loss
            return total

        for group in state.optimizer.param_groups:
            group["lr"] = lr * group["share"]
        state.optimizer.zero_grad(set_to_none=True)
        before = {name: x.clone() for name, x in state.statistics.items()}
        chunk = self.recipe.chunk
        figures["loss"] = backward(towers, given, whole_loss, chunk=chunk, autocast=self._autocast)
        summed(state.parameters)
        norm = float(nn.utils.clip_grad_norm_(state.parameters, self.stage.clip_norm or math.inf))
        if math.isfinite(figures["loss"]) and math.isfinite(norm):
            average(list(state.statistics.values()))
            state.advance()
            figures |= {"norm": norm, "lr": lr, **state.temperatures}
        else:
            state.skip(before)
        return figures

    def _loss(self, part: Part, pictures: Tensor, partners: Tensor) -> Tensor:
        """Of the rows of all processes, float32 [B, E] each."""
        bind = self.recipe.modality[part.name]
        temperature = torch.exp(-self.state.scales[part.name]) if bind.learned else bind.temperature
        if part.grid:
            return binding_loss(pictures, partners, temperature, part.grid)
        return info_nce(pictures, partners, temperature, gathered(part.batch.labels.to(self.device)))

    @contextmanager
    def _autocast(self) -> Iterator[None]:
        # On CPUs the fused attention is the slower one to train: 1.7 s a step against 1.2 s on 2 cores.
        fused = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
        backends = [SDPBackend.MATH] if self.device.type == "cpu" else [*fused, SDPBackend.MATH]
        half = torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
        with half, sdpa_kernel(backends):
            yield


def _put(inputs: dict[str, list[Tensor]], name: str, x: Tensor) -> tuple[str, int]:
    """Append `x` to what tower `name` is given, unless it is there. Returns the name and where x starts."""
    start = 0
    for part in inputs.setdefault(name, []):
        if part is x:
            return name, start
        start += len(part)
    inputs[name].append(x)
    return name, start
