"""Samples in physical units -> input tensors of the towers.

Choices that the official code leaves open, or that users may want to change, are fields of `Preprocessing`;
with its defaults, images, audio and frames equal those of the official code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from xsearch.errors import ModelError
from xsearch.models.config import ImageBindConfig
from xsearch.models.mel import log_mel_clips
from xsearch.models.tokenizer import Tokenizer
from xsearch.system.crop import centre_square, margin, resized, spare
from xsearch.types import AUDIO_RATE_HZ, Sample

__all__ = ["Preprocess"]


class Preprocess:
    """Samples of one modality -> one batch. Carries the tokenizer of the text tower."""

    def __init__(self, config: ImageBindConfig, tokenizer: Tokenizer | None = None) -> None:
        self.config = config
        self.settings = config.preprocessing
        self.tokenizer = tokenizer
        self._mean = torch.tensor(self.settings.image_mean)[:, None, None]  # [3, 1, 1]
        self._std = torch.tensor(self.settings.image_std)[:, None, None]

    def __call__(self, samples: Sequence[Sample]) -> Tensor:
        """At least one sample, all of one modality. For shapes see the method of that name."""
        (modality,) = {sample.modality for sample in samples}
        batch: Tensor = getattr(self, modality)(samples)
        return batch

    def image(self, samples: Sequence[Sample]) -> Tensor:
        """PIL images -> float32 [B, 3, size, size]: centre squares, normalised with CLIP's mean and std."""
        size = self.config.vision.image_size
        pixels = np.stack([np.asarray(centre_square(sample.data, size)) for sample in samples])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().float()
        return x.div_(255).sub_(self._mean).div_(self._std)

    def video(self, samples: Sequence[Sample]) -> Tensor:
        """Frames uint8 [T, H, W, 3] -> float32 [B, clips * crops, 3, 2, size, size], ordered by clip.

        Frames are evenly spaced over the window. 2 * clips of them are taken at even intervals, two per clip:
        ten frames make five clips, and a single frame is repeated.
        """
        return torch.stack([self._clips(sample.data) for sample in samples])

    def _clips(self, frames: np.ndarray) -> Tensor:
        S, size = self.settings.video_clips, self.config.vision.image_size
        moments = (2 * np.arange(2 * S) + 1) * len(frames) // (4 * S)  # centres of 2S equal slots
        x = torch.from_numpy(frames[moments]).permute(0, 3, 1, 2)  # uint8 [2S, 3, H, W]
        H, W = x.shape[2:]
        short = min(H, W)
        to = (math.floor(H / short * size), math.floor(W / short * size))  # pytorchvideo's short_side_scale
        antialias = self.settings.video_antialias
        if not antialias:
            x = x.float()
        if to != (H, W):
            x = F.interpolate(x, to, mode="bilinear", align_corners=False, antialias=antialias)
        x = (x.float() / 255 - self._mean) / self._std
        excess = max(to) - size
        middle = math.ceil(excess / 2)
        starts = [middle] if self.settings.video_crops == 1 else [0, middle, excess]
        crops = [x.narrow(2 if H > W else 3, start, size) for start in starts]  # [2S, 3, size, size] each
        clips = torch.stack(crops).unflatten(1, (S, 2))  # [crops, S, 2, 3, size, size]
        return clips.permute(1, 0, 3, 2, 4, 5).flatten(0, 1)

    def text(self, samples: Sequence[Sample]) -> Tensor:
        """str -> int64 [B, context]."""
        if self.tokenizer is None:
            raise ModelError("texts cannot be embedded: this model has no tokenizer")
        return self.tokenizer.encode([sample.data for sample in samples])

    def audio(self, samples: Sequence[Sample]) -> Tensor:
        """Mono float32 at 16 kHz -> float32 [B, clips, 1, mels, frames]. ModelError for another rate."""
        for sample in samples:
            if sample.rate_hz not in (None, AUDIO_RATE_HZ):
                raise ModelError(f"audio samples must be at {AUDIO_RATE_HZ} Hz, got {sample.rate_hz:g} Hz")
        return log_mel_clips([sample.data for sample in samples], self.config.audio, self.settings)

    def depth(self, samples: Sequence[Sample]) -> Tensor:
        """Metres [H, W] -> normalised disparity, float32 [B, 1, size, size], cropped like an image."""
        settings, size = self.settings, self.config.depth.image_size
        low, high = settings.depth_range_m
        planes = []
        for sample in samples:
            focal = sample.focal_px or settings.depth_focal * max(sample.data.shape)
            baseline = sample.baseline_m or settings.depth_baseline_m
            metres = _tensor(sample.data)
            metres = metres.where(metres > 0, settings.depth_unknown_m).clamp(low, high)  # NaN: unknown
            disparity = (baseline * focal / metres).clamp(max=settings.depth_max_disparity)
            share = disparity / settings.depth_max_disparity
            planes.append(_centre_plane(share.log() if settings.depth_scale == "log" else share, size))
        return torch.stack(planes).sub_(settings.depth_mean).div_(settings.depth_std)

    def thermal(self, samples: Sequence[Sample]) -> Tensor:
        """0..1 [H, W] -> float32 [B, 1, size, size], cropped like an image."""
        size = self.config.thermal.image_size
        x = torch.stack([_centre_plane(_tensor(sample.data), size) for sample in samples])
        return x.sub_(self.settings.thermal_mean).div_(self.settings.thermal_std)

    def imu(self, samples: Sequence[Sample]) -> Tensor:
        """m/s^2 and rad/s [6, T] -> float32 [B, 6, samples] over `imu_window_s`, linearly interpolated.

        The time scale is preserved: longer recordings are truncated, shorter ones repeated.
        """
        imu, settings = self.config.imu, self.settings
        times_s = torch.arange(imu.samples, dtype=torch.float64) * (settings.imu_window_s / imu.samples)
        rows = []
        for sample in samples:
            if not sample.rate_hz:
                raise ModelError("IMU samples need rate_hz")
            data = _tensor(sample.data)  # [6, T]
            T = data.shape[1]
            at = times_s * sample.rate_hz % T  # float64 [samples]: positions in the recording
            left = at.long()
            right = (left + 1).clamp(max=T - 1)
            rows.append(torch.lerp(data[:, left], data[:, right], (at - left).float()))
        unit = torch.tensor([settings.imu_accel_unit] * 3 + [settings.imu_gyro_unit] * 3)
        x = torch.stack(rows) / unit[:, None]
        return x if settings.imu_order == "accel_gyro" else x.roll(3, dims=1)


def _tensor(data: np.ndarray) -> Tensor:
    """A float32 copy: samples may be read-only, or of another dtype."""
    return torch.from_numpy(np.array(data, np.float32))


def _centre_plane(plane: Tensor, size: int) -> Tensor:
    """[H, W] -> [1, size, size], the same region as `crop.centre_square`."""
    H, W = plane.shape
    left, top = spare(W, H)
    plane = plane[top : H - top, left : W - left]
    width, height = resized(plane.shape[1], plane.shape[0], size)
    x = plane[None, None].float()
    if x.shape[2:] != (height, width):
        x = F.interpolate(x, (height, width), mode="bilinear", align_corners=False, antialias=True)
    top, left = margin(height, size), margin(width, size)
    return x[0, :, top : top + size, left : left + size]
