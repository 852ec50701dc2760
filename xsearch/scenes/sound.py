"""The sound of a scene: its subject over the ambience of its place, through a random microphone.

Event times, pitches, tempi, timbres, levels, microphone and gain are random in every scene, so that scenes of
one class share only what defines the class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xsearch.scenes.ambience import AMBIENCES
from xsearch.scenes.synthesis import Tape, Wave, equally_loud, lay, unit
from xsearch.scenes.voices import VOICES
from xsearch.scenes.world import DURATION_S, Scene
from xsearch.types import AUDIO_RATE_HZ

__all__ = ["render"]

STREAM = 21  # random stream of a scene that this module draws from
SNR_DB = (-3.0, 12.0)  # subject over ambience, rms


def indoors(tape: Tape, sound: Wave) -> Wave:
    """With reverberation, 60 dB down after 0.3 to 0.9 s. Circular: the start has echoes, too."""
    t = tape.time(min(1.0, tape.seconds))
    response = tape.blank()
    tail = (tape.rng.random(len(t), np.float32) - np.float32(0.5)) * np.exp(
        t * np.float32(-6.9 / tape.draw(0.3, 0.9))
    )
    response[: len(t)] = np.float32(tape.draw(0.06, 0.18)) * tail
    response[0] = 1
    echoed = np.fft.irfft(np.fft.rfft(sound) * np.fft.rfft(response), tape.n)
    return echoed.astype(np.float32, copy=False)


def among_rocks(tape: Tape, sound: Wave) -> Wave:
    """With three separate echoes, from 60 to 200 m away."""
    out = sound.copy()
    for _ in range(3):
        lay(out, tape, sound, tape.draw(0.35, 1.2), tape.draw(0.15, 0.45))
    return out


ECHOES: dict[str, Callable[[Tape, Wave], Wave]] = {"room": indoors, "mountain": among_rocks}


def microphone(tape: Tape) -> Wave:
    """Frequency response of a random microphone: low cut, high cut, tilt, two peaks; float32 [n // 2 + 1]."""
    octave = np.log2(np.maximum(1, np.arange(65)) * (tape.rate_hz / 128 / 1000.0))  # re 1 kHz, coarse grid
    gain_db = tape.draw(-2.5, 2.5) * octave
    for _ in range(2):
        gain_db += tape.draw(-5, 5) * np.exp(-((octave - tape.draw(-3, 3)) ** 2))
    gain = 10 ** (gain_db / 20) / (1 + 2 ** (4 * (octave - np.log2(tape.draw(5, 9)))))
    grid = np.linspace(0, 64, tape.n // 2 + 1, dtype=np.float32)
    response = np.interp(grid, np.arange(65), gain).astype(np.float32)
    cut = int(tape.draw(20, 110) * tape.seconds)
    response[:cut] *= np.linspace(0, 1, cut, dtype=np.float32) ** 2
    return response


def render(scene: Scene, *, duration_s: float = DURATION_S, rate_hz: int = AUDIO_RATE_HZ) -> Wave:
    """The sound of a scene: float32 [duration_s * rate_hz], mono, -1..1; deterministic.

    `count` individuals of the subject sound together. `pitch` and, weakly, `size` scale their frequencies,
    `loudness` the level of the recording, `noise` the hiss of the recorder.
    """
    tape = Tape(scene.rng(STREAM), round(duration_s * rate_hz), rate_hz)
    pitch = scene.pitch * scene.size**-0.3
    subject = tape.blank()
    for i in range(scene.count):
        one = VOICES[scene.subject](tape, pitch * tape.draw(0.93, 1.07))
        subject += unit(one) * np.float32(1 if i == 0 else tape.draw(0.4, 0.9))
    if scene.place in ECHOES:
        subject = ECHOES[scene.place](tape, subject)
    mix = equally_loud(subject) * np.float32(10 ** (tape.draw(*SNR_DB) / 20))
    mix += equally_loud(AMBIENCES[scene.place](tape))
    sound = unit(np.fft.irfft(np.fft.rfft(mix) * microphone(tape), tape.n).astype(np.float32, copy=False))
    hiss = np.float32(10 ** ((30 * scene.noise - 55) / 20))  # 55 to 25 dB below the sound
    sound += hiss * (tape.rng.random(tape.n, np.float32) - np.float32(0.5)) * np.float32(12**0.5)
    return sound * np.float32(scene.loudness * tape.draw(0.3, 0.98) / np.abs(sound).max())
