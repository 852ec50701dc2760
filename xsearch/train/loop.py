"""The loop: stage by stage, towers learn to meet pictures; seeded, and resumable at any moment.

As in ImageBind (arXiv:2305.05665, section 3) only pairs (picture, X) are compared.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from tqdm import tqdm

from xsearch.errors import MediaError, ModelError, UsageError
from xsearch.models.imagebind import ImageBind
from xsearch.models.precision import has_fast_bf16
from xsearch.models.transforms import Preprocess
from xsearch.pairs import Pair, Pairs
from xsearch.train.adapters import adapted, merged
from xsearch.train.check import HeldOut
from xsearch.train.gradients import backward, gathered, share, summed
from xsearch.train.log import Log
from xsearch.train.loss import binding_loss, info_nce
from xsearch.train.recipe import Recipe, Stage
from xsearch.train.scenes import GRID, ROUND, ScenePairs
from xsearch.train.state import State
from xsearch.train.tables import Batch, TableBatches

__all__ = ["train"]

LOG_STEPS = 10
MOST_BAD = 20  # steps in a row without a finite loss
EMBEDDED = 64  # pictures at once


@dataclass(frozen=True)
class _Share:
    """Pairs of one source within a step, this process's part, and what they add to the loss."""

    name: str  # of the tower beside the pictures
    batch: Batch
    weight: float
    grid: tuple[int, int] | None = None  # of scenes


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
    run = _Run(model.to(device), preprocess, recipe, tables, scenes, held_out, torch.device(device), workers)
    for number, stage in enumerate(recipe.stages, start=1):
        run.stage(stage, folder / f"{number}-{'-'.join(stage.towers)}.pt", checkpoint_s)
    return model


class _Run:
    """What all stages share."""

    def __init__(
        self,
        model: ImageBind,
        preprocess: Preprocess,
        recipe: Recipe,
        tables: Mapping[str, Pairs],
        scenes: ScenePairs | None,
        held_out: HeldOut | None,
        device: torch.device,
        workers: int,
    ) -> None:
        self.model, self.preprocess, self.recipe, self.tables = model, preprocess, recipe, tables
        self.scenes, self.held_out, self.device, self.workers = scenes, held_out, device, workers
        self.first = not dist.is_initialized() or dist.get_rank() == 0
        self.seen: dict[str, np.ndarray] = {}  # what the resting tower makes of the pictures, by source

    def stage(self, stage: Stage, checkpoint: Path, checkpoint_s: float) -> None:
        learning = stage.towers
        missing = [name for name in stage.bind if name not in self.tables and self.scenes is None]
        if missing:
            raise UsageError(f"stage {checkpoint.stem}: there are no pairs of pictures and {missing[0]}")
        torch.manual_seed(self.recipe.seed)
        towers = self.model.towers
        for name, tower in towers.items():
            how = learning.get(name)
            towers[name] = adapted(tower, how or "none", rank=self.recipe.lora_rank).train(how == "all")
        learners = nn.ModuleDict({name: towers[name] for name in learning})
        learned = {
            name: self.recipe.modality[name] for name in stage.bind if self.recipe.modality[name].learned
        }
        scales = {name: torch.tensor(-math.log(bind.temperature)) for name, bind in learned.items()}
        scales_of = nn.ParameterDict({name: nn.Parameter(x.to(self.device)) for name, x in scales.items()})
        state = State(learners, scales_of, stage, self.recipe.ema)
        state.resume(checkpoint)
        sources = {name: self._source(name, stage) for name in stage.bind if len(self.tables.get(name, ()))}
        steps = stage.steps or round(stage.epochs * max((s.steps for s in sources.values()), default=1))
        with Log(checkpoint.parent, checkpoint.stem, silent=not self.first) as log:
            self._learn(stage, max(steps, 1), state, sources, checkpoint, checkpoint_s, log)
        state.finish()
        for name in learning:
            towers[name] = merged(towers[name])
        if "vision" in learning:
            self.seen.clear()
        self.model.eval().requires_grad_(True)

    def _learn(
        self,
        stage: Stage,
        steps: int,
        state: State,
        sources: Mapping[str, TableBatches],
        checkpoint: Path,
        checkpoint_s: float,
        log: Log,
    ) -> None:
        """Steps up to `steps`, or until looks at held-out pairs have not got better for long enough."""
        streams = {
            name: source.batches(state.step, steps, part=share(source.batch), workers=self.workers)
            for name, source in sources.items()
        }
        scenes = self._scenes(stage)
        bad, saved = 0, time.monotonic()
        bar = tqdm(total=steps, initial=state.step, desc=checkpoint.stem, unit="step", disable=not self.first)
        while state.step < steps and not self._rests(state):
            shares = [_Share(name, next(stream), 1.0) for name, stream in streams.items()]
            shares += self._scene_shares(scenes, state.step, stage)
            for group in state.optimizer.param_groups:
                group["lr"] = stage.lr_at(state.step, steps)
            figures = self._step(shares, state, stage)
            bad = 0 if "norm" in figures else bad + 1
            if bad == MOST_BAD:
                raise ModelError(
                    f"{checkpoint.stem}: the loss has not been finite for {bad} steps, up to {state.step}; "
                    "give a smaller lr or a longer warmup"
                )
            bar.update()
            if state.step % LOG_STEPS == 0 or state.step == steps:
                log.add(state.step, figures)
                bar.set_postfix(loss=f"{figures['loss']:.3f}")
            if self.held_out is not None and (
                state.step % self.recipe.check_steps == 0 or state.step == steps
            ):
                self._look(stage, state, log)
            if self.first and (time.monotonic() - saved >= checkpoint_s or state.step == steps):
                state.save(checkpoint)
                saved = time.monotonic()
        bar.close()

    def _rests(self, state: State) -> bool:
        return 0 < self.recipe.patience <= state.since

    def _look(self, stage: Stage, state: State, log: Log) -> None:
        """At held-out pairs, with the averaged weights."""
        assert self.held_out is not None
        with state.averaged():
            found = self.held_out.matrix(self.model, self.device)
        log.add(state.step, found)
        asked = [found[key] for name in stage.bind if (key := f"{name}/vision>{name}") in found]
        mean = float(np.mean(asked)) if asked else 0.0
        state.since = 0 if mean > state.best else state.since + 1
        state.best = max(state.best, mean)

    def _step(self, shares: list[_Share], state: State, stage: Stage) -> dict[str, float]:
        """One step of the optimiser, but not on a loss or gradient that is not finite. Gives what to log."""
        inputs: dict[str, list[Tensor]] = {}
        places: list[tuple[str, int, str, int]] = []  # of each share: where its pictures and partners are
        for one in shares:
            shown = "vision" if one.batch.pictures.ndim > 2 else "seen"
            places.append(
                (*_put(inputs, shown, one.batch.pictures), *_put(inputs, one.name, one.batch.partners))
            )
        given = {name: torch.cat(parts).to(self.device) for name, parts in inputs.items()}
        towers = {name: nn.Identity() if name == "seen" else self.model.towers[name] for name in given}
        figures: dict[str, float] = {}

        def loss_of(rows: dict[str, Tensor]) -> Tensor:
            total = torch.zeros((), device=self.device)
            for one, (shown, picture, name, partner) in zip(shares, places, strict=True):
                size = len(one.batch.partners)
                of_all = {slot: x.unflatten(0, (-1, len(given[slot]))) for slot, x in rows.items()}
                pictures = of_all[shown][:, picture : picture + size].flatten(0, 1)
                partners = of_all[name][:, partner : partner + size].flatten(0, 1)
                loss = self._loss(one, pictures, partners, state)
                figures[f"loss {one.name}{' scenes' if one.grid else ''}"] = float(loss.detach())
                total = total + one.weight * loss
            return total

        state.optimizer.zero_grad(set_to_none=True)
        figures["loss"] = backward(towers, given, loss_of, chunk=self.recipe.chunk, precision=self._precision)
        summed(state.parameters)
        norm = float(nn.utils.clip_grad_norm_(state.parameters, stage.clip_norm))
        if math.isfinite(figures["loss"]) and math.isfinite(norm):
            state.optimizer.step()
            figures |= {"norm": norm, "lr": state.optimizer.param_groups[0]["lr"]}
        state.advance()
        return figures

    def _loss(self, one: _Share, pictures: Tensor, partners: Tensor, state: State) -> Tensor:
        """Of the rows of all processes, float32 [B, E] each."""
        bind = self.recipe.modality[one.name]
        temperature = torch.exp(-state.scales[one.name]) if bind.learned else bind.temperature
        if one.grid:
            return binding_loss(pictures, partners, temperature, one.grid)
        labels = one.batch.labels
        return info_nce(
            pictures, partners, temperature, None if labels is None else gathered(labels.to(self.device))
        )

    @contextmanager
    def _precision(self) -> Iterator[None]:
        # On CPUs the fused attention is the slower one to train: 1.7 s a step against 1.2 s on 2 cores.
        fused = [] if self.device.type == "cpu" else [SDPBackend.FLASH_ATTENTION]
        fast = has_fast_bf16(self.device)
        with (
            torch.autocast(self.device.type, torch.bfloat16, enabled=fast),
            sdpa_kernel([*fused, SDPBackend.MATH]),
        ):
            yield

    # ------------------------------------------------------------ pairs

    def _source(self, name: str, stage: Stage) -> TableBatches:
        """Batches of a table; where nothing happens to the pictures, they are embedded once."""
        bind, pairs = self.recipe.modality[name], self.tables[name]
        preprocess = self.preprocess
        if stage.size:
            config = preprocess.config
            vision = replace(config.vision, image_size=stage.size)
            preprocess = Preprocess(replace(config, vision=vision), preprocess.tokenizer)
        pictures = None
        if "vision" not in stage.towers and bind.image == "none":
            rows = [row for row in range(len(pairs)) if _shows(pairs[row])]
            pairs = pairs.take(np.array(rows))
            if name not in self.seen:
                parts = (pairs[start : start + EMBEDDED] for start in range(0, len(pairs), EMBEDDED))
                self.seen[name] = self._embedded(
                    self.preprocess([pair.picture() for pair in part]) for part in parts
                )
            pictures = self.seen[name]
        return TableBatches(pairs, bind, preprocess, seed=self.recipe.seed, pictures=pictures)

    def _scenes(self, stage: Stage) -> ScenePairs | None:
        """With what the resting tower makes of their pictures in place of these."""
        if self.scenes is None or "vision" in stage.towers:
            return self.scenes
        arrays = self.scenes.arrays
        if "scenes" not in self.seen:
            parts = torch.from_numpy(arrays["vision"]).split(EMBEDDED)
            self.seen["scenes"] = self._embedded(part.float() for part in parts)
        return replace(self.scenes, arrays=arrays | {"vision": self.seen["scenes"]})

    def _scene_shares(self, scenes: ScenePairs | None, step: int, stage: Stage) -> list[_Share]:
        if scenes is None:
            return []
        names = ("vision", *stage.bind)
        batch = scenes.batch(step, self.recipe.seed, names, silent=tuple(stage.towers) == ("audio",))
        mine = {name: x[share(ROUND)] for name, x in batch.items()}
        if stage.size and mine["vision"].ndim > 2:
            mine["vision"] = F.interpolate(mine["vision"], (stage.size,) * 2, mode="bilinear", antialias=True)
        if "audio" in mine:  # one clip of a scene stands for as many as a table gives
            mine["audio"] = mine["audio"][:, None].expand(-1, self.recipe.modality["audio"].clips, -1, -1, -1)
        weight = self.recipe.scenes_weight
        return [_Share(name, Batch(mine["vision"], mine[name]), weight, GRID) for name in stage.bind]

    @torch.inference_mode()
    def _embedded(self, batches: Iterator[Tensor]) -> np.ndarray:
        """float32 [N, E] of pictures."""
        vision: Callable[[Tensor], Tensor] = self.model.towers["vision"].eval()
        found: np.ndarray = torch.cat([vision(x.to(self.device)).float().cpu() for x in batches]).numpy()
        return found


def _put(inputs: dict[str, list[Tensor]], name: str, x: Tensor) -> tuple[str, int]:
    """Append `x` to what tower `name` is given, unless it is there. Returns the name and where x starts."""
    start = 0
    for part in inputs.setdefault(name, []):
        if part is x:
            return name, start
        start += len(part)
    inputs[name].append(x)
    return name, start


def _shows(pair: Pair) -> bool:
    """Whether it has a picture that can be decoded; what has none is told."""
    try:
        pair.picture()
        return True
    except MediaError as problem:
        tqdm.write(f"left out: {problem}", file=sys.stderr)
        return False
