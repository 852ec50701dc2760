"""Ways across the modality gap, checked by hand in two dimensions."""

import numpy as np
import pytest

from xsearch.generate import Crossing, cross
from xsearch.types import Modality

KINDS = list(Modality)
X, Y = np.eye(2, dtype=np.float32)


def means(**of_kinds) -> np.ndarray:
    rows = np.zeros((len(KINDS), 2), np.float32)
    for kind, mean in of_kinds.items():
        rows[KINDS.index(Modality(kind))] = mean
    return rows


def crossed(parts, kinds, crossings, weights=None, nearest=None, of=None):
    weights = np.ones(len(parts), np.float32) if weights is None else np.float32(weights)
    of = means() if of is None else of
    return cross(np.float32(parts), [Modality(kind) for kind in kinds], weights, of, crossings, nearest)


def test_nothing_is_the_weighted_sum():
    vector, level = crossed([X, Y], ["image", "audio"], {}, [3, -4])
    np.testing.assert_allclose(vector, [0.6, -0.8], atol=1e-6)
    assert level == 0


def test_a_shift_moves_the_mean_of_a_kind_to_that_of_pictures():
    of = means(image=[0.5, 0.5], audio=[-0.5, 0.5])
    shifted = {Modality.AUDIO: Crossing(shift=True)}
    vector, _ = crossed([[0, 1]], ["audio"], shifted, of=of)
    np.testing.assert_allclose(vector, np.array([1, 1]) / 2**0.5, atol=1e-6)
    np.testing.assert_array_equal(crossed([[0, 1]], ["text"], shifted, of=of)[0], Y)
    both, _ = crossed([X, Y], ["image", "audio"], shifted, of=of)  # every part by itself
    np.testing.assert_allclose(both, np.array([1 + 2**-0.5, 2**-0.5]) / (2 + 2**0.5) ** 0.5, atol=1e-6)


def test_the_level_of_a_sum_is_that_of_its_parts_by_weight():
    noisy = {Modality.AUDIO: Crossing(noise=1.0), Modality.IMAGE: Crossing(noise=0.2)}
    assert crossed([X, Y], ["audio", "image"], noisy, [3, -1])[1] == pytest.approx(0.8)


def test_a_prior_blends_with_the_mean_of_the_nearest_pictures():
    asked = []

    def nearest(vector):
        asked.append(vector)
        return np.stack([Y, Y, Y])

    prior = {Modality.AUDIO: Crossing(prior=0.25)}
    vector, _ = crossed([X], ["audio"], prior, nearest=nearest)
    np.testing.assert_allclose(vector, np.array([3, 1]) / 10**0.5, atol=1e-6)
    np.testing.assert_array_equal(asked, [X])
    np.testing.assert_array_equal(crossed([X], ["audio"], prior)[0], X)  # without a collection
    np.testing.assert_array_equal(crossed([X], ["audio"], prior, nearest=lambda v: np.empty((0, 2)))[0], X)
    crossed([X], ["text"], prior, nearest=nearest)
    assert len(asked) == 1
