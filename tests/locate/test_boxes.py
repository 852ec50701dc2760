"""Boxes against pixels."""

import numpy as np
import pytest

from xsearch.locate.boxes import contrasts, cropped, nested, overlaps, proposed, squares, suppressed

SIDE = 40  # pixels: boxes of the tests are whole ones


def drawn(rng: np.random.Generator, count: int) -> np.ndarray:
    corners = np.sort(rng.permuted(np.tile(np.arange(SIDE + 1), (count, 2, 1)), axis=2)[..., :2], axis=2)
    return np.concatenate([corners[:, :, 0], corners[:, :, 1]], axis=1) / SIDE


def mask(box: np.ndarray) -> np.ndarray:
    pixels = np.zeros((SIDE, SIDE), bool)
    left, top, right, bottom = np.round(box * SIDE).astype(int)
    pixels[top:bottom, left:right] = True
    return pixels


def test_overlaps_are_those_of_pixels():
    boxes, others = drawn(rng := np.random.default_rng(0), 9), drawn(rng, 7)
    expected = [[(mask(a) & mask(b)).sum() / (mask(a) | mask(b)).sum() for b in others] for a in boxes]
    np.testing.assert_allclose(overlaps(boxes, others), expected, atol=1e-9)


def test_contrasts_are_means_inside_less_means_outside():
    rng = np.random.default_rng(1)
    heat, boxes = rng.normal(size=(SIDE, SIDE)), drawn(rng, 9)
    contrast, share = contrasts(heat, boxes)
    for box, each, of_all in zip(boxes, contrast, share, strict=True):
        assert each == pytest.approx(heat[mask(box)].mean() - heat[~mask(box)].mean())
        assert of_all == pytest.approx(mask(box).mean())
    assert contrasts(heat, np.array([[0, 0, 1, 1]]))[0] == 0  # outside of everything is nothing


def test_nested_is_the_share_of_the_smaller_one():
    boxes, others = drawn(rng := np.random.default_rng(3), 9), drawn(rng, 7)
    expected = [
        [(mask(a) & mask(b)).sum() / min(mask(a).sum(), mask(b).sum()) for b in others] for a in boxes
    ]
    np.testing.assert_allclose(nested(boxes, others), expected, atol=1e-9)


def test_only_the_best_of_boxes_in_one_place_is_kept():
    boxes = np.array([[0, 0, 0.5, 0.5], [0.02, 0, 0.5, 0.5], [0.6, 0.6, 1, 1]])
    assert suppressed(boxes, np.array([0.1, 0.9, 0.5]), 0.3).tolist() == [1, 2]
    assert suppressed(boxes, np.array([0.1, 0.9, 0.5]), 0.99).tolist() == [1, 2, 0]


def test_a_hot_region_is_proposed():
    heat = np.random.default_rng(2).normal(0, 0.02, (30, 40)).astype(np.float32)
    heat[6:18, 10:30] += 1
    boxes = proposed(heat)
    assert overlaps(boxes, np.array([[10 / 40, 6 / 30, 30 / 40, 18 / 30]])).max() > 0.95
    assert not len(proposed(np.zeros((30, 40), np.float32)))


@pytest.mark.parametrize("size", [(40, 40), (100, 40), (40, 90), (7, 40)])
def test_squares_cover_a_picture(size):
    boxes = squares(*size, 20, 10)
    covered = np.zeros(size[::-1], bool)
    for left, top, right, bottom in np.round(boxes * np.tile(size, 2)).astype(int):
        covered[top:bottom, left:right] = True
        assert (right - left, bottom - top) == (min(20, size[0]), min(20, size[1]))
    assert covered.all()


def test_crops_are_squares_around_boxes_and_inside_the_picture():
    boxes = np.array([[0.4, 0.4, 0.6, 0.5], [0, 0, 0.1, 0.1], [0, 0.2, 1, 0.4]])
    crops = cropped(boxes, 200, 100, 1.5) * (200, 100, 200, 100)
    assert crops[0].tolist() == pytest.approx([70, 15, 130, 75])  # 40 pixels wide, so 60
    assert crops[1].tolist() == pytest.approx([0, 0, 30, 30])
    assert crops[2].tolist() == pytest.approx([0, 0, 200, 100])  # all of it, not square
