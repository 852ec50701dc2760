import math

import pytest
import torch
import torch.nn.functional as F

from xsearch.train.loss import binding_loss, info_nce


def slow_info_nce(a, b, temperature):
    """The definition, one term at a time."""
    total = 0.0
    for i in range(len(a)):
        for x, y in ((a, b), (b, a)):
            scores = [math.exp(float(x[i] @ y[j]) / temperature) for j in range(len(y))]
            total -= math.log(scores[i] / sum(scores))
    return total / (2 * len(a))


@pytest.mark.parametrize(("B", "temperature"), [(1, 0.1), (5, 0.07), (8, 1.0)])
def test_info_nce_is_its_definition(B, temperature):
    torch.manual_seed(B)
    a, b = F.normalize(torch.randn(2, B, 6), dim=-1)
    assert float(info_nce(a, b, temperature)) == pytest.approx(slow_info_nce(a, b, temperature), rel=1e-4, abs=1e-6)


def test_only_the_picture_is_compared_with_the_others():
    torch.manual_seed(0)
    rows = {name: F.normalize(torch.randn(4, 8), dim=-1).requires_grad_() for name in ("vision", "text", "audio")}
    losses = binding_loss(rows, {"text": 0.1, "audio": 0.2})
    assert set(losses) == {"text", "audio"}
    (gradient,) = torch.autograd.grad(losses["text"], rows["audio"], allow_unused=True)
    assert gradient is None  # text learned nothing from sound
