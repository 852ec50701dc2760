"""Each preview is decoded again, and shows what the file holds."""

from __future__ import annotations

import io
import os
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path

import av
import librosa
import numpy as np
import pytest
import soundfile
from PIL import Image

from tests.odd_files import encode_frames
from tests.small_files import one_of_each
from xsearch import media, preview
from xsearch.errors import MediaError, NotMedia, TooLarge, Unreadable
from xsearch.preview import Item, colours
from xsearch.types import Hit, Modality, Sample

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """One small file of every kind that is decoded."""
    folder = tmp_path_factory.mktemp("media")
    paths = one_of_each(folder, np.full((600, 800, 3), [200, 40, 40], np.uint8))
    return {name: Item(Modality(name), str(path)) for name, path in paths.items()}


def window(item: Item, start_s: float, end_s: float) -> Item:
    return Item(item.modality, item.path, start_s, end_s)


def pixels(result: preview.Preview) -> np.ndarray:
    """int [H, W, 3]; the MIME type is that of the bytes."""
    picture = Image.open(io.BytesIO(result.data))
    assert Image.MIME[picture.format] == result.mime
    return np.asarray(picture.convert("RGB")).astype(int)


def tone(hz: float, seconds: float, rate_hz: int = 16_000) -> Sample:
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)
    return Sample(Modality.AUDIO, wave.astype(np.float32), rate_hz=rate_hz)


def loudest_hz(wave: np.ndarray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(wave)).argmax() * rate_hz / len(wave))


@pytest.mark.parametrize(
    ("kind", "mime"),
    [
        *((kind, "image/jpeg") for kind in ("image", "video", "depth", "thermal")),
        *((kind, "image/svg+xml") for kind in ("audio", "imu")),
        ("text", "text/plain;charset=utf-8"),
    ],
)
def test_every_kind_has_a_thumbnail(files, kind, mime):
    result = preview.thumbnail(files[kind], 32)
    assert result.mime == mime
    if mime == "image/jpeg":
        height, width, _ = pixels(result).shape
        assert width == 32
        assert height == {"depth": 32}.get(kind, 24)
    elif mime == "image/svg+xml":
        assert ElementTree.fromstring(result.data).tag == f"{SVG}svg"
    else:
        assert result.data == b"a dog on the beach"


def test_a_hit_and_a_sample_are_previewed_like_an_item(files):
    path = files["image"].path
    hit = Hit(1, 0.5, 0.5, None, None, 1, path, Modality.IMAGE)
    sample = Sample(Modality.IMAGE, Image.open(path))
    assert preview.thumbnail(hit) == preview.thumbnail(files["image"]) == preview.thumbnail(sample)


def test_a_stored_text_needs_no_file():
    item = Item(Modality.TEXT, "/nowhere/a.txt", text="größe")
    assert preview.text(item).data.decode() == "größe"


def test_a_loaded_piece_is_not_decoded_again(files):
    sample = preview.load(files["audio"])
    assert preview.load(sample) is sample


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(("start_s", "bright"), [(0.0, False), (1.0, True)])
def test_a_video_shows_the_middle_of_its_window(files, start_s, bright):
    result = preview.thumbnail(window(files["video"], start_s, start_s + 1))
    assert (pixels(result).mean() > 120) == bright


def test_a_video_shows_the_second_that_is_asked_for(files):
    whole = window(files["video"], 0.0, 2.0)
    dark, bright = (pixels(preview.thumbnail(whole, at_s=at_s)).mean() for at_s in (0.5, 99.0))
    assert dark < 60 < 180 < bright  # the last frame is on display beyond the end
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (10, 120, 240)])
    sample = Sample(Modality.VIDEO, frames, times_s=(0.0, 1.0, 2.0))
    levels = [pixels(preview.thumbnail(sample, at_s=at_s)).mean() for at_s in (0.1, None, 1.9)]
    assert levels == pytest.approx([10, 120, 240], abs=2)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("short.mp4", "libx264", {"g": "12", "bf": "3"}),
        ("open.mkv", "libx264", {"x264-params": "keyint=20:bframes=3:b-adapt=0:open-gop=1:scenecut=0"}),
        ("refresh.mp4", "libx264", {"x264-params": "keyint=20:intra-refresh=1:scenecut=0"}),
        ("a.webm", "libvpx", {"g": "25"}),
        ("a.mts", "libx264", {"g": "50"}),
        ("long.ts", "libx264", {"g": "250"}),
    ],
)
def test_a_frame_is_that_of_a_decoder_which_skips_nothing(tmp_path, name, codec, options):
    if codec not in av.codec.codecs_available:
        pytest.skip(f"PyAV was built without {codec}")
    path = tmp_path / name
    encode_frames(path, np.arange(100) / 25, codec, **options)
    with av.open(str(path)) as source:
        first_s = source.start_time / 1e6
        every = [(frame.time - first_s, frame.to_ndarray(format="rgb24")) for frame in source.decode(video=0)]
    for at_s in (0.0, 0.5, 1.01, 2.5, 3.7):
        expected = next(picture for time_s, picture in every if time_s >= at_s)
        found = preview.load(Item(Modality.VIDEO, str(path)), at_s=at_s)
        np.testing.assert_array_equal(found.data[0], expected)


def test_parameters_that_only_the_first_frame_carries_are_known_later(tmp_path):
    """H.264 whose header is out of date: the picture parameters (NAL unit 8) of the first frame are right."""
    if "libx264" not in av.codec.codecs_available:
        pytest.skip("PyAV was built without libx264")
    path = tmp_path / "a.mp4"
    encode_frames(
        path,
        np.arange(75) / 25,
        "libx264",
        **{"x264-params": "keyint=25:repeat-headers=1:bframes=0:scenecut=0"},
    )
    with av.open(str(path)) as source:
        right = [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)]
        header = source.streams.video[
            0
        ].codec_context.extradata  # ISO 14496-15: 5 + 1 + 2 bytes, the SPS, ...
    size = int.from_bytes(header[6:8], "big")
    length = int.from_bytes(header[9 + size : 11 + size], "big")
    parameters = header[11 + size : 11 + size + length]
    data = path.read_bytes()
    before, first, *others, after = data.split(parameters)
    assert len(others) == 2  # in the keyframes at 1 s and 2 s, and before `after` in the header
    filler = bytes([0x6C]) + parameters[1:]  # NAL unit 12: to be ignored
    stale = parameters[:1] + bytes([parameters[1] ^ 0x20]) + parameters[2:]  # the other entropy coding
    path.write_bytes(before + parameters + first + filler + others[0] + filler + others[1] + stale + after)
    found = preview.load(Item(Modality.VIDEO, str(path)), at_s=2.5)
    assert np.abs(found.data[0].astype(int) - right[63]).max() == 0


def test_depth_is_red_near_blue_far_and_grey_where_unknown(files):
    unknown, near, far = pixels(preview.thumbnail(files["depth"]))[30, [10, 30, 50]]
    assert np.abs(unknown - 128).max() < 12
    assert near[0] > near[2] + 50
    assert far[2] > far[0] + 50


def test_a_depth_map_of_nothing_is_grey():
    assert (colours.of_depth(np.zeros((4, 6), np.float32)) == 128).all()


def test_heat_is_bright():
    shades = pixels(preview.thumbnail(Sample(Modality.THERMAL, np.tile(np.linspace(0.4, 0.6, 64), (48, 1)))))
    assert shades[24, 2].sum() < 60  # the range of the picture, not that of the format
    assert shades[24, -3].sum() > 550


def test_inferno_gets_lighter_all_the_way():
    lightness = colours.colour(np.linspace(0, 1, 100), colours.INFERNO) @ np.array(
        [0.2126, 0.7152, 0.0722]
    )  # ITU-R BT.709
    assert (np.diff(lightness) > -0.5).all()
    assert lightness[0] < 1
    assert lightness[-1] > 240


# ---------------------------------------------------------------- sounds and motions


def test_a_sound_has_just_the_window(files):
    result = preview.sound(window(files["audio"], 10.0, 20.0))
    assert result.mime == "audio/mpeg"
    wave, rate_hz = soundfile.read(io.BytesIO(result.data))
    assert len(wave) / rate_hz == pytest.approx(10, abs=0.1)  # MP3 frames
    assert loudest_hz(wave[rate_hz:-rate_hz], rate_hz) == pytest.approx(800, rel=0.01)


def test_a_loaded_window_has_the_samples_of_the_file(tmp_path):
    noise = np.random.default_rng(0).uniform(-1, 1, (44_100 * 3, 2)).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", noise, 44_100, subtype="FLOAT")
    sample = preview.load(Item(Modality.AUDIO, str(tmp_path / "a.wav"), 1.0, 2.25))
    assert (sample.rate_hz, sample.start_s, sample.end_s) == (44_100, 1.0, 2.25)
    np.testing.assert_allclose(sample.data, noise[44_100 : 44_100 + 55_125].mean(axis=1), atol=1e-6)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg"])
def test_a_window_is_what_the_readers_embed(tmp_path, name):
    noise = np.random.default_rng(1).uniform(-0.5, 0.5, (44_100 * 25, 2))
    soundfile.write(tmp_path / name, noise, 44_100)
    for sample in media.read(media.identify(tmp_path / name)):
        found = preview.load(Item(Modality.AUDIO, str(tmp_path / name), sample.start_s, sample.end_s))
        wave = librosa.resample(found.data, orig_sr=44_100, target_sr=16_000, res_type="soxr_hq")
        assert len(wave) == pytest.approx(len(sample.data), abs=1)
        np.testing.assert_allclose(wave[500:150_000], sample.data[500:150_000], atol=1e-3)  # but for edges


def test_a_seek_into_the_middle_of_a_sound_packet_loses_that_packet_alone(tmp_path):
    path = tmp_path / "a.mpg"
    at_s = np.arange(20 * 48_000) / 48_000
    wave = (16_000 * np.sin(2 * np.pi * np.where(at_s < 10, 400, 800) * at_s)).astype(np.int16)
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mp2", rate=48_000, layout="mono")
        for start in range(0, len(wave) - 1151, 1152):
            frame = av.AudioFrame.from_ndarray(wave[None, start : start + 1152], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 48_000, start
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    found = preview.load(Item(Modality.AUDIO, str(path), 12.0, 14.0))
    assert len(found.data) == 96_000
    assert loudest_hz(found.data, 48_000) == 800


def test_a_window_behind_the_end_has_no_sound(files):
    with pytest.raises(Unreadable, match=r"^no audio in this window$"):
        preview.sound(window(files["audio"], 40.0, 50.0))


def test_the_sound_of_a_video_is_a_sound(tmp_path):
    from tests.media.test_audio import encode

    path = encode(tmp_path / "a.mkv", tone(440, 3, 32_000).data, 32_000, "aac")
    sample = preview.load(Item(Modality.AUDIO, str(path), 1.0, 2.0))
    assert len(sample.data) == 32_000
    assert loudest_hz(sample.data, 32_000) == pytest.approx(440, abs=1)


def test_odd_sounds_are_previewed_as_they_are_embedded(tmp_path):
    """A late track behind a silent one; a chained file, by another decoder; opposite channels."""
    from tests.media.test_video import film

    wave = tone(440, 12, 16_000).data
    film(tmp_path / "a.mkv", [0 * wave, wave], starts_s=(0.0, 8.0))
    soundfile.write(tmp_path / "b.ogg", wave, 16_000)
    other = io.BytesIO()
    soundfile.write(other, np.stack([wave, -wave], axis=1), 32_000, format="OGG")
    with (tmp_path / "b.ogg").open("ab") as file:
        file.write(other.getvalue())
    for name, hz in (("a.mkv", 440), ("b.ogg", 880)):
        path = tmp_path / name
        *_, sample = media.read(media.identify(path, kinds=[(Modality.AUDIO, "*")]))
        found = preview.load(Item(Modality.AUDIO, str(path), sample.start_s, sample.end_s))
        assert (found.start_s, found.end_s) == pytest.approx((sample.start_s, sample.end_s), abs=0.1)
        heard = loudest_hz(found.data[len(found.data) // 2 :], found.rate_hz)
        assert heard == pytest.approx(hz, abs=1) == loudest_hz(sample.data[len(sample.data) // 2 :], 16_000)


def test_a_frame_is_upright_and_has_square_pixels(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as target:
        stream = target.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 9)
        stream.set_display_rotation(90, hflip=True)
        picture = np.zeros((96, 96, 3), np.uint8)
        picture[:24, :24] = 255
        for _ in range(25):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        target.mux(stream.encode(None))
    [sample] = media.read(media.identify(path))
    [found] = preview.load(Item(Modality.VIDEO, str(path), 0.0, 1.0)).data
    assert found.shape == (171, 96, 3) == (sample.height, sample.width, 3)
    np.testing.assert_allclose(found, sample.data[5], atol=2)


def slaney(hz: float) -> float:
    """Mels of the Auditory Toolbox: linear below 1 kHz, logarithmic above."""
    return 3 * hz / 200 if hz < 1000 else 15 + 27 * np.log(hz / 1000) / np.log(6.4)


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("hz", [250, 1000, 3000])
def test_a_tone_is_brightest_in_the_row_of_its_pitch(rate_hz, hz):
    shades = pixels(preview.spectrogram(tone(hz, 4, rate_hz))).sum(axis=2)  # [128, columns]
    assert shades.shape[0] == 128
    assert 300 < shades.shape[1] <= 401
    row = 127 - shades[:, 50:-50].mean(axis=1).argmax()
    assert row == pytest.approx(129 * slaney(hz) / slaney(8000) - 1, abs=1)


def test_a_spectrogram_runs_from_left_to_right():
    wave = np.concatenate([tone(500, 1).data, np.zeros(16_000, np.float32)])
    shades = pixels(preview.spectrogram(Sample(Modality.AUDIO, wave, rate_hz=16_000))).sum(axis=2).max(axis=0)
    half = len(shades) // 2
    assert shades[8 : half - 8].min() > 600
    assert shades[half + 8 :].max() < 10


@pytest.mark.parametrize("length", [1, 160, 160_000])
def test_silence_is_black(length):
    silence = Sample(Modality.AUDIO, np.zeros(length, np.float32), rate_hz=16_000)
    assert pixels(preview.spectrogram(silence)).max() < 10


def test_a_waveform_is_as_high_as_the_sound():
    wave = np.concatenate([np.full(5000, level, np.float32) for level in (0.1, 0.4)])
    drawn = preview.waveform(Sample(Modality.AUDIO, wave, rate_hz=16_000))
    (path,) = ElementTree.fromstring(drawn.data).iter(f"{SVG}path")
    heights = [float(bar.split("v")[1]) for bar in path.attrib["d"].split("M")[1:]]
    assert len(heights) == 100
    assert heights[0] / heights[-1] == pytest.approx(0.25, abs=0.03)


def test_a_plot_has_a_line_per_axis_and_the_unit_of_each_sensor():
    motion = np.zeros((6, 200), np.float32)
    motion[2] = np.linspace(-9.8, 9.8, 200)
    root = ElementTree.fromstring(preview.plot(Sample(Modality.IMU, motion)).data)
    heights = [
        [float(point.split(",")[1]) for point in line.attrib["points"].split()]
        for line in root.iter(f"{SVG}polyline")
    ]
    assert len(heights) == 6
    assert np.ptp(heights[0]) == 0
    assert (np.diff(heights[2]) < 0).all()  # up is a smaller y
    words = " ".join(text.text for text in root.iter(f"{SVG}text"))
    assert "m/s², -9.8 to 9.8" in words
    assert "rad/s, 0.0 to 0.0" in words


# ---------------------------------------------------------------- what cannot be shown


@pytest.mark.parametrize("kind", list(Modality))
def test_a_lost_file_is_reported_without_its_path(kind, tmp_path):
    with pytest.raises(Unreadable, match=r"^the file no longer exists$"):
        preview.thumbnail(Item(kind, str(tmp_path / "gone")))


def test_a_damaged_file_is_reported_without_its_path(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff" + bytes(100))
    with pytest.raises(Unreadable) as raised:
        preview.thumbnail(Item(Modality.IMAGE, str(tmp_path / "a.jpg")))
    assert str(tmp_path) not in str(raised.value)


def test_an_error_keeps_its_class(files, monkeypatch):
    monkeypatch.setenv("XSEARCH_MAX_PIXELS", "100")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(TooLarge):
        preview.thumbnail(files["image"])


def test_what_a_drawing_raises_is_a_media_error():
    with pytest.raises(MediaError):  # one row of numbers: an IndexError
        preview.plot(Sample(Modality.IMU, np.ones(3, np.float32)))


def test_a_picture_has_no_sound(files):
    with pytest.raises(NotMedia, match=r"^expected audio, got image$"):
        preview.sound(files["image"])


def hit(item: Item, **extra: object) -> Hit:
    return Hit(1, 1.0, 1.0, None, None, 1, item.path, item.modality, extra=extra)


@pytest.mark.parametrize("kind", ["image", "audio", "video", "depth", "thermal", "imu"])
def test_a_hit_is_read_only_while_its_file_is_the_one_that_was_ingested(files, kind):
    path = Path(files[kind].path)
    state = {"bytes": path.stat().st_size, "mtime_ns": path.stat().st_mtime_ns, "sha256": media.sha256(path)}
    preview.thumbnail(hit(files[kind], **state))
    preview.thumbnail(hit(files[kind], **state | {"mtime_ns": 1}))  # copied since
    for other in ({"bytes": 1}, {"mtime_ns": 1, "sha256": "0" * 64}, {"mtime_ns": 1, "sha256": None}):
        with pytest.raises(Unreadable, match="has changed since it was ingested"):
            preview.thumbnail(hit(files[kind], **state | other))


@pytest.mark.parametrize("name", ["/dev/zero", "/dev", "fifo"])
@pytest.mark.parametrize("kind", ["image", "audio", "video", "imu"])
def test_what_is_no_file_is_not_opened(name, kind, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(Unreadable, match="has changed"):
        preview.thumbnail(hit(Item(Modality(kind), str(tmp_path / name)), bytes=0, mtime_ns=1, sha256="0"))
