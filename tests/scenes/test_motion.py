"""The wearer's motion: determinism, units, and that each place moves as it should."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from xsearch.scenes import motion
from xsearch.scenes.world import PLACES, SUBJECTS, Scene, sample


def scenes_at(place: str, n: int = 12) -> list[Scene]:
    return sample(n, seed=3, places=[place])


def test_same_scene_same_recording() -> None:
    scene = sample(1, seed=0)[0]
    assert np.array_equal(motion.render(scene), motion.render(scene))
    assert not np.array_equal(motion.render(scene), motion.render(replace(scene, seed=scene.seed + 1)))


@pytest.mark.parametrize("place", PLACES)
def test_physical_ranges(place: str) -> None:
    for scene in scenes_at(place):
        recording = motion.render(scene)
        assert recording.shape == (6, 2000)
        assert recording.dtype == np.float32
        assert np.isfinite(recording).all()
        assert np.abs(recording[:3]).max() < 60  # 6 g: more is a fall
        assert np.abs(recording[3:]).max() < 12  # rad/s
        assert np.linalg.norm(recording[:3].mean(axis=1)) == pytest.approx(9.81, rel=0.15)  # gravity
        assert recording[2].mean() > 9.81 * 0.7  # worn within 35 degrees of upright


def test_subject_is_not_felt() -> None:
    scene = sample(1, seed=4)[0]
    recordings = [motion.render(replace(scene, subject=subject)) for subject in SUBJECTS]
    assert all(np.array_equal(recordings[0], other) for other in recordings[1:])


def test_effort_orders_the_places() -> None:
    strength = {p: np.median([motion.render(s)[:3].std(axis=1).max() for s in scenes_at(p)]) for p in PLACES}
    assert strength["room"] < strength["road"] < strength["beach"] < strength["field"]


def test_a_boat_rolls_slowly() -> None:
    for scene in scenes_at("harbour"):
        turning = motion.render(scene, duration_s=20.0)[3:5]
        power = (np.abs(np.fft.rfft(turning - turning.mean(axis=1, keepdims=True), axis=1)) ** 2).sum(axis=0)
        assert 0.15 <= power.argmax() / 20.0 <= 0.45


@pytest.mark.parametrize(("rate_hz", "duration_s", "samples"), [(100.0, 5.0, 500), (200.0, 2.5, 500)])
def test_other_rates(rate_hz: float, duration_s: float, samples: int) -> None:
    recording = motion.render(sample(1, seed=5)[0], rate_hz=rate_hz, duration_s=duration_s)
    assert recording.shape == (6, samples)
    assert np.isfinite(recording).all()
