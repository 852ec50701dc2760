"""The model card of a training run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xsearch.models.imagebind import ImageBind
from xsearch.pairs import Pairs
from xsearch.train.log import read_log
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ROUND

__all__ = ["CARD", "card"]

CARD = "MODEL_CARD.md"


def card(recipe: Recipe, model: ImageBind, tables: Mapping[str, Pairs], run: Path, command: str) -> str:
    """Markdown: what the run in folder `run` started from, its data, its stages, its held-out precision."""
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        f"# {recipe.name}",
        "",
        f"Six towers, {parameters / 1e6:.1f} M parameters, one space of {model.config.embed_dim} dimensions. "
        f"Started from {recipe.start}; seed {recipe.seed}; computed in {recipe.precision}.",
        "",
        "## Data",
        "",
        "| modality | pairs | labels | table |",
        "|---|---|---|---|",
    ]
    for name, pairs in tables.items():
        labels = len({label for label in pairs.labels.tolist() if label})
        lines.append(f"| {name} | {len(pairs):,} | {labels or ''} | {pairs.path.name} |")
    if recipe.scenes:
        lines.append(f"| all | {-(-recipe.scenes // ROUND) * ROUND:,} | | rendered scenes |")
    lines += ["", "## Stages", "", "| trained | bound to images | length | peak lr |", "|---|---|---|---|"]
    for stage in recipe.stages:
        length = f"{stage.steps:,} steps" if stage.steps else f"{stage.epochs:g} epochs"
        lines.append(f"| {', '.join(stage.learn)} | {', '.join(stage.bind)} | {length} | {stage.lr:g} |")
    if precisions := _last_precisions(run):
        lines += ["", "## Held-out pairs", "", "| query > answer | P@1 |", "|---|---|"]
        lines += [f"| {name} | {value:.2f} |" for name, value in precisions.items()]
    lines += ["", "## Reproduce", "", f"    {command}", "", "with the recipe in `recipe.json`.", ""]
    return "\n".join(lines)


def _last_precisions(run: Path) -> dict[str, float]:
    """The most recent held-out P@1 of each pair of modalities."""
    precisions: dict[str, Any] = {}
    for entry in read_log(run):
        precisions |= {name: value for name, value in entry.items() if ">" in name}
    return precisions
