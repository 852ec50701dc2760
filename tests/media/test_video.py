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
    path = record(tmp_path / "a.mp4", [10.0 + k / 10 for k in range(5)])
    data = path.read_bytes()
    matrix = data.index(b"tkhd") + 44  # ISO 14496-12, 8.3.2, version 0
    a, b, c, d = (int(16**4 * value).to_bytes(4, "big", signed=True) for value in (0, 1, -1, 0))
    turned = a + b + bytes(4) + c + d + bytes(4)
    path.write_bytes(data[:matrix] + turned + data[matrix + len(turned) :])
    [sample] = samples(path)
    assert (sample.width, sample.height) == (48, 64)
    assert sample.data.shape == (10, 64, 48, 3)
    top, bottom = sample.data[:, :24].mean(), sample.data[:, -24:].mean()
    assert top < 20 < 150 < bottom  # what was left is on top


def test_the_sound_track_follows_as_audio_samples(tmp_path, samples):
    found = samples(record(tmp_path / "a.mp4", [k / 5 for k in range(60)], sound_s=12))
    assert [sample.modality for sample in found] == [Modality.VIDEO] * 2 + [Modality.AUDIO] * 2
    assert [sample.start_s for sample in found] == [0, 10, 0, 10]
    assert found[2].data.shape == (160_000,)


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
