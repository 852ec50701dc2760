"""What of a tower learns: all of it, its head only, or low-rank additions to its matrices (LoRA)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from xsearch.errors import optional_module

__all__ = ["adapted", "merged"]

# The matrices inside a block. Query, key and value are one bare parameter, which PEFT takes by name
MATRICES = ["out_proj", "fc1", "fc2"]


def adapted(tower: nn.Module, how: str, *, rank: int) -> nn.Module:
    """The tower with `requires_grad` where it is to learn. how: "all", "head" or "lora".

    Raises UsageError where LoRA is wanted and its package is missing.
    """
    if how == "lora":
        peft = optional_module("peft", "train")
        config = peft.LoraConfig(
            r=rank, lora_alpha=rank, target_modules=MATRICES, target_parameters=["attn.in_proj_weight"]
        )
        found: nn.Module = peft.inject_adapter_in_model(config, tower)
        for name, parameter in found.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return found
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(how == "all" or (how == "head" and name.startswith("head.")))
    return tower


def merged(tower: nn.Module) -> nn.Module:
    """The plain tower again, with what LoRA has learned added to its matrices."""
    if not any("lora_" in name for name, _ in tower.named_parameters()):
        return tower
    layers: Any = import_module("peft.tuners.tuners_utils")
    for name, part in reversed(list(tower.named_modules())):  # the innermost first
        if isinstance(part, layers.BaseTunerLayer):
            part.merge()
            parent, _, child = name.rpartition(".")
            setattr(tower.get_submodule(parent), child, part.get_base_layer())
    return tower
