"""Which numbers are computed with."""

import pytest
import torch

from xsearch.errors import UsageError
from xsearch.models import HUGE, SMALL
from xsearch.models.precision import has_fast_bf16, precision

CPU = torch.device("cpu")


def test_half_the_bits_only_for_the_published_model_and_only_where_they_are_fast():
    assert precision("auto", CPU, HUGE) is (torch.bfloat16 if has_fast_bf16(CPU) else torch.float32)
    assert precision("auto", CPU, SMALL) is torch.float32


def test_what_is_asked_for_is_taken():
    assert precision("bf16", CPU, SMALL) is torch.bfloat16
    assert precision("fp32", CPU, HUGE) is torch.float32
    with pytest.raises(UsageError, match="expected auto, fp32, bf16, fp16, int8"):
        precision("int4", CPU, HUGE)


def test_int8_is_for_wide_towers_on_cpus():
    assert precision("int8", CPU, HUGE) is torch.int8
    with pytest.raises(UsageError, match=f"int8 gains nothing for {SMALL.name}, .*--dtype auto"):
        precision("int8", CPU, SMALL)
    with pytest.raises(UsageError, match="int8 needs a CPU, not cuda:1: add --device cpu, or"):
        precision("int8", torch.device("cuda:1"), HUGE)
