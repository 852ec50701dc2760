"""Model configs: sizes of the six towers, and preprocessing settings.

`HUGE` is the published imagebind_huge (arXiv:2305.05665; the official code at commit 53680b0), `SMALL` the
model in the wheel. A model folder stores its config as JSON. Dataclasses, not pydantic models: building
validators would add 24 to 60 ms to every text query.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar, Literal, get_args, get_origin, get_type_hints

from xsearch.errors import ModelError
from xsearch.types import Modality

__all__ = [
    "HUGE",
    "SMALL",
    "TOWERS",
    "TOWER_OF",
    "AudioConfig",
    "DepthConfig",
    "ImageBindConfig",
    "ImuConfig",
    "Preprocessing",
    "TextConfig",
    "ThermalConfig",
    "TowerConfig",
    "VisionConfig",
]

TOWER_OF = {
    Modality.IMAGE: "vision",
    Modality.VIDEO: "vision",
    Modality.TEXT: "text",
    Modality.AUDIO: "audio",
    Modality.DEPTH: "depth",
    Modality.THERMAL: "thermal",
    Modality.IMU: "imu",
}
TOWERS = ("vision", "text", "audio", "depth", "thermal", "imu")


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A transformer of `depth` pre-norm blocks. With a depth of 0 (not for text), tokens are mean-pooled."""

    width: int
    depth: int
    heads: int
    drop_path: float = 0.0  # of the last block; increases linearly from 0 at the first
    # Channels of residual convolutions of stride 2 before the patch projection, whose patches shrink
    # accordingly. With about 10,000 pictures they learn what attention alone does not (see the bundled model
    # card). The official model has none; text never has.
    stem: tuple[int, ...] = ()
    blocks: tuple[int, ...] = ()  # of each convolution but the first: residual blocks; by default one


@dataclass(frozen=True, kw_only=True)
class VisionConfig(TowerConfig):
    image_size: int = 224  # pixels, square
    patch: int = 14  # pixels; a patch spans two frames
    mirrored: bool = False  # the embedding is the mean of a picture's and of its mirror image's


@dataclass(frozen=True, kw_only=True)
class TextConfig(TowerConfig):
    context: int = 77  # token ids of a text, including start and end
    vocab: int = 49408  # 0 is padding; the two largest ids are start and end
    logit_scale: float = 1 / 0.07  # initial value; learned


@dataclass(frozen=True, kw_only=True)
class AudioConfig(TowerConfig):
    mels: int = 128
    frames: int = 204  # 10 ms each; a clip of 2 s fills 198
    kernel: tuple[int, int] = (16, 16)  # mels, frames
    stride: tuple[int, int] = (10, 10)
    clips: int = 3
    clip_s: float = 2.0
    logit_scale: float = 20.0

    @property
    def grid(self) -> tuple[int, int]:
        """Number of patches along mels and frames."""
        shrunk = 2 ** len(self.stem)
        rows, columns = (
            (math.ceil(size / shrunk) - kernel // shrunk) // (stride // shrunk) + 1
            for size, kernel, stride in zip((self.mels, self.frames), self.kernel, self.stride, strict=True)
        )
        return rows, columns


@dataclass(frozen=True, kw_only=True)
class DepthConfig(TowerConfig):
    image_size: int = 224
    patch: int = 16
    logit_scale: float = 5.0


@dataclass(frozen=True, kw_only=True)
class ThermalConfig(TowerConfig):
    image_size: int = 224
    patch: int = 16
    logit_scale: float = 10.0


@dataclass(frozen=True, kw_only=True)
class ImuConfig(TowerConfig):
    samples: int = 2000  # time steps of one window
    kernel: int = 8  # time steps of one patch
    head_dropout: float = 0.5
    logit_scale: float = 5.0

    @property
    def patches(self) -> int:
        """Number of patches; time steps that do not fill one are dropped."""
        return math.ceil(self.samples / 2 ** len(self.stem)) // (self.kernel >> len(self.stem))


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Preprocessing settings. Vectors of different settings are not comparable, so `stamp` is stored with
    every collection."""

    # Incremented when transforms.py, mel.py or the windows of xsearch.media change their output
    version: ClassVar[str] = "2"

    image_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)  # CLIP
    image_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    video_clips: int = 5  # of two frames
    video_crops: Literal[1, 3] = 3  # the centre, or also both ends of the long side
    video_antialias: bool = False  # the official code resizes frames without

    text_cleaning: Literal["clip", "plain"] = "clip"  # ftfy, HTML entities, spaces, lower case; or none

    audio_mean: float = -4.268  # log-mel statistics of the official code
    audio_std: float = 9.138
    audio_dc: Literal["clip", "official"] = (
        "clip"  # "official": overlapping clips subtract each other's means
    )

    # Disparity as in Omnivore (arXiv:2201.08377): baseline * focal / metres, over 75, then mean and std.
    depth_range_m: tuple[float, float] = (0.01, 50.0)
    depth_unknown_m: float = 50.0  # of pixels without a measurement
    depth_baseline_m: float = 0.075  # Kinect; where a depth map has no metadata
    depth_focal: float = 0.81  # relative to the long side: Kinect, 518.9 of 640 pixels; likewise
    depth_max_disparity: float = 75.0
    depth_scale: Literal["linear", "log"] = "linear"  # log: of disparity / depth_max_disparity
    depth_mean: float = 0.0418
    depth_std: float = 0.0295

    # Zero-shot on LLVIP, by users of the published weights: 62.4 without normalisation, 55.2 with CLIP's mean
    # grey (0.45, 0.27); published 63.4. The official code has no thermal loader.
    thermal_mean: float = 0.0
    thermal_std: float = 1.0

    # Five seconds in 2,000 steps are the paper's (section 3 and appendix B: six channels, accelerometer and
    # gyroscope, of Ego4D); units and channel order were not published and are ours.
    imu_window_s: float = 5.0  # resampled to `ImuConfig.samples`, so 400 Hz for the published model
    imu_order: Literal["accel_gyro", "gyro_accel"] = "accel_gyro"  # each as x, y, z
    imu_accel_unit: float = 9.80665  # m/s^2 per unit
    imu_gyro_unit: float = 1.0  # rad/s per unit

    @property
    def stamp(self) -> str:
        """The version and a digest of all settings, such as "1-0a1b2c3d"."""
        settings = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return f"{self.version}-{hashlib.sha256(settings.encode()).hexdigest()[:8]}"


@dataclass(frozen=True, kw_only=True)
class ImageBindConfig:
    """Six towers into one space of `embed_dim` dimensions."""

    name: str  # as in --model
    embed_dim: int
    vision: VisionConfig
    text: TextConfig
    audio: AudioConfig
    depth: DepthConfig
    thermal: ThermalConfig
    imu: ImuConfig
    preprocessing: Preprocessing = field(default_factory=Preprocessing)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2)

    @staticmethod
    def from_json(text: str) -> ImageBindConfig:
        """The inverse of `to_json`. Raises ModelError when a field is missing, unknown or out of range."""
        try:
            fields = json.loads(text)
            parts = {name: _checked(part, fields.pop(name), name) for name, part in _PARTS.items()}
            hints = {"name": str, "embed_dim": int}
            return ImageBindConfig(
                **parts, **{name: _value(fields[name], hints.pop(name), name) for name in fields}
            )
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise ModelError(f"not the config of a model: {str(error)[:200]}") from error


_PARTS: dict[str, Any] = {
    "vision": VisionConfig,
    "text": TextConfig,
    "audio": AudioConfig,
    "depth": DepthConfig,
    "thermal": ThermalConfig,
    "imu": ImuConfig,
    "preprocessing": Preprocessing,
}


# Ranges of fields, in any part; a model folder may come from a stranger, who asks for any size
_RANGES: dict[str, tuple[float, float]] = {
    "width": (1, 16_384),
    "depth": (0, 256),
    "heads": (1, 256),
    "drop_path": (0, 0.99),
    "stem": (1, 16_384),
    "blocks": (1, 64),
    "image_size": (1, 1024),
    "patch": (1, 1024),
    "context": (3, 4096),
    "vocab": (4, 1 << 20),
    "logit_scale": (1e-3, 1e4),
    "mels": (1, 512),
    "frames": (1, 4096),
    "kernel": (1, 4096),
    "stride": (1, 4096),
    "clips": (1, 64),
    "clip_s": (0.1, 60),
    "samples": (1, 65_536),
    "head_dropout": (0, 0.99),
    "embed_dim": (1, 16_384),
    "image_std": (1e-6, 1e6),
    "video_clips": (1, 64),
    "audio_std": (1e-6, 1e6),
    "depth_range_m": (1e-6, 1e6),
    "depth_unknown_m": (1e-6, 1e6),
    "depth_max_disparity": (1e-6, 1e6),
    "depth_std": (1e-6, 1e6),
    "thermal_std": (1e-6, 1e6),
    "imu_window_s": (0.1, 600),
    "imu_accel_unit": (1e-6, 1e6),
    "imu_gyro_unit": (1e-6, 1e6),
}
_OTHERS = -1e6, 1e6
_LONGEST = 100  # of a name, or a tuple


def _checked(part: Any, fields: dict[str, Any], of: str) -> Any:
    hints = _hints(part)
    made = part(**{name: _value(value, hints[name], f"{of}.{name}") for name, value in fields.items()})
    if isinstance(made, TowerConfig) and made.width % made.heads:
        raise ValueError(f"{of}.width is {made.width}, not divisible by {made.heads} heads")
    if isinstance(made, VisionConfig | AudioConfig | DepthConfig | ThermalConfig | ImuConfig):
        if isinstance(made, AudioConfig):
            side = min(*made.kernel, *made.stride)
        else:
            side = made.kernel if isinstance(made, ImuConfig) else made.patch
        if side < 2 ** len(made.stem):
            raise ValueError(f"{of}.stem has {len(made.stem)} convolutions, too many for {side} pixels")
        if len(made.blocks) not in (0, len(made.stem) - 1):
            raise ValueError(f"{of}.blocks has {len(made.blocks)} entries for {len(made.stem)} convolutions")
    return made


@cache
def _hints(part: Any) -> dict[str, Any]:
    return get_type_hints(part)


def _value(value: Any, hint: Any, name: str) -> Any:
    """`value` as a field of this type; lists become tuples, which JSON does not have. Raises ValueError."""
    low, high = _RANGES.get(name.rpartition(".")[2], _OTHERS)
    if get_origin(hint) is tuple:
        kind, *others = get_args(hint)
        lengths = range(_LONGEST) if others == [...] else (1 + len(others),)
        if isinstance(value, list) and len(value) in lengths:
            return tuple(_value(each, kind, name) for each in value)
        expected = f"a list of {'some' if others == [...] else 1 + len(others)} numbers"
    elif get_origin(hint) is Literal:
        if value in get_args(hint) and not isinstance(value, bool):
            return value
        expected = " or ".join(map(repr, get_args(hint)))
    elif hint is str:
        if isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST:
            return value
        expected = f"printable text of at most {_LONGEST} characters"
    elif hint is bool:
        if isinstance(value, bool):
            return value
        expected = "true or false"
    else:
        kinds = int if hint is int else int | float
        if isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high:
            return value
        expected = f"a{' whole' * (hint is int)} number from {low:g} to {high:g}"
    raise ValueError(f"{name} is {str(value)[:40]!r}, expected {expected}")


HUGE = ImageBindConfig(
    name="imagebind",
    embed_dim=1024,
    vision=VisionConfig(width=1280, depth=32, heads=16),
    text=TextConfig(width=1024, depth=24, heads=16),
    audio=AudioConfig(width=768, depth=12, heads=12, drop_path=0.1),
    depth=DepthConfig(width=384, depth=12, heads=8),
    thermal=ThermalConfig(width=768, depth=12, heads=12),
    imu=ImuConfig(width=512, depth=6, heads=8, drop_path=0.7),
)

SMALL = ImageBindConfig(
    name="bundled",
    embed_dim=256,
    vision=VisionConfig(
        width=384,
        depth=0,
        heads=8,
        image_size=96,
        patch=32,
        mirrored=True,
        stem=(32, 64, 128, 256, 384),
        blocks=(1, 2, 2, 2),
    ),
    text=TextConfig(width=192, depth=2, heads=6, context=32, vocab=3072),
    audio=AudioConfig(width=256, depth=0, heads=8, mels=64, stride=(16, 16), stem=(32, 64, 128, 256)),
    depth=DepthConfig(width=192, depth=0, heads=6, image_size=80, stem=(24, 48, 96, 192)),
    thermal=ThermalConfig(width=192, depth=0, heads=6, image_size=80, stem=(24, 48, 96, 192)),
    imu=ImuConfig(
        width=128, depth=0, heads=4, samples=500, kernel=32, stem=(32, 48, 64, 96, 128), head_dropout=0.0
    ),
    preprocessing=Preprocessing(
        text_cleaning="plain",
        video_crops=1,
        video_antialias=True,
        depth_scale="log",  # of 104 scenes, mean -2.5 and standard deviation 1.4
        depth_mean=-2.5,
        depth_std=1.4,
    ),
)
