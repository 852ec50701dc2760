from collections import Counter

import pytest

from xsearch.scenes import COLOURS, PLACES, SUBJECTS, TIMES, sample


def test_every_round_holds_each_combination_once():
    scenes = sample(2 * 96, seed=3)
    counts = Counter((s.subject, s.place) for s in scenes)
    assert len(counts) == len(SUBJECTS) * len(PLACES) == 96
    assert set(counts.values()) == {2}


def test_a_seed_gives_the_same_scenes_and_another_seed_others():
    assert sample(20, seed=1) == sample(20, seed=1)
    assert sample(20, seed=1) != sample(20, seed=2)


def test_free_factors_vary_and_stay_in_range():
    scenes = sample(500, seed=0)
    assert {s.colour for s in scenes} == set(COLOURS)
    assert {s.time for s in scenes} == set(TIMES)
    assert {s.count for s in scenes} == {1, 2, 3}
    assert all(0.6 <= s.size <= 1.3 and -1 <= s.x <= 1 and 0 <= s.noise <= 1 for s in scenes)


@pytest.mark.parametrize(("subject", "unnatural"), [("fire", "blue"), ("dog", "purple")])
def test_nature_paints_in_fewer_colours(subject, unnatural):
    assert unnatural not in {s.colour for s in sample(200, seed=0, subjects=[subject])}
