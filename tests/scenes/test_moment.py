import csv

import numpy as np
import soundfile
from PIL import Image

from xsearch.media import identify, read
from xsearch.scenes import Scene, render, write
from xsearch.types import Modality

SCENE = Scene(seed=8, subject="bell", place="harbour")


def test_one_moment_in_six_modalities():
    moment = render(SCENE)
    assert set(moment) == set(Modality) - {Modality.VIDEO}
    assert all(sample.modality is kind for kind, sample in moment.items())
    assert moment[Modality.AUDIO].data.shape == (80_000,)
    assert moment[Modality.IMU].data.shape == (6, 2000)
    assert moment[Modality.IMU].rate_hz == 400


def test_written_files_are_read_back_as_what_they_are(tmp_path):
    files = write([SCENE], tmp_path, width=160, height=120)
    assert [identify(path, root=tmp_path).modality for path in files] == [
        Modality.IMAGE, Modality.TEXT, Modality.AUDIO, Modality.VIDEO, Modality.DEPTH, Modality.THERMAL,
        Modality.IMU,
    ]  # fmt: skip
    for path in files:
        assert list(read(identify(path, root=tmp_path)))

    moment = render(SCENE, width=160, height=120)
    sound, rate = soundfile.read(tmp_path / "sounds/0000.wav", dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(sound, moment[Modality.AUDIO].data, atol=1e-4)
    depth = np.asarray(Image.open(tmp_path / "depth/0000.png")).astype(float) / 1000
    np.testing.assert_allclose(depth, moment[Modality.DEPTH].data, atol=1e-3)
    (imu,) = read(identify(tmp_path / "imu/0000.csv", root=tmp_path))
    np.testing.assert_allclose(imu.data, moment[Modality.IMU].data, rtol=1e-3, atol=1e-3)


def test_the_truth_stands_beside_the_files(tmp_path):
    files = write([SCENE], tmp_path, width=64, height=48)
    with (tmp_path / "metadata.csv").open() as table:
        rows = list(csv.DictReader(table))
    assert [tmp_path / row["path"] for row in rows] == files
    assert {(row["subject"], row["place"]) for row in rows} == {("bell", "harbour")}
