"""ImageBind as its authors' code reads media and scales vectors, to compare with published numbers.

    xsearch.embed_official({"text": ["A dog."], "vision": ["dog.jpg"], "audio": ["dog.wav"]})

takes the inputs of the example in the official README and returns the same numbers. It reads files as that
code does (facebookresearch/ImageBind at commit 53680b0, `data.py`), also where xsearch does better elsewhere:

    pictures   EXIF orientation is ignored, transparency dropped, 16 bits saturate
    sounds     the whole file in three clips; of several channels the first, less the mean of all, and
               clips that overlap subtract each other's means; resampled as torchaudio does
    videos     the whole file in five clips of two frames, by number and not by time

Depth maps, thermal pictures and IMU recordings have no official loader and are read as everywhere.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from xsearch import media
from xsearch.backend.imagebind import ImageBindBackend
from xsearch.errors import Unreadable, UsageError
from xsearch.media import container
from xsearch.media.image import opened
from xsearch.models import TOWER_OF, TOWERS, Preprocess
from xsearch.models.mel import WINDOW, clip_points
from xsearch.models.resample import resample
from xsearch.types import AUDIO_RATE_HZ, Modality, Sample

__all__ = ["embed_official", "read_official"]

VIDEO_CLIPS, VIDEO_CLIP_S = 5, 2.0  # official data.py, load_and_transform_video_data


@torch.inference_mode()
def embed_official(
    inputs: Mapping[str, Sequence[str | Path] | Tensor],
    model: str | None = "imagebind",
    *,
    preprocessing: Literal["official", "xsearch"] = "official",
    device: str = "auto",
    dtype: str = "fp32",
) -> dict[str, Tensor]:
    """The official model's outputs for files and texts, float32 [B, dim] each, on the CPU.

    inputs: by "vision" (pictures and videos), "text" (the texts themselves), "audio", "depth", "thermal" or
    "imu", paths in any number, or the preprocessed tensor that the official model takes.
    preprocessing: "official" reads files as above; "xsearch" as an ingest does, windows averaged.
    Norms are the official ones: vision 1, text 14.3, audio at most 20, depth 5, thermal 10, IMU 5 for the
    published weights. Raises UsageError for an unknown key, MediaError for a file that cannot be read.
    """
    if unknown := sorted(inputs.keys() - set(TOWERS)):
        raise UsageError(f"{', '.join(unknown)}: no tower of that name; there are {', '.join(TOWERS)}")
    backend = ImageBindBackend.load(model, device, dtype)
    preprocess = backend.preprocess
    if preprocessing == "official":
        settings = dataclasses.replace(backend.config.preprocessing, audio_dc="official")
        preprocess = Preprocess(dataclasses.replace(backend.config, preprocessing=settings))
    outputs = {}
    for name, given in inputs.items():
        tower = backend.tower(name)
        preprocess.tokenizer = backend.preprocess.tokenizer
        if isinstance(given, Tensor):
            outputs[name] = tower.official(backend.move(given)).cpu()
            continue
        rows = []
        for what in given:
            samples = _samples(name, what, preprocessing)
            rows.append(tower.official(backend.move(preprocess(samples))).mean(dim=0).cpu())
        outputs[name] = torch.stack(rows) if rows else torch.empty(0, backend.fingerprint.dim)
    return outputs


def _samples(tower: str, what: str | Path, preprocessing: str) -> list[Sample]:
    if tower == "text":
        return [Sample(Modality.TEXT, str(what))]
    path = Path(what)
    asked = None if tower == "vision" else Modality(tower)
    file = media.identify(path, kinds=[(asked, "*")] if asked else ())
    if TOWER_OF[file.modality] != tower:
        raise UsageError(f"{path}: a file of kind {file.modality}, but it was given as {tower}")
    if preprocessing == "official" and file.modality in _READERS:
        return [read_official(path, file.modality)]
    return [sample for sample in media.read(file) if TOWER_OF[sample.modality] == tower]


def read_official(path: Path, modality: Modality) -> Sample:
    """One sample of a picture, a sound or a video, as the official code reads it.

    A sound's data is float32 [channels, samples] at 16 kHz, a video's the ten frames of its clips.
    """
    return _READERS[modality](path)


def _picture(path: Path) -> Sample:
    with opened(path) as picture:
        return Sample(Modality.IMAGE, picture.convert("RGB"))


def _sound(path: Path) -> Sample:
    import soundfile

    try:
        wave, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)  # [samples, channels]
    except soundfile.LibsndfileError as error:
        raise Unreadable(f"{path}: cannot be decoded ({error}); convert it to wav or flac") from error
    waves = resample(torch.from_numpy(np.ascontiguousarray(wave.T)), rate_hz, AUDIO_RATE_HZ)
    if waves.shape[1] < WINDOW:
        raise Unreadable(f"{path}: shorter than the 25 ms of one window, which the official code refuses too")
    return Sample(Modality.AUDIO, waves.numpy(), rate_hz=AUDIO_RATE_HZ)


def _video(path: Path) -> Sample:
    with container.opened(path) as source:
        stream = container.picture_track(source)
        if stream is None:
            raise Unreadable(f"{path}: no pictures in it")
        count = sum(packet.pts is not None for packet in source.demux(stream))
        source.seek(0)
        rate_hz = float(stream.average_rate)
        wanted = []
        for start in clip_points(count / rate_hz, VIDEO_CLIP_S, VIDEO_CLIPS):
            first, end = (math.ceil(rate_hz * at) for at in (start, start + Fraction(VIDEO_CLIP_S)))
            wanted += [first, min(end, count) - 1]
        frames = {
            at: frame.to_ndarray(format="rgb24")
            for at, frame in enumerate(source.decode(stream))
            if at in wanted
        }
    return Sample(Modality.VIDEO, np.stack([frames[at] for at in wanted]))


_READERS = {Modality.IMAGE: _picture, Modality.AUDIO: _sound, Modality.VIDEO: _video}
