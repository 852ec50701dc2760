"""Small media files, one of every kind."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image


def one_of_each(folder: Path, pixels: np.ndarray) -> dict[str, Path]:
    """Write a file of every kind and return their paths. pixels: of the image, uint8 [H, W, 3].

    The sound has tones of 400, 800 and 1,600 Hz of 10 s each; the film a dark second and a bright one.
    """
    endings = {"image": "jpg", "audio": "wav", "video": "mp4", "depth": "png", "thermal": "png", "imu": "csv"}
    paths = {name: folder / f"{name}.{ending}" for name, ending in (endings | {"text": "txt"}).items()}
    Image.fromarray(pixels).save(paths["image"])
    seconds = np.arange(30 * 8000) / 8000
    tones = np.sin(2 * np.pi * np.array([400, 800, 1600])[(seconds // 10).astype(int)] * seconds)
    soundfile.write(paths["audio"], 0.5 * tones, 8000)
    with av.open(str(paths["video"]), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in np.repeat([20, 220], 10):  # a dark second, a bright second
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8))))
        out.mux(stream.encode(None))
    millimetres = np.repeat(np.array([[0, 1000, 9000]], np.uint16), 20, axis=1).repeat(60, axis=0)
    Image.fromarray(millimetres).save(paths["depth"])
    Image.fromarray(np.tile(np.arange(64, dtype=np.uint8), (48, 1))).save(paths["thermal"])
    rows = [f"{i / 100},{i % 7},0,9.8,0.1,{i % 3},0" for i in range(600)]
    paths["imu"].write_text("timestamp,ax,ay,az,gx,gy,gz\n" + "\n".join(rows))
    paths["text"].write_text("a dog on the beach")
    return paths
