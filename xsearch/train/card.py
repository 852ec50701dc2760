"""The model card of a run, and a picture of how it went."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from xsearch.models.imagebind import ImageBind
from xsearch.pairs import Pairs
from xsearch.train.log import read_log
from xsearch.train.recipe import Recipe
from xsearch.train.scene_pairs import ROUND

__all__ = ["CARD", "CURVES", "card", "curves"]

CARD, CURVES = "MODEL_CARD.md", "curves.png"


def card(recipe: Recipe, model: ImageBind, tables: Mapping[str, Pairs], run: Path, command: str) -> str:
    """Markdown, filled from the run: what it started from, its data, its stages, and what it can do."""
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
    lines += ["", "## Stages", "", "| learns | bound to pictures | length | peak lr |", "|---|---|---|---|"]
    for stage in recipe.stages:
        length = f"{stage.steps:,} steps" if stage.steps else f"{stage.epochs:g} epochs"
        lines.append(f"| {', '.join(stage.learn)} | {', '.join(stage.bind)} | {length} | {stage.lr:g} |")
    found = _last_look(run)
    if found:
        lines += ["", "## Held-out pairs", "", "| query > answer | P@1 |", "|---|---|"]
        lines += [f"| {name} | {value:.2f} |" for name, value in found.items()]
    lines += ["", "## Reproduce", "", f"    {command}", "", "with the recipe in `recipe.json`.", ""]
    return "\n".join(lines)


def _last_look(folder: Path) -> dict[str, float]:
    """P@1 on held-out pairs as it was last measured, by query and answer."""
    found: dict[str, Any] = {}
    for entry in read_log(folder):
        found |= {name: value for name, value in entry.items() if ">" in name}
    return found


def curves(folder: Path, path: Path) -> None:
    """Draw the losses and, below, P@1 of held-out pairs over the steps of all stages: a PNG."""
    entries = read_log(folder)
    offsets: dict[str, int] = {}
    last = 0
    for entry in entries:
        offsets.setdefault(entry["stage"], last)
        last = max(last, offsets[entry["stage"]] + entry["step"])
    series: dict[bool, dict[str, list[tuple[int, float]]]] = {False: {}, True: {}}
    for entry in entries:
        x = offsets[entry["stage"]] + entry["step"]
        for name, value in entry.items():
            if name.startswith("loss ") or ">" in name:
                series[">" in name].setdefault(name.removeprefix("loss "), []).append((x, value))
    charts = [
        (title, some) for title, some in (("loss", series[False]), ("P@1, held out", series[True])) if some
    ]
    image = Image.new("RGB", (1000, 330 * len(charts) + 10), "white")
    for number, (title, some) in enumerate(charts):
        _chart(ImageDraw.Draw(image), title, some, last, top=330 * number + 10)
    image.save(path)


DOTTED = 60  # points, below which each is marked
COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf", "#bcbd22")


def _chart(
    draw: ImageDraw.ImageDraw, title: str, series: dict[str, list[tuple[int, float]]], last: int, *, top: int
) -> None:
    left, right, bottom = 60, 760, top + 290
    high = max(max(y for _, y in line) for line in series.values()) or 1.0
    draw.text((left, top), title, fill="black")
    for part in range(5):
        y = bottom - part / 4 * (bottom - top - 25)
        draw.line([(left, y), (right, y)], fill="#dddddd")
        draw.text((10, y - 6), f"{high * part / 4:.2f}", fill="#555555")
    draw.text((right - 90, bottom + 5), f"{last:,} steps", fill="#555555")
    finals = sorted(series, key=lambda name: -series[name][-1][1])
    for number, name in enumerate(finals):
        colour = COLOURS[number % len(COLOURS)]
        points = [
            (left + x / max(last, 1) * (right - left), bottom - y / high * (bottom - top - 25))
            for x, y in sorted(series[name])
        ]
        draw.line(points, fill=colour, width=2)
        for x, y in points if len(points) < DOTTED else ():
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
        if number < 22:
            draw.text((right + 15, top + 25 + 12 * number), f"{name}  {series[name][-1][1]:.2f}", fill=colour)
