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

`paper` holds Table 9 of ImageBind (arXiv:2305.05665), `bundled` makes the one in the wheel, `scenes` needs no
data.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from xsearch.errors import UsageError
from xsearch.models.config import TOWERS

__all__ = ["RECIPES", "Bind", "Recipe", "Stage"]

RECIPES = Path(__file__).parent / "recipes"
PARTNERS = tuple(name for name in TOWERS if name != "vision")
HOW = ("all", "head", "lora")
ABOVE_0 = {"temperature", "batch", "clips", "replicate", "lr", "lora_rank", "check_steps"}


@dataclass(frozen=True, kw_only=True)
class Bind:
    """How one modality is compared with pictures."""

    temperature: float
    learned: bool = False  # the temperature is where a stage starts; the paper found fixed ones better
    batch: int = 256  # pairs of a step, over all processes; a table with fewer gives all it has
    replicate: float = 1.0  # how often an epoch shows each pair
    weight: float = 1.0  # of its loss
    # Of the picture. "strong" is for words, depth and heat: it destroys what binds sounds (the paper's
    # Table 5: ESC 56.7 falls to 22.6). Depth and heat are cropped and mirrored as their picture is.
    image: Literal["none", "weak", "strong"] = "weak"
    other: bool = True  # whether the partner is varied, too
    clips: int = 1  # of a sound, at random; the tower averages them
    balanced: bool = False  # every label as often as any other, whatever the weights; needs labels


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Some towers learn, the others rest."""

    learn: tuple[str, ...]  # "audio", "audio:head", "audio:lora"
    bind: tuple[str, ...]
    steps: int = 0  # or
    epochs: float = 0.0  # of the largest of the tables that are bound
    lr: float = 1e-3  # the peak
    lrs: dict[str, float] = field(default_factory=dict)  # of towers that have another
    warmup: float = 0.05  # share of the steps
    weight_decay: float = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = 1.0  # 0: gradients stay as they are
    size: int = 0  # pixels of the pictures' side; 0: the model's own
    scenes: bool = True  # beside the tables, if there are any

    @property
    def towers(self) -> dict[str, str]:
        """What of each tower learns: one of HOW."""
        return {name: how or "all" for name, _, how in (entry.partition(":") for entry in self.learn)}

    def lr_at(self, step: int, steps: int) -> float:
        """Linear warm-up, then half a cosine down to nothing."""
        rising = self.warmup * steps
        if step < rising:
            return self.lr * min((step + 1) / rising, 1)
        return self.lr * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    stages: tuple[Stage, ...]
    modality: dict[str, Bind] = field(default_factory=dict)
    name: str = "unnamed"  # of the model that it makes; that of the file if there is none in it
    start: str = "scratch"  # "scratch", "bundled", "imagebind" or a model folder
    fresh: tuple[str, ...] = ()  # towers that start from nothing all the same; "text" with a new tokenizer
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device multiplies it faster
    scenes: int = 0  # rendered scenes beside the tables, rounded up to rounds of 104
    scenes_weight: float = 1.0  # of their loss, times that of the modality
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
        return Recipe.of({"name": path.stem, **content}, str(choice))

    @staticmethod
    def of(content: dict[str, Any], source: str = "recipe") -> Recipe:
        """From the tables of a TOML document, `modality` and `stage` among them. Raises UsageError."""
        content = dict(content)
        binds, stages = content.pop("modality", {}), content.pop("stage", [])
        if not isinstance(binds, dict) or not isinstance(stages, list):
            raise UsageError(f"{source}: expected tables [modality.NAME] and [[stage]]")
        content["modality"] = {
            name: _made(Bind, table, f"{source}: modality.{name}") for name, table in binds.items()
        }
        content["stages"] = tuple(
            _made(Stage, table, f"{source}: stage {at}") for at, table in enumerate(stages, start=1)
        )
        recipe: Recipe = _made(Recipe, content, source)
        if not stages:
            raise UsageError(f"{source}: there is no [[stage]]")
        _names(recipe.fresh, TOWERS, source)
        _names(tuple(binds), PARTNERS, source)
        for at, stage in enumerate(recipe.stages, start=1):
            _check(stage, recipe, f"{source}: stage {at}")
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """What `of` takes, as JSON has it."""
        content = dataclasses.asdict(self)
        content["stage"] = list(content.pop("stages"))
        return content


def _check(stage: Stage, recipe: Recipe, here: str) -> None:
    _names(tuple(name.partition(":")[0] for name in stage.learn), TOWERS, here)
    _names(stage.bind, PARTNERS, here)
    if wrong := [how for how in stage.towers.values() if how not in HOW]:
        raise UsageError(f"{here}: {wrong[0]!r} is not one of {', '.join(HOW)}")
    if missing := [name for name in stage.bind if name not in recipe.modality]:
        raise UsageError(f"{here}: binds {missing[0]}, and [modality.{missing[0]}] is missing")
    if not stage.bind or not stage.learn or bool(stage.steps) == bool(stage.epochs):
        raise UsageError(f"{here}: needs learn, bind, and steps or epochs")
    _names(tuple(stage.lrs), tuple(stage.towers), here)
    if any(not isinstance(lr, int | float) or not lr > 0 for lr in stage.lrs.values()):
        raise UsageError(f"{here}: lrs = {stage.lrs} are not all numbers above 0")
    if idle := set(stage.towers) - {"vision", *stage.bind}:
        raise UsageError(f"{here}: {', '.join(sorted(idle))} learns but is not bound")


def _names(given: tuple[str, ...], known: tuple[str, ...], here: str) -> None:
    if unknown := [name for name in given if name not in known]:
        raise UsageError(f"{here}: no tower {unknown[0]!r}; there are {', '.join(known)}")
    if len(set(given)) < len(given):
        raise UsageError(f"{here}: {', '.join(given)} names a tower twice")


def _made(kind: type, table: Any, source: str) -> Any:
    """The dataclass, from values of the right names and types. Raises UsageError."""
    if not isinstance(table, dict):
        raise UsageError(f"{source}: expected a table, got {table!r}")
    hints = get_type_hints(kind)
    values = {}
    for name, value in table.items():
        if name not in hints:
            raise UsageError(f"{source}: no setting {name!r}; there are {', '.join(hints)}")
        values[name] = value = _as(value, hints[name])
        if value is None:
            raise UsageError(f"{source}: {name} = {table[name]!r} is not {_said(hints[name])}")
        if isinstance(value, int | float) and (value < 0 or (value == 0 and name in ABOVE_0)):
            raise UsageError(f"{source}: {name} = {value!r} is too small")
    try:
        return kind(**values)
    except TypeError as error:
        raise UsageError(f"{source}: {str(error).split('__init__() ')[-1]}") from None


def _as(value: Any, hint: Any) -> Any:
    """The value as a type hint of the dataclasses above wants it, or None if it is of another type."""
    if get_origin(hint) is Literal:
        return value if value in get_args(hint) else None
    if get_origin(hint) is tuple:
        each, length = get_args(hint)[0], len(get_args(hint))
        if not isinstance(value, list | tuple) or (get_args(hint)[1] is not ... and len(value) != length):
            return None
        parts = tuple(_as(part, each) for part in value)
        return None if None in parts else parts
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(value, bool) and hint is not bool:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, get_origin(hint) or hint) else None


def _said(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return f"one of {', '.join(get_args(hint))}"
    return f"of type {getattr(hint, '__name__', hint)}"
