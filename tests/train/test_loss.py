import math

import pytest
import torch
import torch.nn.functional as F

from xsearch.train.labels import same
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
    assert float(info_nce(a, b, temperature)) == pytest.approx(
        slow_info_nce(a, b, temperature), rel=1e-4, abs=1e-6
    )


def test_rows_of_one_label_are_right_answers_for_each_other():
    torch.manual_seed(2)
    a, b = F.normalize(torch.randn(2, 5, 6), dim=-1)
    labels = torch.tensor([[7, -1], [3, 9], [7, 3], [9, -2], [4, -3]])
    total = 0.0
    for i in range(5):
        alike = [j for j in range(5) if set(labels[j].tolist()) & set(labels[i].tolist())]
        for x, y in ((a, b), (b, a)):
            scores = [math.exp(float(x[i] @ y[j]) / 0.2) for j in range(5)]
            total -= sum(math.log(scores[j] / sum(scores)) for j in alike) / len(alike)
    assert float(info_nce(a, b, 0.2, same(labels, labels).float())) == pytest.approx(total / 10, rel=1e-4)
    alone = info_nce(a, b, 0.2, torch.eye(5))
    torch.testing.assert_close(alone, info_nce(a, b, 0.2))


def test_further_rows_are_negatives_and_smoothing_gives_all_rows_a_share():
    torch.manual_seed(3)
    a, b = F.normalize(torch.randn(2, 4, 6), dim=-1)
    further = F.normalize(torch.randn(3, 6), dim=-1)
    target = torch.eye(4, 7)
    logits = a @ torch.cat([b, further]).T / 0.2
    eased = 0.9 * target + 0.1 / 7
    expected = -(eased * logits.log_softmax(dim=1)).sum(dim=1).mean()
    back = -((0.9 * torch.eye(4) + 0.1 / 4) * (b @ a.T / 0.2).log_softmax(dim=1)).sum(dim=1).mean()
    loss = info_nce(a, torch.cat([b, further]), 0.2, target, smoothing=0.1)
    torch.testing.assert_close(loss, (expected + back) / 2)


def test_the_binding_loss_compares_all_then_within_places_then_within_subjects():
    torch.manual_seed(1)
    a, b = F.normalize(torch.randn(2, 6, 4), dim=-1)
    subjects, places = 2, 3  # row = subject * 3 + place
    expected = slow_info_nce(a, b, 0.1)
    expected += sum(slow_info_nce(a[p::places], b[p::places], 0.1) for p in range(places)) / places
    rows = [slice(s * places, (s + 1) * places) for s in range(subjects)]
    expected += sum(slow_info_nce(a[r], b[r], 0.1) for r in rows) / subjects
    assert float(binding_loss(a, b, 0.1, (subjects, places))) == pytest.approx(expected, rel=1e-4)
