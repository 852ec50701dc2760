"""Trained decoders: folders of weights that draw the vectors of one model.

    config.json           `DecoderConfig`, the licence of the weights, the sha256 of the other file
    network.safetensors   float16

config.json is written last: a folder without it is not a decoder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.generate.config import DecoderConfig
from xsearch.generate.crossing import Nearest, crossed
from xsearch.generate.flow import heun
from xsearch.generate.network import Network
from xsearch.models.checkpoint import check_shapes, shapes_of
from xsearch.query import Embedded
from xsearch.system.durable import digest, publish, read_file
from xsearch.types import Fingerprint

__all__ = ["CONFIG", "TrainedDecoder"]

CONFIG, WEIGHTS = "config.json", "network.safetensors"
CONFIG_BYTES, WEIGHTS_BYTES = 1 << 20, 256 << 20
SETTINGS = TypeAdapter(DecoderConfig)

Tick = Callable[[int], object]  # called with the number of steps done


class TrainedDecoder:
    """Draws pictures of the vectors of one model. Safe to share between threads."""

    def __init__(self, network: Network, name: str, device: str = "cpu") -> None:
        self.network, self.name, self.device = network.to(device).eval(), name, device

    @property
    def config(self) -> DecoderConfig:
        return self.network.config

    @property
    def steps(self) -> int:
        return self.config.steps

    @property
    def guidance(self) -> float:
        return self.config.guidance

    @property
    def candidates(self) -> int:
        return self.config.candidates

    @staticmethod
    def load(folder: Path, name: str | None = None, device: str = "cpu") -> TrainedDecoder:
        """Raises ModelError naming the file and what is wrong with it."""
        path = folder / CONFIG
        try:
            document = json.loads(read_file(path, CONFIG_BYTES))
            config = SETTINGS.validate_python(document["config"])
            path = folder / WEIGHTS
            weights = read_file(path, WEIGHTS_BYTES)
            if sha256(weights).hexdigest() != document["sha256"]:
                raise ValueError("wrong sha256")
            state = load(weights)
            with torch.device("meta"):
                network = Network(config)
        except (KeyError, OSError, RecursionError, SafetensorError, TypeError, ValueError) as error:
            raise ModelError(f"the decoder cannot be read from {path}: {str(error)[:200]}") from error
        check_shapes(shapes_of(state), shapes_of(network.state_dict()), path)
        network.load_state_dict({key: value.float() for key, value in state.items()}, assign=True)
        return TrainedDecoder(network, name or str(folder), device)

    def save(self, folder: Path, *, license: str | None = None) -> None:
        """license: of the weights, an SPDX expression; None: not stated."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG).unlink(missing_ok=True)
        weights = {key: value.to("cpu", torch.float16) for key, value in self.network.state_dict().items()}
        with publish(folder / WEIGHTS) as part:
            part.write_bytes(save({key: value.contiguous() for key, value in weights.items()}))
        document = {"license": license} if license else {}
        document |= {
            "config": SETTINGS.dump_python(self.config, mode="json"),
            "sha256": digest(folder / WEIGHTS),
        }
        with publish(folder / CONFIG) as part:
            part.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    def check(self, fingerprint: Fingerprint) -> None:
        """Raise ModelError unless it draws the vectors of this model."""
        if fingerprint.digest != self.config.digest:
            raise ModelError(
                f"the decoder {self.name} draws vectors of {self.config.model} (weights "
                f"{self.config.digest[:8]}), not of {fingerprint.name} (weights {fingerprint.digest[:8]}); "
                "choose another one with --decoder (decoder=)"
            )

    def draw(
        self,
        query: Embedded,
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        size: int | None = None,
        nearest: Nearest | None = None,
        tick: Tick = lambda done: None,
    ) -> list[tuple[Image.Image, bool]]:
        """Pictures of a query, of the side it draws, and that none was filtered. size: not used."""
        B = len(seeds)
        vector, level = crossed(query, self.network.means.cpu().numpy(), self.config.crossings, nearest)
        pixels = self.pictures(
            vector[None].repeat(B, axis=0),
            [level] * B,
            seeds,
            steps=steps,
            guidance=guidance,
            tick=lambda done: tick(done * B),
        )
        return [(Image.fromarray(each), False) for each in pixels]

    @torch.inference_mode()
    def pictures(
        self,
        vectors: np.ndarray,
        levels: Sequence[float],
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        tick: Tick = lambda done: None,
    ) -> np.ndarray:
        """uint8 [B, S, S, 3] of unit vectors [B, D], which cross no gap any more.

        levels: of their noise. guidance: 1: none; above, away from what is drawn of no vector at all.
        """
        B, S = len(vectors), self.config.side
        noise = [torch.randn(3, S, S, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        v = torch.from_numpy(np.asarray(vectors, np.float32)).to(self.device)
        levels_ = torch.tensor(levels, dtype=torch.float32, device=self.device)
        velocity = partial(self._velocity, vectors=v, levels=levels_, guidance=guidance)
        z = heun(velocity, torch.stack(noise).to(self.device), steps, tick)
        pixels = (z.clamp(-1, 1) + 1) * 127.5
        assert pixels.shape == (B, 3, S, S)
        return pixels.round().byte().permute(0, 2, 3, 1).cpu().numpy()

    def _velocity(self, z: Tensor, t: float, *, vectors: Tensor, levels: Tensor, guidance: float) -> Tensor:
        B = len(z)
        known = torch.ones(B, dtype=torch.bool, device=z.device)
        if guidance == 1:
            x = self.network(z, z.new_full((B,), t), vectors, levels, known)
        else:
            known = torch.cat([known, ~known])
            times = z.new_full((2 * B,), t)
            both = self.network(torch.cat([z, z]), times, vectors.repeat(2, 1), levels.repeat(2), known)
            shown, anything = both.chunk(2)
            x = anything + guidance * (shown - anything)
        return (x - z) / (1 - t)
