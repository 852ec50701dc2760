"""What the tests of drawing share."""

import pytest

from tests.fakes import FakeBackend
from tests.small_decoder import random_decoder
from xsearch.generate import TrainedDecoder


@pytest.fixture
def decoder() -> TrainedDecoder:
    """A decoder of the vectors of `FakeBackend`."""
    return random_decoder(FakeBackend().fingerprint)
