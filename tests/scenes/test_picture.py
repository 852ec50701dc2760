from dataclasses import replace

import numpy as np
import pytest

from xsearch.scenes import PLACES, SUBJECTS, Scene, film
from xsearch.scenes.canvas import FAR_M, Canvas, rectangle
from xsearch.scenes.picture import render


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_is_seen_by_all_three_cameras(subject):
    """A subject at a place changes the pictures of the empty place where it stands."""
    scene = Scene(seed=11, subject=subject, place="field", colour="red", noise=0.0)
    full, empty = render(scene), render(replace(scene, count=0))
    assert (np.abs(full.picture.astype(int) - empty.picture).max(axis=2) > 30).mean() > 0.01
    assert (np.abs(full.depth_m - empty.depth_m) > 0.05).mean() > 0.01
    assert (np.abs(full.thermal - empty.thermal) > 0.04).mean() > 0.01


@pytest.mark.parametrize("place", PLACES)
def test_pictures_are_finite_in_range_and_of_the_size_asked_for(place):
    view = render(Scene(seed=5, subject="dog", place=place), width=150, height=100)
    assert view.picture.shape == (100, 150, 3)
    assert view.picture.dtype == np.uint8
    assert view.depth_m.shape == view.thermal.shape == (100, 150)
    assert view.depth_m.min() >= 0
    assert view.depth_m.max() <= FAR_M
    assert view.thermal.min() >= 0
    assert view.thermal.max() <= 1


def test_a_scene_is_deterministic_and_its_seed_matters():
    scene = Scene(seed=5, subject="train", place="harbour")
    first, again, other = render(scene), render(scene), render(replace(scene, seed=6))
    np.testing.assert_array_equal(first.picture, again.picture)
    np.testing.assert_array_equal(first.depth_m, again.depth_m)
    np.testing.assert_array_equal(first.thermal, again.thermal)
    assert (first.picture != other.picture).mean() > 0.5


def test_the_ground_recedes_to_the_horizon():
    """Pinhole camera: depth = camera height * focal length / rows below the horizon."""
    canvas = Canvas(60, 60, horizon=0.5, camera_m=1.5, rng=np.random.default_rng(0))
    canvas.paint(rectangle(0, 0, 1, 1), (0, 0, 0))
    canvas.paint(rectangle(0, 0.5, 1, 1), (1, 1, 1), surface="ground", distance_m=1)
    view = canvas.develop(np.ones(3, np.float32), noise=0.0)
    rows = np.arange(35, 60)
    expected = 1.5 * view.focal_px / (rows + 0.5 - 30)
    np.testing.assert_allclose(np.median(view.depth_m[35:], axis=1), expected, rtol=0.01)
    assert (view.depth_m[:30] == 0).all()  # the sky is out of reach


def test_fire_is_the_hottest_and_night_is_darker_than_noon():
    fire = render(Scene(seed=2, subject="fire", place="forest", noise=0.0))
    assert fire.thermal.max() > 0.95
    noon = Scene(seed=2, subject="car", place="road")
    assert render(replace(noon, time="night")).picture.mean() < 0.6 * render(noon).picture.mean()


def test_a_film_moves_but_keeps_its_scene():
    frames = film(Scene(seed=3, subject="car", place="road", noise=0.1), width=64, height=48, frames=4)
    assert frames.shape == (4, 48, 64, 3)
    assert (frames[0] != frames[3]).any()
    assert np.abs(frames[0].mean() - frames[3].mean()) < 10


@pytest.mark.parametrize("subject", SUBJECTS)
def test_boxes_are_around_what_a_subject_changes(subject):
    scene = Scene(seed=11, subject=subject, place="field", colour="red", noise=0.0)
    full, empty = render(scene, width=160), render(replace(scene, count=0), width=160)
    rows, columns = np.nonzero(np.abs(full.picture.astype(int) - empty.picture).max(axis=2) > 8)
    (box,) = full.boxes * (160, 112, 160, 112)
    around = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    np.testing.assert_allclose(box, around, atol=3)
    assert empty.boxes.shape == (0, 4)
