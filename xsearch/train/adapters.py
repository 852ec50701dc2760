"""Which parameters of a tower learn: all of them, those of its head, or low-rank adapters (LoRA)."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from torch import nn

from xsearch.errors import optional_module

__all__ = ["adapted", "merged"]

# The linear layers of a block. Query, key and value are one bare parameter, which PEFT addresses by name
LAYERS = ["out_proj", "fc1", "fc2"]


def adapted(tower: nn.Module, scope: str, *, rank: int) -> nn.Module:
    """Return the tower with `requires_grad` set on what `scope` names: "all", "head", "lora" or "none".

    rank: of the LoRA matrices. Raises UsageError if LoRA is requested and PEFT is not installed.
    """
    if scope == "lora":
        peft = optional_module("peft", "train")
        config = peft.LoraConfig(
            r=rank, lora_alpha=rank, target_modules=LAYERS, target_parameters=["attn.in_proj_weight"]
        )
        with_adapters: nn.Module = peft.inject_adapter_in_model(config, tower)
        for name, parameter in with_adapters.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return with_adapters
    for name, parameter in tower.named_parameters():
        parameter.requires_grad_(scope == "all" or (scope == "head" and name.startswith("head.")))
    return tower


def merged(tower: nn.Module) -> nn.Module:
    """Return the plain tower, its LoRA adapters added to the matrices that they adapt."""
    if not any("lora_" in name for name, _ in tower.named_parameters()):
        return tower
    layers: Any = import_module("peft.tuners.tuners_utils")
    for name, part in reversed(list(tower.named_modules())):  # innermost first
        if isinstance(part, layers.BaseTunerLayer):
            part.merge()
            parent, _, child = name.rpartition(".")
            setattr(tower.get_submodule(parent), child, part.get_base_layer())
    return tower
