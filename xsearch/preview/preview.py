"""Samples encoded for display in a browser.

Drawings are legible on light and dark backgrounds. Inline SVG inherits the colours of the page through
`currentColor` and its class.
"""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xsearch import decoders
from xsearch.media import container
from xsearch.preview import colours, markdown
from xsearch.preview.marks import marked
from xsearch.preview.window import Piece, decoded, picture
from xsearch.types import AUDIO_RATE_HZ, Hit, Modality, Sample

__all__ = ["Preview", "legend", "playable", "plot", "sound", "spectrogram", "text", "thumbnail", "waveform"]

SVG = ' xmlns="http://www.w3.org/2000/svg"'
THUMBNAIL_PX = 400  # longest side: 320 CSS pixels, with some reserve for high-DPI screens
SMALL_PX = 128  # a picture of at most so many pixels a side is encoded without visible loss
SHARP = {"quality": 95, "subsampling": 0}
SOUND_HZ = 22_050  # half the CD rate: small files, and supported by MP3
MELS, COLUMNS, FFT = 128, 400, 1024  # spectrogram: height, approximate width, 64 ms
RANGE_DB = 80.0  # dynamic range below the peak
MIN_POWER = 1e-6  # floor of the peak mel power: white noise 80 dB below full scale
BARS = 100  # of a waveform
TEXT_LETTERS = 2_000  # that are shown
_OPEN = ("vp8", "vp9", "av1")
PLAYABLE: dict[str, dict[str, tuple[str, ...]]] = {  # codecs by FFmpeg's name of the container, and MIME type
    "mov,mp4,m4a,3gp,3g2,mj2": {"video/mp4": ("h264", *_OPEN)},
    "matroska,webm": {"video/webm": _OPEN, "video/x-matroska": ("h264",)},
}
AXES = {"x": "#4e79c4", "y": "#d9822b", "z": "#3a9a6b"}


@dataclass(frozen=True, slots=True)
class Preview:
    """An encoded image, drawing, sound or text."""

    data: bytes
    mime: str
    size: tuple[int, int] = (0, 0)  # of an image, pixels

    @property
    def uri(self) -> str:
        """The data as a `data:` URI.

        >>> Preview(b"hello", "text/plain").uri
        'data:text/plain;base64,aGVsbG8='
        """
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode()}"

    @property
    def inline(self) -> str:
        """SVG for embedding in HTML, without the namespace."""
        return self.data.decode().replace(SVG, "", 1)


def thumbnail(piece: Piece, size: int = THUMBNAIL_PX, *, at_s: float | None = None) -> Preview:
    """Return a JPEG of at most `size` pixels a side; for audio and IMU a drawing, for text the text.

    Of a video, the frame at `at_s` seconds of the file, or the middle of the window. The boxes of a hit are
    drawn.
    """
    with decoded(piece, at_s=at_s, size=size) as sample:
        match sample.modality:
            case Modality.TEXT:
                return text(sample)
            case Modality.AUDIO:
                return waveform(sample)
            case Modality.IMU:
                return plot(sample)
        image = picture(sample, size, at_s).data
        if isinstance(piece, Hit) and piece.boxes:
            image = marked(image, piece.boxes)
        return _encoded(image, "JPEG", **(SHARP if max(image.size) <= SMALL_PX else {"quality": 82}))


def legend(piece: Piece) -> list[tuple[float, str]]:
    """Return values of a depth map, metres, or thermal image that its thumbnail shows, with their #rrggbb."""
    with decoded(piece, Modality.DEPTH, Modality.THERMAL) as sample:
        of = colours.depth_legend if sample.modality is Modality.DEPTH else colours.heat_legend
        values, shown = of(sample.data)
        return [(float(value), f"#{bytes(rgb).hex()}") for value, rgb in zip(values, shown, strict=True)]


def waveform(piece: Piece) -> Preview:
    """Return a sound's waveform as SVG: a bar per hundredth of the window, its height the peak amplitude."""
    with decoded(piece, Modality.AUDIO) as sample:
        peaks = np.array([np.abs(part).max(initial=0) for part in np.array_split(sample.data, BARS)])
        heights = 2 + 86 * peaks / max(float(peaks.max()), 1e-6)
        bars = "".join(f"M{3.2 * i + 1.6:.1f} {50 - h / 2:.1f}v{h:.1f}" for i, h in enumerate(heights))
        path = f'<path d="{bars}" stroke="currentColor" stroke-width="1.8" stroke-linecap="round"/>'
        return _svg('class="wave" color="#b5651d" viewBox="0 0 320 100" preserveAspectRatio="none"', path)


def spectrogram(piece: Piece) -> Preview:
    """Return a sound's spectrogram as PNG: log-mel power up to 8 kHz, low frequencies at the bottom, 80 dB.

    The first call takes a second to import librosa.
    """
    import librosa
    from PIL import Image

    with decoded(piece, Modality.AUDIO) as sample:
        wave = _resampled(sample, AUDIO_RATE_HZ)
        wave = np.pad(wave, (0, max(0, FFT - len(wave))))
        hop = -(-len(wave) // COLUMNS)
        mel = librosa.feature.melspectrogram(y=wave, sr=AUDIO_RATE_HZ, n_fft=FFT, hop_length=hop, n_mels=MELS)
        least = MIN_POWER * 10 ** (-RANGE_DB / 10)
        decibels = librosa.power_to_db(mel, ref=max(float(mel.max()), MIN_POWER), amin=least, top_db=None)
        levels = 255 * np.clip(1 + decibels[::-1] / RANGE_DB, 0, 1)  # [MELS, columns]
        image = Image.fromarray(levels.round().astype(np.uint8))
        image.putpalette(colours.colour(np.linspace(0, 1, 256), colours.INFERNO).tobytes())
        return _encoded(image, "PNG")


def plot(piece: Piece) -> Preview:
    """Return an IMU window as SVG: acceleration above, angular velocity below, one line per axis."""
    with decoded(piece, Modality.IMU) as sample:
        panels = _panel(sample.data[:3], "m/s²", 0) + _panel(sample.data[3:], "rad/s", 120)
        style = 'class="plot" color="#808080" viewBox="0 0 320 240" font-family="sans-serif" font-size="11"'
        return _svg(style, panels)


def sound(piece: Piece) -> Preview:
    """Return a sound as mono MP3 at 22 kHz; WAV if libsndfile lacks MP3 support."""
    import soundfile

    with decoded(piece, Modality.AUDIO) as sample:
        kind, mime = ("MP3", "audio/mpeg") if "MP3" in soundfile.available_formats() else ("WAV", "audio/wav")
        file = io.BytesIO()
        soundfile.write(file, _resampled(sample, SOUND_HZ), SOUND_HZ, format=kind)
        return Preview(file.getvalue(), mime)


def playable(path: Path) -> str:
    """Return the MIME type under which browsers play a video file; "" if some do not.

    QuickTime files play as MP4. Measured with Chromium 150; of HEVC, ProRes and MPEG-2 it plays none.
    """
    format, codec = decoders.shared().call(_format, path)
    types = PLAYABLE.get(format, {})
    return next((mime for mime, codecs in types.items() if codec in codecs), "")


def _format(path: Path) -> tuple[str, str]:
    """Return FFmpeg's names of a container and of its pictures' codec; "" if browsers lack their colours."""
    with container.opened(path) as source:
        track = container.picture_track(source)
        if track is None or track.codec_context.pix_fmt not in ("yuv420p", "yuvj420p"):
            return source.format.name, ""
        return source.format.name, track.codec_context.codec.canonical_name


def text(piece: Piece) -> Preview:
    """Return a text, or the beginning of a text file, in UTF-8; of Markdown without its marks."""
    with decoded(piece, Modality.TEXT) as sample:
        shown: str = (sample.text or sample.data)[:TEXT_LETTERS]
        cut = len(sample.data) > TEXT_LETTERS or (
            not isinstance(piece, Sample) and len(shown) < len(" ".join(sample.data.split()))
        )
        if not isinstance(piece, Sample) and markdown.is_markdown(piece.path):
            shown = markdown.plain(shown)
        return Preview(f"{shown}{'…' * cut}".encode(errors="replace"), "text/plain;charset=utf-8")


def _resampled(sample: Sample, rate_hz: int) -> np.ndarray:
    import librosa

    from_hz = sample.rate_hz or AUDIO_RATE_HZ
    wave = librosa.resample(sample.data, orig_sr=from_hz, target_sr=rate_hz, res_type="soxr_hq")
    return np.asarray(wave)  # [N]


def _panel(rows: np.ndarray, unit: str, top: int) -> str:
    """Draw three lines [3, T] in the 120 units below `top`, and the zero line if within range."""
    low, high = float(rows.min()), float(rows.max())
    scale = 84 / max(high - low, 1e-9)
    x, at = np.linspace(10, 310, 151), np.linspace(10, 310, rows.shape[1])
    head = f'y="{top + 16}" fill='
    marks = [f'<text x="10" {head}"currentColor">{unit}, {low:.1f} to {high:.1f}</text>']
    if low < 0 < high:
        marks.append(f'<path d="M10 {top + 108 + scale * low:.1f}h300" stroke="currentColor" opacity=".35"/>')
    for place, (axis, colour) in enumerate(AXES.items()):
        y = top + 108 - scale * (np.interp(x, at, rows[place]) - low)
        points = " ".join(f"{a:.0f},{b:.1f}" for a, b in zip(x, y, strict=True))
        marks.append(f'<text x="{272 + 14 * place}" {head}"{colour}">{axis}</text>')
        marks.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
    return "".join(marks)


def _svg(attributes: str, content: str) -> Preview:
    return Preview(f"<svg{SVG} {attributes}>{content}</svg>".encode(), "image/svg+xml")


def _encoded(image: Any, format: str, **options: Any) -> Preview:
    file = io.BytesIO()
    image.save(file, format, **options)
    return Preview(file.getvalue(), f"image/{format.lower()}", image.size)
