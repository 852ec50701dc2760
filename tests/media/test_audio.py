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
        stream.codec_context.format = "flt" if codec.startswith("pcm_f32") else "fltp"
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
        ("a.sph", {"format": "NIST"}),
        ("timit.wav", {"format": "NIST"}),
        ("a.iff", {"format": "SVX"}),
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


def test_floats_beyond_full_scale_are_divided_by_their_peak_and_nan_is_silence(tmp_path, samples):
    sound = np.array([np.nan, np.inf, -np.inf, 4, 0.5] * 100, np.float32)
    soundfile.write(tmp_path / "a.wav", sound, 16_000, subtype="FLOAT")
    [sample] = samples(tmp_path / "a.wav")
    assert sample.data[:5].tolist() == [0, 1, -1, 1, 0.125]


@pytest.mark.parametrize(
    ("name", "subtype"),
    [("a.wav", "FLOAT"), ("a.wav", "DOUBLE"), ("a.aiff", "FLOAT"), ("a.w64", "FLOAT"), ("a.caf", "DOUBLE")],
)
def test_a_hot_recording_is_scaled_as_a_whole(tmp_path, samples, name, subtype):
    sound = tone(12, 16_000) * np.repeat([0.5, 7.0], [96_000, 96_000])  # peaks 0.25, then 3.5
    soundfile.write(tmp_path / name, sound, 16_000, subtype=subtype)
    joined = np.concatenate([sample.data for sample in samples(tmp_path / name, Modality.AUDIO)])
    np.testing.assert_allclose(joined, sound / np.abs(sound).max(), atol=1e-6)


@pytest.mark.parametrize("codec", ["pcm_f32le", "wavpack"])
def test_floats_of_ffmpeg_are_scaled_as_a_whole(tmp_path, samples, codec):
    sound = tone(12, 16_000) * np.repeat([0.5, 7.0], [96_000, 96_000])
    path = encode(tmp_path / "a.mkv", sound, 16_000, codec)
    joined = np.concatenate([sample.data for sample in samples(path)])
    np.testing.assert_allclose(joined, sound / np.abs(sound).max(), atol=1e-6)


def test_an_overshoot_of_a_lossy_codec_is_kept_and_what_is_louder_is_scaled(tmp_path, samples):
    fade = np.clip(8 * np.hanning(64_000), 0, 1)
    for factor, peak in ((2.2, 1.1), (8.0, 1.0)):
        soundfile.write(tmp_path / "a.ogg", factor * fade * tone(4, 16_000), 16_000)
        [sample] = samples(tmp_path / "a.ogg")
        assert np.abs(sample.data[2_000:60_000]).max() == pytest.approx(peak, abs=0.04)
        spectrum = np.abs(np.fft.rfft(sample.data[16_000:32_000]))
        assert spectrum[441:].max() < 0.01 * spectrum.max()  # clipped it had harmonics


def test_opposite_channels_do_not_cancel_out(tmp_path, samples):
    """Phase-inverted from the 3rd to the 6th of 9 s: a line that is connected with opposite polarity."""
    left = tone(9, 16_000)
    right = left * np.repeat([1, -1, 1], 48_000)
    soundfile.write(tmp_path / "a.flac", np.stack([left, right], axis=1), 16_000)
    [sample] = samples(tmp_path / "a.flac")
    np.testing.assert_allclose(sample.data, left, atol=1e-4)


def test_opposite_channels_among_silent_ones(tmp_path, samples):
    surround = np.zeros((32_000, 6))
    surround[:, 4] = tone(2, 16_000)
    surround[:, 5] = -0.9 * surround[:, 4]
    soundfile.write(tmp_path / "a.wav", surround, 16_000)
    [sample] = samples(tmp_path / "a.wav")
    np.testing.assert_allclose(sample.data, surround[:, 4] * 1.9 / 6, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "subtype"), [("a.wav", "GSM610"), ("a.au", "G721_32"), ("a.wav", "NMS_ADPCM_32")]
)
def test_codecs_that_cannot_be_seeked(tmp_path, samples, name, subtype):
    soundfile.write(tmp_path / name, tone(4, 8_000), 8_000, subtype=subtype)
    [sample] = samples(tmp_path / name, Modality.AUDIO)
    assert sample.end_s == pytest.approx(4, abs=0.05)
    assert loudest_hz(sample.data) == pytest.approx(440, abs=1)


@pytest.mark.parametrize(
    "links",
    [
        [("a.ogg", 44_100, 2, {}), ("a.ogg", 44_100, 2, {})],
        [("a.ogg", 44_100, 2, {}), ("a.ogg", 22_050, 1, {})],
        [("a.opus", 48_000, 1, {"format": "OGG", "subtype": "OPUS"}), ("a.ogg", 32_000, 2, {})],
        [("a.flac", 44_100, 2, {}), ("a.flac", 8_000, 1, {"subtype": "PCM_24"})],
        [("a.mp3", 44_100, 2, {}), ("a.mp3", 22_050, 1, {})],
    ],
)
def test_chained_files_are_read_whole(tmp_path, samples, links):
    data = b""
    for hz, (name, rate, channels, options) in zip((440, 660), links, strict=True):
        soundfile.write(
            tmp_path / name, np.repeat(tone(6, rate, hz)[:, None], channels, axis=1), rate, **options
        )
        data += (tmp_path / name).read_bytes()
    (tmp_path / f"chain{Path(links[0][0]).suffix}").write_bytes(data)
    first, second = samples(tmp_path / f"chain{Path(links[0][0]).suffix}")
    assert first.duration_s == second.duration_s == pytest.approx(12, abs=0.2)
    assert (first.end_s, second.end_s) == (10, pytest.approx(12, abs=0.2))
    assert loudest_hz(first.data[:80_000]) == pytest.approx(440, abs=1)
    for part in (first.data[-48_000:], second.data[4_000:-4_000]):
        assert loudest_hz(part) == pytest.approx(660, abs=1)


def test_a_damaged_link_is_left_out(tmp_path, samples):
    parts = []
    for hz in (440, 550, 660):
        soundfile.write(tmp_path / "a.ogg", tone(6, 16_000, hz), 16_000)
        parts.append((tmp_path / "a.ogg").read_bytes())
    (tmp_path / "a.ogg").write_bytes(parts[0] + parts[1][:100] + parts[2])
    _, second = samples(tmp_path / "a.ogg")
    assert second.end_s == second.duration_s == pytest.approx(12)
    assert loudest_hz(second.data) == pytest.approx(660, abs=1)


@pytest.mark.parametrize("size", [0, 2**32 - 1, 2**32 - 37])
def test_a_wav_without_its_length(tmp_path, samples, size):
    soundfile.write(tmp_path / "a.wav", tone(6, 16_000), 16_000)
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(data)
    [sample] = samples(tmp_path / "a.wav")
    assert sample.duration_s == sample.end_s == 6


def test_a_rate_of_no_sound_is_a_reason(tmp_path, samples):
    soundfile.write(tmp_path / "slow.wav", tone(10, 1_000), 1)
    with pytest.raises(Unreadable, match=": 1 samples per second are no sound"):
        samples(tmp_path / "slow.wav")


@pytest.mark.parametrize("frames", [10, 9_999])
def test_an_mp3_with_a_wrong_length(tmp_path, samples, frames):
    soundfile.write(tmp_path / "a.mp3", tone(6, 44_100), 44_100)
    data = bytearray((tmp_path / "a.mp3").read_bytes())
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    data[at : at + 4] = frames.to_bytes(4, "big")
    (tmp_path / "a.mp3").write_bytes(data)
    [sample] = samples(tmp_path / "a.mp3")
    assert (sample.duration_s, sample.end_s) == (pytest.approx(6, abs=0.1), pytest.approx(6, abs=0.1))


def test_a_damaged_flac_continues_behind_the_damage(tmp_path, samples):
    soundfile.write(tmp_path / "a.flac", tone(30, 44_100), 44_100)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[len(data) // 2 : len(data) // 2 + 300] = bytes(300)
    (tmp_path / "a.flac").write_bytes(data)
    *_, last = samples(tmp_path / "a.flac")
    assert last.end_s == pytest.approx(30, abs=0.5)
    assert loudest_hz(last.data) == pytest.approx(440, abs=1)


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
