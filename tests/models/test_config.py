"""Configs: JSON round trip, stamps, sizes."""

import dataclasses

import pytest

from xsearch.errors import ModelError
from xsearch.models import HUGE, SMALL, TOWER_OF, TOWERS, ImageBindConfig
from xsearch.types import Modality


@pytest.mark.parametrize("config", [HUGE, SMALL], ids=lambda config: config.name)
def test_json_round_trip(config):
    assert ImageBindConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", SMALL.to_json().replace('"patch"', '"patches"'), '{"vision": 3}']
)
def test_what_is_no_config_is_refused(text):
    with pytest.raises(ModelError, match="not the config of a model"):
        ImageBindConfig.from_json(text)


def test_the_stamp_follows_every_setting():
    settings = SMALL.preprocessing
    assert settings.stamp == dataclasses.replace(settings).stamp
    assert settings.stamp != dataclasses.replace(settings, thermal_std=2.0).stamp
    assert settings.stamp.startswith(f"{settings.version}-")


def test_patch_counts_of_the_published_model():
    assert HUGE.audio.grid == (12, 19)
    assert dataclasses.replace(HUGE.audio, mels=64, stride=(16, 16)).grid == (4, 12)


def test_every_modality_has_a_tower():
    assert set(TOWER_OF) == set(Modality)
    assert set(TOWER_OF.values()) == set(TOWERS)
