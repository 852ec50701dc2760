"""A recipe: everything that determines the outcome of a training run, except the data. Written as TOML.

    start = "bundled"              # scratch, bundled, imagebind or a model folder
    [modality.audio]               # how pairs of pictures and sounds are contrasted
    temperature = 0.05
    batch = 256
    image = "weak"
    [[stage]]                      # stages run in this order
    learn = ["audio"]              # towers; "audio:lora" and "audio:head" train an adapter or the head only
    bind = ["audio"]               # modalities contrasted with pictures
    epochs = 64

`paper` is Table 9 of ImageBind (arXiv:2305.05665), `bundled` made the model in the wheel, `scenes` needs no
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
from difflib import get_close_matches
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

__all__ = ["RECIPES", "SCOPES", "Bind", "Recipe", "Stage", "cosine"]

RECIPES = Path(__file__).parent / "recipes"
SCOPES = ("all", "head", "lora")  # what of a tower learns
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, populate_by_name=True)


def cosine(step: int, steps: int, *, warmup: float, end: float = 0.0) -> float:
    """The learning rate of a step, relative to its peak: linear warm-up, then half a cosine to `end`.

    warmup: share of the steps.
    """
    first = warmup * steps
    if step < first:
        return min((step + 1) / first, 1)
    return end + (1 - end) * 0.5 * (1 + math.cos(math.pi * (step - first) / max(steps - first, 1)))


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
    """How one modality is contrasted with pictures."""

    temperature: PositiveFloat
    learned: bool = False  # start from this temperature; the paper found fixed ones better
    batch: PositiveInt = 256  # pairs of a step, over all processes; at most those of the table
    replicate: PositiveFloat = 1.0  # passes over the table in an epoch
    weight: NonNegativeFloat = 1.0  # of its loss
    # Augmentation of the picture. "strong" is for text, depth and thermal: it destroys the alignment of audio
    # (the paper's Table 5: ESC 56.7 falls to 22.6). Depth and thermal are cropped and mirrored with it.
    image: Literal["none", "weak", "strong"] = "weak"
    other: bool = True  # whether the partner is augmented, too
    clips: PositiveInt = 1  # random audio clips per sound; the tower averages them
    balanced: bool = False  # draw labels uniformly, whatever the weights; needs labels
    texts: NonNegativeInt = 0  # of the table, that several rows share: further candidates of each step
    mix: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the pictures that are mixed; see `mixing`
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the target that goes to all candidates


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stage:
    """Towers that learn while the others are frozen."""

    learn: Annotated[tuple[Learner, ...], AfterValidator(_distinct)]
    bind: Annotated[tuple[Partner, ...], AfterValidator(_distinct)]
    steps: NonNegativeInt = 0  # or
    epochs: NonNegativeFloat = 0.0  # of the largest bound table
    lr: PositiveFloat = 1e-3  # the peak
    lr_end: Annotated[float, Field(ge=0, le=1)] = 0.0  # share of the peak that is left at the end
    lrs: dict[str, PositiveFloat] = field(default_factory=dict)  # of towers with another peak
    warmup: NonNegativeFloat = 0.05  # share of the steps
    weight_decay: NonNegativeFloat = 0.1
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: NonNegativeFloat = 1.0  # 0: no clipping
    size: NonNegativeInt = 0  # pixels of the pictures' side; 0: the model's own
    scenes: bool = True  # train on rendered scenes as well, if the recipe has any
    mix: bool = True  # pictures, as their modality says

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
        """By tower: what of it learns, one of SCOPES."""
        entries = (entry.partition(":") for entry in self.learn)
        return {name: scope or "all" for name, _, scope in entries}

    def lr_at(self, step: int, steps: int) -> float:
        """The learning rate of a step: linear warm-up, then half a cosine to `lr_end`."""
        return self.lr * cosine(step, steps, warmup=self.warmup, end=self.lr_end)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe:
    stages: tuple[Stage, ...] = Field(default=(), alias="stage")
    modality: dict[Partner, Bind] = field(default_factory=dict)
    name: str = "unnamed"  # of the trained model; by default that of the file
    license: str | None = None  # of its weights, an SPDX expression
    start: str = "scratch"  # "scratch", "bundled", "imagebind" or a model folder
    # Towers that start from scratch all the same; "text" with a new tokenizer
    fresh: Annotated[tuple[Tower, ...], AfterValidator(_distinct)] = ()
    seed: NonNegativeInt = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 where it is faster on the device
    scenes: NonNegativeInt = 0  # rendered scenes in addition to the tables, rounded up to rounds of 104
    scenes_weight: NonNegativeFloat = 1.0  # of their loss, relative to the weight of the modality
    muon: bool = False  # Muon in place of AdamW for the convolutions of residual blocks
    cache: bool = False  # decode the pictures of tables once, into the run's folder
    word_count: PositiveInt = 1  # media that a word must come with for the model to know it
    ema: NonNegativeFloat = 0.0  # decay of the weight average, which is the result; 0: no average
    chunk: NonNegativeInt = 0  # rows per forward pass of a tower (arXiv:2101.06983); 0: the batch
    lora_rank: PositiveInt = 8
    check_steps: PositiveInt = 500  # steps between held-out evaluations
    patience: NonNegativeInt = 0  # evaluations without improvement that end a stage; 0: never

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
        """Read a recipe: the name of one in RECIPES, or a .toml file. Raises UsageError."""
        path = Path(choice)
        if path.suffix != ".toml":
            path = RECIPES / f"{choice}.toml"
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            known = ", ".join(sorted(found.stem for found in RECIPES.glob("*.toml")))
            raise UsageError(f"no recipe {choice}: neither a .toml file nor one of {known}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise UsageError(f"recipe {choice}: {error}") from None
        return Recipe.of({"name": path.stem, **content}, str(choice))

    @staticmethod
    def of(content: dict[str, Any], source: str = "recipe") -> Recipe:
        """Validate a parsed TOML document. source: its name in messages. Raises UsageError."""
        try:  # by way of JSON: in strict mode only its arrays and objects pass as tuples and dataclasses
            return _RECIPE.validate_json(json.dumps(content, default=str))
        except ValidationError as error:
            raise UsageError(f"{source}: {'; '.join(map(_line, error.errors()))}") from None

    def to_dict(self) -> dict[str, Any]:
        """The inverse of `of`, fit for JSON."""
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
        near = get_close_matches(re.split(r"[ .]", where)[-1], known, n=1)
        hint = f", did you mean {near[0]}?" if near else ""
        return f"{where}: unknown setting{hint}; expected one of {', '.join(known)}"
    value = "" if isinstance(error["input"], dict) else f" = {error['input']!r}"
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}{value}: {message}".removeprefix(": ").replace(": : ", ": ")
