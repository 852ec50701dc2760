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
import json
import math
import re
import tomllib
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass

from xsearch.errors import UsageError
from xsearch.models.config import TOWERS

__all__ = ["RECIPES", "SCOPES", "Bind", "Recipe", "Stage"]

RECIPES = Path(__file__).parent / "recipes"
SCOPES = ("all", "head", "lora")  # what of a tower learns
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    if len({name.partition(":")[0] for name in names}) < len(names):
        raise ValueError("names a tower twice")
    return names


def _one_of(names: Sequence[str], suffix: str = "") -> Any:
    return Field(pattern=f"^({'|'.join(names)}){suffix}$")


Tower = Annotated[str, _one_of(TOWERS)]
Partner = Annotated[str, _one_of([name for name in TOWERS if name != "vision"])]
Learner = Annotated[str, _one_of(TOWERS, f"(:({'|'.join(SCOPES)}))?")]  # "audio", "audio:head", "audio:lora"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Bind:
    """How one modality is compared with pictures."""

    temperature: PositiveFloat
    learned: bool = False  # the temperature is where a stage starts; the paper found fixed ones better
    batch: PositiveInt = 256  # pairs of a step, over all processes; a table with fewer gives all it has
    replicate: PositiveFloat = 1.0  # how often an epoch shows each pair
    weight: NonNegativeFloat = 1.0  # of its loss
    # Of the picture. "strong" is for words, depth and heat: it destroys what binds sounds (the paper's
    # Table 5: ESC 56.7 falls to 22.6). Depth and heat are cropped and mirrored as their picture is.
    image: Literal["none", "weak", "strong"] = "weak"
    other: bool = True  # whether the partner is varied, too
    clips: PositiveInt = 1  # of a sound, at random; the tower averages them
    balanced: bool = False  # every label as often as any other, whatever the weights; needs labels


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """Some towers learn, the others rest."""

    learn: Annotated[tuple[Learner, ...], AfterValidator(_distinct)]
    bind: Annotated[tuple[Partner, ...], AfterValidator(_distinct)]
    steps: NonNegativeInt = 0  # or
    epochs: NonNegativeFloat = 0.0  # of the largest of the tables that are bound
    lr: PositiveFloat = 1e-3  # the peak
    lrs: dict[str, PositiveFloat] = field(default_factory=dict)  # of towers that have another
    warmup: NonNegativeFloat = 0.05  # share of the steps
    weight_decay: NonNegativeFloat = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: NonNegativeFloat = 1.0  # 0: gradients stay as they are
    size: NonNegativeInt = 0  # pixels of the pictures' side; 0: the model's own
    scenes: bool = True  # beside the tables, if there are any

    @model_validator(mode="after")
    def _check(self) -> Stage:
        if not self.bind or not self.learn or bool(self.steps) == bool(self.epochs):
            raise ValueError("needs learn, bind, and steps or epochs")
        if unknown := set(self.lrs) - set(self.towers):
            raise ValueError(f"lrs: {', '.join(sorted(unknown))} does not learn in this stage")
        if idle := set(self.towers) - {"vision", *self.bind}:
            raise ValueError(f"{', '.join(sorted(idle))} learns but is not bound")
        return self

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    stages: tuple[Stage, ...] = Field(default=(), alias="stage")
    modality: dict[Partner, Bind] = field(default_factory=dict)
    name: str = "unnamed"  # of the model that it makes; that of the file if there is none in it
    start: str = "scratch"  # "scratch", "bundled", "imagebind" or a model folder
    # Towers that start from nothing all the same; "text" with a new tokenizer
    fresh: Annotated[tuple[Tower, ...], AfterValidator(_distinct)] = ()
    seed: NonNegativeInt = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where the device multiplies it faster
    scenes: NonNegativeInt = 0  # rendered scenes beside the tables, rounded up to rounds of 104
    scenes_weight: NonNegativeFloat = 1.0  # of their loss, times that of the modality
    ema: NonNegativeFloat = 0.0  # decay of the averaged weights, which are the result; 0: no average
    chunk: NonNegativeInt = 0  # rows that a tower takes at once, at whatever batch (arXiv:2101.06983); 0: all
    lora_rank: PositiveInt = 8
    check_steps: PositiveInt = 500  # steps between held-out evaluations
    patience: NonNegativeInt = 0  # held-out evaluations without a better one that end a stage; 0: never ends

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        if not self.stages:
            raise ValueError("there is no [[stage]]")
        for number, stage in enumerate(self.stages, start=1):
            for name in stage.bind:
                if name not in self.modality:
                    raise ValueError(f"stage {number}: binds {name}, and [modality.{name}] is missing")
        return self

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
        try:  # by way of JSON: in strict mode only its arrays and objects pass as tuples and dataclasses
            return _RECIPE.validate_json(json.dumps(content, default=str))
        except ValidationError as error:
            raise UsageError(f"{source}: {'; '.join(map(_line, error.errors()))}") from None

    def to_dict(self) -> dict[str, Any]:
        """What `of` takes, as JSON has it."""
        content = dataclasses.asdict(self)
        content["stage"] = list(content.pop("stages"))
        return content


_RECIPE = TypeAdapter(Recipe)


def _line(error: Any) -> str:
    """One of pydantic's errors: where in the TOML, the value, and what is wrong with it."""
    where = ".".join(str(part) for part in error["loc"] if part != "[key]")
    where = re.sub(r"^stage\.(\d+)\.?", lambda number: f"stage {int(number[1]) + 1}: ", where)
    if error["type"] == "unexpected_keyword_argument":
        kind: Any = Stage if where.startswith("stage ") else Bind if "." in where else Recipe
        known = [setting.alias or name for name, setting in kind.__pydantic_fields__.items()]
        return f"{where}: unknown setting; expected one of {', '.join(known)}"
    value = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}{value}: {message}".removeprefix(": ").replace(": : ", ": ")
