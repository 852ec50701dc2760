"""diffusers pipelines as decoders of OpenCLIP ViT-H/14 embeddings, the space of the published ImageBind.

    StableUnCLIPImg2ImgPipeline    takes image embeddings itself
    StableDiffusion(XL)Pipeline    with an IP-Adapter (arXiv:2308.06721)

Pipelines are read from local files in the safetensors format, of these classes only, and without code.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from xsearch.errors import ModelError, UsageError, optional_module
from xsearch.generate.crossing import Nearest
from xsearch.query import Embedded
from xsearch.system.durable import read_file
from xsearch.types import Fingerprint, Modality

__all__ = ["OFFICIAL_NORMS", "PipelineDecoder", "load_pipeline"]

INDEX, INDEX_BYTES = "model_index.json", 1 << 20
UNCLIP = "StableUnCLIPImg2ImgPipeline"
ADAPTED = ("StableDiffusionPipeline", "StableDiffusionXLPipeline")
# Lengths of the official code's outputs (facebookresearch/ImageBind, imagebind_model.py, postprocessors)
OFFICIAL_NORMS = {
    Modality.IMAGE: 1.0, Modality.VIDEO: 1.0, Modality.TEXT: 14.3, Modality.AUDIO: 20.0, Modality.DEPTH: 5.0,
    Modality.THERMAL: 10.0, Modality.IMU: 5.0,
}  # fmt: skip
# IP-Adapter stores no statistics of embeddings. Its projection ends in a layer norm, for which a length is
# only large enough or not, relative to its bias.
ADAPTER_NORM = 20.0


class PipelineDecoder:
    """A diffusers pipeline that draws image embeddings.

    norm: length of the embedding. "checkpoint": sqrt(sum(mean^2 + std^2)) of the pipeline's own normaliser,
    which is the root mean square length of the embeddings that it was trained on; for every kind the same.
    "official": that of the official ImageBind code, for each part. Or a number.
    """

    def __init__(self, pipe: Any, name: str, *, adapted: bool, norm: str | float = "checkpoint") -> None:
        self.pipe, self.name, self.adapted, self.norm = pipe, name, adapted, norm
        # defaults of the pipelines' own __call__
        self.steps, self.guidance = (50, 7.5) if adapted else (20, 10.0)
        self.candidates = 1

    @property
    def dim(self) -> int:
        """Of the embeddings that it draws."""
        if self.adapted:
            (layer,) = self.pipe.unet.encoder_hid_proj.image_projection_layers
            return int(layer.image_embeds.in_features)
        return int(self.pipe.image_normalizer.mean.shape[1])

    def check(self, fingerprint: Fingerprint) -> None:
        if fingerprint.dim != self.dim:
            raise ModelError(
                f"the decoder {self.name} draws embeddings of {self.dim} numbers, those of "
                f"{fingerprint.name} have {fingerprint.dim}; with a decoder of OpenCLIP ViT-H/14 use "
                "--model imagebind"
            )

    def embedding(self, query: Embedded) -> Tensor:
        """The embedding of a query as the pipeline takes it: float32 [1, dim]."""
        if self.norm == "official":
            parts = query.query.parts
            norms = [part.weight * OFFICIAL_NORMS[part.modality] for part in parts if part.modality]
            return torch.from_numpy(np.array(norms, np.float32) @ query.parts)[None]
        if self.norm != "checkpoint":
            norm = float(self.norm)
        elif self.adapted:
            norm = ADAPTER_NORM
        else:
            normalizer = self.pipe.image_normalizer
            squares = normalizer.mean.detach().double().square() + normalizer.std.detach().double().square()
            norm = math.sqrt(float(squares.sum()))
        return torch.from_numpy(query.vector * np.float32(norm))[None]

    def draw(
        self,
        query: Embedded,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        size: int | None,
        nearest: Nearest | None,
        tick: Callable[[int], object],
    ) -> list[tuple[Image, bool]]:
        """size: a multiple of 8; None: that of the checkpoint. nearest: not used."""
        if size is not None and size % 8:
            raise UsageError(f"size: expected a multiple of 8 for {self.name}, got {size}")
        embedding = self.embedding(query).to(self.pipe.device, self.pipe.unet.dtype)
        settings = {
            "prompt": "",
            "num_inference_steps": steps,
            "guidance_scale": guidance,
            "height": size,
            "width": size,
        }

        def after(before: int) -> Callable[[int], object]:
            return lambda done: tick(before + done)

        return [
            self._draw(embedding, seed, settings, after(number * steps)) for number, seed in enumerate(seeds)
        ]

    def _draw(
        self, embedding: Tensor, seed: int, settings: dict[str, Any], tick: Callable[[int], object]
    ) -> tuple[Image, bool]:
        generator = torch.Generator().manual_seed(seed)
        if not self.adapted:
            # at noise level 0, the schedule's first
            out = self.pipe(
                image_embeds=embedding,
                generator=generator,
                callback=lambda step, t, latents: tick(step + 1),
                **settings,
            )
            return out.images[0], False
        pair = embedding[None]  # [1, 1, dim]: one picture of one adapter
        if settings["guidance_scale"] > 1:
            pair = torch.cat([torch.zeros_like(pair), pair])

        def ended(pipe: Any, step: int, t: Tensor, values: dict[str, Any]) -> dict[str, Any]:
            tick(step + 1)
            return values

        out = self.pipe(
            ip_adapter_image_embeds=[pair], generator=generator, callback_on_step_end=ended, **settings
        )
        flags = getattr(out, "nsfw_content_detected", None) or [False]
        return out.images[0], bool(flags[0])


def load_pipeline(
    choice: str,
    *,
    ip_adapter: str | Path | None = None,
    norm: str | float = "checkpoint",
    device: str = "cpu",
) -> PipelineDecoder:
    """A pipeline by folder, or by id from the cache of huggingface_hub. Computes in float16 on a GPU."""
    if norm not in ("checkpoint", "official"):
        norm = _positive(norm)
    folder = _folder(choice)
    kind = _class_of(folder)
    diffusers = optional_module("diffusers", "generate")
    transformers = optional_module("transformers", "generate")
    adapted = kind in ADAPTED
    if adapted != (ip_adapter is not None):
        need = "needs an IP-Adapter: --ip-adapter FILE" if adapted else "takes no IP-Adapter"
        raise UsageError(f"{choice}: {kind} {need}")
    made = getattr(diffusers, kind)
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    dtype = torch.float16 if device.startswith("cuda") else torch.float32
    try:
        pipe = made.from_pretrained(
            str(folder), torch_dtype=dtype, use_safetensors=True, local_files_only=True
        ).to(device)
        if ip_adapter is not None:
            weights = _adapter(Path(ip_adapter).expanduser())
            pipe.load_ip_adapter(weights, subfolder="", weight_name="", image_encoder_folder=None)
    except (AttributeError, KeyError, OSError, RuntimeError, SafetensorError, TypeError, ValueError) as error:
        raise ModelError(f"the pipeline {choice} cannot be loaded: {str(error)[:300]}") from error
    pipe.set_progress_bar_config(disable=True)
    if not adapted:  # slicing would replace the adapter's attention, in diffusers 0.42
        pipe.enable_attention_slicing()
    return PipelineDecoder(pipe, choice, adapted=adapted, norm=norm)


def _folder(choice: str) -> Path:
    folder = Path(choice).expanduser()
    if folder.is_dir():
        return folder
    hub = optional_module("huggingface_hub", "generate")
    try:
        return Path(hub.snapshot_download(choice, local_files_only=True))
    except (OSError, ValueError):
        raise ModelError(
            f"no decoder {choice!r}: neither a folder, nor in the cache of huggingface_hub; "
            f"download it yourself: hf download {choice}"
        ) from None


def _class_of(folder: Path) -> str:
    try:
        kind = json.loads(read_file(folder / INDEX, INDEX_BYTES))["_class_name"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise ModelError(f"{folder} is neither a decoder nor a diffusers pipeline: {error}") from error
    if next(folder.rglob("*.py"), None) is not None:
        raise ModelError(f"{folder} has Python code of its own, which is not run")
    if kind not in (UNCLIP, *ADAPTED):
        known = ", ".join((UNCLIP, *ADAPTED))
        raise ModelError(f"{folder}: cannot draw with a {str(kind)[:60]}; expected one of {known}")
    return str(kind)


def _adapter(path: Path) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter's weights as `load_ip_adapter` takes them."""
    state: dict[str, dict[str, Tensor]] = {"image_proj": {}, "ip_adapter": {}}
    for key, value in load_file(path).items():
        part, _, rest = key.partition(".")
        state[part][rest] = value
    return state


def _positive(norm: str | float) -> float:
    try:
        value = float(norm)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UsageError(f"norm: expected checkpoint, official or a number above 0, got {norm!r}")
    return value
