"""Which numbers are computed with."""

import pytest
import torch

from xsearch.errors import UsageError
from xsearch.models import HUGE, SMALL
from xsearch.models.precision import has_fast_bf16, precision

CPU = torch.device("cpu")


def test_half_the_bits_only_for_the_published_model_and_only_where_they_are_fast():
    dtype, line = precision("auto", CPU, HUGE)
    assert dtype is (torch.bfloat16 if has_fast_bf16(CPU) else torch.float32)
    assert ("bf16 on cpu" if has_fast_bf16(CPU) else "fp32: this cpu") in line
    assert precision("auto", CPU, SMALL)[0] is torch.float32


def test_what_is_asked_for_is_taken():
    assert precision("bf16", CPU, SMALL)[0] is torch.bfloat16
    assert precision("fp32", CPU, HUGE)[0] is torch.float32
    with pytest.raises(UsageError, match="expected auto, fp32, bf16, fp16"):
        precision("int4", CPU, HUGE)
