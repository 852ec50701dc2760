"""Zero-shot classification: the prototype of a class is the mean embedding of prompts that name it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xsearch.errors import UsageError
from xsearch.evaluate.metrics import average_precision
from xsearch.types import Modality, Sample

if TYPE_CHECKING:
    from xsearch.backend import Backend

__all__ = [
    "TEMPLATES",
    "class_truth",
    "classify",
    "default_templates",
    "mean_prototypes",
    "read_prompts",
    "text_prototypes",
]

# Seven of CLIP's 80 templates, which its authors found nearly as good as all of them
# (github.com/openai/CLIP, notebooks/Prompt_Engineering_for_ImageNet.ipynb).
IMAGE_TEMPLATES = (
    "itap of a {}.", "a bad photo of the {}.", "a origami {}.", "a photo of the large {}.",
    "a {} in a video game.", "art of the {}.", "a photo of the small {}.",
)  # fmt: skip
# ImageBind's templates for the other modalities were not published; these are ours.
TEMPLATES = {
    Modality.IMAGE: IMAGE_TEMPLATES,
    Modality.VIDEO: ("a video of {}.", "a video of a person {}."),
    Modality.AUDIO: ("{}", "the sound of a {}.", "a recording of {}."),
    Modality.DEPTH: ("a photo of a {}.", "a depth map of a {}."),
    Modality.THERMAL: ("a photo of a {}.", "a thermal photo of a {}."),
    Modality.IMU: ("{}", "a person {}."),
}


def text_prototypes(
    backend: Backend, classes: Mapping[str, Sequence[str]], templates: Sequence[str]
) -> np.ndarray:
    """float32 [C, dim], unit rows: per class, the normalised mean over its names in all templates.

    classes: the names of each class, at least one. templates: texts with {} in place of the name.
    """
    prompts = [
        (number, template.replace("{}", name))
        for number, names in enumerate(classes.values())
        for name in names
        for template in templates
    ]
    vectors = backend.embed([Sample(Modality.TEXT, text, text=text) for _, text in prompts])
    return mean_prototypes(vectors, np.array([number for number, _ in prompts]))


def default_templates(backend: Backend, kind: Modality) -> Sequence[str]:
    """Those of TEMPLATES whose words are in the vocabulary of the model."""
    known = backend.capabilities().vocabulary
    return [each for each in TEMPLATES.get(kind, ()) if not (known and known.unknown(each))] or ("{}",)


def mean_prototypes(vectors: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """float32 [C, dim], unit rows, from examples float [N, dim] and their classes, 0 to C-1."""
    sums = np.zeros((classes.max() + 1, vectors.shape[1]), np.float32)
    np.add.at(sums, classes, vectors)
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def class_truth(labels: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """bool [N, C]: the classes of each label, several as `a|b`.

    >>> class_truth(["dog", "cat|dog"], ["cat", "dog"]).astype(int).tolist()
    [[0, 1], [1, 1]]
    """
    number = {name: at for at, name in enumerate(classes)}
    truth = np.zeros((len(labels), len(classes)), bool)
    for row, label in zip(truth, labels, strict=True):
        row[[number[name] for name in label.split("|")]] = True
    return truth


def classify(vectors: np.ndarray, prototypes: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Accuracy of nearest-prototype classification.

    vectors: float [N, dim]; prototypes: [C, dim], unit rows; truth: bool [N, C], at least one in each row.
    top1, top5: share of samples with a true class among the first one or five. mean_per_class: top1 averaged
    over the classes that occur. map: average precision of the samples ranked for each class, averaged
    likewise (AudioSet's metric, Gemmeke et al. 2017).
    """
    scores = vectors @ prototypes.T  # [N, C]
    order = np.argsort(-scores, axis=1, kind="stable")
    hits = np.take_along_axis(truth, order, axis=1)
    present = truth.any(axis=0)
    ranking = np.argsort(-scores[:, present], axis=0, kind="stable")
    return {
        "classes": len(prototypes),
        "samples": len(vectors),
        "top1": float(hits[:, 0].mean()),
        "top5": float(hits[:, :5].any(axis=1).mean()),
        "mean_per_class": float(np.mean([hits[of_class, 0].mean() for of_class in truth.T[present]])),
        "map": float(average_precision(np.take_along_axis(truth[:, present], ranking, axis=0).T).mean()),
    }


def read_prompts(path: Path) -> tuple[list[str], dict[str, list[str]]]:
    """(templates, class names) from a file; either may be empty: use the defaults.

    A text file has a template per line, "a photo of a {}."; JSON has {"templates": [...], "classes": {"dog":
    ["dog", "puppy"], ...}}. Raises UsageError for anything else.
    """
    try:
        text = path.read_text(encoding="utf-8")
        about: Any = json.loads(text) if path.suffix == ".json" else {"templates": text.split("\n")}
        templates = [line.strip() for line in about.get("templates", ()) if line.strip()]
        classes = {name: [names] if isinstance(names, str) else list(names)
                   for name, names in about.get("classes", {}).items()}  # fmt: skip
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: cannot be read as prompts: {error}") from None
    for name in (name for name, names in classes.items() if not names):
        raise UsageError(f"{path}: no name for {name!r}")
    if invalid := [line for line in templates if "{}" not in line]:
        raise UsageError(f"{path}: {invalid[0]!r} has no {{}} in place of the class name")
    return templates, classes
