"""The sound of a scene: determinism, range, and that every free factor acts as it says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xsearch.scenes import sound, synthesis
from xsearch.scenes.ambience import AMBIENCES
from xsearch.scenes.voices import VOICES
from xsearch.scenes.world import PLACES, SUBJECTS, Scene, sample


def tape(seed: int = 0, seconds: float = 5.0) -> synthesis.Tape:
    return synthesis.Tape(np.random.default_rng(seed), round(seconds * 16000), 16000)


def centroid_hz(x: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    return float((power * np.fft.rfftfreq(len(x), 1 / 16000)).sum() / power.sum())


def test_same_scene_same_sound() -> None:
    scene = sample(1, seed=0)[0]
    assert np.array_equal(sound.render(scene), sound.render(scene))
    assert not np.array_equal(sound.render(scene), sound.render(replace(scene, seed=scene.seed + 1)))


def test_every_combination_is_a_sound() -> None:
    for scene in sample(len(SUBJECTS) * len(PLACES), seed=1):
        wave = sound.render(scene)
        assert wave.shape == (80000,)
        assert wave.dtype == np.float32
        assert np.isfinite(wave).all()
        assert 0.05 < np.abs(wave).max() <= 1.0
        assert abs(wave.mean()) < 0.01  # no direct current


def test_the_world_and_the_registries_agree() -> None:
    assert tuple(VOICES) == SUBJECTS
    assert tuple(AMBIENCES) == PLACES


@pytest.mark.parametrize("subject", SUBJECTS)
def test_individuals_differ(subject: str) -> None:
    first, second = (synthesis.unit(VOICES[subject](tape(seed), 1.0)) for seed in (1, 2))
    assert abs(float(np.dot(first, second)) / len(first)) < 0.5


def test_loudness_scales_the_recording() -> None:
    scene = Scene(seed=5, subject="dog", place="beach", loudness=0.5)
    assert np.allclose(2 * sound.render(scene), sound.render(replace(scene, loudness=1.0)), atol=1e-6)


def test_noise_raises_the_floor() -> None:
    scene = Scene(seed=6, subject="clock", place="room", noise=0.0)

    def floor(x: np.ndarray) -> float:  # the quietest of 250 frames, beyond the microphone's high cut
        return float(np.abs(np.fft.rfft(x.reshape(250, -1), axis=1))[:, -20:].mean(axis=1).min() / np.std(x))

    assert floor(sound.render(replace(scene, noise=1.0))) > 5 * floor(sound.render(scene))


@pytest.mark.parametrize("subject", ["bird", "bell", "clock", "frog"])
def test_pitch_raises_the_subject(subject: str) -> None:
    low, high = (
        np.median([centroid_hz(VOICES[subject](tape(seed), pitch)) for seed in range(6)])
        for pitch in (0.7, 1.4)
    )
    assert high > 1.3 * low


def test_tone_has_its_frequency_and_only_its_partials() -> None:
    wave = synthesis.tone(tape(seconds=1.0), np.full(16000, 500, np.float32), np.array([1, 0.5], np.float32))
    spectrum = np.abs(np.fft.rfft(wave))
    assert set(np.argsort(spectrum)[-2:]) == {500, 1000}
    assert spectrum[1000] / spectrum[500] == pytest.approx(0.5, rel=0.01)


def test_band_stays_inside_its_edges() -> None:
    wave = synthesis.band(tape(), 500, 2000)
    power = np.abs(np.fft.rfft(wave)) ** 2
    f = np.fft.rfftfreq(len(wave), 1 / 16000)
    assert wave.std() == pytest.approx(1, rel=0.01)
    assert power[(f > 250) & (f < 4000)].sum() > 0.9 * power.sum()  # second-order edges, an octave out


def test_lay_cuts_at_both_ends() -> None:
    t, out, grain = tape(seconds=0.001), np.zeros(16, np.float32), np.arange(1, 9, dtype=np.float32)
    synthesis.lay(out, t, grain, -4 / 16000)
    synthesis.lay(out, t, grain, 12 / 16000, level=2.0)
    synthesis.lay(out, t, grain, 1.0)
    synthesis.lay(out, t, grain, -1.0)
    assert out.tolist() == [5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 2, 4, 6, 8]


@pytest.mark.parametrize(("duration_s", "rate_hz"), [(2.0, 16000), (5.0, 8000), (10.0, 16000)])
def test_other_lengths_and_rates(duration_s: float, rate_hz: int) -> None:
    for scene in sample(24, seed=7):
        wave = sound.render(scene, duration_s=duration_s, rate_hz=rate_hz)
        assert wave.shape == (round(duration_s * rate_hz),)
        assert np.isfinite(wave).all()
