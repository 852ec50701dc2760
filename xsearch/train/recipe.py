"""A recipe: everything that decides the outcome of a training run, besides the data. Written as TOML.

    start = "bundled"              # scratch, bundled, imagebind or a model folder
    [modality.audio]               # how pairs of pictures and sounds are compared
    temperature = 0.05
    batch = 256
    image = "weak"
    [[stage]]                      # stages follow each other
    learn = ["audio"]              # towers; "audio:lora" and "audio:head" train an adapter or the head only
    bind = ["audio"]               # what is compared with pictures
    epochs = 64

`paper` holds Table 9 of ImageBind (arXiv:2305.05665), `bundled` makes the model in the wheel.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xsearch.errors import UsageError
from xsearch.models.config import TOWERS

__all__ = ["RECIPES", "Bind", "Recipe", "Stage"]

RECIPES = Path(__file__).parent / "recipes"
PARTNERS = tuple(name for name in TOWERS if name != "vision")
HOW = ("all", "head", "lora")


@dataclass(frozen=True, kw_only=True)
class Bind:
    """How one modality is compared with pictures."""

    temperature: float
    learned: bool = False  # the temperature is where it starts; the paper found fixed ones better
    batch: int = 256  # pairs of a step, over all processes
    weight: float = 1.0  # of its loss
    # Of the picture. "strong" is for words, depth and heat: it destroys what binds sounds (the paper's
    # Table 5: ESC 56.7 falls to 22.6). Depth and heat are cropped and mirrored as their picture is.
    image: Literal["none", "weak", "strong"] = "weak"
    other: bool = True  # whether the partner is varied, too
    clips: int = 1  # of a sound, at random; the tower averages them
    balanced: bool = False  # every label as often as any other


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some towers learn, the others rest."""

    learn: tuple[str, ...]  # "audio", "audio:head", "audio:lora"
    bind: tuple[str, ...]
    steps: int = 0  # or
    epochs: float = 0.0  # of the largest of the tables that are bound
    lr: float = 1e-3  # the peak
    warmup: int = 100  # steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0
    size: int = 0  # pixels of the pictures' side; 0: the model's own

    @property
    def towers(self) -> dict[str, str]:
        """What of each tower learns: one of HOW."""
        return {name: how or "all" for name, _, how in (entry.partition(":") for entry in self.learn)}

    def lr_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then half a cosine down to nothing."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(steps - self.warmup, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    stages: tuple[Stage, ...]
    modality: dict[str, Bind] = field(default_factory=dict)
    name: str = "unnamed"  # of the model that it makes
    start: str = "scratch"  # "scratch", "bundled", "imagebind" or a model folder
    fresh: tuple[str, ...] = ()  # towers that start from nothing all the same; "text" with a new tokenizer
    seed: int = 0
    scenes: int = 0  # rendered scenes beside the tables, in rounds of 104
    scenes_weight: float = 1.0  # of their loss
    ema: float = 0.0  # decay of the averaged weights, which are the result; 0: the last weights are
    chunk: int = 0  # rows that a tower takes at once, at whatever batch (arXiv:2101.06983); 0: all
    lora_rank: int = 8
    check_steps: int = 500  # steps between looks at held-out pairs
    patience: int = 0  # looks without a better one, after which a stage ends; 0: it never ends early

    @staticmethod
    def load(choice: str | Path) -> Recipe:
        """The recipe of a name in RECIPES, or of a file. Raises UsageError."""
        path = Path(choice)
        if path.suffix != ".toml":
            path = RECIPES / f"{choice}.toml"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.toml")))
            raise UsageError(f"no recipe {choice}: neither a .toml file nor one of {known}") from None
        except (OSError, ValueError) as error:
            raise UsageError(f"recipe {choice}: {error}") from None
        return Recipe.of(content, str(choice))

    @staticmethod
    def of(content: dict[str, Any], source: str = "recipe") -> Recipe:
        """From the tables of a TOML document, `modality` and `stage` among them. Raises UsageError."""
        content = dict(content)
        binds = {
            name: _made(Bind, table, f"{source}: modality.{name}")
            for name, table in content.pop("modality", {}).items()
        }
        stages = tuple(
            _made(Stage, table, f"{source}: stage {number}")
            for number, table in enumerate(content.pop("stage", []), start=1)
        )
        recipe: Recipe = _made(Recipe, {**content, "modality": binds, "stages": stages}, source)
        for number, stage in enumerate(stages, start=1):
            here = f"{source}: stage {number}"
            unknown = [name for name in stage.towers if name not in TOWERS]
            unknown += [name for name in stage.bind if name not in PARTNERS]
            if unknown:
                raise UsageError(f"{here}: no tower {unknown[0]!r}; there are {', '.join(TOWERS)}")
            if wrong := [how for how in stage.towers.values() if how not in HOW]:
                raise UsageError(f"{here}: {wrong[0]!r} is not one of {', '.join(HOW)}")
            if missing := [name for name in stage.bind if name not in binds]:
                raise UsageError(f"{here}: binds {missing[0]}, and [modality.{missing[0]}] is missing")
            if not stage.bind or not stage.learn or bool(stage.steps) == bool(stage.epochs):
                raise UsageError(f"{here}: needs learn, bind, and steps or epochs")
            if idle := set(stage.towers) - {"vision", *stage.bind}:
                raise UsageError(f"{here}: {', '.join(sorted(idle))} learns but is not bound")
        if unknown := [name for name in recipe.fresh if name not in TOWERS]:
            raise UsageError(f"{source}: no tower {unknown[0]!r}; there are {', '.join(TOWERS)}")
        if not stages:
            raise UsageError(f"{source}: there is no [[stage]]")
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """What `of` takes."""
        content = dataclasses.asdict(self)
        content["stage"] = content.pop("stages")
        return content


def _made(kind: type, table: dict[str, Any], source: str) -> Any:
    """The dataclass, from values of the right names and types. Raises UsageError."""
    fields = {entry.name: entry for entry in dataclasses.fields(kind)}
    if unknown := [name for name in table if name not in fields]:
        raise UsageError(f"{source}: no setting {unknown[0]!r}; there are {', '.join(fields)}")
    values = {}
    for name, value in table.items():
        default = fields[name].default
        if isinstance(value, list):
            value = tuple(value)
        if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if default is not dataclasses.MISSING and not isinstance(value, type(default)):
            raise UsageError(f"{source}: {name} = {value!r} is not of type {type(default).__name__}")
        if isinstance(value, int | float) and value < 0:
            raise UsageError(f"{source}: {name} = {value!r} is negative")
        values[name] = value
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{source}: {str(error).split('__init__() ')[-1]}") from None
