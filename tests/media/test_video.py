"""Videos: the right frames, upright, and their sound."""

from __future__ import annotations

import logging
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.odd_files import encode_frames, write_silence
from xsearch.errors import Unreadable
from xsearch.media import identify
from xsearch.media.video import _Display
from xsearch.types import Modality


def record(path: Path, times_s: list[float], *, size=(64, 48), sound_s: float = 0.0, **frames) -> Path:
    """A video whose frame at time t is a grey of level 20 t, left half black; silence as its sound track."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=50)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate, stream.time_base = 2_000_000, Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        track = target.add_stream("aac", rate=16_000, layout="mono") if sound_s else None
        for t in times_s:
            pixels = np.full((size[1], size[0], 3), min(255, round(20 * t)), np.uint8)
            pixels[:, : size[0] // 2] = 0
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = round(t * 1000), Fraction(1, 1000)
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
        if track:
            write_silence(target, track, sound_s)
    return path


def encode(path: Path, pictures: list[np.ndarray], codec="mpeg4", *, ratio=None, **options) -> Path:
    """A video of 25 pictures per second, uint8 [H, W, 3]; ratio: width of their pixels / height."""
    with av.open(str(path), "w", **options) as target:
        stream = target.add_stream(codec, rate=25)
        stream.height, stream.width, _ = pictures[0].shape
        stream.pix_fmt, stream.bit_rate = "yuv420p", 2_000_000
        if ratio:
            stream.codec_context.sample_aspect_ratio = ratio
        for picture in pictures:
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        target.mux(stream.encode(None))
    return path


def turn(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """State a display matrix in the track header of an MP4, ISO 14496-12, 8.3.2, version 0."""
    data = path.read_bytes()
    at = data.index(b"tkhd") + 44
    stated = b"".join((value << 16).to_bytes(4, "big", signed=True) for value in (a, b, 0, c, d, 0))
    path.write_bytes(data[:at] + stated + data[at + len(stated) :])
    return path


def levels(sample) -> np.ndarray:
    """The mean grey of the right quarter of each frame, as seconds."""
    return sample.data[..., -sample.data.shape[2] // 4 :, :].mean(axis=(1, 2, 3)) / 20


def official(times: list[float], start_s: float, end_s: float) -> list[float]:
    """The first and last frames of five clips of 2 s, clip by clip."""
    shown = []
    for k in range(5):
        start = start_s + k * max(end_s - start_s - 2, 0) / 4
        inside = [t for t in times if start - 1e-6 <= t < min(start + 2, end_s) - 1e-6]
        shown += [inside[0], inside[-1]]
    return shown


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.mov"])
def test_a_window_shows_the_first_and_the_last_frame_of_five_clips(tmp_path, samples, name):
    times = [k / 10 for k in range(120)]
    first, second = samples(record(tmp_path / name, times))
    assert first.modality is Modality.VIDEO
    assert (first.data.shape, first.data.dtype) == ((10, 48, 64, 3), np.uint8)
    assert (first.start_s, first.end_s, second.start_s) == (0, 10, 10)
    assert second.end_s == pytest.approx(12, abs=0.15)
    for sample in (first, second):
        shown = official(times, sample.start_s, sample.end_s)
        np.testing.assert_allclose(sample.times_s, shown, atol=0.11)
        np.testing.assert_allclose(levels(sample), sample.times_s, atol=0.3)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "mpeg4", {"g": "12"}),
        ("b.mp4", "mpeg4", {"g": "12", "bf": "2"}),
        ("b.avi", "mpeg4", {"g": "12", "bf": "2"}),
        ("all.mkv", "mpeg4", {"g": "1"}),
        ("short.mp4", "libx264", {"g": "12", "bf": "3"}),
        ("long.mkv", "libx264", {"g": "250", "bf": "3"}),
        ("open.mkv", "libx264", {"x264-params": "keyint=20:bframes=3:b-adapt=0:open-gop=1:scenecut=0"}),
        ("refresh.mp4", "libx264", {"x264-params": "keyint=20:intra-refresh=1:scenecut=0"}),
        ("a.webm", "libvpx", {"g": "25"}),
    ],
)
def test_what_is_not_decoded_changes_no_frame(tmp_path, samples, name, codec, options):
    if codec not in av.codec.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    encode_frames(tmp_path / name, np.arange(300) / 25, codec, **options)
    with av.open(str(tmp_path / name)) as source:
        first_s = source.start_time / 1e6
        every = [(frame.time - first_s, frame.to_ndarray(format="rgb24")) for frame in source.decode(video=0)]
    assert len(every) == 300
    found = samples(tmp_path / name)
    assert len(found) == 2
    for sample in found:
        shown = official([time_s for time_s, _ in every], sample.start_s, sample.end_s)
        assert sample.times_s == pytest.approx(shown)
        expected = {round(time_s, 6): picture for time_s, picture in every}
        for time_s, picture in zip(sample.times_s, sample.data, strict=True):
            np.testing.assert_array_equal(picture, expected[round(time_s, 6)])


@pytest.mark.parametrize(
    ("options", "most"), [({"g": "1"}, 20), ({"g": "25"}, 160), ({"g": "999", "bf": "2"}, 130)]
)
def test_what_is_not_shown_is_not_decoded(tmp_path, options, most):
    encode_frames(tmp_path / "a.mp4", np.arange(250) / 25, **options)
    decoded = []
    with av.open(str(tmp_path / "a.mp4")) as source:
        display = _Display(source, source.streams.video[0])
        display._frames = (decoded.append(each) or each for each in display._frames)
        for moment_s in (1.999, 2.001, 3.999, 4.001, 5.999, 6.001, 7.999, 8.001, 9.999):
            assert display.at(moment_s)[0] == pytest.approx(moment_s // 0.04 * 0.04)
    assert 10 <= len(decoded) <= most


def test_where_nothing_moves_for_long_is_no_window(tmp_path, samples):
    found = samples(record(tmp_path / "a.mkv", [0, 0.1, 9, 35, 35.1, 50]))
    assert [sample.start_s for sample in found] == [0, 30, 40]


def test_a_damaged_packet_costs_its_frame_only(tmp_path, samples):
    encode_frames(tmp_path / "a.mp4", np.arange(100) / 25, g="1")
    with av.open(str(tmp_path / "a.mp4")) as source:
        packet = list(source.demux(video=0))[50]  # 2.00 s, at the start of a clip
    with (tmp_path / "a.mp4").open("r+b") as file:
        file.seek(packet.pos)
        file.write(bytes(packet.size))
    [sample] = samples(tmp_path / "a.mp4")
    assert sample.times_s == pytest.approx([0, 1.96, 0.5, 2.48, 1, 2.96, 1.5, 3.48, 1.96, 3.96], abs=0.021)


def test_uneven_timestamps_are_respected(tmp_path, samples):
    [sample] = samples(record(tmp_path / "a.mkv", [0.0, 0.1, 0.2, 6.0, 8.0]))
    assert sample.duration_s == pytest.approx(8, abs=0.2)
    starts = np.arange(5) * (sample.duration_s - 2) / 4
    moments = np.stack([starts + 0.01, starts + 2 - 0.01], axis=1).ravel()
    on_display = [max(t for t in (0.0, 0.1, 0.2, 6.0, 8.0) if t <= moment) for moment in moments]
    np.testing.assert_allclose(sample.times_s, on_display, atol=1e-3)
    np.testing.assert_allclose(levels(sample), sample.times_s, atol=0.3)


@pytest.mark.parametrize(("seconds", "ends"), [(0.5, [0.5]), (10.5, [10.5]), (12, [10, 12])])
def test_a_short_rest_belongs_to_the_window_before(tmp_path, samples, seconds, ends):
    found = samples(record(tmp_path / "a.mkv", [k / 10 for k in range(round(seconds * 10))]))
    assert [sample.end_s for sample in found] == pytest.approx(ends, abs=0.25)


def test_frames_are_scaled_to_256_on_their_short_side(tmp_path, samples):
    [sample] = samples(record(tmp_path / "a.mp4", [0, 0.1], size=(800, 400)))
    assert sample.data.shape == (10, 256, 512, 3)
    assert (sample.width, sample.height) == (800, 400)


def test_rotation_is_applied(tmp_path, samples):
    """A phone's portrait video: the matrix (0 1, -1 0) in the track header turns the picture clockwise."""
    [sample] = samples(turn(record(tmp_path / "a.mp4", [10.0 + k / 10 for k in range(5)]), 0, 1, -1, 0))
    assert (sample.width, sample.height) == (48, 64)
    assert sample.data.shape == (10, 64, 48, 3)
    top, bottom = sample.data[:, :24].mean(), sample.data[:, -24:].mean()
    assert top < 20 < 150 < bottom  # what was left is on top


@pytest.mark.parametrize(
    ("name", "format", "codec"), [("a.m2v", "mpeg2video", "mpeg2video"), ("a.dv", "dv", "dvvideo")]
)
def test_streams_without_a_container(tmp_path, samples, name, format, codec):
    pictures = [np.full((576, 720, 3), 80 * (number // 25) + 10, np.uint8) for number in range(75)]
    encode(tmp_path / name, pictures, codec, ratio=Fraction(16, 15), format=format)
    [sample] = samples(tmp_path / name, Modality.VIDEO)
    assert (sample.duration_s, sample.width) == (pytest.approx(3, abs=0.05), 768)
    np.testing.assert_allclose(
        sample.data.mean(axis=(1, 2, 3)) // 80,
        np.floor(np.array(sample.times_s) - sample.times_s[0]),
        atol=0.1,
    )


MATRICES = {  # a, b, c, d of ISO 14496-12, and what they do to rows and columns
    (1, 0, 0, 1): lambda picture: picture,
    (-1, 0, 0, 1): np.fliplr,
    (1, 0, 0, -1): np.flipud,
    (-1, 0, 0, -1): lambda picture: picture[::-1, ::-1],
    (0, 1, -1, 0): lambda picture: np.rot90(picture, -1),
    (0, -1, 1, 0): np.rot90,
    (0, 1, 1, 0): lambda picture: picture.swapaxes(0, 1),
    (0, -1, -1, 0): lambda picture: picture.swapaxes(0, 1)[::-1, ::-1],
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_display_matrices_are_applied(tmp_path, samples, matrix):
    corners = np.zeros((48, 64, 3), np.uint8)  # four levels, one per quarter
    corners[:24, :32], corners[:24, 32:], corners[24:, :32], corners[24:, 32:] = 20, 80, 140, 200
    [sample] = samples(turn(encode(tmp_path / "a.mp4", [corners] * 25), *matrix))
    expected = MATRICES[matrix](corners)
    assert (sample.height, sample.width) == expected.shape[:2]
    np.testing.assert_allclose(sample.data[0][8::16, 8::16], expected[8::16, 8::16], atol=8)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize(
    ("ratio", "width"), [(Fraction(16, 9), 512), (Fraction(8, 9), 256), (Fraction(640, 639), 288)]
)
def test_pixels_that_are_not_square(tmp_path, samples, name, ratio, width):
    encode(tmp_path / name, [np.zeros((288, 288, 3), np.uint8)] * 25, ratio=ratio)
    [sample] = samples(tmp_path / name, Modality.VIDEO)
    assert (sample.width, sample.height) == (width, 288)
    assert sample.data.shape[1:3] == (
        round(288 * 256 / min(width, 288)),
        round(width * 256 / min(width, 288)),
    )


def test_a_stream_whose_size_changes(tmp_path, samples):
    """A circle, first in 96 x 64, then in 64 x 96 pixels: it stays round."""
    data = b""
    for width, height in ((96, 64), (64, 96)):
        x, y = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
        pixels = np.where(np.hypot(x, y) < 18, 255, 0).astype(np.uint8)[..., None].repeat(3, axis=2)
        pictures = [pixels] * (300 if width > height else 500)
        data += encode(tmp_path / "part.ts", pictures, "mpeg2video").read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    first, mixed, last, _ = samples(tmp_path / "a.ts", Modality.VIDEO)
    assert last.duration_s == pytest.approx(32, abs=0.1)
    sizes = [(sample.width, sample.height) for sample in (first, mixed, last)]
    assert sizes == [(96, 64), (96, 64), (64, 96)]
    for sample in (first, mixed, last):
        for picture in sample.data:
            bright = picture[..., 0] > 128
            assert bright.any(axis=0).sum() == pytest.approx(bright.any(axis=1).sum(), rel=0.06)


def test_the_sound_track_follows_as_audio_samples(tmp_path, samples):
    found = samples(record(tmp_path / "a.mp4", [k / 5 for k in range(60)], sound_s=12))
    assert [sample.modality for sample in found] == [Modality.VIDEO] * 2 + [Modality.AUDIO] * 2
    assert [sample.start_s for sample in found] == [0, 10, 0, 10]
    assert found[2].data.shape == (160_000,)


def film(
    path: Path,
    sounds: list[np.ndarray],
    *,
    starts_s: tuple[float, ...] = (),
    pictures_s=(0.0, 24.0),
    codec="aac",
) -> Path:
    """A film with 10 frames per second from `pictures_s[0]` on, and sound tracks of 16 kHz."""
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        tracks = [target.add_stream(codec, rate=16_000, layout="mono") for _ in sounds]
        packets = []
        for number in range(round(10 * pictures_s[0]), round(10 * pictures_s[1])):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * (number // 10), np.uint8))
            frame.pts, frame.time_base = number, Fraction(1, 10)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for track, sound, start_s in zip(tracks, sounds, starts_s or [0.0] * len(sounds), strict=True):
            for first in range(0, len(sound) - 1023, 1024):
                values = np.ascontiguousarray(sound[None, first : first + 1024], np.float32)
                if np.isnan(values).any():
                    continue
                frame = av.AudioFrame.from_ndarray(values, format="fltp", layout="mono")
                frame.sample_rate, frame.time_base = 16_000, Fraction(1, 16_000)
                frame.pts = round(start_s * 16_000) + first
                packets += track.encode(frame)
            packets += track.encode(None)
        for packet in sorted((p for p in packets if p.dts is not None), key=lambda p: p.dts * p.time_base):
            target.mux(packet)
    return path


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16_000)) / 16_000)


def sounds_of(found: list) -> list:
    return [sample for sample in found if sample.modality is Modality.AUDIO]


def loudest_hz(sound: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(sound)).argmax() * 16_000 / len(sound))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.mov", "a.ts"])
def test_a_late_sound_track_has_its_own_time(tmp_path, samples, name):
    found = samples(film(tmp_path / name, [tone(14)], starts_s=(8.0,)), Modality.VIDEO)
    assert [sample.start_s for sample in found[:3]] == [0, 10, 20]
    first, second = found[3:]
    assert (first.start_s, first.end_s) == pytest.approx((8, 18), abs=0.001)
    assert (second.start_s, second.end_s) == (first.end_s, pytest.approx(22, abs=0.1))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.ts"])
def test_late_pictures_have_their_own_time(tmp_path, samples, name):
    path = film(tmp_path / name, [tone(30.5)], pictures_s=(13.0, 30.5))
    first, second, *_, sound = samples(path, Modality.VIDEO)
    assert (first.start_s, first.end_s) == (10, 20)
    assert (second.start_s, second.end_s) == (20, pytest.approx(30.5, abs=0.15))
    assert first.times_s[0] == pytest.approx(13, abs=0.15)
    assert second.times_s[-1] == pytest.approx(30.4, abs=0.15)
    assert sound.end_s == pytest.approx(30.5, abs=0.2)


@pytest.mark.parametrize("name", ["a.mkv", "a.ts"])
def test_sound_after_a_gap_has_its_own_time(tmp_path, samples, name):
    sound = tone(60, 440)
    sound[3 * 16_000 : 6 * 16_000] = np.nan  # not recorded: filled with silence
    sound[20 * 16_000 : 45 * 16_000] = np.nan  # long: windows start anew
    first, second, third, last = sounds_of(samples(film(tmp_path / name, [sound]), Modality.VIDEO))
    assert (first.start_s, first.end_s) == (0, 10)
    levels = np.abs(first.data).reshape(10, -1).max(axis=1)
    assert levels[[0, 1, 7, 8]].min() > 0.3
    assert levels[4] < 0.01
    assert second.end_s == pytest.approx(20, abs=0.2)
    assert (third.start_s, last.end_s) == (pytest.approx(45, abs=0.2), pytest.approx(60, abs=0.2))


def test_the_first_sound_track_that_is_not_silent(tmp_path, samples, caplog):
    path = film(tmp_path / "a.mkv", [tone(12) * 0, tone(12, 600), tone(12, 900)])
    with caplog.at_level(logging.WARNING):
        first, _ = sounds_of(samples(path))
    assert loudest_hz(first.data) == pytest.approx(600, abs=1)
    assert "of 3 sound tracks only number 2 is embedded" in caplog.text


def test_silence_is_embedded_if_there_is_nothing_else(tmp_path, samples):
    [sound] = sounds_of(samples(film(tmp_path / "a.mkv", [tone(5) * 0, tone(5) * 0])))
    assert not np.abs(sound.data).max() > 1e-4


@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_a_transport_stream_whose_sound_changes(tmp_path, samples, layout):
    data = b""
    for channels, rate, hz in (("stereo", 48_000, 440), (layout, 32_000, 660)):
        with av.open(str(tmp_path / "part.ts"), "w") as target:
            track = target.add_stream("mp2", rate=rate, layout=channels)
            values = 16_000 * np.sin(2 * np.pi * hz * np.arange(6 * rate) / rate)
            values = np.repeat(values[:, None], 2 if channels == "stereo" else 1, axis=1)
            frame = av.AudioFrame.from_ndarray(values.reshape(1, -1).astype(np.int16), "s16", channels)
            frame.sample_rate = rate
            resampler = av.AudioResampler("s16", channels, rate, frame_size=1152)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                target.mux(track.encode(part))
            target.mux(track.encode(None))
        data += (tmp_path / "part.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(data)
    first, second = samples(tmp_path / "a.ts", Modality.AUDIO)
    assert loudest_hz(first.data[:90_000]) == pytest.approx(440, abs=1)
    assert loudest_hz(first.data[-50_000:]) == pytest.approx(660, abs=1)
    assert second.end_s == pytest.approx(second.duration_s, abs=0.1) == pytest.approx(12, abs=0.1)


def test_an_undecodable_sound_track_leaves_the_pictures(tmp_path, samples, caplog):
    path = record(tmp_path / "a.mp4", [0, 0.5], sound_s=2)
    before, _, after = path.read_bytes().replace(b"mp4a", b"none").rpartition(b"esds")
    path.write_bytes(before + b"none" + after)
    with caplog.at_level(logging.WARNING):
        found = samples(path)
    assert [sample.modality for sample in found] == [Modality.VIDEO]
    assert "skipping sound track" in caplog.text


def test_a_truncated_video_gives_what_is_there(tmp_path, samples):
    path = record(tmp_path / "a.mkv", [k / 5 for k in range(150)])
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found = samples(path)
    assert 1 <= len(found) <= 2
    assert all(sample.times_s[-1] >= sample.start_s for sample in found)


def test_a_playlist_in_a_videos_clothes_is_not_followed(tmp_path, samples):
    record(tmp_path / "b.mp4", [0, 0.5])
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{tmp_path}/b.mp4\n#EXT-X-ENDLIST\n"
    (tmp_path / "a.avi").write_text(playlist)
    with pytest.raises(Unreadable, match=r"a\.avi: cannot be decoded"):
        samples(tmp_path / "a.avi")


def test_damage_is_one_line(tmp_path, samples):
    (tmp_path / "a.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(200))
    assert identify(tmp_path / "a.mp4").modality is Modality.VIDEO
    with pytest.raises(Unreadable, match=r"^/.*a\.mp4: .*$"):
        samples(tmp_path / "a.mp4")
