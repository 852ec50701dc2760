"""Sounds of any rate and channel count become 16 kHz mono windows."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from xsearch.errors import Unreadable
from xsearch.media.audio import track
from xsearch.types import Modality


def tone(seconds: float, rate: int, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def encode(path: Path, sound: np.ndarray, rate: int, codec: str) -> Path:
    """Write float [N] as the only track of a container."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound.astype(np.float32)[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        resampler = av.AudioResampler("fltp", "mono", rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            target.mux(stream.encode(part))
        target.mux(stream.encode(None))
    return path


def loudest_hz(sound: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(sound)).argmax() * 16_000 / len(sound))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.wav", {}),
        ("a.wav", {"subtype": "PCM_U8"}),
        ("a.wav", {"subtype": "FLOAT"}),
        ("a.wav", {"subtype": "DOUBLE"}),
        ("a.flac", {"subtype": "PCM_24"}),
        ("a.ogg", {}),
        ("a.opus", {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", {}),
    ],
)
def test_formats(tmp_path, samples, name, options):
    soundfile.write(tmp_path / name, tone(2, 48_000), 48_000, **options)
    [sample] = samples(tmp_path / name)
    assert (sample.modality, sample.rate_hz, sample.data.dtype) == (Modality.AUDIO, 16_000, np.float32)
    assert loudest_hz(sample.data) == pytest.approx(440, abs=1)
    assert sample.end_s == pytest.approx(2, abs=0.06)  # MP3 frames
    assert np.abs(sample.data).max() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("rate", [4_000, 11_127, 16_000, 44_100, 96_000])
def test_rates(tmp_path, samples, rate):
    soundfile.write(tmp_path / "a.wav", tone(1.5, rate), rate, subtype="FLOAT")
    [sample] = samples(tmp_path / "a.wav")
    assert len(sample.data) == pytest.approx(24_000, abs=1)
    np.testing.assert_allclose(sample.data[2000:22_000], tone(1.5, 16_000)[2000:22_000], atol=2e-3)


@pytest.mark.parametrize("channels", [2, 6])
def test_channels_are_averaged(tmp_path, samples, channels):
    sound = np.random.default_rng(0).uniform(-1, 1, (16_000, channels)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    [sample] = samples(tmp_path / "a.wav")
    np.testing.assert_allclose(sample.data, sound.mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("channels", [1, 2, 6, 36])
def test_both_libraries_decode_the_same(tmp_path, samples, channels):
    sound = np.random.default_rng(4).uniform(-1, 1, (48_000, channels))
    soundfile.write(tmp_path / "a.wav", sound, 48_000, subtype="PCM_16")
    [sample], [other] = samples(tmp_path / "a.wav"), list(track(tmp_path / "a.wav"))
    np.testing.assert_allclose(sample.data, other.data, atol=1e-6)


@pytest.mark.parametrize(
    ("seconds", "ends"),
    [
        (0.2, [0.2]),
        (10, [10]),
        (10.9, [10.9]),
        (11, [10, 11]),
        (25.5, [10, 20, 25.5]),
        (30.5, [10, 20, 30.5]),
    ],
)
def test_windows_join_to_the_whole(tmp_path, samples, seconds, ends):
    sound = np.random.default_rng(1).uniform(-1, 1, round(seconds * 16_000)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    found = samples(tmp_path / "a.wav")
    assert [sample.end_s for sample in found] == ends
    assert [sample.start_s for sample in found] == [0, *ends[:-1]]
    assert {sample.duration_s for sample in found} == {seconds}
    np.testing.assert_array_equal(np.concatenate([sample.data for sample in found]), sound)


def test_windows_of_another_rate_have_no_seams(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", tone(21, 44_100), 44_100, subtype="FLOAT")
    joined = np.concatenate([sample.data for sample in samples(tmp_path / "a.wav")])
    np.testing.assert_allclose(joined[2000:-2000], tone(21, 16_000)[2000:-2000], atol=1e-3)


def test_floats_beyond_full_scale_are_clipped_and_nan_is_silence(tmp_path, samples):
    sound = np.array([np.nan, np.inf, -np.inf, 3, 0.25] * 100, np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    [sample] = samples(tmp_path / "a.wav")
    assert sample.data[:5].tolist() == [0, 1, -1, 1, 0.25]


@pytest.mark.parametrize("name", ["a.m4a", "a.mp4", "a.mkv"])
def test_a_container_with_sound_only_is_audio(tmp_path, samples, name):
    encode(tmp_path / name, tone(12, 32_000), 32_000, "aac")
    first, second = samples(tmp_path / name)
    assert {first.modality, second.modality} == {Modality.AUDIO}
    assert (first.end_s, second.start_s) == (10, 10)
    assert second.end_s == pytest.approx(12, abs=0.1)
    assert loudest_hz(first.data) == pytest.approx(440, abs=1)


def test_no_sound_is_unreadable(tmp_path, samples):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), 16_000)
    with pytest.raises(Unreadable, match=r"a\.wav: no audio samples"):
        samples(tmp_path / "a.wav")
    (tmp_path / "b.mp3").write_bytes(bytes(1000))
    with pytest.raises(Unreadable, match=r"b\.mp3: cannot be decoded"):
        samples(tmp_path / "b.mp3")
