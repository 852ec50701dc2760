"""A scene in all modalities: as samples in memory, or as files in a folder."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from xsearch.scenes import caption, motion, picture, sound
from xsearch.scenes.world import DURATION_S, Scene
from xsearch.types import AUDIO_RATE_HZ, Modality, Sample

__all__ = ["film", "render", "write"]


def render(scene: Scene, *, width: int = 112, height: int = 112) -> dict[Modality, Sample]:
    """The six samples of a scene: image, text, audio, depth, thermal and IMU. For video see `film`."""
    view = picture.render(scene, width=width, height=height)
    text = caption.render(scene)
    recording = motion.render(scene)
    still = partial(Sample, width=width, height=height)
    timed = partial(Sample, start_s=0.0, end_s=DURATION_S, duration_s=DURATION_S)
    samples = (
        still(Modality.IMAGE, Image.fromarray(view.picture)),
        Sample(Modality.TEXT, text, text=text),
        timed(Modality.AUDIO, sound.render(scene), rate_hz=AUDIO_RATE_HZ),
        still(Modality.DEPTH, view.depth_m, focal_px=view.focal_px),
        still(Modality.THERMAL, view.thermal),
        timed(Modality.IMU, recording, rate_hz=recording.shape[1] / DURATION_S),
    )
    return {sample.modality: sample for sample in samples}


def film(scene: Scene, *, width: int, height: int, frames: int) -> np.ndarray:
    """uint8 [frames, height, width, 3], evenly spaced over the scene."""
    times = (np.arange(frames) + 0.5) * DURATION_S / frames
    return np.stack([picture.render(scene, width=width, height=height, t_s=t).picture for t in times])


def write(scenes: Sequence[Scene], folder: Path, *, width: int = 640, height: int = 480) -> list[Path]:
    """Write one file per scene and modality, in `photos/ notes/ sounds/ videos/ depth/ thermal/ imu/`, and
    the ground truth as `metadata.csv` (columns path, subject, place, time, colour). Returns the files."""
    truth: list[tuple[Path, Scene]] = []
    for number, scene in enumerate(scenes):
        moment = render(scene, width=width, height=height)
        name = f"{number:04d}"
        files = {kind: folder / directory / f"{name}.{ending}" for kind, directory, ending in _FOLDERS}
        for path in files.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        moment[Modality.IMAGE].data.save(files[Modality.IMAGE], quality=92)
        files[Modality.TEXT].write_text(moment[Modality.TEXT].data + "\n", encoding="utf-8")
        _write_sound(moment[Modality.AUDIO].data, files[Modality.AUDIO])
        millimetres = np.clip(moment[Modality.DEPTH].data * 1000, 0, 65535).astype(np.uint16)
        Image.fromarray(millimetres).save(files[Modality.DEPTH])
        Image.fromarray((moment[Modality.THERMAL].data * 255).astype(np.uint8)).save(files[Modality.THERMAL])
        _write_imu(moment[Modality.IMU], files[Modality.IMU])
        _write_film(film(scene, width=320, height=240, frames=25), moment[Modality.AUDIO].data, files)
        truth += [(path, scene) for path in files.values()]
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(("path", "subject", "place", "time", "colour"))
        for path, s in truth:
            rows.writerow((path.relative_to(folder).as_posix(), s.subject, s.place, s.time, s.colour))
    return [path for path, _ in truth]


_FOLDERS = (
    (Modality.IMAGE, "photos", "jpg"),
    (Modality.TEXT, "notes", "txt"),
    (Modality.AUDIO, "sounds", "wav"),
    (Modality.VIDEO, "videos", "mp4"),
    (Modality.DEPTH, "depth", "png"),
    (Modality.THERMAL, "thermal", "png"),
    (Modality.IMU, "imu", "csv"),
)


def _write_sound(wave: np.ndarray, path: Path) -> None:
    import soundfile

    soundfile.write(path, wave, AUDIO_RATE_HZ, subtype="PCM_16")


def _write_imu(sample: Sample, path: Path) -> None:
    times = np.arange(sample.data.shape[1]) / sample.rate_hz
    table = np.column_stack([times, sample.data.T])
    header = "time_s,accel_x,accel_y,accel_z,gyro_x,gyro_y,gyro_z"
    np.savetxt(path, table, fmt="%.5g", delimiter=",", header=header, comments="")


def _write_film(frames: np.ndarray, wave: np.ndarray, files: dict[Modality, Path]) -> None:
    import av

    T, H, W, _ = frames.shape
    rate = round(T / DURATION_S)
    with av.open(str(files[Modality.VIDEO]), "w") as box:
        video = box.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "veryfast"})
        video.width, video.height, video.pix_fmt = W, H, "yuv420p"
        audio = box.add_stream("aac", rate=AUDIO_RATE_HZ, layout="mono")
        for frame in frames:
            box.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        samples = (np.clip(wave, -1, 1) * 32767).astype(np.int16)[None]
        for start in range(0, samples.shape[1], 1024):
            sound_frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], "s16", "mono")
            sound_frame.sample_rate, sound_frame.pts = AUDIO_RATE_HZ, start
            sound_frame.time_base = Fraction(1, AUDIO_RATE_HZ)
            box.mux(audio.encode(sound_frame))
        box.mux(video.encode())
        box.mux(audio.encode())
